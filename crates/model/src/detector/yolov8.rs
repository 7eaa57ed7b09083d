//! YOLOv8 (ultralytics; YOLO11 and YOLOv9 have the same head): no anchors, no objectness; the score is the class's.
//!
//! | form | tensors |
//! |---|---|
//! | `exported` | one, `[4 + classes, cells of all strides]`: centre x, centre y, width and height in pixels of the tensor, then class scores, sigmoid done |
//! | `raw` | one a stride, `[4 * bins + classes, rows, columns]`: distances to left, top, right and bottom over bins (`distance.rs`), then class logits |

use framepipe_frame::raw::Output;
use serde::Deserialize;

use super::distance::{BIN_COUNT_MAX, expectation};
use super::{Candidates, Context, Head, edges, planes};
use crate::activation::sigmoid;
use crate::{Activation, ManifestError};

/// `[detector.head.yolov8.exported]` or `[detector.head.yolov8.raw]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Yolov8Spec {
    /// One tensor of decoded boxes, as ultralytics exports it.
    Exported {
        /// Name of the tensor.
        output: String,
        /// Pixels of the tensor a cell, of each stride.
        strides: Vec<usize>,
    },
    /// The tensors before boxes are made of them.
    Raw {
        /// Names of the tensors, by stride.
        outputs: Vec<String>,
        /// Pixels of the tensor a cell.
        strides: Vec<usize>,
        /// Bins of a distance.
        bins: usize,
    },
}

#[derive(Debug)]
pub(super) enum Yolov8 {
    Exported(Exported),
    Raw(Raw),
}

#[derive(Debug)]
pub(super) struct Exported {
    output: String,
    classes: usize,
    cells: usize,
}

#[derive(Debug)]
pub(super) struct Raw {
    outputs: Vec<String>,
    levels: Vec<Level>,
    classes: usize,
    bins: usize,
}

#[derive(Debug)]
struct Level {
    stride: usize,
    rows: usize,
    columns: usize,
}

impl Yolov8Spec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Yolov8, ManifestError> {
        const KEY: &str = "detector.head.yolov8";
        let classes = context.label_count;
        match self {
            Self::Exported { output, strides } => {
                let grids = context.grids(&format!("{KEY}.exported.strides"), strides)?;
                let cells = grids.iter().map(|(rows, columns)| rows * columns).sum();
                Ok(Yolov8::Exported(Exported { output: output.clone(), classes, cells }))
            }
            Self::Raw { outputs, strides, bins } => {
                let grids = context.grids(&format!("{KEY}.raw.strides"), strides)?;
                context.one_each(&format!("{KEY}.raw.outputs"), "tensor", outputs, strides.len())?;
                let advice = format_args!("give 2 to {BIN_COUNT_MAX}");
                let is_count = (2..=BIN_COUNT_MAX).contains(bins);
                context.check.require(is_count, format_args!("{KEY}.raw.bins"), bins, advice)?;
                let level = |(stride, (rows, columns)): (&usize, _)| Level { stride: *stride, rows, columns };
                let levels = strides.iter().zip(grids).map(level).collect();
                Ok(Yolov8::Raw(Raw { outputs: outputs.clone(), levels, classes, bins: *bins }))
            }
        }
    }
}

impl Head for Yolov8 {
    fn outputs(&self) -> Vec<String> {
        match self {
            Self::Exported(exported) => vec![exported.output.clone()],
            Self::Raw(raw) => raw.outputs.clone(),
        }
    }

    fn raw_shapes(&self) -> Vec<Vec<usize>> {
        match self {
            Self::Exported(Exported { classes, cells, .. }) => vec![vec![4 + classes, *cells]],
            Self::Raw(Raw { levels, classes, bins, .. }) => {
                levels.iter().map(|level| vec![4 * bins + classes, level.rows, level.columns]).collect()
            }
        }
    }

    fn decode(&self, tensors: &[Output<'_>], candidates: &mut Candidates<'_>) {
        match self {
            Self::Exported(exported) => exported.decode(tensors[0].numbers, candidates),
            Self::Raw(raw) => {
                for (level, tensor) in raw.levels.iter().zip(tensors) {
                    raw.decode_level(level, tensor.numbers, candidates);
                }
            }
        }
    }
}

impl Exported {
    fn decode(&self, numbers: &[f32], candidates: &mut Candidates<'_>) {
        let (boxes, scores) = numbers.split_at(4 * self.cells);
        planes::best_above(scores, self.cells, candidates.score_threshold, |cell, class, score| {
            candidates.push(class, score, edges([0, 1, 2, 3].map(|side| boxes[side * self.cells + cell])));
        });
    }
}

impl Raw {
    fn decode_level(&self, level: &Level, numbers: &[f32], candidates: &mut Candidates<'_>) {
        let (cells, stride) = (level.rows * level.columns, level.stride as f32);
        let (boxes, logits) = numbers.split_at(4 * self.bins * cells);
        let logit_min = Activation::Sigmoid.number_min(candidates.score_threshold);
        planes::best_above(logits, cells, logit_min, |cell, class, logit| {
            let bins = |side: usize| (0..self.bins).map(move |bin| boxes[(side * self.bins + bin) * cells + cell]);
            let distance = |side: usize| expectation(bins(side)) * stride;
            let x = ((cell % level.columns) as f32 + 0.5) * stride;
            let y = ((cell / level.columns) as f32 + 0.5) * stride;
            let sides = [x - distance(0), y - distance(1), x + distance(2), y + distance(3)];
            candidates.push(class, sigmoid(logit), sides);
        });
    }
}
