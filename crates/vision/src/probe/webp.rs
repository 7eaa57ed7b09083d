//! WebP headers (RFC 9649): a RIFF file of chunks, each a type, a 32-bit length and data padded to an even count.
//! The first chunk is `VP8 ` (lossy), `VP8L` (lossless) or `VP8X` (a canvas, then more chunks).

use framepipe_frame::FrameError;

use super::{Format, Found, array, corrupt};

pub(super) fn is_webp(bytes: &[u8]) -> bool {
    bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP")
}

pub(super) fn header(bytes: &[u8]) -> Result<Found<'_>, FrameError> {
    let length = u32::from_le_bytes(array(bytes, 4, "WebP")?) as usize;
    if bytes.len() < length + 8 {
        return Err(corrupt(format!("WebP: {} bytes of the {} that its header says", bytes.len(), length + 8)));
    }
    let kind: [u8; 4] = array(bytes, 12, "WebP")?;
    let mut exif = None;
    let (width, height) = match &kind {
        b"VP8 " => lossy_size(bytes)?,
        b"VP8L" => lossless_size(bytes)?,
        b"VP8X" => {
            exif = find_chunk(bytes, b"EXIF");
            let [w0, w1, w2, h0, h1, h2] = array(bytes, 24, "WebP")?;
            (u32::from_le_bytes([w0, w1, w2, 0]) + 1, u32::from_le_bytes([h0, h1, h2, 0]) + 1)
        }
        _ => return Err(corrupt(format!("WebP: its first chunk is {}", kind.escape_ascii()))),
    };
    // Some writers put JPEG's prefix before the block.
    let exif = exif.map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif));
    Ok(Found { format: Format::WebP, width, height, exif })
}

/// RFC 6386, section 9.1: 3 bytes of frame tag, a start code, two 14-bit sizes with 2 bits of scale above them.
fn lossy_size(bytes: &[u8]) -> Result<(u32, u32), FrameError> {
    let [s0, s1, s2, w0, w1, h0, h1] = array(bytes, 23, "WebP")?;
    if [s0, s1, s2] != [0x9d, 0x01, 0x2a] {
        return Err(corrupt("WebP: no key frame's start code"));
    }
    let size = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    Ok((size(w0, w1), size(h0, h1)))
}

/// RFC 9649, section 3.4: a signature byte, then width - 1 and height - 1 of 14 bits each.
fn lossless_size(bytes: &[u8]) -> Result<(u32, u32), FrameError> {
    let [signature, b0, b1, b2, b3] = array(bytes, 20, "WebP")?;
    if signature != 0x2f {
        return Err(corrupt(format!("WebP: lossless signature {signature:02x} instead of 2f")));
    }
    let bits = u32::from_le_bytes([b0, b1, b2, b3]);
    Ok(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
}

fn find_chunk<'a>(bytes: &'a [u8], wanted: &[u8; 4]) -> Option<&'a [u8]> {
    let mut rest = bytes.get(12..)?;
    loop {
        let (head, tail) = rest.split_first_chunk::<8>()?;
        let [k0, k1, k2, k3, l0, l1, l2, l3] = *head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if [k0, k1, k2, k3] == *wanted {
            return tail.get(..length);
        }
        rest = tail.get(length + length % 2..)?;
    }
}
