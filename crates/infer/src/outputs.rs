//! What a run put out: lent from the engine's memory without a copy where it is f32 of a fixed size, else made here.
//!
//! Whole numbers (i32, i64) become f32, which holds them exactly up to 2^24; beyond that the run fails. A tensor of as many
//! rows as the graph found something, `[rows, ...]` or `[1, rows, ...]`, is filled up to its most rows with zeroes: a score of
//! zero is above no threshold. More rows than that fail the run, because which are the best is not known here.

use std::path::Path;

use ort::session::SessionOutputs;
use ort::value::{DynValue, TensorElementType};

use crate::InferError;

/// Largest whole number of which f32 holds all up to it.
const WHOLE_NUMBER_MAX: u64 = 1 << 24;

/// Types of outputs that are taken.
pub(crate) const TYPES: [TensorElementType; 3] =
    [TensorElementType::Float32, TensorElementType::Int64, TensorElementType::Int32];

/// The output tensors of one run, in the order in which the model was opened for them. The model can run again when
/// they are dropped.
pub struct Outputs<'m> {
    values: SessionOutputs<'m>,
    made: &'m [Made],
    batch: usize,
}

/// A tensor that is not lent; its memory serves one run after another.
#[derive(Debug, Default)]
pub(crate) struct Made {
    is_used: bool,
    /// Sizes, the batch among them.
    shape: Vec<usize>,
    numbers: Vec<f32>,
}

impl<'m> Outputs<'m> {
    /// Takes what the engine put out, when every tensor has one part a sample. `rows_max` has the shapes of a sample with
    /// most rows, where their number varies.
    pub(crate) fn check(
        file: &Path,
        values: SessionOutputs<'m>,
        batch: usize,
        rows_max: Option<&[Vec<usize>]>,
        made: &'m mut [Made],
    ) -> Result<Self, InferError> {
        for (index, ((name, value), made)) in values.iter().zip(&mut *made).enumerate() {
            let taken = match rows_max {
                Some(shapes) => made.fill(&value, &shapes[index]),
                None => made.convert(&value, batch),
            };
            taken.map_err(|reason| InferError::Run {
                file: file.to_owned(),
                reason: format!("the output {name:?} {reason}"),
            })?;
        }
        Ok(Self { values, made, batch })
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.values.len() == 0
    }

    /// How many samples there are.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Shape, with the batch, and numbers of the tensor `output`.
    ///
    /// # Panics
    /// When `output` is no index of a tensor.
    pub fn tensor(&self, output: usize) -> (&[usize], &[f32]) {
        let made = &self.made[output];
        if made.is_used {
            return (&made.shape, &made.numbers);
        }
        let (shape, numbers) =
            self.values[output].try_extract_tensor::<f32>().expect("`check` saw that it is a tensor of f32");
        // A tensor's sizes are never negative, and the engine runs on 64-bit machines only.
        (bytemuck::cast_slice::<i64, usize>(shape), numbers)
    }

    /// Shape, without the batch, and numbers of one sample in the tensor `output`.
    ///
    /// # Panics
    /// When `output` is no index of a tensor, or `sample` is not below the batch.
    pub fn sample(&self, output: usize, sample: usize) -> (&[usize], &[f32]) {
        let (shape, numbers) = self.tensor(output);
        let length = numbers.len() / self.batch;
        (&shape[1..], &numbers[sample * length..][..length])
    }
}

impl Made {
    /// Makes f32 of a tensor of `batch` parts; one that is f32 already is lent.
    fn convert(&mut self, value: &DynValue, batch: usize) -> Result<(), String> {
        let shape = self.take(value, false)?;
        if shape.first() != Some(&batch) {
            return Err(format!(
                "is {shape:?}, its first size is not the batch of {batch}: export the model with the batch as the first \
                 dimension of every output"
            ));
        }
        self.shape = shape;
        Ok(())
    }

    /// Fills a tensor of any number of rows up to `shape_max`, that of a sample with most of them.
    fn fill(&mut self, value: &DynValue, shape_max: &[usize]) -> Result<(), String> {
        let shape = self.take(value, true)?;
        let sample = match shape.strip_prefix(&[1]) {
            Some(sample) if shape.len() > shape_max.len() => sample,
            _ => &shape[..],
        };
        let (rows, rows_max) = (sample.first(), shape_max.first());
        if sample.len() != shape_max.len() || sample.get(1..) != shape_max.get(1..) {
            return Err(format!("is {shape:?}, not of the rows of {shape_max:?}: correct the manifest"));
        }
        if rows > rows_max {
            return Err(format!("is {shape:?}, more rows than those of {shape_max:?}: raise the manifest's count_max"));
        }
        self.numbers.resize(shape_max.iter().product(), 0.0);
        self.shape.clear();
        self.shape.push(1);
        self.shape.extend(shape_max);
        Ok(())
    }

    /// Copies the numbers, f32 `always` or only where they are of another type; returns the tensor's shape.
    fn take(&mut self, value: &DynValue, always: bool) -> Result<Vec<usize>, String> {
        self.numbers.clear();
        let broken = |error: ort::Error| format!("cannot be read: {error}");
        let element = value.dtype().tensor_type();
        self.is_used = always || element != Some(TensorElementType::Float32);
        let shape = match element {
            Some(TensorElementType::Float32) => {
                let (shape, numbers) = value.try_extract_tensor::<f32>().map_err(broken)?;
                self.numbers.extend_from_slice(if always { numbers } else { &[] });
                shape
            }
            Some(TensorElementType::Int64) => {
                let (shape, numbers) = value.try_extract_tensor::<i64>().map_err(broken)?;
                self.extend(numbers.iter().copied())?;
                shape
            }
            Some(TensorElementType::Int32) => {
                let (shape, numbers) = value.try_extract_tensor::<i32>().map_err(broken)?;
                self.extend(numbers.iter().copied().map(i64::from))?;
                shape
            }
            _ => return Err(format!("is {}, not a tensor of f32, i64 or i32", value.dtype())),
        };
        Ok(bytemuck::cast_slice::<i64, usize>(shape).to_vec())
    }

    fn extend(&mut self, numbers: impl Iterator<Item = i64>) -> Result<(), String> {
        for number in numbers {
            if number.unsigned_abs() > WHOLE_NUMBER_MAX {
                return Err(format!("has the number {number}, beyond the {WHOLE_NUMBER_MAX} that f32 holds exactly"));
            }
            self.numbers.push(number as f32);
        }
        Ok(())
    }
}
