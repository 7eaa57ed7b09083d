//! From an attribute model's raw outputs to the numbers of an attribute entry: classes, quantities, embeddings.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use framepipe_frame::attributes::{Kind, NOTHING};
use framepipe_frame::raw::OUTPUT_COUNT_MAX;
use framepipe_frame::{ErrorCode, FrameError};
use framepipe_vision::Rect;
use framepipe_vision::graph::{Fit, Operator};
use serde::Deserialize;

use crate::detector::{LABEL_COUNT_MAX, highest};
use crate::manifest::{Checker, is_plain_name};
use crate::{Activation, Manifest, ManifestError};

/// Most lines of a charset.
const CHARSET_COUNT_MAX: usize = 65_536;
/// Most bytes of a charset.
const CHARSET_BYTES_MAX: u64 = 1 << 20;

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
    /// One number a label: those whose score is above the threshold, best first.
    Classes {
        /// What makes scores of the numbers: a sigmoid where several can hold, a softmax where one does.
        activation: Activation,
        /// Names of the classes, in the model's order.
        labels: Vec<String>,
        /// A class's score is above this, 0 to 1.
        score_threshold: f32,
        /// So many classes, the highest scores, come out.
        classes_max: usize,
    },
    /// One number: a quantity, `number * scale + offset`.
    Number {
        /// Factor.
        #[serde(default = "one")]
        scale: f32,
        /// Added.
        #[serde(default)]
        offset: f32,
    },
    /// Shares of bins: their sum, each times `first + index * step`.
    Expectation {
        /// What makes shares of the numbers: none or softmax.
        #[serde(default = "none")]
        activation: Activation,
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
    /// Points of the crop: x, y and a score each, or x and y.
    Keypoints {
        /// Names of the points, in the model's order.
        names: Vec<String>,
        /// True: x and y are shares of the tensor's sides; false: pixels of it.
        normalized: bool,
        /// What makes scores of the third numbers: none or sigmoid. Without it there are no third numbers.
        activation: Option<Activation>,
    },
    /// A line of text, by CTC: `[steps, 1 + characters]`. The best character of each step counts; repeats are one, blanks none.
    /// The score is the mean of those characters' scores.
    CtcText {
        /// What makes scores of a step's numbers: none or softmax.
        activation: Activation,
        /// A file in the manifest's folder, one character a line, in the model's order without the blank.
        charset: String,
        /// The blank's index.
        blank: usize,
    },
}

fn one() -> f32 {
    1.0
}

fn none() -> Activation {
    Activation::None
}

