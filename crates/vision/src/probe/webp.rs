//! WebP headers (RFC 9649): a RIFF file of chunks, each a type, a 32-bit length and data padded to an even count.
//! The first chunk is `VP8 ` (lossy), `VP8L` (lossless) or `VP8X` (a canvas, then more chunks).

use framepipe_frame::FrameError;

use super::{Format, Found, array, corrupt};

/// A flag of VP8X.
const ANIMATED: u8 = 0x02;

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
    let image = bytes.get(20..).unwrap_or_default();
    let (width, height) = match &kind {
        b"VP8 " => lossy_size(image)?,
        b"VP8L" => lossless_size(image)?,
        b"VP8X" => {
            exif = find_chunk(bytes, b"EXIF");
            extended_size(bytes)?
        }
        _ => return Err(corrupt(format!("WebP: its first chunk is {}", kind.escape_ascii()))),
    };
    // Some writers put JPEG's prefix before the block.
    let exif = exif.map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif));
    Ok(Found { format: Format::WebP, width, height, exif })
}

/// RFC 6386, section 9.1: 3 bytes of frame tag, a start code, two 14-bit sizes with 2 bits of scale above them.
fn lossy_size(image: &[u8]) -> Result<(u32, u32), FrameError> {
    let [s0, s1, s2, w0, w1, h0, h1] = array(image, 3, "WebP")?;
    if [s0, s1, s2] != [0x9d, 0x01, 0x2a] {
        return Err(corrupt("WebP: no key frame's start code"));
    }
    let size = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    Ok((size(w0, w1), size(h0, h1)))
}

/// RFC 9649, section 3.4: a signature byte, then width - 1 and height - 1 of 14 bits each.
fn lossless_size(image: &[u8]) -> Result<(u32, u32), FrameError> {
    let [signature, b0, b1, b2, b3] = array(image, 0, "WebP")?;
    if signature != 0x2f {
        return Err(corrupt(format!("WebP: lossless signature {signature:02x} instead of 2f")));
    }
    let bits = u32::from_le_bytes([b0, b1, b2, b3]);
    Ok(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
}

/// RFC 9649, section 2.7: flags, 3 bytes reserved, the canvas. The decoder takes memory for the image inside by the
/// image's own size before it compares the two, so that one must be right as well.
fn extended_size(bytes: &[u8]) -> Result<(u32, u32), FrameError> {
    let [flags, _, _, _, w0, w1, w2, h0, h1, h2] = array(bytes, 20, "WebP")?;
    let canvas = (size24([w0, w1, w2]), size24([h0, h1, h2]));
    if flags & ANIMATED != 0 {
        check_frames(bytes, canvas)?;
        return Ok(canvas);
    }
    let image = match (find_chunk(bytes, b"VP8 "), find_chunk(bytes, b"VP8L")) {
        (Some(lossy), None) => lossy_size(lossy)?,
        (None, Some(lossless)) => lossless_size(lossless)?,
        (None, None) => return Err(corrupt("WebP: no whole image behind its canvas")),
        (Some(_), Some(_)) => return Err(corrupt("WebP: both a lossy and a lossless image")),
    };
    check_same(image, canvas, "its canvas")?;
    Ok(canvas)
}

/// All frames must lie on the canvas. The first one is decoded, so its image must be as large as the frame.
fn check_frames(bytes: &[u8], canvas: (u32, u32)) -> Result<(), FrameError> {
    let mut frames = chunks(bytes.get(12..).unwrap_or_default()).filter(|(kind, _)| kind == b"ANMF").peekable();
    let Some((_, first)) = frames.peek().copied() else {
        return Err(corrupt("WebP: an animation without a whole frame"));
    };
    for (_, frame) in frames {
        let [x0, x1, x2, y0, y1, y2] = array(frame, 0, "WebP")?;
        let (width, height) = frame_size(frame)?;
        // The offsets are stored halved.
        let x = 2 * u32::from_le_bytes([x0, x1, x2, 0]);
        let y = 2 * u32::from_le_bytes([y0, y1, y2, 0]);
        if x + width > canvas.0 || y + height > canvas.1 {
            let (canvas_width, canvas_height) = canvas;
            return Err(corrupt(format!(
                "WebP: a frame of {width}x{height} at ({x}, {y}) leaves its canvas of {canvas_width}x{canvas_height}"
            )));
        }
    }
    let mut inner = chunks(first.get(16..).unwrap_or_default());
    let image = match inner.next() {
        Some((kind, image)) if kind == *b"VP8 " => lossy_size(image)?,
        Some((kind, image)) if kind == *b"VP8L" => lossless_size(image)?,
        Some((kind, _)) if kind == *b"ALPH" => match inner.next() {
            Some((kind, image)) if kind == *b"VP8 " => lossy_size(image)?,
            _ => return Err(corrupt("WebP: no whole image behind the first frame's alpha")),
        },
        _ => return Err(corrupt("WebP: no whole image in the first frame")),
    };
    check_same(image, frame_size(first)?, "its frame")
}

/// What an ANMF chunk says of its frame's size, behind the offsets.
fn frame_size(frame: &[u8]) -> Result<(u32, u32), FrameError> {
    let [w0, w1, w2, h0, h1, h2] = array(frame, 6, "WebP")?;
    Ok((size24([w0, w1, w2]), size24([h0, h1, h2])))
}

/// A side, stored less 1 in 24 bits.
fn size24([b0, b1, b2]: [u8; 3]) -> u32 {
    u32::from_le_bytes([b0, b1, b2, 0]) + 1
}

fn check_same(image: (u32, u32), outer: (u32, u32), name: &str) -> Result<(), FrameError> {
    if image == outer {
        return Ok(());
    }
    Err(corrupt(format!("WebP: an image of {}x{}, but {name} has {}x{}", image.0, image.1, outer.0, outer.1)))
}

fn find_chunk<'a>(bytes: &'a [u8], wanted: &[u8; 4]) -> Option<&'a [u8]> {
    chunks(bytes.get(12..)?).find(|(kind, _)| kind == wanted).map(|(_, data)| data)
}

/// The whole chunks of a file's or a frame's body, each with its type; they end before one that is cut short.
fn chunks(mut rest: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (head, tail) = rest.split_first_chunk::<8>()?;
        let [k0, k1, k2, k3, l0, l1, l2, l3] = *head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let data = tail.get(..length)?;
        // The last one's padding may be missing.
        rest = tail.get(length + length % 2..).unwrap_or_default();
        Some(([k0, k1, k2, k3], data))
    })
}
