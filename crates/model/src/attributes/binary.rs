//! One number p after a sigmoid: the second label where p > 0.5, with the score max(p, 1 - p).

use framepipe_frame::attributes::Kind;
use framepipe_vision::Rect;
use serde::Deserialize;

use super::{Context, Decode, exactly};
use crate::ManifestError;

/// `kind = { binary = … }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BinarySpec {
    /// Two names.
    pub labels: Vec<String>,
}

impl BinarySpec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Self, ManifestError> {
        context.require_names("binary.labels", &self.labels, 2, 2)?;
        Ok(self.clone())
    }
}

impl Decode for BinarySpec {
    fn names(&self) -> &[String] {
        &self.labels
    }

    fn value_count(&self, length: usize) -> Result<usize, String> {
        exactly(1, length, 2)
    }

    fn decode(&self, numbers: &[f32], _: &Rect, values: &mut Vec<f32>) -> Kind {
        let second = numbers[0].clamp(0.0, 1.0);
        values.extend([f32::from(u8::from(second > 0.5)), second.max(1.0 - second)]);
        Kind::Class
    }
}
