//! From an attribute model's raw outputs to the numbers of an attribute entry: classes, quantities, embeddings.

use framepipe_frame::attributes::Kind;
use framepipe_frame::raw::OUTPUT_COUNT_MAX;
use framepipe_frame::{ErrorCode, FrameError};
use serde::Deserialize;

use crate::detector::{LABEL_COUNT_MAX, highest};
use crate::manifest::Checker;
use crate::{Activation, Manifest, ManifestError};

/// The `[attributes]` section of a manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributesSpec {
    /// Labels of the detections that it describes.
    pub applies_to: Vec<String>,
    /// What comes out.
    pub outputs: Vec<OutputSpec>,
}

/// One `[[attributes.outputs]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// Name of the tensor.
    pub tensor: String,
    /// Name of the attribute in results.
    pub name: String,
    /// What its numbers mean.
    pub kind: OutputKind,
}

/// What an output's numbers mean, and what they become.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OutputKind {
    /// One number a label: the highest is the class.
    Class {
        /// What makes scores of the numbers.
        activation: Activation,
        /// Names of the classes, in the model's order.
        labels: Vec<String>,
    },
    /// One number p after a sigmoid: the second label where p > 0.5, with the score max(p, 1 - p).
    Binary {
        /// Two names.
        labels: Vec<String>,
    },
    /// One number as it is.
    Number {},
    /// Probabilities of bins: their sum, each times `first + index * step`.
    Expectation {
        /// Value of the first bin.
        first: f32,
        /// From one bin to the next.
        step: f32,
    },
    /// An embedding.
    Vector {
        /// True: it is divided by its Euclidean length.
        normalize: bool,
    },
}

/// An attribute model's outputs, checked against their manifest.
#[derive(Clone, Debug)]
pub struct AttributeHead {
    outputs: Vec<OutputSpec>,
}

impl AttributeHead {
    /// The outputs that `manifest` describes.
    ///
    /// # Errors
    /// When the model is a detector, or a value cannot be right.
    pub fn new(manifest: &Manifest) -> Result<Self, ManifestError> {
        let spec = manifest.attributes()?;
        let path = manifest.path();
        let check = Checker::new(&path);
        let classes = spec.applies_to.iter().map(String::as_str);
        check.require_names("attributes.applies_to", classes, 1, LABEL_COUNT_MAX)?;
        let tensors = spec.outputs.iter().map(|output| output.tensor.as_str());
        check.require_names("attributes.outputs.tensor", tensors, 1, OUTPUT_COUNT_MAX)?;
        let names = spec.outputs.iter().map(|output| output.name.as_str());
        check.require_names("attributes.outputs.name", names, 1, OUTPUT_COUNT_MAX)?;
        for (index, output) in spec.outputs.iter().enumerate() {
            output.kind.check(check, &format!("attributes.outputs[{index}].kind"))?;
        }
        Ok(Self { outputs: spec.outputs.clone() })
    }

    /// Tensor names, in the order of the manifest.
    pub fn outputs(&self) -> Vec<&str> {
        self.outputs.iter().map(|output| output.tensor.as_str()).collect()
    }

    /// How many numbers [`AttributeHead::decode`] makes of `length` numbers of the tensor `output`, an index into
    /// [`AttributeHead::outputs`]. Ask at start, with the model's own shapes.
    ///
    /// # Errors
    /// `Inference` when the tensor cannot have this length.
    pub fn value_count(&self, output: usize, length: usize) -> Result<usize, FrameError> {
        let spec = &self.outputs[output];
        let (expected, count) = match &spec.kind {
            OutputKind::Class { labels, .. } => (labels.len()..=labels.len(), 2),
            OutputKind::Binary { .. } => (1..=1, 2),
            OutputKind::Number {} => (1..=1, 1),
            OutputKind::Expectation { .. } => (1..=usize::MAX, 1),
            OutputKind::Vector { .. } => (1..=usize::MAX, length),
        };
        if expected.contains(&length) {
            return Ok(count);
        }
        Err(refusal(
            spec,
            format_args!(
                "has {length} numbers, its kind needs {}: correct the kind or its labels in the manifest",
                expected.start()
            ),
        ))
    }

    /// Puts what one sample's `numbers` of the tensor `output` say into `values`, which is emptied first.
    ///
    /// # Errors
    /// `Inference` when the tensor has the wrong length or a number that is not finite.
    ///
    /// # Panics
    /// When `output` is no index into [`AttributeHead::outputs`].
    pub fn decode(&self, output: usize, numbers: &[f32], values: &mut Vec<f32>) -> Result<Kind, FrameError> {
        values.clear();
        let spec = &self.outputs[output];
        self.value_count(output, numbers.len())?;
        if let Some(number) = numbers.iter().find(|number| !number.is_finite()) {
            return Err(refusal(spec, format_args!("holds {number}: the model cannot judge this crop")));
        }
        match &spec.kind {
            OutputKind::Class { activation, .. } => {
                let (class, score) = class(*activation, numbers);
                values.extend([class as f32, score]);
                Ok(Kind::Class)
            }
            OutputKind::Binary { .. } => {
                let second = numbers[0].clamp(0.0, 1.0);
                values.extend([f32::from(u8::from(second > 0.5)), second.max(1.0 - second)]);
                Ok(Kind::Class)
            }
            OutputKind::Number {} => {
                values.push(numbers[0]);
                Ok(Kind::Number)
            }
            OutputKind::Expectation { first, step } => {
                values.push(numbers.iter().enumerate().map(|(bin, share)| share * (first + bin as f32 * step)).sum());
                Ok(Kind::Number)
            }
            OutputKind::Vector { normalize } => {
                let length = if *normalize { euclidean_length(numbers) } else { 1.0 };
                values.extend(numbers.iter().map(|number| (f64::from(*number) / length) as f32));
                Ok(Kind::Vector)
            }
        }
    }
}

impl OutputKind {
    fn check(&self, check: Checker<'_>, key: &str) -> Result<(), ManifestError> {
        match self {
            Self::Class { labels, .. } => {
                let labels = labels.iter().map(String::as_str);
                check.require_names(format_args!("{key}.class.labels"), labels, 2, LABEL_COUNT_MAX)
            }
            Self::Binary { labels } => {
                check.require_names(format_args!("{key}.binary.labels"), labels.iter().map(String::as_str), 2, 2)
            }
            Self::Expectation { first, step } => {
                let is_scale = first.is_finite() && step.is_finite() && *step != 0.0;
                let advice = "give finite numbers, and a step other than 0";
                check.require(is_scale, format_args!("{key}.expectation"), (first, step), advice)
            }
            Self::Number {} | Self::Vector { .. } => Ok(()),
        }
    }
}

fn refusal(spec: &OutputSpec, what: std::fmt::Arguments<'_>) -> FrameError {
    let OutputSpec { tensor, name, .. } = spec;
    FrameError::new(ErrorCode::Inference, format!("attribute {name:?}: the output tensor {tensor:?} {what}"))
}

/// Index and score of the highest of finite numbers.
fn class(activation: Activation, numbers: &[f32]) -> (usize, f32) {
    let (class, best) = highest(numbers.iter().copied());
    (class, activation.score(best, numbers).clamp(0.0, 1.0))
}

/// The length to divide by: 1 for a vector of zeroes, which has no direction.
fn euclidean_length(numbers: &[f32]) -> f64 {
    let length = numbers.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 { length } else { 1.0 }
}

#[cfg(test)]
mod tests;
