#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| medgrpo_fuzz::exercise::file(data));
