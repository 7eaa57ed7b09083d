//! The preprocess graph: what happens to an image on its way to a model's tensor, as the `[input]` table of the model's
//! manifest lists it, one operator after another.
//!
//! ```toml
//! [input]
//! tensor = "images"
//! graph = [
//!     { op = "decode", scale = "auto" },
//!     { op = "orient" },
//!     { op = "resize", fit = "letterbox", width = 416, height = 416, pad = 114 },
//!     { op = "convert", color = "bgr" },
//!     { op = "normalize", mean = [103.53, 116.28, 123.675], std = [57.375, 57.12, 58.395] },
//!     { op = "layout", order = "nchw" },
//! ]
//! ```
//!
//! | operator | arguments | takes | gives |
//! |---|---|---|---|
//! | `decode` | `scale` = `auto` or `exact`; `color` = `rgb` or `grey` | an encoded or raw frame | pixels |
//! | `orient` | | decoded pixels | the same, the way up that EXIF says |
//! | `crop` | one of `detection` = `square` or `box` with `margin`; `box` = parts of the sides; `center` = pixels | pixels | fewer of them |
//! | `resize` | `fit`, `width` and `height`, or `side`; `pad`; `filter` = `auto`, `linear` or `area` | pixels | pixels of a fixed size |
//! | `convert` | `color` = `rgb`, `bgr` or `grey` | pixels | pixels |
//! | `normalize` | `scale`, `mean`, `std` | grey levels 0 to 255 | (level * `scale` - `mean`) / `std` |
//! | `layout` | `order` = `nchw` or `nhwc` | rows of pixels | planes, or rows of pixels |
//! | `cast` | `dtype` = `f32` or `u8` | numbers | numbers of that type |
//!
//! A detector's graph begins with `decode`, an attribute model's with `crop` of the detection: it sees the frame as the
//! detector's graph decoded it. [`Graph::compile`] checks the graph and makes a [`Plan`] of it, in which all operators
//! after `decode` and `orient` are one pass over the pixels. [`steps`] does them one by one, to be looked at and compared.

mod check;
pub(crate) mod plan;
pub mod steps;

use serde::{Deserialize, Serialize};

pub use check::{Fault, GraphError};
pub use plan::{Input, Plan};

use crate::{CropShape, ScalePolicy};

/// Longest side of a tensor, in pixels.
pub const SIDE_MAX: u32 = 8192;
/// Most operators of a graph.
pub const OPERATORS_MAX: usize = 16;

/// The operators of one model's input, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Graph {
    /// In order.
    pub operators: Vec<Operator>,
}

/// The `[input]` table of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// The tensor's name in the model.
    pub tensor: String,
    /// What makes it.
    pub graph: Graph,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Operator {
    /// Encoded bytes, or a raw frame, to pixels.
    Decode {
        /// At what size.
        #[serde(default)]
        scale: ScalePolicy,
        /// To how many channels.
        #[serde(default)]
        color: DecodedColor,
    },
    /// The way up that EXIF says. Without it boxes are in pixels of the image as it is stored.
    Orient {},
    /// A part of the pixels: exactly one of the three.
    Crop {
        /// What lies around a detection (attribute models).
        detection: Option<CropShape>,
        /// How far each side moves outwards: of the box's own length (`box`), or of the longer one (`square`). 0 without.
        margin: Option<f32>,
        /// Left, top, right, bottom, as parts of width and height; cut at whole pixels.
        r#box: Option<[f32; 4]>,
        /// Columns and rows about the centre; all there are, where there are fewer.
        center: Option<[u32; 2]>,
    },
    /// Another size.
    Resize {
        /// How another shape is fitted in.
        fit: Fit,
        /// Columns: of all fits but `shorter_side`.
        width: Option<u32>,
        /// Rows: of all fits but `shorter_side`.
        height: Option<u32>,
        /// Length of the shorter side: of `shorter_side`.
        side: Option<u32>,
        /// Grey level around the picture, of all channels or of each.
        #[serde(default)]
        pad: Levels,
        /// How pixels become one.
        #[serde(default)]
        filter: Filter,
    },
    /// Other channels. Grey is ITU-R BT.601's luma: 0.299 red + 0.587 green + 0.114 blue.
    Convert {
        /// Which.
        color: Color,
    },
    /// Grey levels to numbers: (level * scale - mean) / std.
    Normalize {
        /// Multiplies the level, before the mean is subtracted.
        #[serde(default = "one")]
        scale: f32,
        /// Subtracted: of all channels or of each.
        #[serde(default)]
        mean: Levels,
        /// Divides: of all channels or of each.
        #[serde(default = "ones")]
        std: Levels,
    },
    /// How the tensor's numbers lie.
    Layout {
        /// Planes, or pixels.
        order: Layout,
    },
    /// Type of the tensor's numbers.
    Cast {
        /// Which.
        dtype: DataType,
    },
}

fn one() -> f32 {
    1.0
}

fn ones() -> Levels {
    Levels::All(1.0)
}

impl Operator {
    /// The operator's name in a manifest.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Decode { .. } => "decode",
            Self::Orient {} => "orient",
            Self::Crop { .. } => "crop",
            Self::Resize { .. } => "resize",
            Self::Convert { .. } => "convert",
            Self::Normalize { .. } => "normalize",
            Self::Layout { .. } => "layout",
            Self::Cast { .. } => "cast",
        }
    }
}

/// One number for all channels, or one for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Levels {
    /// The same for all.
    All(f32),
    /// In the channels' order.
    Each(Vec<f32>),
}

impl Default for Levels {
    fn default() -> Self {
        Self::All(0.0)
    }
}

impl Levels {
    /// The number of each of `channels`; the third and second repeat the first where there is one channel. `None` where
    /// there are more or fewer numbers than channels.
    fn of(&self, channels: usize) -> Option<[f32; 3]> {
        match self {
            Self::All(level) => Some([*level; 3]),
            Self::Each(levels) if levels.len() == channels => {
                Some(std::array::from_fn(|k| levels[k.min(channels - 1)]))
            }
            Self::Each(_) => None,
        }
    }

    fn numbers(&self) -> Vec<f32> {
        match self {
            Self::All(level) => vec![*level],
            Self::Each(levels) => levels.clone(),
        }
    }
}

/// Channels of decoded pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecodedColor {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Luma.
    Grey,
}

/// Channels of pixels or of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luma.
    Grey,
}

impl Color {
    /// How many channels.
    pub fn channels(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// How an image of another shape is fitted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Fills the tensor; the aspect ratio changes.
    Stretch,
    /// Keeps the aspect ratio, centred, padding on two sides (YOLOv5 to v11).
    Letterbox,
    /// Keeps the aspect ratio, at the top left, padding on the right or at the bottom (YOLOX).
    PadRightBottom,
    /// Keeps the aspect ratio; the shorter side gets a length, and a `crop` about the centre follows (ImageNet).
    ShorterSide,
}

/// How source pixels become one of another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Along each axis by itself: `area` where more than two source pixels come to one, else `linear`.
    #[default]
    Auto,
    /// Two source pixels an axis: OpenCV's INTER_LINEAR.
    Linear,
    /// Where it shrinks, the mean of all that the pixel covers: OpenCV's INTER_AREA. Where it grows, `linear`.
    Area,
}

/// How the numbers of a tensor lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Image, channel, row, column: a plane for each channel.
    Nchw,
    /// Image, row, column, channel: pixels one after another.
    Nhwc,
}

/// Type of a tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataType {
    /// 4 bytes.
    F32,
    /// 1 byte, the grey level as it is.
    U8,
}

impl DataType {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::U8 => 1,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
