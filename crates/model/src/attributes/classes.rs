//! One number a label: the classes whose score is above a threshold, best first (multi-label with a sigmoid, top-k with a
//! softmax).

use framepipe_frame::attributes::Kind;
use framepipe_vision::Rect;
use serde::Deserialize;

use super::{Context, Decode, exactly};
use crate::detector::{LABEL_COUNT_MAX, highest};
use crate::{Activation, ManifestError};

/// `kind = { classes = … }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassesSpec {
    /// What makes scores of the numbers.
    pub activation: Activation,
    /// Names of the classes, in the model's order.
    pub labels: Vec<String>,
    /// A class's score is above this, 0 to 1.
    pub score_threshold: f32,
    /// So many classes, the highest scores, come out.
    pub classes_max: usize,
}

impl ClassesSpec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Self, ManifestError> {
        let Self { labels, score_threshold, classes_max, .. } = self;
        context.require_names("classes.labels", labels, 2, LABEL_COUNT_MAX)?;
        let is_share = (0.0..1.0).contains(score_threshold);
        let advice = "give a number from 0 to less than 1";
        context.require(is_share, "classes.score_threshold", score_threshold, advice)?;
        let advice = format!("give 1 to {}, as many as there are labels", labels.len());
        context.require((1..=labels.len()).contains(classes_max), "classes.classes_max", classes_max, &advice)?;
        Ok(self.clone())
    }
}

impl Decode for ClassesSpec {
    fn names(&self) -> &[String] {
        &self.labels
    }

    fn value_count(&self, length: usize) -> Result<usize, String> {
        exactly(self.labels.len(), length, 2 * self.classes_max)
    }

    fn decode(&self, numbers: &[f32], _: &Rect, values: &mut Vec<f32>) -> Kind {
        let (_, peak) = highest(numbers.iter().copied());
        let sum: f32 = numbers.iter().map(|number| (number - peak).exp()).sum();
        let score = |number: f32| match self.activation {
            Activation::Softmax => (number - peak).exp() / sum,
            Activation::None | Activation::Sigmoid => self.activation.score(number, numbers).clamp(0.0, 1.0),
        };
        let mut found: Vec<(usize, f32)> = numbers.iter().map(|number| score(*number)).enumerate().collect();
        found.retain(|(_, score)| *score > self.score_threshold);
        // Stable: equal ones stay in the model's order.
        found.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        values.extend(found.iter().take(self.classes_max).flat_map(|(class, score)| [*class as f32, *score]));
        Kind::Classes
    }
}
