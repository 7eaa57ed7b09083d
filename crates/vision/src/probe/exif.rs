//! EXIF: a TIFF block (TIFF 6.0, sections 2 and EXIF 2.32, 4.6). Of it the orientation in the first directory is read,
//! and nothing is copied.

const ORIENTATION: u16 = 0x0112;
const ENTRY_BYTES: usize = 12;

/// The orientation, 1 to 8; `None` where it cannot be read, which harms no image.
pub(super) fn orientation(block: &[u8]) -> Option<u8> {
    let tiff = Tiff { block, is_big_endian: block.starts_with(b"MM") };
    if !tiff.is_big_endian && !block.starts_with(b"II") || tiff.u16(2)? != 42 {
        return None;
    }
    let directory = tiff.u32(4)? as usize;
    let count = usize::from(tiff.u16(directory)?);
    let entries = (0..count).map(|number| directory + 2 + ENTRY_BYTES * number);
    let entry = entries
        .take_while(|entry| entry + ENTRY_BYTES <= block.len())
        .find(|entry| tiff.u16(*entry) == Some(ORIENTATION))?;
    // One number, so small that it lies in the entry itself.
    let (kind, count, value) = (tiff.u16(entry + 2)?, tiff.u32(entry + 4)?, entry + 8);
    let number = match kind {
        1 => u32::from(*block.get(value)?),
        3 => u32::from(tiff.u16(value)?),
        4 => tiff.u32(value)?,
        _ => return None,
    };
    u8::try_from(number).ok().filter(|number| count == 1 && (1..=8).contains(number))
}

struct Tiff<'a> {
    block: &'a [u8],
    is_big_endian: bool,
}

impl Tiff<'_> {
    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = *self.block.get(at..)?.first_chunk()?;
        Some(if self.is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = *self.block.get(at..)?.first_chunk()?;
        Some(if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }
}
