#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::run("openai_to_anthropic_response", input));
