#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::run("gemini_request", input));
