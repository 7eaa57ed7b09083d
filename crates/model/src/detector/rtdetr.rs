//! RT-DETR (Zhao et al., 2023) and other end-to-end detectors (DETR, D-FINE): one box a query, each object once, no NMS.
//!
//! Tensors: boxes `[queries, 4]`, centre x, centre y, width and height as shares of the tensor's sides; scores
//! `[queries, classes]`, or with softmax `[queries, classes + 1]`, the last being "no object". The best class of each query
//! counts.

use framepipe_frame::raw::Output;
use serde::Deserialize;

use super::rows::Rows;
use super::{CANDIDATE_COUNT_MAX, Candidates, Context, Head, edges};
use crate::{Activation, ManifestError};

/// `[detector.head.rtdetr]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RtdetrSpec {
    /// Name of the box tensor.
    pub boxes: String,
    /// Name of the score tensor.
    pub scores: String,
    /// Boxes that the graph puts out.
    pub queries: usize,
    /// What makes scores of the score tensor's numbers.
    pub activation: Activation,
}

#[derive(Debug)]
pub(super) struct Rtdetr {
    names: [String; 2],
    queries: usize,
    rows: Rows,
    /// Width and height of the tensor, twice.
    sides: [f32; 4],
}

impl RtdetrSpec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Rtdetr, ManifestError> {
        let is_count = (1..=CANDIDATE_COUNT_MAX).contains(&self.queries);
        let advice = format_args!("give 1 to {CANDIDATE_COUNT_MAX}");
        context.check.require(is_count, "detector.head.rtdetr.queries", self.queries, advice)?;
        let classes = context.label_count;
        let background = (self.activation == Activation::Softmax).then_some(classes);
        let width = classes + usize::from(background.is_some());
        Ok(Rtdetr {
            names: [self.boxes.clone(), self.scores.clone()],
            queries: self.queries,
            rows: Rows { activation: self.activation, width, classes: 0..classes, background },
            sides: context.sides(),
        })
    }
}

impl Head for Rtdetr {
    fn outputs(&self) -> Vec<String> {
        self.names.to_vec()
    }

    fn raw_shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.queries, 4], vec![self.queries, self.rows.width]]
    }

    fn is_end_to_end(&self) -> bool {
        true
    }

    fn decode(&self, tensors: &[Output<'_>], candidates: &mut Candidates<'_>) {
        let (boxes, scores) = (tensors[0].numbers, tensors[1].numbers);
        self.rows.best_above(scores, candidates.score_threshold, |query, class, score| {
            let place = [0, 1, 2, 3].map(|index| boxes[query * 4 + index] * self.sides[index]);
            candidates.push(class, score, edges(place));
        });
    }
}
