//! What `shim.c` gives: `shim.h` in Rust.

use std::ffi::{c_char, c_int};

/// Opaque, and at one address: libjpeg holds pointers into it.
#[repr(C)]
pub(crate) struct Decoder {
    _data: [u8; 0],
    _pinned: std::marker::PhantomData<(*mut u8, std::marker::PhantomPinned)>,
}

pub(crate) const OK: c_int = 0;
pub(crate) const TOO_MANY_SCANS: c_int = 2;
pub(crate) const OUT_OF_TIME: c_int = 3;
pub(crate) const MEMORY: c_int = 4;

#[repr(C)]
pub(crate) struct Options {
    pub(crate) divisor: u32,
    pub(crate) pixels: u32,
    pub(crate) scans_max: u32,
    pub(crate) cpu_ms_max: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Image {
    pub(crate) stored_width: u32,
    pub(crate) stored_height: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) pixel_bytes: u32,
    pub(crate) column_group: u32,
}

unsafe extern "C" {
    pub(crate) fn framepipe_jpeg_new() -> *mut Decoder;
    pub(crate) fn framepipe_jpeg_free(decoder: *mut Decoder);
    pub(crate) fn framepipe_jpeg_start(
        decoder: *mut Decoder,
        bytes: *const u8,
        size: usize,
        options: *const Options,
        image: *mut Image,
    ) -> c_int;
    pub(crate) fn framepipe_jpeg_crop(decoder: *mut Decoder, left: *mut u32, width: *mut u32) -> c_int;
    pub(crate) fn framepipe_jpeg_read(
        decoder: *mut Decoder,
        skipped: u32,
        pixels: *mut u8,
        stride: usize,
        rows: u32,
    ) -> c_int;
    pub(crate) fn framepipe_jpeg_finish(decoder: *mut Decoder, stray_bytes: *mut u32) -> c_int;
    pub(crate) fn framepipe_jpeg_end(decoder: *mut Decoder);
    pub(crate) fn framepipe_jpeg_words(decoder: *const Decoder) -> *const c_char;
}
