//! WebP: still images by libwebp, and of animations the first frame by the `image` crate. libwebp's pixels are what a
//! broken bitstream means to everybody else.

use framepipe_frame::{ErrorCode, FrameError};
use framepipe_webp::{WebpError, decode_rgb, features};
use image::codecs::webp::WebPDecoder;

use super::{
    budget::{Budget, Metered},
    check_same_size, others,
};
use crate::{Header, Limits};

pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    limits: &Limits,
    native: &mut Vec<u8>,
    out: &mut [u8],
) -> Result<(), FrameError> {
    let budget = Budget::new(limits.cpu_ms_max);
    let found = features(bytes).map_err(frame_error)?;
    let result = if found.is_animated {
        others::read(WebPDecoder::new(Metered::new(bytes, &budget)), header, native, out)
    } else {
        check_same_size(header, found.width as usize, found.height as usize)?;
        decode_rgb(bytes, (found.width, found.height), out, || budget.look().is_ok()).map_err(frame_error)
    };
    result.map_err(|error| budget.error("WebP").unwrap_or(error))
}

fn frame_error(error: WebpError) -> FrameError {
    let code = match error {
        WebpError::Corrupt | WebpError::Cut => ErrorCode::CorruptImage,
        WebpError::Unsupported => ErrorCode::UnsupportedFormat,
        WebpError::Memory | WebpError::Stopped => ErrorCode::Internal,
    };
    FrameError::new(code, format!("WebP: {error}"))
}
