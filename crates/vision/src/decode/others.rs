//! What the `image` crate decodes (BMP, and the first frame of an animated WebP); and how pixels of more channels or fewer
//! become RGB8. Its decoders of these heed no limit of memory: the size was checked before, and metadata is not asked for.

use framepipe_frame::{ErrorCode, FrameError};
use image::{ColorType, ImageDecoder, ImageError};

use super::check_same_size;
use crate::{Format, Header};

pub(super) fn read(
    decoder: Result<impl ImageDecoder, ImageError>,
    header: &Header,
    native: &mut Vec<u8>,
    out: &mut [u8],
) -> Result<(), FrameError> {
    let failed = |error| frame_error(header.format, &error);
    let decoder = decoder.map_err(failed)?;
    let (width, height) = decoder.dimensions();
    check_same_size(header, width as usize, height as usize)?;
    let (pixel_bytes, channels) = match decoder.color_type() {
        ColorType::Rgb8 => return decoder.read_image(out).map_err(failed),
        ColorType::L8 => (1, [0; 3]),
        ColorType::Rgba8 => (4, [0, 1, 2]),
        color => {
            let words = format!("{:?}: pixels of {color:?}", header.format);
            return Err(FrameError::new(ErrorCode::UnsupportedFormat, words));
        }
    };
    let native = first_bytes(native, pixel_bytes * width as usize * height as usize);
    decoder.read_image(native).map_err(failed)?;
    to_rgb(native, pixel_bytes, channels, out);
    Ok(())
}

/// The first `len` bytes of memory that is kept and only grows.
pub(super) fn first_bytes(memory: &mut Vec<u8>, len: usize) -> &mut [u8] {
    memory.resize(memory.len().max(len), 0);
    &mut memory[..len]
}

/// `channels`: where in a pixel red, green and blue lie.
pub(super) fn to_rgb(native: &[u8], pixel_bytes: usize, channels: [usize; 3], out: &mut [u8]) {
    let (to, _) = out.as_chunks_mut::<3>();
    for (pixel, from) in to.iter_mut().zip(native.chunks_exact(pixel_bytes)) {
        *pixel = channels.map(|at| from[at]);
    }
}

fn frame_error(format: Format, error: &ImageError) -> FrameError {
    match error {
        ImageError::Unsupported(_) => FrameError::new(ErrorCode::UnsupportedFormat, format!("{format:?}: {error}")),
        _ => FrameError::new(ErrorCode::CorruptImage, format!("{format:?}: {error}")),
    }
}
