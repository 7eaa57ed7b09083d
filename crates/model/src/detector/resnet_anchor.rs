//! A ResNet trunk with an anchor head at each of several strides: tensors `[anchors * channels, rows, columns]`, anchors
//! in pixels of the tensor, classes by sigmoid. The formulas are in `anchor_grid.rs`.

use framepipe_frame::raw::Output;
use serde::Deserialize;

use super::anchor_grid::{AnchorGrid, ClassScore};
use super::{Candidates, Context, Head};
use crate::ManifestError;

/// Largest logarithm of a box's size against its anchor's: past it the network has said nothing sensible.
const LOG_SIZE_MAX: f32 = 8.0;

/// `[detector.head.resnet_anchor]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResnetAnchorSpec {
    /// Names of the tensors, by stride.
    pub outputs: Vec<String>,
    /// Pixels of the tensor a cell.
    pub strides: Vec<usize>,
    /// Widths and heights in pixels, by stride.
    pub anchors: Vec<Vec<[f32; 2]>>,
}

#[derive(Debug)]
pub(super) struct ResnetAnchor {
    outputs: Vec<String>,
    grids: Vec<AnchorGrid>,
}

impl ResnetAnchorSpec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<ResnetAnchor, ManifestError> {
        const KEY: &str = "detector.head.resnet_anchor";
        let count = self.strides.len();
        let sizes = context.grids(&format!("{KEY}.strides"), &self.strides)?;
        context.one_each(&format!("{KEY}.outputs"), "tensor", &self.outputs, count)?;
        context.one_each(&format!("{KEY}.anchors"), "list of anchors", &self.anchors, count)?;
        let grid = |((stride, anchors), (rows, columns)): ((&usize, &Vec<[f32; 2]>), _)| {
            context.anchors(&format!("{KEY}.anchors"), anchors)?;
            Ok(AnchorGrid {
                stride: *stride,
                rows,
                columns,
                anchors: anchors.clone(),
                classes: context.label_count,
                class_score: ClassScore::Sigmoid,
                sigmoid_done: false,
                log_size_max: LOG_SIZE_MAX,
            })
        };
        let grids = self.strides.iter().zip(&self.anchors).zip(sizes).map(grid).collect::<Result<_, _>>()?;
        Ok(ResnetAnchor { outputs: self.outputs.clone(), grids })
    }
}

impl Head for ResnetAnchor {
    fn outputs(&self) -> Vec<String> {
        self.outputs.clone()
    }

    fn raw_shapes(&self) -> Vec<Vec<usize>> {
        self.grids.iter().map(AnchorGrid::raw_shape).collect()
    }

    fn decode(&self, tensors: &[Output<'_>], candidates: &mut Candidates<'_>) {
        for (grid, tensor) in self.grids.iter().zip(tensors) {
            grid.decode(tensor.numbers, candidates);
        }
    }
}
