//! What makes scores of numbers: the last step of a network, where its graph has left it out.

use serde::Deserialize;

use crate::detector::highest;

/// What makes scores of a tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// They are scores.
    None,
    /// They are logits, each by itself.
    Sigmoid,
    /// They are logits, against one another.
    Softmax,
}

impl Activation {
    /// The score of `number`, one of `numbers`.
    pub(crate) fn score(self, number: f32, numbers: &[f32]) -> f32 {
        match self {
            Self::None => number,
            Self::Sigmoid => sigmoid(number),
            Self::Softmax => {
                let (_, peak) = highest(numbers.iter().copied());
                let sum: f32 = numbers.iter().map(|other| (other - peak).exp()).sum();
                (number - peak).exp() / sum
            }
        }
    }

    /// A number whose score may be above `threshold` is above this; of a softmax, what it has more than another is. The
    /// slack keeps rounding from dropping one that is just above.
    pub(crate) fn number_min(self, threshold: f32) -> f32 {
        match self {
            Self::None => threshold,
            Self::Sigmoid | Self::Softmax => (threshold / (1.0 - threshold)).ln() - 0.01,
        }
    }
}

/// The sigmoid of a logit.
pub(crate) fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}
