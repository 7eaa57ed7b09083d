//! What a run put out, lent from the engine's memory without a copy.

use std::path::Path;

use ort::session::SessionOutputs;

use crate::InferError;

/// The output tensors of one run, in the order in which the model was opened for them. The model can run again when
/// they are dropped.
pub struct Outputs<'m> {
    values: SessionOutputs<'m>,
    batch: usize,
}

impl<'m> Outputs<'m> {
    /// Takes what the engine put out, when every tensor is f32 and has one part a sample.
    pub(crate) fn check(file: &Path, values: SessionOutputs<'m>, batch: usize) -> Result<Self, InferError> {
        let refused = |reason: String| Err(InferError::Run { file: file.to_owned(), reason });
        for (name, value) in values.iter() {
            match value.try_extract_tensor::<f32>() {
                Err(error) => return refused(format!("the output {name:?}: {error}")),
                Ok((shape, _)) if shape.first().copied() != Some(batch as i64) => {
                    return refused(format!(
                        "the output {name:?} is {shape}, its first size is not the batch of {batch}: export the model \
                         with the batch as the first dimension of every output"
                    ));
                }
                Ok(_) => {}
            }
        }
        Ok(Self { values, batch })
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
