//! PNG, with every checksum up to the end of its pixels. Whatever it holds becomes RGB8: palettes and small grey depths are expanded; of 16
//! bits the high byte is kept; alpha is dropped, not blended (both as OpenCV's imread does, by which models are trained).

use framepipe_frame::{ErrorCode, FrameError};
use png::{ColorType, DecodeOptions, DecodingError, Transformations};

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
    read(Metered::new(bytes, &budget), header, limits, native, out)
        .map_err(|error| budget.error("PNG").unwrap_or(error))
}

fn read(
    reader: Metered<'_>,
    header: &Header,
    limits: &Limits,
    native: &mut Vec<u8>,
    out: &mut [u8],
) -> Result<(), FrameError> {
    let failed = |error| frame_error(limits, &error);
    let mut options = DecodeOptions::default();
    // The sum of the unpacked bytes: wrong pixels may have right CRCs.
    options.set_ignore_adler32(false);
    options.set_skip_ancillary_crc_failures(false);
    let mut decoder = png::Decoder::new_with_options(reader, options);
    decoder.set_limits(png::Limits { bytes: bytes_beside_pixels(limits) });
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let mut image = decoder.read_info().map_err(failed)?;
    let (width, height) = image.info().size();
    check_same_size(header, width as usize, height as usize)?;
    let (pixel_bytes, channels) = match image.output_color_type().0 {
        ColorType::Rgb => return image.next_frame(out).map(drop).map_err(failed),
        ColorType::Grayscale => (1, [0; 3]),
        ColorType::GrayscaleAlpha => (2, [0; 3]),
        ColorType::Rgba => (4, [0, 1, 2]),
        ColorType::Indexed => return Err(FrameError::new(ErrorCode::Internal, "PNG: a palette that was not expanded")),
    };
    let native = others::first_bytes(native, pixel_bytes * width as usize * height as usize);
    image.next_frame(native).map_err(failed)?;
    others::to_rgb(native, pixel_bytes, channels, out);
    Ok(())
}

/// What the decoder may take beside the pixels: metadata, and a few rows of 16-bit RGBA.
fn bytes_beside_pixels(limits: &Limits) -> usize {
    limits.metadata_bytes_max as usize + 4 * 8 * limits.side_max as usize
}

fn frame_error(limits: &Limits, error: &DecodingError) -> FrameError {
    match error {
        // The size was checked before; only the memory for metadata is left.
        DecodingError::LimitsExceeded => {
            let words = format!("PNG: metadata of more than metadata_bytes_max = {}", limits.metadata_bytes_max);
            FrameError::new(ErrorCode::ImageTooLarge, words)
        }
        _ => FrameError::new(ErrorCode::CorruptImage, format!("PNG: {error}")),
    }
}
