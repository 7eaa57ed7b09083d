//! What frames are asked for: as words of the command line, as sizes that the model goes by, and as bytes to measure with.

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use framepipe_pipeline::{Config, Plan};
use framepipe_vision::{DecodeScale, Format, Header, JpegColor, probe};
use image::{RgbImage, imageops};
use turbojpeg::Subsamp;

use crate::costs::Frames;

/// Named sizes.
const SIZES: [(&str, u32, u32); 5] =
    [("480p", 640, 480), ("720p", 1280, 720), ("1080p", 1920, 1080), ("1440p", 2560, 1440), ("4k", 3840, 2160)];
/// Bits of a pixel, in a JPEG of which only the size is known: as cameras make them at middling quality.
const BITS_PER_PIXEL: f64 = 1.0;
/// Qualities between which such a JPEG is sought.
const QUALITIES: std::ops::RangeInclusive<i32> = 10..=98;
/// Sides of the third picture, in parts of the first's.
const OTHER_SIZE: f64 = 2.0 / 3.0;

/// What frames were asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// RGB of the detector's size.
    Raw,
    /// JPEGs of this size.
    Size(u32, u32),
    /// This JPEG.
    File(PathBuf),
}

/// What the model goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picture {
    /// As stored.
    pub width: u32,
    /// As stored.
    pub height: u32,
    /// Encoded.
    pub bytes: u64,
    /// Pixels that the decoder makes, in millions: those of a scaled decode, where that is what preprocess does.
    pub decoded_megapixels: f64,
}

/// Bytes to push.
pub struct Encoded {
    /// What they are.
    pub picture: Picture,
    /// Themselves.
    pub bytes: Vec<u8>,
}

impl Asked {
    /// Reads the word of `--image`: everything that is no size is a file.
    pub fn parse(word: &str) -> Result<Self, Infallible> {
        let size = SIZES.iter().find(|(name, ..)| *name == word);
        Ok(match (word, size) {
            ("raw", _) => Self::Raw,
            (_, Some((_, width, height))) => Self::Size(*width, *height),
            _ => Self::File(word.into()),
        })
    }

    /// Their kind.
    pub fn frames(&self) -> Frames {
        if *self == Self::Raw { Frames::Raw } else { Frames::Jpeg }
    }

    /// What the model goes by; of a size alone, with as many bytes as such a JPEG usually has.
    pub fn picture(&self, config: &Config, plan: &Plan) -> anyhow::Result<Picture> {
        match self {
            Self::Raw => Ok(raw(plan)),
            Self::Size(width, height) => Ok(of_size(*width, *height, plan)),
            Self::File(path) => of_bytes(&read(path)?, config, plan).with_context(|| path.display().to_string()),
        }
    }

    /// Bytes to measure with: of a size alone, of this photo.
    pub fn encode(&self, photo: &Path, config: &Config, plan: &Plan) -> anyhow::Result<Encoded> {
        match self {
            Self::Raw => {
                let picture = raw(plan);
                // What the pixels are makes no difference to the time of a raw frame.
                let bytes = (0..picture.bytes).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
                Ok(Encoded { picture, bytes })
            }
            Self::Size(width, height) => {
                let pixels = imageops::resize(&decode(photo)?, *width, *height, imageops::FilterType::Triangle);
                nearest(&pixels, BITS_PER_PIXEL, config, plan)
            }
            Self::File(path) => {
                let bytes = read(path)?;
                let picture = of_bytes(&bytes, config, plan).with_context(|| path.display().to_string())?;
                Ok(Encoded { picture, bytes })
            }
        }
    }
}

impl Picture {
    /// Encoded.
    pub fn mib(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 20)
    }
}

/// The same picture in half as many bytes, and a smaller one: by the three, what bytes and pixels cost is told apart.
pub fn variants(of: &Encoded, config: &Config, plan: &Plan) -> anyhow::Result<[Encoded; 2]> {
    let pixels: RgbImage = turbojpeg::decompress_image(&of.bytes)?;
    let (width, height) = pixels.dimensions();
    let bits = 8.0 * of.picture.bytes as f64 / (f64::from(width) * f64::from(height));
    let side = |side: u32| ((f64::from(side) * OTHER_SIZE) as u32).max(1);
    let smaller = imageops::resize(&pixels, side(width), side(height), imageops::FilterType::Triangle);
    Ok([nearest(&pixels, bits / 2.0, config, plan)?, nearest(&smaller, bits, config, plan)?])
}

fn raw(plan: &Plan) -> Picture {
    let input = &plan.detector.input.plan;
    let (width, height) = (input.width(), input.height());
    Picture { width, height, bytes: 3 * u64::from(width) * u64::from(height), decoded_megapixels: 0.0 }
}

/// A JPEG of these pixels whose size is nearest to so many bits a pixel.
fn nearest(pixels: &RgbImage, bits: f64, config: &Config, plan: &Plan) -> anyhow::Result<Encoded> {
    let wanted = bits / 8.0 * f64::from(pixels.width()) * f64::from(pixels.height());
    let encode = |quality| turbojpeg::compress_image(pixels, quality, Subsamp::Sub2x2);
    let (mut low, mut high) = (*QUALITIES.start(), *QUALITIES.end());
    while low < high {
        let middle = low.midpoint(high);
        if (encode(middle)?.len() as f64) < wanted { low = middle + 1 } else { high = middle }
    }
    let bytes = encode(low)?.to_vec();
    Ok(Encoded { picture: of_bytes(&bytes, config, plan)?, bytes })
}

fn of_bytes(bytes: &[u8], config: &Config, plan: &Plan) -> anyhow::Result<Picture> {
    let header = probe(bytes, &config.limits)?;
    ensure!(matches!(header.format, Format::Jpeg(_)), "it is a {}: costs are known of JPEGs alone", header.format);
    Ok(of_header(&header, bytes.len() as u64, plan))
}

fn of_size(width: u32, height: u32, plan: &Plan) -> Picture {
    let header = Header { format: Format::Jpeg(JpegColor::Ycbcr), width, height, orientation: 1 };
    of_header(&header, (f64::from(width) * f64::from(height) * BITS_PER_PIXEL / 8.0) as u64, plan)
}

/// As preprocess does it: what is kept for crops is decoded whole.
fn of_header(header: &Header, bytes: u64, plan: &Plan) -> Picture {
    let is_kept = header.rgb_bytes(DecodeScale::Full) <= plan.kept_bytes_max();
    let scale = if is_kept { DecodeScale::Full } else { plan.detector.input.plan.decode_scale(header) };
    let decoded_megapixels = header.rgb_bytes(scale) as f64 / 3e6;
    Picture { width: header.width, height: header.height, bytes, decoded_megapixels }
}

fn decode(photo: &Path) -> anyhow::Result<RgbImage> {
    let bytes =
        read(photo).context("a picture is made of a photo: name a JPEG with --photo, or a whole one with --image")?;
    turbojpeg::decompress_image(&bytes).with_context(|| format!("{} is no good JPEG", photo.display()))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
