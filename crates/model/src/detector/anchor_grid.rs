//! What the anchor families share: a tensor `[anchors * channels, rows, columns]`, the channels of an anchor being x, y,
//! width, height, objectness and its classes.
//!
//! ```text
//! x = (sigmoid(tx) + column) * stride      width = anchor_width * exp(min(tw, log_size_max))
//! y = (sigmoid(ty) + row) * stride         height likewise; x and y are the box's centre
//! score = sigmoid(objectness) * class score
//! ```

use super::{Candidates, edges, highest};
use crate::Activation;
use crate::activation::sigmoid;

/// How class logits become scores.
#[derive(Clone, Copy, Debug)]
pub(super) enum ClassScore {
    /// There are no class channels: the one label is the class.
    Objectness,
    /// Against one another.
    Softmax,
    /// Each by itself.
    Sigmoid,
}

/// One output tensor of anchors.
#[derive(Debug)]
pub(super) struct AnchorGrid {
    /// Pixels of the tensor a cell.
    pub(super) stride: usize,
    /// Rows of cells.
    pub(super) rows: usize,
    /// Columns of cells.
    pub(super) columns: usize,
    /// Widths and heights in pixels of the tensor.
    pub(super) anchors: Vec<[f32; 2]>,
    /// Class channels of an anchor.
    pub(super) classes: usize,
    /// What they mean.
    pub(super) class_score: ClassScore,
    /// True: x, y, objectness and class scores come with their sigmoids done.
    pub(super) sigmoid_done: bool,
    /// Largest logarithm of a size against its anchor's.
    pub(super) log_size_max: f32,
}

/// Channels of an anchor before its classes.
const BOX_CHANNELS: usize = 5;
/// The objectness channel.
const OBJECTNESS: usize = 4;

impl AnchorGrid {
    pub(super) fn raw_shape(&self) -> Vec<usize> {
        vec![self.anchors.len() * (BOX_CHANNELS + self.classes), self.rows, self.columns]
    }

    pub(super) fn decode(&self, numbers: &[f32], candidates: &mut Candidates<'_>) {
        let plane = self.rows * self.columns;
        let channels = BOX_CHANNELS + self.classes;
        // A class score is at most 1, so that objectness alone decides most cells, and its logit spares their sigmoids.
        let activation = if self.sigmoid_done { Activation::None } else { Activation::Sigmoid };
        let objectness_min = activation.number_min(candidates.score_threshold);
        for (anchor, numbers) in self.anchors.iter().zip(numbers.chunks_exact(channels * plane)) {
            let objectness = &numbers[OBJECTNESS * plane..][..plane];
            for (cell, _) in objectness.iter().enumerate().filter(|(_, logit)| **logit > objectness_min) {
                self.decode_cell(anchor, cell, |channel| numbers[channel * plane + cell], candidates);
            }
        }
    }

    fn decode_cell(
        &self,
        anchor: &[f32; 2],
        cell: usize,
        channel: impl Fn(usize) -> f32,
        candidates: &mut Candidates<'_>,
    ) {
        let (class, class_score) = self.best_class(|class| channel(BOX_CHANNELS + class));
        let score = capped(self.share(channel(OBJECTNESS)), 1.0) * class_score;
        if score <= candidates.score_threshold {
            return;
        }
        let stride = self.stride as f32;
        let x = (self.share(channel(0)) + (cell % self.columns) as f32) * stride;
        let y = (self.share(channel(1)) + (cell / self.columns) as f32) * stride;
        let size = |size: f32, log: f32| size * capped(log, self.log_size_max).exp();
        candidates.push(class, score, edges([x, y, size(anchor[0], channel(2)), size(anchor[1], channel(3))]));
    }

    fn best_class(&self, logit: impl Fn(usize) -> f32) -> (usize, f32) {
        let (class, best) = highest((0..self.classes).map(&logit));
        let score = match self.class_score {
            ClassScore::Objectness => 1.0,
            ClassScore::Sigmoid => capped(self.share(best), 1.0),
            ClassScore::Softmax => 1.0 / (0..self.classes).map(|class| (logit(class) - best).exp()).sum::<f32>(),
        };
        (class, score)
    }

    fn share(&self, number: f32) -> f32 {
        if self.sigmoid_done { number } else { sigmoid(number) }
    }
}

/// `f32::min` would turn NaN into the cap.
pub(super) fn capped(number: f32, cap: f32) -> f32 {
    if number > cap { cap } else { number }
}
