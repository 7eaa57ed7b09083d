//! What an image's bytes are, from their headers alone: format by magic, size, orientation. Cheap and without
//! large memory, so that limits are checked before a decoder sees the bytes.
//!
//! One file a format in `probe/`, each with `header()`; and EXIF, which several of them hold.

mod bmp;
mod exif;
mod jpeg;
mod png;
mod webp;

use std::fmt;

use framepipe_frame::{ErrorCode, FrameError};

use crate::{DecodeScale, Limits};

/// Colours of a JPEG, by its count of components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JpegColor {
    /// One component.
    Grey,
    /// Three components: YCbCr, or RGB where its markers say so.
    Ycbcr,
    /// Four components: CMYK, or YCCK where its markers say so.
    Cmyk,
}

/// An image format that framepipe reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG: baseline, extended or progressive, Huffman-coded, 8 bits.
    Jpeg(JpegColor),
    /// PNG; of an animated one its default image.
    Png,
    /// WebP; of an animated one its first frame.
    WebP,
    /// BMP.
    Bmp,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg(JpegColor::Grey) => "JPEG (grey)",
            Self::Jpeg(JpegColor::Ycbcr) => "JPEG (colour)",
            Self::Jpeg(JpegColor::Cmyk) => "JPEG (CMYK)",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
        })
    }
}

/// What an image's headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The format.
    pub format: Format,
    /// Width as stored, before orientation.
    pub width: u32,
    /// Height as stored, before orientation.
    pub height: u32,
    /// EXIF orientation, 1 to 8; 1 where there is none that can be read.
    pub orientation: u8,
}

impl Header {
    /// Width and height when the image is the right way up: what [`crate::Decoder`] writes.
    pub fn oriented_size(&self) -> (u32, u32) {
        if self.orientation >= 5 { (self.height, self.width) } else { (self.width, self.height) }
    }

    /// Bytes of its RGB8, decoded at `scale`.
    pub fn rgb_bytes(&self, scale: DecodeScale) -> usize {
        3 * scale.pixels_of(self.width) as usize * scale.pixels_of(self.height) as usize
    }
}

/// What a format's headers say; `exif` is a TIFF block.
struct Found<'a> {
    format: Format,
    width: u32,
    height: u32,
    exif: Option<&'a [u8]>,
}

/// Reads an image's headers and checks the size against `limits`.
///
/// # Errors
/// [`ErrorCode::UnsupportedFormat`], [`ErrorCode::CorruptImage`] or [`ErrorCode::ImageTooLarge`].
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<Header, FrameError> {
    let found = if bytes.starts_with(jpeg::MAGIC) {
        jpeg::header(bytes)
    } else if bytes.starts_with(png::MAGIC) {
        png::header(bytes)
    } else if webp::is_webp(bytes) {
        webp::header(bytes)
    } else if bytes.starts_with(bmp::MAGIC) {
        bmp::header(bytes)
    } else {
        Err(FrameError::new(
            ErrorCode::UnsupportedFormat,
            format!(
                "{} bytes that begin with {:02x?}: not JPEG, PNG, WebP or BMP",
                bytes.len(),
                &bytes[..bytes.len().min(8)]
            ),
        ))
    }?;
    limits.check_size(found.width, found.height)?;
    let exif = found.exif.filter(|exif| exif.len() <= limits.metadata_bytes_max as usize);
    let Found { format, width, height, .. } = found;
    Ok(Header { format, width, height, orientation: exif.and_then(exif::orientation).unwrap_or(1) })
}

fn corrupt(what: impl Into<String>) -> FrameError {
    FrameError::new(ErrorCode::CorruptImage, what)
}

fn unsupported(what: impl Into<String>) -> FrameError {
    FrameError::new(ErrorCode::UnsupportedFormat, what)
}

/// `N` bytes at `at`, or the error that the file ends before them.
fn array<const N: usize>(bytes: &[u8], at: usize, format: &str) -> Result<[u8; N], FrameError> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk().copied())
        .ok_or_else(|| corrupt(format!("{format}: {} bytes end inside the header", bytes.len())))
}

#[cfg(test)]
mod tests;
