//! JPEG by libjpeg-turbo. Of the four-component kinds it gives CMYK, which becomes RGB here.
//!
//! libjpeg only warns of missing and broken data and fills the rest with grey; here a warning is an error, with
//! one exception. Stray bytes between segments or before the end marker, and a broken colour profile, harm no
//! pixel, and cameras do write them. But libjpeg tells only its first warning, so a harmless one may hide others:
//! the headers are then copied without stray bytes and profile, and the image is decoded again.

use framepipe_frame::{ErrorCode, FrameError};
use turbojpeg::{Decompressor, Image, PixelFormat};

use super::{DecodeScale, check_same_size};
use crate::probe::jpeg::{SOS, Segment, Segments};
use crate::{Format, Header, JpegColor, Limits};

/// libjpeg's words (jerror.h), by which its warnings are told apart.
const STRAY_BYTES: &str = "extraneous bytes before marker";
const STRAY_BYTES_BEFORE_END: &str = "extraneous bytes before marker 0xd9";
const BAD_PROFILE: &str = "ICC";
/// TurboJPEG's words of its scan limit.
const TOO_MANY_SCANS: &str = "more than";

const DHT: u8 = 0xc4;
const DQT: u8 = 0xdb;
const DRI: u8 = 0xdd;
const APP0: u8 = 0xe0;
const APP14: u8 = 0xee;

#[derive(Debug)]
pub(super) struct Jpeg {
    decompressor: Decompressor,
    /// A file without what harms no pixel.
    clean: Vec<u8>,
    /// The four components of a CMYK image.
    ink: Vec<u8>,
}

impl Jpeg {
    pub(super) fn new(limits: &Limits) -> Result<Self, FrameError> {
        let internal = |error: turbojpeg::Error| FrameError::new(ErrorCode::Internal, error.to_string());
        let mut decompressor = Decompressor::new().map_err(internal)?;
        // TurboJPEG takes 0 as no limit.
        decompressor.set_scan_limit(limits.scans_max.clamp(1, i32::MAX as u32)).map_err(internal)?;
        Ok(Self { decompressor, clean: Vec::new(), ink: Vec::new() })
    }

    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        header: &Header,
        scale: DecodeScale,
        out: &mut [u8],
    ) -> Result<(), FrameError> {
        let internal = |error: turbojpeg::Error| FrameError::new(ErrorCode::Internal, error.to_string());
        self.decompressor.set_scaling_factor(scale.factor()).map_err(internal)?;
        if header.format != Format::Jpeg(JpegColor::Cmyk) {
            return self.decode_as(PixelFormat::RGB, bytes, header, out);
        }
        let ink_bytes = out.len() / 3 * 4;
        let mut ink = std::mem::take(&mut self.ink);
        ink.resize(ink.len().max(ink_bytes), 0);
        let result = self.decode_as(PixelFormat::CMYK, bytes, header, &mut ink[..ink_bytes]);
        if result.is_ok() {
            cmyk_to_rgb(&ink[..ink_bytes], out);
        }
        self.ink = ink;
        result
    }

    fn decode_as(
        &mut self,
        format: PixelFormat,
        bytes: &[u8],
        header: &Header,
        pixels: &mut [u8],
    ) -> Result<(), FrameError> {
        match self.decompress(format, bytes, header, pixels) {
            Err(Failure::Warned(words)) if words.contains(STRAY_BYTES) || words.contains(BAD_PROFILE) => {}
            result => return result.map_err(FrameError::from),
        }
        let mut clean = std::mem::take(&mut self.clean);
        let result = copy_clean(bytes, &mut clean).and_then(|()| {
            match self.decompress(format, &clean, header, pixels) {
                // The end marker follows the last row, so nothing was hidden behind this warning. With restart
                // markers it may have been met in search of one.
                Err(Failure::Warned(words)) if words.contains(STRAY_BYTES_BEFORE_END) && !has_restarts(&clean) => {
                    Ok(())
                }
                result => result.map_err(FrameError::from),
            }
        });
        self.clean = clean;
        result
    }

    fn decompress(
        &mut self,
        format: PixelFormat,
        bytes: &[u8],
        header: &Header,
        pixels: &mut [u8],
    ) -> Result<(), Failure> {
        let read = self.decompressor.read_header(bytes)?;
        check_same_size(header, read.width, read.height).map_err(Failure::Frame)?;
        let scaled = read.scaled(self.decompressor.scaling_factor());
        let (width, height) = (scaled.width, scaled.height);
        let image = Image { pixels, width, pitch: width * format.size(), height, format };
        Ok(self.decompressor.decompress(bytes, image)?)
    }
}

/// Why libjpeg-turbo gave no image.
enum Failure {
    /// Its first warning or its error, in its words.
    Warned(String),
    Frame(FrameError),
}

impl From<turbojpeg::Error> for Failure {
    fn from(error: turbojpeg::Error) -> Self {
        match error {
            turbojpeg::Error::TurboJpegError(words) => Self::Warned(words),
            error => Self::Warned(error.to_string()),
        }
    }
}

impl From<Failure> for FrameError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Warned(words) if words.contains(TOO_MANY_SCANS) => {
                FrameError::new(ErrorCode::ImageTooLarge, format!("{words} (scans_max)"))
            }
            Failure::Warned(words) => FrameError::new(ErrorCode::CorruptImage, format!("JPEG: {words}")),
            Failure::Frame(error) => error,
        }
    }
}

/// Copies the segments that decoding needs, and everything from the first scan on.
fn copy_clean(bytes: &[u8], clean: &mut Vec<u8>) -> Result<(), FrameError> {
    clean.clear();
    clean.extend_from_slice(&bytes[..2]);
    for segment in Segments::new(bytes) {
        let Segment { marker, at, payload } = segment?;
        match marker {
            SOS => clean.extend_from_slice(&bytes[at..]),
            0xc0..=0xc2 | DHT | DQT | DRI | APP0 | APP14 => clean.extend_from_slice(&bytes[at..at + 4 + payload.len()]),
            _ => {}
        }
    }
    Ok(())
}

fn has_restarts(bytes: &[u8]) -> bool {
    Segments::new(bytes).flatten().any(|segment| segment.marker == DRI && segment.payload != [0, 0])
}

/// Four components to RGB without a colour profile: ink as Adobe writes it, inverted, so that 255 is none. What is
/// left of the light is what the colour's ink leaves of what the black leaves.
fn cmyk_to_rgb(ink: &[u8], out: &mut [u8]) {
    let (ink, _) = ink.as_chunks::<4>();
    let (out, _) = out.as_chunks_mut::<3>();
    for (rgb, [c, m, y, k]) in out.iter_mut().zip(ink) {
        // + 127: to the nearest.
        *rgb = [c, m, y].map(|left| ((u32::from(*left) * u32::from(*k) + 127) / 255) as u8);
    }
}
