//! An embedding: all numbers, as they are or divided by their Euclidean length.

use framepipe_frame::attributes::Kind;
use framepipe_vision::Rect;
use serde::Deserialize;

use super::{Decode, some};

/// `kind = { vector = … }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorSpec {
    /// True: it is divided by its Euclidean length.
    pub normalize: bool,
}

impl Decode for VectorSpec {
    fn value_count(&self, length: usize) -> Result<usize, String> {
        some(length, length)
    }

    fn decode(&self, numbers: &[f32], _: &Rect, values: &mut Vec<f32>) -> Kind {
        let length = if self.normalize { euclidean_length(numbers) } else { 1.0 };
        values.extend(numbers.iter().map(|number| (f64::from(*number) / length) as f32));
        Kind::Vector
    }
}

/// The length to divide by: 1 for a vector of zeroes, which has no direction.
fn euclidean_length(numbers: &[f32]) -> f64 {
    let length = numbers.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 { length } else { 1.0 }
}
