//! One number a label: the highest is the class.

use framepipe_frame::attributes::Kind;
use framepipe_vision::Rect;
use serde::Deserialize;

use super::{Context, Decode, exactly};
use crate::detector::{LABEL_COUNT_MAX, highest};
use crate::{Activation, ManifestError};

/// `kind = { class = … }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassSpec {
    /// What makes scores of the numbers.
    pub activation: Activation,
    /// Names of the classes, in the model's order.
    pub labels: Vec<String>,
}

impl ClassSpec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Self, ManifestError> {
        context.require_names("class.labels", &self.labels, 2, LABEL_COUNT_MAX)?;
        Ok(self.clone())
    }
}

impl Decode for ClassSpec {
    fn names(&self) -> &[String] {
        &self.labels
    }

    fn value_count(&self, length: usize) -> Result<usize, String> {
        exactly(self.labels.len(), length, 2)
    }

    fn decode(&self, numbers: &[f32], _: &Rect, values: &mut Vec<f32>) -> Kind {
        let (class, score) = best(self.activation, numbers);
        values.extend([class as f32, score]);
        Kind::Class
    }
}

/// Index and score of the highest of finite numbers.
pub(super) fn best(activation: Activation, numbers: &[f32]) -> (usize, f32) {
    let (class, best) = highest(numbers.iter().copied());
    (class, activation.score(best, numbers).clamp(0.0, 1.0))
}
