#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::run("passthrough_stream", input));
