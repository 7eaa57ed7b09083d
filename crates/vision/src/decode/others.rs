//! PNG, WebP and BMP by the `image` crate, with its limits set. Whatever it decodes to becomes RGB8: palettes and
//! small grey depths are already expanded; of 16 bits the high byte is kept; alpha is dropped, not blended
//! (both as OpenCV's imread does, by which models are trained).

use framepipe_frame::{ErrorCode, FrameError};
use image::codecs::{bmp::BmpDecoder, png::PngDecoder, webp::WebPDecoder};
use image::{ColorType, ImageDecoder, ImageError};

use super::{
    budget::{Budget, Metered},
    check_same_size,
};
use crate::{Format, Header, Limits};

pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    limits: &Limits,
    native: &mut Vec<u8>,
    out: &mut [u8],
) -> Result<(), FrameError> {
    let budget = Budget::new(limits.cpu_ms_max);
    let reader = Metered::new(bytes, &budget);
    let result = match header.format {
        Format::Png => read(PngDecoder::with_limits(reader, image_limits(limits)), header, limits, native, out),
        Format::WebP => read(WebPDecoder::new(reader), header, limits, native, out),
        Format::Bmp => read(BmpDecoder::new(reader), header, limits, native, out),
        Format::Jpeg(_) => Err(FrameError::new(ErrorCode::Internal, "a JPEG is decoded elsewhere")),
    };
    result.map_err(|error| budget.error(&format!("{:?}", header.format)).unwrap_or(error))
}

/// What a decoder may take beside the pixels: metadata, and a few rows of 16-bit RGBA.
fn image_limits(limits: &Limits) -> image::Limits {
    let mut image_limits = image::Limits::default();
    image_limits.max_image_width = Some(limits.side_max);
    image_limits.max_image_height = Some(limits.side_max);
    image_limits.max_alloc = Some(u64::from(limits.metadata_bytes_max) + 4 * 8 * u64::from(limits.side_max));
    image_limits
}

fn read(
    decoder: Result<impl ImageDecoder, ImageError>,
    header: &Header,
    limits: &Limits,
    native: &mut Vec<u8>,
    out: &mut [u8],
) -> Result<(), FrameError> {
    let failed = |error| frame_error(header.format, limits, &error);
    let decoder = decoder.map_err(failed)?;
    let (width, height) = decoder.dimensions();
    check_same_size(header, width as usize, height as usize)?;
    let color = decoder.color_type();
    if color == ColorType::Rgb8 {
        return decoder.read_image(out).map_err(failed);
    }
    let (pixel_bytes, channels) = channel_bytes(color).ok_or_else(|| {
        FrameError::new(ErrorCode::UnsupportedFormat, format!("{:?}: pixels of {color:?}", header.format))
    })?;
    // The pixel count was checked against the limits, so this is at most 8 * pixels_max.
    debug_assert!(u64::from(width) * u64::from(height) <= limits.pixels_max);
    let native_bytes = pixel_bytes * width as usize * height as usize;
    native.resize(native.len().max(native_bytes), 0);
    let native = &mut native[..native_bytes];
    decoder.read_image(native).map_err(failed)?;
    let (to, _) = out.as_chunks_mut::<3>();
    for (pixel, from) in to.iter_mut().zip(native.chunks_exact(pixel_bytes)) {
        *pixel = channels.map(|at| from[at]);
    }
    Ok(())
}

/// Bytes of a pixel, and where in it red, green and blue lie (of 16 bits the high byte).
fn channel_bytes(color: ColorType) -> Option<(usize, [usize; 3])> {
    let high = usize::from(cfg!(target_endian = "little"));
    Some(match color {
        ColorType::L8 => (1, [0; 3]),
        ColorType::La8 => (2, [0; 3]),
        ColorType::Rgb8 => (3, [0, 1, 2]),
        ColorType::Rgba8 => (4, [0, 1, 2]),
        ColorType::L16 => (2, [high; 3]),
        ColorType::La16 => (4, [high; 3]),
        ColorType::Rgb16 => (6, [high, 2 + high, 4 + high]),
        ColorType::Rgba16 => (8, [high, 2 + high, 4 + high]),
        _ => return None,
    })
}

fn frame_error(format: Format, limits: &Limits, error: &ImageError) -> FrameError {
    match error {
        // The size was checked before; only the memory for metadata is left.
        ImageError::Limits(_) => FrameError::new(
            ErrorCode::ImageTooLarge,
            format!("{format:?}: metadata of more than metadata_bytes_max = {} ({error})", limits.metadata_bytes_max),
        ),
        ImageError::Unsupported(_) => FrameError::new(ErrorCode::UnsupportedFormat, format!("{format:?}: {error}")),
        _ => FrameError::new(ErrorCode::CorruptImage, format!("{format:?}: {error}")),
    }
}
