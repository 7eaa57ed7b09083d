//! Still WebP images: libwebp's incremental decoder. It is given a file part by part, so that whoever waits for the
//! pixels is asked between two parts whether to go on. Alpha is dropped, not blended.
//!
//! This crate may use `unsafe` (it calls C); each block names its invariant.

#![deny(missing_docs)]
#![allow(unsafe_code, reason = "calls C")]

use std::ptr::{self, NonNull};

use libwebp_sys::{
    VP8StatusCode, WEBP_CSP_MODE, WebPBitstreamFeatures, WebPDecoderConfig, WebPGetFeatures, WebPIDecode, WebPIDecoder,
    WebPIDelete, WebPIUpdate, WebPRGBABuffer,
};

/// Least bytes of a part.
const PART_BYTES_MIN: usize = 64 << 10;
/// Most parts of a file. At the end of each, libwebp may throw away up to 8 rows that it has begun.
const PARTS_MAX: usize = 16;
const RGB_BYTES: usize = 3;

/// Why there are no pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebpError {
    /// Bytes are wrong.
    #[error("libwebp cannot read the bitstream")]
    Corrupt,
    /// Bytes are missing.
    #[error("the file ends inside the image")]
    Cut,
    /// The bitstream asks for what libwebp does not do.
    #[error("a feature that libwebp does not have")]
    Unsupported,
    /// libwebp got no memory.
    #[error("no memory for a WebP")]
    Memory,
    /// Whoever waits did not want to go on.
    #[error("stopped")]
    Stopped,
}

/// What a file's headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// It has frames, which [`decode_rgb`] does not read.
    pub is_animated: bool,
}

/// Reads a file's headers.
///
/// # Errors
/// All but [`WebpError::Stopped`].
pub fn features(bytes: &[u8]) -> Result<Features, WebpError> {
    // SAFETY: plain numbers, for which 0 is valid.
    let mut found: WebPBitstreamFeatures = unsafe { std::mem::zeroed() };
    // SAFETY: `bytes` are that long, and `found` is written to.
    check(unsafe { WebPGetFeatures(bytes.as_ptr(), bytes.len(), &mut found) })?;
    let (width, height) = (found.width.unsigned_abs(), found.height.unsigned_abs());
    Ok(Features { width, height, is_animated: found.has_animation != 0 })
}

/// Writes a still image of `width` times `height` pixels as RGB8, rows close together. `go_on` is asked between two
/// parts of the file. After an error, `out` holds anything.
///
/// # Errors
/// Every [`WebpError`]; an image of another size is [`WebpError::Corrupt`].
///
/// # Panics
/// Where `out` has another size than these pixels, or a side is beyond WebP's 16384.
pub fn decode_rgb(
    bytes: &[u8],
    (width, height): (u32, u32),
    out: &mut [u8],
    mut go_on: impl FnMut() -> bool,
) -> Result<(), WebpError> {
    assert!(width <= 1 << 14 && height <= 1 << 14, "{width}x{height} pixels");
    let row_bytes = RGB_BYTES * width as usize;
    assert_eq!(out.len(), row_bytes * height as usize, "bytes for {width}x{height} pixels");
    let found = features(bytes)?;
    if (found.width, found.height) != (width, height) {
        return Err(WebpError::Corrupt);
    }
    let mut config = WebPDecoderConfig::new().map_err(|()| WebpError::Memory)?;
    config.output.colorspace = WEBP_CSP_MODE::MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA = WebPRGBABuffer { rgba: out.as_mut_ptr(), stride: row_bytes as i32, size: out.len() };
    let decoder = Decoder::new(&mut config)?;
    let step = bytes.len().div_ceil(PARTS_MAX).max(PART_BYTES_MIN);
    let mut given = 0;
    loop {
        given = bytes.len().min(given + step);
        // SAFETY: the decoder lives, and with it `config` and `out`; `bytes` are at one address all along.
        let status = unsafe { WebPIUpdate(decoder.state.as_ptr(), bytes.as_ptr(), given) };
        match status {
            VP8StatusCode::VP8_STATUS_SUSPENDED if given < bytes.len() => {}
            status => return check(status),
        }
        if !go_on() {
            return Err(WebpError::Stopped);
        }
    }
}

/// libwebp's state. It refers to the configuration, which refers to the output.
struct Decoder<'c> {
    state: NonNull<WebPIDecoder>,
    _config: &'c mut WebPDecoderConfig,
}

impl<'c> Decoder<'c> {
    fn new(config: &'c mut WebPDecoderConfig) -> Result<Self, WebpError> {
        // SAFETY: no bytes yet; the configuration is borrowed for as long as the state lives.
        let state = unsafe { WebPIDecode(ptr::null(), 0, config) };
        Ok(Self { state: NonNull::new(state).ok_or(WebpError::Memory)?, _config: config })
    }
}

impl Drop for Decoder<'_> {
    fn drop(&mut self) {
        // SAFETY: the state is this value's, and not used after.
        unsafe { WebPIDelete(self.state.as_ptr()) }
    }
}

fn check(status: VP8StatusCode) -> Result<(), WebpError> {
    match status {
        VP8StatusCode::VP8_STATUS_OK => Ok(()),
        VP8StatusCode::VP8_STATUS_SUSPENDED | VP8StatusCode::VP8_STATUS_NOT_ENOUGH_DATA => Err(WebpError::Cut),
        VP8StatusCode::VP8_STATUS_UNSUPPORTED_FEATURE => Err(WebpError::Unsupported),
        VP8StatusCode::VP8_STATUS_OUT_OF_MEMORY => Err(WebpError::Memory),
        _ => Err(WebpError::Corrupt),
    }
}
