//! Points of the object: x, y and a score each, or x and y. They become source pixels by the crop's rectangle and what the
//! input's graph made of it.

use framepipe_frame::attributes::Kind;
use framepipe_vision::{Plan, Rect};
use serde::Deserialize;

use super::{Context, Decode, exactly};
use crate::detector::LABEL_COUNT_MAX;
use crate::{Activation, ManifestError};

/// `kind = { keypoints = … }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeypointsSpec {
    /// Names of the points, in the model's order.
    pub names: Vec<String>,
    /// True: x and y are shares of the tensor's sides; false: pixels of it.
    pub normalized: bool,
    /// What makes scores of the third numbers: none or sigmoid. Without it there are no third numbers.
    pub activation: Option<Activation>,
}

#[derive(Debug)]
pub(super) struct Keypoints {
    spec: KeypointsSpec,
    plan: Plan,
    /// Pixels of the tensor to one of x, and of y.
    units: [f32; 2],
}

impl KeypointsSpec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Keypoints, ManifestError> {
        context.require_names("keypoints.names", &self.names, 1, LABEL_COUNT_MAX)?;
        let is_own = self.activation != Some(Activation::Softmax);
        context.require(is_own, "keypoints.activation", self.activation, r#"give "none" or "sigmoid""#)?;
        let plan = context.manifest.input.plan.clone();
        let units = if self.normalized { [plan.width(), plan.height()].map(|side| side as f32) } else { [1.0; 2] };
        Ok(Keypoints { spec: self.clone(), plan, units })
    }
}

impl Keypoints {
    /// Numbers of a point.
    fn width(&self) -> usize {
        2 + usize::from(self.spec.activation.is_some())
    }
}

impl Decode for Keypoints {
    fn names(&self) -> &[String] {
        &self.spec.names
    }

    fn value_count(&self, length: usize) -> Result<usize, String> {
        exactly(self.spec.names.len() * self.width(), length, 3 * self.spec.names.len())
    }

    fn decode(&self, numbers: &[f32], rect: &Rect, values: &mut Vec<f32>) -> Kind {
        for point in numbers.chunks_exact(self.width()) {
            let (x, y) = self.plan.crop_to_source(rect, point[0] * self.units[0], point[1] * self.units[1]);
            let score = self.spec.activation.map_or(1.0, |activation| activation.score(point[2], point));
            values.extend([x, y, score.clamp(0.0, 1.0)]);
        }
        Kind::Keypoints
    }
}
