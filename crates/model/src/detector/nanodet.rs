//! NanoDet (RangiLyu/nanodet, the Generalized Focal Loss head): at each stride a tensor of class scores, sigmoid done,
//! `[rows * columns, classes]`, and one of side distances, `[rows * columns, 4 * bins]`.
//!
//! The distance to a side (left, top, right, bottom) is the expectation of the softmax over its bins, times the stride,
//! from the cell's centre `((column + 0.5) * stride, (row + 0.5) * stride)`.

use framepipe_frame::raw::Output;
use serde::Deserialize;

use super::distance::{BIN_COUNT_MAX, expectation};
use super::{Candidates, Context, Head, highest};
use crate::ManifestError;

/// `[detector.head.nanodet]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NanodetSpec {
    /// Names of the score tensors, by stride.
    pub scores: Vec<String>,
    /// Names of the distance tensors, by stride.
    pub boxes: Vec<String>,
    /// Pixels of the tensor a cell.
    pub strides: Vec<usize>,
    /// Bins of a distance.
    pub bins: usize,
}

#[derive(Debug)]
pub(super) struct Nanodet {
    names: Vec<String>,
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

impl NanodetSpec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Nanodet, ManifestError> {
        const KEY: &str = "detector.head.nanodet";
        let check = context.check;
        let grids = context.grids(&format!("{KEY}.strides"), &self.strides)?;
        for (key, names) in [("scores", &self.scores), ("boxes", &self.boxes)] {
            context.one_each(&format!("{KEY}.{key}"), "tensor", names, self.strides.len())?;
        }
        let advice = format_args!("give 2 to {BIN_COUNT_MAX}");
        check.require((2..=BIN_COUNT_MAX).contains(&self.bins), format_args!("{KEY}.bins"), self.bins, advice)?;
        let level = |(stride, (rows, columns)): (&usize, _)| Level { stride: *stride, rows, columns };
        Ok(Nanodet {
            names: self.scores.iter().chain(&self.boxes).cloned().collect(),
            levels: self.strides.iter().zip(grids).map(level).collect(),
            classes: context.label_count,
            bins: self.bins,
        })
    }
}

impl Head for Nanodet {
    fn outputs(&self) -> Vec<String> {
        self.names.clone()
    }

    fn raw_shapes(&self) -> Vec<Vec<usize>> {
        let of_width = |width| self.levels.iter().map(move |level| vec![level.rows * level.columns, width]);
        of_width(self.classes).chain(of_width(4 * self.bins)).collect()
    }

    fn decode(&self, tensors: &[Output<'_>], candidates: &mut Candidates<'_>) {
        let (scores, boxes) = tensors.split_at(self.levels.len());
        for ((level, scores), boxes) in self.levels.iter().zip(scores).zip(boxes) {
            self.decode_level(level, scores.numbers, boxes.numbers, candidates);
        }
    }
}

impl Nanodet {
    fn decode_level(&self, level: &Level, scores: &[f32], boxes: &[f32], candidates: &mut Candidates<'_>) {
        let stride = level.stride as f32;
        let threshold = candidates.score_threshold;
        for (cell, row) in scores.chunks_exact(self.classes).enumerate() {
            // No early exit, so that the compiler compares whole vectors: nearly every row has nothing.
            if !row.iter().fold(false, |any, score| any | (*score > threshold)) {
                continue;
            }
            let (class, score) = highest(row.iter().copied());
            let sides = &boxes[cell * 4 * self.bins..][..4 * self.bins];
            let distance = |side: usize| expectation(sides[side * self.bins..][..self.bins].iter().copied()) * stride;
            let x = ((cell % level.columns) as f32 + 0.5) * stride;
            let y = ((cell / level.columns) as f32 + 0.5) * stride;
            candidates.push(class, score, [x - distance(0), y - distance(1), x + distance(2), y + distance(3)]);
        }
    }
}
