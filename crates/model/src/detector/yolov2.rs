//! YOLOv2 (Redmon and Farhadi, "YOLO9000", section 2): one tensor `[anchors * channels, rows, columns]`, anchors in
//! cells. With one label there are no class channels and objectness is the score; with more, each anchor has one channel
//! a class, by softmax. The formulas are in `anchor_grid.rs`.

use framepipe_frame::raw::Output;
use serde::Deserialize;

use super::anchor_grid::{AnchorGrid, ClassScore};
use super::{Candidates, Context, Head};
use crate::ManifestError;

/// `[detector.head.yolov2]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Yolov2Spec {
    /// Name of the tensor.
    pub output: String,
    /// Pixels of the tensor a cell.
    pub cell: usize,
    /// Widths and heights, in cells.
    pub anchors: Vec<[f32; 2]>,
}

#[derive(Debug)]
pub(super) struct Yolov2 {
    output: String,
    grid: AnchorGrid,
}

impl Yolov2Spec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Yolov2, ManifestError> {
        let (rows, columns) = context.grid("detector.head.yolov2.cell", self.cell)?;
        context.anchors("detector.head.yolov2.anchors", &self.anchors)?;
        let (classes, class_score) = match context.label_count {
            1 => (0, ClassScore::Objectness),
            several => (several, ClassScore::Softmax),
        };
        let grid = AnchorGrid {
            stride: self.cell,
            rows,
            columns,
            anchors: self.anchors.iter().map(|anchor| anchor.map(|cells| cells * self.cell as f32)).collect(),
            classes,
            class_score,
            sigmoid_done: false,
            log_size_max: f32::INFINITY,
        };
        Ok(Yolov2 { output: self.output.clone(), grid })
    }
}

impl Head for Yolov2 {
    fn outputs(&self) -> Vec<String> {
        vec![self.output.clone()]
    }

    fn raw_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.grid.raw_shape()]
    }

    fn decode(&self, tensors: &[Output<'_>], candidates: &mut Candidates<'_>) {
        self.grid.decode(tensors[0].numbers, candidates);
    }
}
