//! Points of the object: x, y and a score each, or x and y. They become source pixels by the crop's rectangle, which the
//! whole tensor was made of: the input's graph stretches.

use framepipe_frame::attributes::Kind;
use framepipe_vision::Rect;
use framepipe_vision::graph::{Fit, Operator};
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
    /// What x and y are divided by.
    sides: [f32; 2],
}

impl KeypointsSpec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Keypoints, ManifestError> {
        context.require_names("keypoints.names", &self.names, 1, LABEL_COUNT_MAX)?;
        let is_own = self.activation != Some(Activation::Softmax);
        context.require(is_own, "keypoints.activation", self.activation, r#"give "none" or "sigmoid""#)?;
        let plan = &context.manifest.input.plan;
        let operators = &plan.graph().operators;
        let is_whole = operators.iter().skip(1).all(|operator| match operator {
            Operator::Resize { fit, .. } => *fit == Fit::Stretch,
            operator => !matches!(operator, Operator::Crop { .. }),
        });
        let advice = r#"points need a tensor of the whole crop: resize with fit = "stretch", and crop once"#;
        context.check.require(is_whole, "input.graph", operators, advice)?;
        let sides = if self.normalized { [1.0; 2] } else { [plan.width(), plan.height()].map(|side| side as f32) };
        Ok(Keypoints { spec: self.clone(), sides })
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
            let x = rect.x0 + point[0] / self.sides[0] * (rect.x1 - rect.x0);
            let y = rect.y0 + point[1] / self.sides[1] * (rect.y1 - rect.y0);
            let score = self.spec.activation.map_or(1.0, |activation| activation.score(point[2], point));
            values.extend([x, y, score.clamp(0.0, 1.0)]);
        }
        Kind::Keypoints
    }
}
