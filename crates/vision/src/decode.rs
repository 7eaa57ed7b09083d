//! Encoded bytes to upright RGB8. One decoder a format, in `decode/`; each writes the pixels as they are stored,
//! and [`orient`] turns them where EXIF says so (no library does).
//!
//! Promises: what a client's camera or disk cut short is an error, never a half-grey image; every limit is
//! checked; memory is kept from frame to frame, and the JPEG path of an upright image takes none at all here.

mod bmp;
mod budget;
mod jpeg;
pub(crate) mod orient;
mod others;
mod png;
mod scale;
mod webp;

use framepipe_frame::{ErrorCode, FrameError};

pub use jpeg::JpegRows;
pub use orient::upright_steps;
pub(crate) use scale::at_least;
pub use scale::{DecodeScale, ScalePolicy};

use crate::{Format, Header, Limits, Region};

/// Decodes images, one after another, into memory of the caller's.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    jpeg: jpeg::Jpeg,
    /// A format's own pixels (alpha, grey), before they are RGB8.
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

    /// As [`Self::decode_rgb`], at a fraction of the size, [`Header::rgb_bytes`] long. Of a JPEG only.
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
        let rgb_bytes = header.rgb_bytes(scale);
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

    /// True for what [`Self::rows`] and [`Self::decode_region`] read: JPEGs whose rows are those of the upright image.
    pub fn has_rows(header: &Header) -> bool {
        matches!(header.format, Format::Jpeg(_)) && header.orientation <= 1
    }

    /// A JPEG's rows at `scale`, from the top; those that nobody asks for cost less. Upright images only
    /// ([`Self::has_rows`]). The bytes are read as the rows are: only [`JpegRows::finish`] tells whether the
    /// image is whole.
    ///
    /// # Errors
    /// As [`Self::decode_rgb`]; [`ErrorCode::Internal`] for another format than JPEG or an image to be turned.
    pub fn rows<'d>(
        &'d mut self,
        bytes: &'d [u8],
        header: &Header,
        scale: DecodeScale,
    ) -> Result<JpegRows<'d>, FrameError> {
        self.limits.check_size(header.width, header.height)?;
        check_is_jpeg(header)?;
        if header.orientation > 1 {
            let words =
                format!("the rows of an image of orientation {} are columns or upside down", header.orientation);
            return Err(FrameError::new(ErrorCode::Internal, words));
        }
        self.jpeg.rows(bytes, header, scale)
    }

    /// Writes a part of a JPEG as RGB8, as it is stored (before orientation) and at full size: [`Region::rgb_bytes`]. The pixels are those
    /// of the whole image. What lies below is not read, and may be missing.
    ///
    /// # Errors
    /// As [`Self::decode_rgb`]; [`ErrorCode::Internal`] for another format than JPEG, and for a region that is empty or
    /// not within the image.
    pub fn decode_region(
        &mut self,
        bytes: &[u8],
        header: &Header,
        region: &Region,
        out: &mut [u8],
    ) -> Result<(), FrameError> {
        self.limits.check_size(header.width, header.height)?;
        check_is_jpeg(header)?;
        if !region.is_within((header.width, header.height)) || out.len() != region.rgb_bytes() {
            let (width, height) = (header.width, header.height);
            let words = format!("{region:?} of {width}x{height} pixels into {} bytes", out.len());
            return Err(FrameError::new(ErrorCode::Internal, words));
        }
        self.jpeg.decode_region(bytes, header, region, out)
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
            Format::Png => png::decode(bytes, header, &self.limits, &mut self.native, out),
            Format::WebP => webp::decode(bytes, header, &self.limits, &mut self.native, out),
            Format::Bmp => bmp::decode(bytes, header, &self.limits, &mut self.native, out),
        }
    }
}

fn check_is_jpeg(header: &Header) -> Result<(), FrameError> {
    match header.format {
        Format::Jpeg(_) => Ok(()),
        format => Err(FrameError::new(ErrorCode::Internal, format!("{format:?} is decoded whole only"))),
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
