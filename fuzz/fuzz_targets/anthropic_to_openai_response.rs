#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::run("anthropic_to_openai_response", input));
