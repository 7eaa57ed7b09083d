//! From an attribute model's raw outputs to the numbers of an attribute entry. [`OutputKind`] is the table of kinds: a row
//! there and a file here is a new one.

mod binary;
mod class;
mod classes;
mod ctc_text;
mod expectation;
mod keypoints;
mod number;
#[cfg(test)]
mod tests;
mod vector;

use std::fmt::Debug;

use framepipe_frame::attributes::{Kind, NOTHING};
use framepipe_frame::raw::OUTPUT_COUNT_MAX;
use framepipe_frame::{ErrorCode, FrameError};
use framepipe_vision::Rect;
use serde::Deserialize;

pub use binary::BinarySpec;
pub use class::ClassSpec;
pub use classes::ClassesSpec;
pub use ctc_text::CtcTextSpec;
pub use expectation::ExpectationSpec;
pub use keypoints::KeypointsSpec;
pub use number::NumberSpec;
pub use vector::VectorSpec;

use crate::detector::LABEL_COUNT_MAX;
use crate::manifest::Checker;
use crate::{Manifest, ManifestError};

/// The `[attributes]` section of a manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributesSpec {
    /// Labels of the detections that it describes.
    pub applies_to: Vec<String>,
    /// The attribute that says whether a crop is upside down, so that it is turned for this model: that of a model before it
    /// in the pipeline, with [`OutputSpec::turns`].
    pub turned_by: Option<String>,
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
    /// Of a class: which label means that the crop is upside down.
    pub turns: Option<TurnsSpec>,
}

/// `turns = { … }` of an output: what the models that this attribute turns crops for go by.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnsSpec {
    /// The label of what is upside down.
    pub label: String,
    /// Least score of that label, 0 to 1; below it, the crop stays as it is.
    pub score_min: f32,
}

/// The table of kinds: what an output's numbers mean, and what they become.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OutputKind {
    /// One number a label: the highest is the class.
    Class(ClassSpec),
    /// One number a label: those whose score is above a threshold.
    Classes(ClassesSpec),
    /// One number after a sigmoid: the second of two labels, or the first.
    Binary(BinarySpec),
    /// One number: a quantity.
    Number(NumberSpec),
    /// Shares of bins: the quantity that they come to.
    Expectation(ExpectationSpec),
    /// An embedding.
    Vector(VectorSpec),
    /// Points of the object.
    Keypoints(KeypointsSpec),
    /// A line of text, by CTC.
    CtcText(CtcTextSpec),
}

impl OutputKind {
    fn build(&self, context: &Context<'_>) -> Result<Box<dyn Decode>, ManifestError> {
        Ok(match self {
            Self::Class(spec) => Box::new(spec.build(context)?),
            Self::Classes(spec) => Box::new(spec.build(context)?),
            Self::Binary(spec) => Box::new(spec.build(context)?),
            Self::Number(spec) => Box::new(spec.build(context)?),
            Self::Expectation(spec) => Box::new(spec.build(context)?),
            Self::Vector(spec) => Box::new(spec.clone()),
            Self::Keypoints(spec) => Box::new(spec.build(context)?),
            Self::CtcText(spec) => Box::new(spec.build(context)?),
        })
    }
}

/// A kind, ready to decode.
trait Decode: Debug + Send + Sync {
    /// What indices among the values name: classes, points or characters.
    fn names(&self) -> &[String] {
        &[]
    }
    /// How many values come of `length` numbers; `Err` says how many numbers it takes.
    fn value_count(&self, length: usize) -> Result<usize, String>;
    /// Appends at most so many values. The numbers are finite, and as many as [`Decode::value_count`] takes.
    fn decode(&self, numbers: &[f32], rect: &Rect, values: &mut Vec<f32>) -> Kind;
}

/// The count of values where a kind takes `expected` numbers.
fn exactly(expected: usize, length: usize, count: usize) -> Result<usize, String> {
    if length == expected { Ok(count) } else { Err(expected.to_string()) }
}

/// The count of values where a kind takes any numbers.
fn some(length: usize, count: usize) -> Result<usize, String> {
    if length > 0 { Ok(count) } else { Err("1 or more".into()) }
}

/// What a kind is built for.
struct Context<'a> {
    check: Checker<'a>,
    manifest: &'a Manifest,
    /// The key of the output's kind.
    key: &'a str,
}

impl Context<'_> {
    /// `Ok` where the value of the kind's key `field` `holds`.
    fn require(&self, holds: bool, field: &str, value: impl Debug, advice: &str) -> Result<(), ManifestError> {
        self.check.require(holds, format_args!("{}.{field}", self.key), value, advice)
    }

    /// Names that results bear.
    fn require_names(&self, field: &str, names: &[String], min: usize, max: usize) -> Result<(), ManifestError> {
        self.check.require_names(format_args!("{}.{field}", self.key), names.iter().map(String::as_str), min, max)
    }
}

