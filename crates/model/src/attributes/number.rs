//! Regression: one number, a quantity of `number * scale + offset`.

use framepipe_frame::attributes::Kind;
use framepipe_vision::Rect;
use serde::Deserialize;

use super::{Context, Decode, exactly};
use crate::ManifestError;

/// `kind = { number = … }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberSpec {
    /// Factor.
    #[serde(default = "one")]
    pub scale: f32,
    /// Added.
    #[serde(default)]
    pub offset: f32,
}

fn one() -> f32 {
    1.0
}

impl NumberSpec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Self, ManifestError> {
        let is_scale = self.scale.is_finite() && self.offset.is_finite() && self.scale != 0.0;
        let advice = "give finite numbers, and a scale other than 0";
        context.require(is_scale, "number", (self.scale, self.offset), advice)?;
        Ok(self.clone())
    }
}

impl Decode for NumberSpec {
    fn value_count(&self, length: usize) -> Result<usize, String> {
        exactly(1, length, 1)
    }

    fn decode(&self, numbers: &[f32], _: &Rect, values: &mut Vec<f32>) -> Kind {
        values.push(numbers[0] * self.scale + self.offset);
        Kind::Number
    }
}
