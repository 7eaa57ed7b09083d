//! Encoded bytes to upright RGB8. One decoder a format, in `decode/`; each writes the pixels as they are stored,
//! and [`orient`] turns them where EXIF says so (no library does).
//!
//! Promises: what a client's camera or disk cut short is an error, never a half-grey image; every limit is
//! checked; memory is kept from frame to frame, and the JPEG path of an upright image takes none at all here.

mod jpeg;
pub(crate) mod orient;
mod others;
mod scale;

use framepipe_frame::{ErrorCode, FrameError};

pub use scale::{DecodeScale, ScalePolicy};

use crate::{Format, Header, Limits};

/// Decodes images, one after another, into memory of the caller's.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    jpeg: jpeg::Jpeg,
    /// A format's own pixels (alpha, 16 bits, grey), before they are RGB8.
    native: Vec<u8>,
    /// RGB8 as stored, before it is the right way up.
    stored: Vec<u8>,
}

impl Decoder {
    /// A decoder that holds images to `limits`.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] where libjpeg-turbo gets no memory for its state.
    pub fn new(limits: Limits) -> Result<Self, FrameError> {
        Ok(Self { limits, jpeg: jpeg::Jpeg::new(&limits)?, native: Vec::new(), stored: Vec::new() })
    }

    /// Writes the image as RGB8, the right way up ([`Header::oriented_size`]), rows close together. `header` is
    /// what [`crate::probe()`] said of `bytes`; `out` is exactly 3 bytes a pixel. After an error, `out` holds
    /// anything.
    ///
    /// # Errors
    /// [`ErrorCode::CorruptImage`] where bytes are missing or wrong, [`ErrorCode::ImageTooLarge`] beyond a limit,
    /// [`ErrorCode::UnsupportedFormat`] for a kind that no decoder reads, [`ErrorCode::Internal`] where `out` has
    /// another size.
    pub fn decode_rgb(&mut self, bytes: &[u8], header: &Header, out: &mut [u8]) -> Result<(), FrameError> {
        self.decode_scaled(bytes, header, DecodeScale::Full, out)
    }

    /// As [`Self::decode_rgb`], at a fraction of the size, [`DecodeScale::rgb_bytes`] long. Of a JPEG only.
    ///
    /// # Errors
    /// As there; [`ErrorCode::Internal`] for another format than JPEG at less than its full size.
    pub fn decode_scaled(
        &mut self,
        bytes: &[u8],
        header: &Header,
        scale: DecodeScale,
        out: &mut [u8],
    ) -> Result<(), FrameError> {
        self.limits.check_size(header.width, header.height)?;
        let rgb_bytes = scale.rgb_bytes(header);
        if out.len() != rgb_bytes {
            return Err(FrameError::new(
                ErrorCode::Internal,
                format!("{} bytes of output for an image of {rgb_bytes}", out.len()),
            ));
        }
        if header.orientation <= 1 {
            return self.decode_stored(bytes, header, scale, out);
        }
        let mut stored = std::mem::take(&mut self.stored);
        stored.resize(stored.len().max(rgb_bytes), 0);
        let result = self.decode_stored(bytes, header, scale, &mut stored[..rgb_bytes]);
        if result.is_ok() {
            orient::orient(
                &stored[..rgb_bytes],
                scale.pixels_of(header.width) as usize,
                scale.pixels_of(header.height) as usize,
                header.orientation,
                out,
            );
        }
        self.stored = stored;
        result
    }

    fn decode_stored(
        &mut self,
        bytes: &[u8],
        header: &Header,
        scale: DecodeScale,
        out: &mut [u8],
    ) -> Result<(), FrameError> {
        match header.format {
            Format::Jpeg(_) => self.jpeg.decode(bytes, header, scale, out),
            _ if scale != DecodeScale::Full => {
                let words = format!("{:?} is decoded at full size only", header.format);
                Err(FrameError::new(ErrorCode::Internal, words))
            }
            Format::Png | Format::WebP | Format::Bmp => {
                others::decode(bytes, header, &self.limits, &mut self.native, out)
            }
        }
    }
}

/// A decoder that reads another size than the header said: the file contradicts itself.
fn check_same_size(header: &Header, width: usize, height: usize) -> Result<(), FrameError> {
    if (width, height) == (header.width as usize, header.height as usize) {
        return Ok(());
    }
    Err(FrameError::new(
        ErrorCode::CorruptImage,
        format!("the header says {}x{} pixels and the decoder {width}x{height}", header.width, header.height),
    ))
}

#[cfg(test)]
mod tests;
