//! YOLOv3 (Redmon and Farhadi, "YOLOv3: An Incremental Improvement", section 2): anchors in pixels of the tensor at each of
//! several strides; the score is objectness times the class's, each by its own sigmoid.
//!
//! | form | tensors |
//! |---|---|
//! | `raw` | one a stride, `[anchors * (5 + classes), rows, columns]`; the formulas are in `anchor_grid.rs` |
//! | `exported` | one, `[anchors of all cells, 5 + classes]`: centre x, centre y, width and height in pixels of the tensor, then objectness and class scores, sigmoids done (YOLOv5 and YOLOv7 are exported so too) |

use framepipe_frame::raw::Output;
use serde::Deserialize;

use super::anchor_grid::{AnchorGrid, ClassScore, capped};
use super::{Candidates, Context, Head, edges, highest};
use crate::ManifestError;

/// Numbers of a box before its class scores.
const BOX_NUMBERS: usize = 5;
/// Most anchors of a cell in an exported tensor.
const ANCHOR_COUNT_MAX: usize = 64;

/// `[detector.head.yolov3.raw]` or `[detector.head.yolov3.exported]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Yolov3Spec {
    /// The tensors before boxes are made of them.
    Raw {
        /// Names of the tensors, by stride.
        outputs: Vec<String>,
        /// Pixels of the tensor a cell.
        strides: Vec<usize>,
        /// Widths and heights in pixels, by stride.
        anchors: Vec<Vec<[f32; 2]>>,
        /// True: the graph has done the sigmoids (of x, y, objectness and classes).
        sigmoid_done: bool,
    },
    /// One tensor of decoded boxes.
    Exported {
        /// Name of the tensor.
        output: String,
        /// Pixels of the tensor a cell, of each stride.
        strides: Vec<usize>,
        /// Anchors of a cell.
        anchors_per_cell: usize,
    },
}

#[derive(Debug)]
pub(super) enum Yolov3 {
    Raw(Raw),
    Exported(Exported),
}

#[derive(Debug)]
pub(super) struct Raw {
    outputs: Vec<String>,
    grids: Vec<AnchorGrid>,
}

#[derive(Debug)]
pub(super) struct Exported {
    output: String,
    boxes: usize,
    classes: usize,
}

impl Yolov3Spec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Yolov3, ManifestError> {
        const KEY: &str = "detector.head.yolov3";
        match self {
            Self::Raw { outputs, strides, anchors, sigmoid_done } => {
                let sizes = context.grids(&format!("{KEY}.raw.strides"), strides)?;
                context.one_each(&format!("{KEY}.raw.outputs"), "tensor", outputs, strides.len())?;
                context.one_each(&format!("{KEY}.raw.anchors"), "list of anchors", anchors, strides.len())?;
                let grid = |((stride, anchors), (rows, columns)): ((&usize, &Vec<[f32; 2]>), _)| {
                    context.anchors(&format!("{KEY}.raw.anchors"), anchors)?;
                    Ok(AnchorGrid {
                        stride: *stride,
                        rows,
                        columns,
                        anchors: anchors.clone(),
                        classes: context.label_count,
                        class_score: ClassScore::Sigmoid,
                        sigmoid_done: *sigmoid_done,
                        log_size_max: f32::INFINITY,
                    })
                };
                let grids = strides.iter().zip(anchors).zip(sizes).map(grid).collect::<Result<_, _>>()?;
                Ok(Yolov3::Raw(Raw { outputs: outputs.clone(), grids }))
            }
            Self::Exported { output, strides, anchors_per_cell } => {
                let sizes = context.grids(&format!("{KEY}.exported.strides"), strides)?;
                let is_count = (1..=ANCHOR_COUNT_MAX).contains(anchors_per_cell);
                let advice = format_args!("give 1 to {ANCHOR_COUNT_MAX}");
                let key = format_args!("{KEY}.exported.anchors_per_cell");
                context.check.require(is_count, key, anchors_per_cell, advice)?;
                let cells: usize = sizes.iter().map(|(rows, columns)| rows * columns).sum();
                let (boxes, classes) = (cells * anchors_per_cell, context.label_count);
                Ok(Yolov3::Exported(Exported { output: output.clone(), boxes, classes }))
            }
        }
    }
}

impl Head for Yolov3 {
    fn outputs(&self) -> Vec<String> {
        match self {
            Self::Raw(raw) => raw.outputs.clone(),
            Self::Exported(exported) => vec![exported.output.clone()],
        }
    }

    fn raw_shapes(&self) -> Vec<Vec<usize>> {
        match self {
            Self::Raw(raw) => raw.grids.iter().map(AnchorGrid::raw_shape).collect(),
            Self::Exported(Exported { boxes, classes, .. }) => vec![vec![*boxes, BOX_NUMBERS + classes]],
        }
    }

    fn decode(&self, tensors: &[Output<'_>], candidates: &mut Candidates<'_>) {
        match self {
            Self::Raw(raw) => {
                for (grid, tensor) in raw.grids.iter().zip(tensors) {
                    grid.decode(tensor.numbers, candidates);
                }
            }
            Self::Exported(exported) => exported.decode(tensors[0].numbers, candidates),
        }
    }
}

impl Exported {
    fn decode(&self, numbers: &[f32], candidates: &mut Candidates<'_>) {
        for row in numbers.chunks_exact(BOX_NUMBERS + self.classes) {
            let [x, y, width, height, objectness] = [0, 1, 2, 3, 4].map(|index| row[index]);
            // A class score is at most 1, and so is objectness.
            if objectness > candidates.score_threshold {
                let (class, class_score) = highest(row[BOX_NUMBERS..].iter().copied());
                let score = capped(objectness, 1.0) * capped(class_score, 1.0);
                candidates.push(class, score, edges([x, y, width, height]));
            }
        }
    }
}
