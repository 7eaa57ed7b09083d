//! JPEG: `probe`, `decode_rgb`, `decode_scaled`, `rows`, `decode_region`: an error or pixels, the same from all of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| framepipe_fuzz::check_rows(bytes));
