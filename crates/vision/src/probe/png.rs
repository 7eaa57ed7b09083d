//! PNG headers (W3C PNG, section 5): a signature, then chunks of a 32-bit length, a type, data, a CRC; IHDR is
//! the first and IEND the last.
//!
//! The chunks are walked to the end: decoders stop when they have the pixels, and a file that was cut behind
//! them, or between two of its chunks, shall be an error like any other.

use framepipe_frame::FrameError;

use super::{Format, Found, array, corrupt};

pub(super) const MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";

pub(super) fn header(bytes: &[u8]) -> Result<Found<'_>, FrameError> {
    if array::<8>(bytes, 8, "PNG")? != *b"\0\0\0\x0dIHDR" {
        return Err(corrupt("PNG: its first chunk is not an IHDR of 13 bytes"));
    }
    let width = u32::from_be_bytes(array(bytes, 16, "PNG")?);
    let height = u32::from_be_bytes(array(bytes, 20, "PNG")?);
    let mut exif = None;
    let mut at = MAGIC.len();
    loop {
        let length = u32::from_be_bytes(array(bytes, at, "PNG")?) as usize;
        let kind: [u8; 4] = array(bytes, at + 4, "PNG")?;
        if !kind.iter().all(u8::is_ascii_alphabetic) {
            return Err(corrupt(format!("PNG: {} at {at} is no type of a chunk", kind.escape_ascii())));
        }
        // The 4 bytes behind the data are the CRC of type and data.
        let data = bytes.get(at + 8..at + 8 + length).filter(|_| bytes.len() >= at + 12 + length).ok_or_else(|| {
            let kind = kind.escape_ascii();
            corrupt(format!("PNG: {} bytes end inside the chunk {kind} of {length} at {at}", bytes.len()))
        })?;
        match &kind {
            // Only here: the decoder reads no chunk behind the pixels.
            b"eXIf" => {
                let crc = u32::from_be_bytes(array(bytes, at + 8 + length, "PNG")?);
                if crc != crc32fast::hash(&bytes[at + 4..at + 8 + length]) {
                    return Err(corrupt(format!("PNG: the CRC of the chunk eXIf at {at} is wrong")));
                }
                exif = exif.or(Some(data));
            }
            b"IEND" => return Ok(Found { format: Format::Png, width, height, exif }),
            _ => {}
        }
        at += 12 + length;
    }
}
