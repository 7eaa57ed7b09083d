//! BMP headers: a file header of 14 bytes, then an information header whose length tells its version.

use framepipe_frame::FrameError;

use super::{Format, Found, array, corrupt, unsupported};

pub(super) const MAGIC: &[u8] = b"BM";

pub(super) fn header(bytes: &[u8]) -> Result<Found<'_>, FrameError> {
    let length = u32::from_le_bytes(array(bytes, 14, "BMP")?);
    let (width, height) = match length {
        12 => {
            let [w0, w1, h0, h1] = array(bytes, 18, "BMP")?;
            (u32::from(u16::from_le_bytes([w0, w1])), u32::from(u16::from_le_bytes([h0, h1])))
        }
        40 | 52 | 56 | 108 | 124 => {
            let width = i32::from_le_bytes(array(bytes, 18, "BMP")?);
            // A negative height: the rows lie from top to bottom.
            let height = i32::from_le_bytes(array(bytes, 22, "BMP")?);
            let width = u32::try_from(width).map_err(|_| corrupt(format!("BMP: a width of {width}")))?;
            (width, height.unsigned_abs())
        }
        _ => return Err(unsupported(format!("BMP: an information header of {length} bytes"))),
    };
    Ok(Found { format: Format::Bmp, width, height, exif: None })
}