/// An attribute model's outputs, checked against their manifest.
#[derive(Clone, Debug)]
pub struct AttributeHead {
    outputs: Vec<OutputSpec>,
    /// By output: what its indices name.
    names: Vec<Vec<String>>,
    /// Width and height of the tensor.
    size: [f32; 2],
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
        let mut names = Vec::with_capacity(spec.outputs.len());
        for (index, output) in spec.outputs.iter().enumerate() {
            let key = format!("attributes.outputs[{index}].kind");
            output.kind.check(check, &key)?;
            names.push(output.kind.names(manifest, check, &key)?);
        }
        let size = [manifest.input.plan.width(), manifest.input.plan.height()].map(|side| side as f32);
        Ok(Self { outputs: spec.outputs.clone(), names, size })
    }

    /// What the indices of the output `output` name: classes, points or characters.
    ///
    /// # Panics
    /// When `output` is no index into [`AttributeHead::outputs`].
    pub fn names(&self, output: usize) -> &[String] {
        &self.names[output]
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
        let names = self.names[output].len();
        let (expected, count) = match &spec.kind {
            OutputKind::Class { .. } => (names..=names, 2),
            OutputKind::Classes { classes_max, .. } => (names..=names, 2 * classes_max),
            OutputKind::Binary { .. } => (1..=1, 2),
            OutputKind::Number { .. } => (1..=1, 1),
            OutputKind::Expectation { .. } => (1..=usize::MAX, 1),
            OutputKind::Vector { .. } => (1..=usize::MAX, length),
            OutputKind::Keypoints { activation, .. } => {
                let length = names * point_numbers(*activation);
                (length..=length, 3 * names)
            }
            OutputKind::CtcText { .. } => (1 + names..=usize::MAX, 1 + length / (1 + names)),
        };
        let is_whole = !matches!(spec.kind, OutputKind::CtcText { .. }) || length.is_multiple_of(1 + names);
        if expected.contains(&length) && is_whole {
            return Ok(count);
        }
        let many = if is_whole { "" } else { "a multiple of " };
        Err(refusal(
            spec,
            format_args!(
                "has {length} numbers, its kind needs {many}{}: correct the kind, its labels, names or charset in the \
                 manifest",
                expected.start()
            ),
        ))
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
        let spec = &self.outputs[output];
        let count = self.value_count(output, numbers.len())?;
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
            OutputKind::Classes { activation, score_threshold, classes_max, .. } => {
                classes(*activation, numbers, *score_threshold, *classes_max, values);
                values.resize(count, NOTHING);
                Ok(Kind::Classes)
            }
            OutputKind::Number { scale, offset } => {
                values.push(numbers[0] * scale + offset);
                Ok(Kind::Number)
            }
            OutputKind::Expectation { activation, first, step } => {
                let (_, peak) = highest(numbers.iter().copied());
                let weight = |number: f32| match activation {
                    Activation::Softmax => (number - peak).exp(),
                    Activation::None | Activation::Sigmoid => number,
                };
                let bins = numbers.iter().enumerate().map(|(bin, number)| (first + bin as f32 * step, weight(*number)));
                let (weighted, sum) =
                    bins.fold((0.0, 0.0), |(weighted, sum), (value, weight)| (weighted + value * weight, sum + weight));
                values.push(if *activation == Activation::Softmax { weighted / sum } else { weighted });
                Ok(Kind::Number)
            }
            OutputKind::Vector { normalize } => {
                let length = if *normalize { euclidean_length(numbers) } else { 1.0 };
                values.extend(numbers.iter().map(|number| (f64::from(*number) / length) as f32));
                Ok(Kind::Vector)
            }
            OutputKind::Keypoints { normalized, activation, .. } => {
                let [width, height] = if *normalized { [1.0; 2] } else { self.size };
                for point in numbers.chunks_exact(point_numbers(*activation)) {
                    let x = rect.x0 + point[0] / width * (rect.x1 - rect.x0);
                    let y = rect.y0 + point[1] / height * (rect.y1 - rect.y0);
                    let score = activation.map_or(1.0, |activation| activation.score(point[2], point).clamp(0.0, 1.0));
                    values.extend([x, y, score]);
                }
                Ok(Kind::Keypoints)
            }
            OutputKind::CtcText { activation, blank, .. } => {
                text(*activation, numbers, 1 + self.names[output].len(), *blank, values);
                values.resize(count, NOTHING);
                Ok(Kind::Text)
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
            Self::Classes { labels, score_threshold, classes_max, .. } => {
                let names = labels.iter().map(String::as_str);
                check.require_names(format_args!("{key}.classes.labels"), names, 2, LABEL_COUNT_MAX)?;
                let is_share = (0.0..1.0).contains(score_threshold);
                let key_of = |field: &str| format!("{key}.classes.{field}");
                let advice = "give a number from 0 to less than 1";
                check.require(is_share, key_of("score_threshold"), score_threshold, advice)?;
                let advice = format_args!("give 1 to {}, as many as there are labels", labels.len());
                check.require((1..=labels.len()).contains(classes_max), key_of("classes_max"), classes_max, advice)
            }
            Self::Expectation { activation, first, step } => {
                let is_scale = first.is_finite() && step.is_finite() && *step != 0.0;
                let advice = "give finite numbers, and a step other than 0";
                check.require(is_scale, format_args!("{key}.expectation"), (first, step), advice)?;
                let key = format_args!("{key}.expectation.activation");
                check.require(*activation != Activation::Sigmoid, key, activation, "give \"none\" or \"softmax\"")
            }
            Self::Number { scale, offset } => {
                let is_scale = scale.is_finite() && offset.is_finite() && *scale != 0.0;
                let advice = "give finite numbers, and a scale other than 0";
                check.require(is_scale, format_args!("{key}.number"), (scale, offset), advice)
            }
            Self::Keypoints { names, activation, .. } => {
                let names = names.iter().map(String::as_str);
                check.require_names(format_args!("{key}.keypoints.names"), names, 1, LABEL_COUNT_MAX)?;
                let key = format_args!("{key}.keypoints.activation");
                check.require(*activation != Some(Activation::Softmax), key, activation, "give \"none\" or \"sigmoid\"")
            }
            Self::CtcText { activation, .. } => {
                let key = format_args!("{key}.ctc_text.activation");
                check.require(*activation != Activation::Sigmoid, key, activation, "give \"none\" or \"softmax\"")
            }
            Self::Vector { .. } => Ok(()),
        }
    }

    /// What the output's indices name, as checked as [`OutputKind::check`] leaves it.
    fn names(&self, manifest: &Manifest, check: Checker<'_>, key: &str) -> Result<Vec<String>, ManifestError> {
        match self {
            Self::Class { labels, .. } | Self::Classes { labels, .. } | Self::Binary { labels } => Ok(labels.clone()),
            Self::Number { .. } | Self::Expectation { .. } | Self::Vector { .. } => Ok(Vec::new()),
            Self::Keypoints { names, .. } => {
                let operators = &manifest.input.plan.graph().operators;
                let is_whole = operators.iter().skip(1).all(|operator| match operator {
                    Operator::Resize { fit, .. } => *fit == Fit::Stretch,
                    operator => !matches!(operator, Operator::Crop { .. }),
                });
                let advice = "of the crop, the whole tensor must be made: give resize fit = \"stretch\", and crop once";
                check.require(is_whole, "input.graph", operators, advice)?;
                Ok(names.clone())
            }
            Self::CtcText { charset, blank, .. } => {
                let key_of = |field: &str| format!("{key}.ctc_text.{field}");
                let advice = "name a file in the manifest's own folder";
                check.require(is_plain_name(charset), key_of("charset"), charset, advice)?;
                let characters = read_charset(&manifest.dir.join(charset))?;
                let are_some = !characters.is_empty() && characters.iter().all(|character| !character.is_empty());
                let advice = format_args!("write 1 to {CHARSET_COUNT_MAX} characters into the file, one a line");
                check.require(
                    are_some && characters.len() <= CHARSET_COUNT_MAX,
                    key_of("charset"),
                    format_args!("{charset}, with {} lines", characters.len()),
                    advice,
                )?;
                let advice = format_args!("give 0 to {}, the number of characters", characters.len());
                check.require(*blank <= characters.len(), key_of("blank"), blank, advice)?;
                Ok(characters)
            }
        }
    }
}