/// An attribute model's outputs, checked against their manifest.
#[derive(Debug)]
pub struct AttributeHead {
    outputs: Vec<(OutputSpec, Box<dyn Decode>)>,
    turner: Option<Turner>,
}

/// The output that says whether a crop is upside down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turner {
    /// Its index.
    pub output: usize,
    class: usize,
    score_min: f32,
}

impl Turner {
    /// True where the output's values, of [`AttributeHead::decode`], say that the crop is upside down.
    pub fn is_upside_down(&self, values: &[f32]) -> bool {
        matches!(values, [class, score] if *class == self.class as f32 && *score >= self.score_min)
    }
}

impl AttributeHead {
    /// The outputs that `manifest` describes.
    ///
    /// # Errors
    /// When the model is a detector, a value cannot be right, or a charset cannot be read.
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
        let build = |(index, output): (usize, &OutputSpec)| {
            let key = format!("attributes.outputs[{index}].kind");
            Ok((output.clone(), output.kind.build(&Context { check, manifest, key: &key })?))
        };
        let outputs: Vec<_> = spec.outputs.iter().enumerate().map(build).collect::<Result<_, _>>()?;
        let turners = outputs.iter().enumerate().map(|(index, (output, _))| turner(check, index, output));
        let turners: Vec<Turner> = turners.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        let advice = "leave turns to one output of the model";
        check.require(turners.len() <= 1, "attributes.outputs.turns", turners.len(), advice)?;
        Ok(Self { outputs, turner: turners.first().copied() })
    }

    /// The output that says whether a crop is upside down, where there is one.
    pub fn turner(&self) -> Option<Turner> {
        self.turner
    }

    /// Tensor names, in the order of the manifest.
    pub fn outputs(&self) -> Vec<&str> {
        self.outputs.iter().map(|(spec, _)| spec.tensor.as_str()).collect()
    }

    /// What the indices of the output `output` name: classes, points or characters.
    ///
    /// # Panics
    /// When `output` is no index into [`AttributeHead::outputs`].
    pub fn names(&self, output: usize) -> &[String] {
        self.outputs[output].1.names()
    }

    /// How many numbers [`AttributeHead::decode`] makes of `length` numbers of the tensor `output`, an index into
    /// [`AttributeHead::outputs`]. Ask at start, with the model's own shapes.
    ///
    /// # Errors
    /// `Inference` when the tensor cannot have this length.
    pub fn value_count(&self, output: usize, length: usize) -> Result<usize, FrameError> {
        let (spec, kind) = &self.outputs[output];
        kind.value_count(length).map_err(|expected| {
            let advice = "correct the kind, its labels, names or charset in the manifest";
            refusal(spec, format_args!("has {length} numbers, its kind needs {expected}: {advice}"))
        })
    }

    /// Puts what one sample's `numbers` of the tensor `output` say into `values`, which is emptied first. `rect` is what was
    /// cropped: points come out in source pixels.
    ///
    /// # Errors
    /// `Inference` when the tensor has the wrong length or a number that is not finite.
    ///
    /// # Panics
    /// When `output` is no index into [`AttributeHead::outputs`].
    pub fn decode(
        &self,
        output: usize,
        numbers: &[f32],
        rect: &Rect,
        values: &mut Vec<f32>,
    ) -> Result<Kind, FrameError> {
        values.clear();
        let count = self.value_count(output, numbers.len())?;
        let (spec, kind) = &self.outputs[output];
        if let Some(number) = numbers.iter().find(|number| !number.is_finite()) {
            return Err(refusal(spec, format_args!("holds {number}: the model cannot judge this crop")));
        }
        let decoded = kind.decode(numbers, rect, values);
        values.resize(count, NOTHING);
        Ok(decoded)
    }
}

/// What the output's `turns` comes to.
fn turner(check: Checker<'_>, index: usize, output: &OutputSpec) -> Result<Option<Turner>, ManifestError> {
    let Some(TurnsSpec { label, score_min }) = &output.turns else { return Ok(None) };
    let key = |name: &str| format!("attributes.outputs[{index}].turns{name}");
    let labels = match &output.kind {
        OutputKind::Class(spec) => &spec.labels[..],
        OutputKind::Binary(spec) => &spec.labels[..],
        _ => {
            let advice = "leave it out: a label turns, of an output of kind class or binary";
            return Err(check.error(key(""), format_args!("{:?}", output.turns), advice));
        }
    };
    let class = labels.iter().position(|one| one == label);
    let advice = format_args!("give one of the output's labels, {labels:?}");
    check.require(class.is_some(), key(".label"), label, advice)?;
    check.require((0.0..=1.0).contains(score_min), key(".score_min"), score_min, "give a number from 0 to 1")?;
    Ok(class.map(|class| Turner { output: index, class, score_min: *score_min }))
}

fn refusal(spec: &OutputSpec, what: std::fmt::Arguments<'_>) -> FrameError {
    let OutputSpec { tensor, name, .. } = spec;
    FrameError::new(ErrorCode::Inference, format!("attribute {name:?}: the output tensor {tensor:?} {what}"))
}
