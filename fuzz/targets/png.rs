//! PNG: `probe`, `decode_rgb`: an error or pixels, the same each time.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(framepipe_fuzz::decode(bytes)));