/// The lines of a charset; what is beyond [`CHARSET_BYTES_MAX`] is not read.
fn read_charset(path: &Path) -> Result<Vec<String>, ManifestError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(CHARSET_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Numbers of a point.
fn point_numbers(activation: Option<Activation>) -> usize {
    2 + usize::from(activation.is_some())
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

/// Appends index and score of each class whose score is above the threshold, best first, equal ones in the model's order.
fn classes(activation: Activation, numbers: &[f32], threshold: f32, classes_max: usize, values: &mut Vec<f32>) {
    let (_, peak) = highest(numbers.iter().copied());
    let sum: f32 = match activation {
        Activation::Softmax => numbers.iter().map(|number| (number - peak).exp()).sum(),
        Activation::None | Activation::Sigmoid => 1.0,
    };
    let score = |number: f32| match activation {
        Activation::Softmax => (number - peak).exp() / sum,
        Activation::None | Activation::Sigmoid => activation.score(number, numbers).clamp(0.0, 1.0),
    };
    let mut found: Vec<(usize, f32)> = numbers.iter().map(|number| score(*number)).enumerate().collect();
    found.retain(|(_, score)| *score > threshold);
    found.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    values.extend(found.iter().take(classes_max).flat_map(|(class, score)| [*class as f32, *score]));
}

/// Appends the score and the characters of a line; `width` numbers are a step.
fn text(activation: Activation, numbers: &[f32], width: usize, blank: usize, values: &mut Vec<f32>) {
    values.push(0.0);
    let mut before = blank;
    for step in numbers.chunks_exact(width) {
        let (class, score) = class(activation, step);
        if class != blank && class != before {
            values[0] += score;
            values.push((if class > blank { class - 1 } else { class }) as f32);
        }
        before = class;
    }
    let count = values.len() - 1;
    values[0] /= count.max(1) as f32;
}

/// The length to divide by: 1 for a vector of zeroes, which has no direction.
fn euclidean_length(numbers: &[f32]) -> f64 {
    let length = numbers.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 { length } else { 1.0 }
}

#[cfg(test)]
mod tests;
