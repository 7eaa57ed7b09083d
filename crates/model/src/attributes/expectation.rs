//! Shares of bins (an age by years, an angle): their sum, each times `first + index * step`.

use framepipe_frame::attributes::Kind;
use framepipe_vision::Rect;
use serde::Deserialize;

use super::{Context, Decode, some};
use crate::detector::highest;
use crate::{Activation, ManifestError};

/// `kind = { expectation = … }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectationSpec {
    /// Value of the first bin.
    pub first: f32,
    /// From one bin to the next.
    pub step: f32,
    /// What makes shares of the numbers: none or softmax.
    #[serde(default = "none")]
    pub activation: Activation,
}

fn none() -> Activation {
    Activation::None
}

impl ExpectationSpec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Self, ManifestError> {
        let is_scale = self.first.is_finite() && self.step.is_finite() && self.step != 0.0;
        let advice = "give finite numbers, and a step other than 0";
        context.require(is_scale, "expectation", (self.first, self.step), advice)?;
        let is_shares = self.activation != Activation::Sigmoid;
        context.require(is_shares, "expectation.activation", self.activation, r#"give "none" or "softmax""#)?;
        Ok(self.clone())
    }
}

impl Decode for ExpectationSpec {
    fn value_count(&self, length: usize) -> Result<usize, String> {
        some(length, 1)
    }

    fn decode(&self, numbers: &[f32], _: &Rect, values: &mut Vec<f32>) -> Kind {
        let sum_of = |weight: &dyn Fn(f32) -> f32| -> (f32, f32) {
            numbers.iter().enumerate().fold((0.0, 0.0), |(sum, weighted), (bin, number)| {
                let weight = weight(*number);
                (sum + weight, weighted + weight * (self.first + bin as f32 * self.step))
            })
        };
        values.push(if self.activation == Activation::Softmax {
            let (_, peak) = highest(numbers.iter().copied());
            let (sum, weighted) = sum_of(&|number| (number - peak).exp());
            weighted / sum
        } else {
            sum_of(&|number| number).1
        });
        Kind::Number
    }
}
