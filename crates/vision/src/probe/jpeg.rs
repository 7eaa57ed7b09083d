//! JPEG headers (ITU-T T.81, annex B): segments of `FF marker`, a 16-bit length that counts itself, a payload.

use framepipe_frame::FrameError;

use super::{Format, Found, JpegColor, array, corrupt, unsupported};

pub(super) const MAGIC: &[u8] = &[0xff, 0xd8, 0xff];

const SOS: u8 = 0xda;
const EOI: u8 = 0xd9;
const SOI: u8 = 0xd8;
const APP1: u8 = 0xe1;
const DHT: u8 = 0xc4;
const JPG: u8 = 0xc8;
const DAC: u8 = 0xcc;

/// One segment of the headers.
struct Segment<'a> {
    marker: u8,
    payload: &'a [u8],
}

/// The segments up to the first scan's, which is the last one given. Stray bytes between segments are skipped,
/// as every decoder does.
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
    ended: bool,
}

impl<'a> Segments<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 2, ended: false }
    }

    fn read(&mut self) -> Result<Segment<'a>, FrameError> {
        loop {
            let cut = || corrupt(format!("JPEG: {} bytes end before the first scan", self.bytes.len()));
            let stray = self.bytes[self.at..].iter().position(|byte| *byte == 0xff).ok_or_else(cut)?;
            let at = self.at + stray;
            let marker = *self.bytes.get(at + 1).ok_or_else(cut)?;
            // FF may be repeated; FF 00 is a stray byte; TEM and RST stand alone.
            if matches!(marker, 0xff | 0x00 | 0x01 | 0xd0..=0xd7) {
                self.at = at + if marker == 0xff { 1 } else { 2 };
                continue;
            }
            if matches!(marker, SOI | EOI) {
                return Err(corrupt(format!("JPEG: marker {marker:02x} before the first scan")));
            }
            let length = usize::from(u16::from_be_bytes(array(self.bytes, at + 2, "JPEG")?));
            let payload =
                (length >= 2).then(|| self.bytes.get(at + 4..at + 2 + length)).flatten().ok_or_else(|| {
                    corrupt(format!("JPEG: marker {marker:02x} with {length} bytes does not fit the file"))
                })?;
            self.at = at + 2 + length;
            return Ok(Segment { marker, payload });
        }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<Segment<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let segment = self.read();
        self.ended = segment.as_ref().map_or(true, |segment| segment.marker == SOS);
        Some(segment)
    }
}

pub(super) fn header(bytes: &[u8]) -> Result<Found<'_>, FrameError> {
    let mut frame = None;
    let mut exif = None;
    for segment in Segments::new(bytes) {
        let Segment { marker, payload } = segment?;
        match marker {
            APP1 => exif = exif.or(payload.strip_prefix(b"Exif\0\0")),
            DHT | JPG | DAC => {}
            0xc0..=0xcf if frame.is_some() => return Err(corrupt("JPEG: a second frame header")),
            0xc0..=0xcf => frame = Some(frame_header(marker, payload)?),
            _ => {}
        }
    }
    let (color, width, height) = frame.ok_or_else(|| corrupt("JPEG: a scan before any frame header"))?;
    Ok(Found { format: Format::Jpeg(color), width, height, exif })
}

fn frame_header(marker: u8, payload: &[u8]) -> Result<(JpegColor, u32, u32), FrameError> {
    // C0 baseline, C1 extended, C2 progressive. The others are lossless, hierarchical or arithmetic-coded.
    if marker > 0xc2 {
        return Err(unsupported(format!("JPEG: frame type {marker:02x}; only baseline, extended and progressive")));
    }
    let [precision, h1, h0, w1, w0, components] = array(payload, 0, "JPEG")?;
    if precision != 8 {
        return Err(unsupported(format!("JPEG: {precision} bits a sample; only 8")));
    }
    let color = match components {
        1 => JpegColor::Grey,
        3 => JpegColor::Ycbcr,
        4 => JpegColor::Cmyk,
        _ => return Err(unsupported(format!("JPEG: {components} components; only 1, 3 or 4"))),
    };
    Ok((color, u32::from(u16::from_be_bytes([w1, w0])), u32::from(u16::from_be_bytes([h1, h0]))))
}
