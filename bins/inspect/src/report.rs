//! What an inspection says. It is printed as JSON with `--json`, and kept in the folder as inspect.json.

use std::fmt;

use framepipe_frame::detections::Detection;
use framepipe_vision::{DataType, Kernel};
use serde::Serialize;

/// Everything.
#[derive(Serialize)]
pub struct Report {
    /// The image.
    pub image: ImageRow,
    /// The pipeline's name.
    pub pipeline: String,
    /// The detector's input.
    pub detector: DetectorRow,
    /// What it found, or what was asked for with `--box`.
    pub detections: Vec<DetectionRow>,
    /// By attribute model, in the pipeline's order.
    pub attributes: Vec<AttributeRow>,
    /// What lies in the folder.
    pub files: Vec<String>,
}

/// The image as it is stored.
#[derive(Serialize)]
pub struct ImageRow {
    /// Its file.
    pub path: String,
    /// Its format.
    pub format: String,
    /// Bytes of the file.
    pub bytes: usize,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// EXIF orientation, as far as the detector's graph heeds it.
    pub orientation: u8,
}

/// A model's input.
#[derive(Serialize)]
pub struct InputRow {
    /// The model.
    pub model: String,
    /// Its tensor's name.
    pub tensor: String,
    /// Its tensor's size.
    pub size: Shape,
    /// Its graph; of an attribute model as it worked on the first crop, and empty without one.
    pub operators: Vec<OperatorRow>,
}

/// Sizes, in the order in which the numbers lie, and the numbers' type.
#[derive(Clone, Copy, PartialEq, Serialize)]
pub struct Shape {
    /// Sizes.
    pub shape: [usize; 3],
    /// Type.
    pub dtype: DataType,
}

/// One operator by itself.
#[derive(Serialize)]
pub struct OperatorRow {
    /// Its name.
    pub name: &'static str,
    /// Its arguments.
    pub arguments: String,
    /// What it took; nothing for decode.
    pub before: Option<Shape>,
    /// What it made.
    pub after: Shape,
    /// How long that took.
    pub ms: f64,
    /// The file that shows it: an earlier operator's where nothing changed.
    pub picture: Option<String>,
}

/// The detector's input.
#[derive(Serialize)]
pub struct DetectorRow {
    /// Its graph.
    #[serde(flatten)]
    pub input: InputRow,
    /// Source pixels of a side to one that is decoded.
    pub scale_divisor: u32,
    /// True where the decoded frame is kept for the crops.
    pub is_kept: bool,
    /// The one pass, decoding included.
    #[serde(flatten)]
    pub pass: PassRow,
    /// The way back.
    pub map: MapRow,
}

/// The way back from a tensor's point to the source's: `source = (tensor - pad) * scale`.
#[derive(Serialize)]
pub struct MapRow {
    /// Source columns to one of the tensor's.
    pub scale_x: f32,
    /// Source rows to one of the tensor's.
    pub scale_y: f32,
    /// Where in the tensor the source's left edge lies.
    pub pad_x: f32,
    /// Where in the tensor its upper edge lies.
    pub pad_y: f32,
}

/// A tensor that was made in one pass.
#[derive(Serialize)]
pub struct PassRow {
    /// How its pixels were made.
    pub kernel: Kernel,
    /// How long it took.
    pub ms: f64,
    /// By channel.
    pub channels: Vec<ChannelRow>,
    /// From what the operators gave one by one.
    pub difference: Difference,
    /// The file that shows it.
    pub picture: String,
}

/// A channel's numbers, as the model sees them.
#[derive(Serialize)]
pub struct ChannelRow {
    /// Its colour.
    pub name: &'static str,
    /// The least.
    pub min: f32,
    /// The mean.
    pub mean: f32,
    /// The most.
    pub max: f32,
}

/// How far two tensors are apart, in grey levels.
#[derive(Serialize)]
pub struct Difference {
    /// At most.
    pub max: f32,
    /// On average.
    pub mean: f32,
}

/// A detection.
#[derive(Serialize)]
pub struct DetectionRow {
    /// Its class's name; nothing for a box of the command line.
    pub label: Option<String>,
    /// Its class's number.
    pub class: u32,
    /// Its score.
    pub score: f32,
    /// Left, top, right, bottom, in source pixels.
    #[serde(rename = "box")]
    pub corners: [f32; 4],
}

impl DetectionRow {
    /// Of a detection of the class `label`.
    pub fn new(one: &Detection, label: Option<String>) -> Self {
        Self { label, class: one.class, score: one.score, corners: [one.x0, one.y0, one.x1, one.y1] }
    }
}

impl fmt::Display for DetectionRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => write!(f, "{label} {:.2}", self.score),
            None => write!(f, "box"),
        }
    }
}

/// An attribute model's input, and its crops.
#[derive(Serialize)]
pub struct AttributeRow {
    /// Its graph.
    #[serde(flatten)]
    pub input: InputRow,
    /// One for each detection.
    pub crops: Vec<CropRow>,
}

/// What a model sees of a detection.
#[derive(Serialize)]
pub struct CropRow {
    /// The detection's number.
    pub detection: usize,
    /// Left, top, right, bottom of what is cropped, in source pixels; it may reach beyond the source, whose edge is repeated.
    #[serde(rename = "box")]
    pub corners: [f32; 4],
    /// The one pass.
    #[serde(flatten)]
    pub pass: PassRow,
}
