//! Several tensors as one batch, in memory that was taken at start.

use framepipe_frame::{ErrorCode, FrameError};

/// Tensors of one size, one after another.
pub struct Gather {
    /// f32, so that the bytes of either type of number are aligned.
    memory: Vec<f32>,
    tensor_bytes: usize,
}

impl Gather {
    /// Memory for `batch_max` tensors; none where they are run alone, from where they lie.
    pub fn new(tensor_bytes: usize, batch_max: usize) -> Self {
        let bytes = if batch_max > 1 { tensor_bytes * batch_max } else { 0 };
        Self { memory: vec![0.0; bytes.div_ceil(size_of::<f32>())], tensor_bytes }
    }

    /// Copies the tensors, at most `batch_max`, close together.
    ///
    /// # Errors
    /// The first error among them; an internal one for a tensor of another size.
    pub fn copy<'t>(
        &mut self,
        tensors: impl Iterator<Item = Result<&'t [u8], FrameError>>,
    ) -> Result<&[u8], FrameError> {
        let memory: &mut [u8] = bytemuck::cast_slice_mut(&mut self.memory);
        let mut used = 0;
        for tensor in tensors {
            let tensor = check_size(tensor?, self.tensor_bytes)?;
            memory[used..used + tensor.len()].copy_from_slice(tensor);
            used += tensor.len();
        }
        Ok(&memory[..used])
    }
}

/// The tensor, when it has this size.
///
/// # Errors
/// As [`check_bytes`].
pub fn check_size(tensor: &[u8], tensor_bytes: usize) -> Result<&[u8], FrameError> {
    check_bytes(tensor.len(), tensor_bytes).map(|()| tensor)
}

/// Fails unless a tensor has this size.
///
/// # Errors
/// An internal error with both sizes.
pub fn check_bytes(found: usize, tensor_bytes: usize) -> Result<(), FrameError> {
    if found == tensor_bytes {
        return Ok(());
    }
    let message = format!("a tensor of {found} bytes, where the detector takes {tensor_bytes}");
    Err(FrameError::new(ErrorCode::Internal, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_to_lie_close_together_in_their_order() {
        let mut gather = Gather::new(3, 3);
        let tensors: [&[u8]; 3] = [&[1, 2, 3], &[4, 5, 6], &[7, 8, 9]];
        assert_eq!(gather.copy(tensors.into_iter().map(Ok)).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(gather.copy(tensors[1..].iter().copied().map(Ok)).unwrap(), [4, 5, 6, 7, 8, 9], "memory is reused");
    }

    #[test]
    fn a_missing_or_misshapen_tensor_fails_the_batch() {
        let mut gather = Gather::new(2, 2);
        let missing = FrameError::new(ErrorCode::Internal, "missing");
        assert_eq!(gather.copy([Ok(&[1, 2][..]), Err(missing.clone())].into_iter()), Err(missing));
        assert_eq!(gather.copy([Ok(&[1][..])].into_iter()).unwrap_err().code, ErrorCode::Internal);
    }
}
