//! The raw-output slot: a detector's output tensors, one after another, each with its shape, f32.
//!
//! Format: `u32 count`, `u32 reserved`, then `count` times `[u32; 8]` (rank, up to 7 sizes), then the numbers of all tensors
//! in order. The batch dimension is not stored: a slot holds one frame.

use crate::RecordError;

/// Most sizes a tensor has, its batch dimension left out.
pub const RANK_MAX: usize = 7;
/// Most tensors that a detector puts out.
pub const OUTPUT_COUNT_MAX: usize = 16;

/// One output tensor of one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Output<'a> {
    /// Sizes, the batch dimension left out.
    pub shape: Vec<usize>,
    /// Row-major numbers.
    pub numbers: &'a [f32],
}

/// Bytes of a slot that holds tensors of these shapes.
pub fn slot_bytes(shapes: &[Vec<usize>]) -> usize {
    8 + shapes.iter().map(|shape| 32 + 4 * shape.iter().product::<usize>()).sum::<usize>()
}

/// Writes `outputs` and returns the bytes used.
///
/// # Errors
/// When the slot is too small, or there are more tensors or sizes than the format holds.
pub fn write(slot: &mut [u8], outputs: &[Output<'_>]) -> Result<usize, RecordError> {
    let broken = |what: String| RecordError::new("raw output", what);
    let mut at = 8 + 32 * outputs.len();
    let bytes = at + outputs.iter().map(|output| 4 * output.numbers.len()).sum::<usize>();
    if outputs.len() > OUTPUT_COUNT_MAX || slot.len() < bytes {
        return Err(broken(format!("{} tensors of {bytes} bytes do not fit a slot of {}", outputs.len(), slot.len())));
    }
    slot[..4].copy_from_slice(&(outputs.len() as u32).to_ne_bytes());
    for (index, output) in outputs.iter().enumerate() {
        if output.shape.len() > RANK_MAX || output.shape.iter().product::<usize>() != output.numbers.len() {
            return Err(broken(format!("a tensor of shape {:?} with {} numbers", output.shape, output.numbers.len())));
        }
        let mut head = [0u32; RANK_MAX + 1];
        head[0] = output.shape.len() as u32;
        for (to, from) in head[1..].iter_mut().zip(&output.shape) {
            *to = *from as u32;
        }
        slot[8 + 32 * index..][..32].copy_from_slice(bytemuck::cast_slice(&head));
        slot[at..][..4 * output.numbers.len()].copy_from_slice(bytemuck::cast_slice(output.numbers));
        at += 4 * output.numbers.len();
    }
    Ok(bytes)
}

/// Reads what [`write()`] wrote; the numbers lie in the slot, which is aligned to 4 bytes.
///
/// # Errors
/// When the heads do not fit the bytes.
pub fn read(slot: &[u8]) -> Result<Vec<Output<'_>>, RecordError> {
    let broken = |what: String| RecordError::new("raw output", what);
    let words: &[u32] =
        bytemuck::try_cast_slice(&slot[..slot.len() & !3]).map_err(|error| broken(error.to_string()))?;
    let count = *words.first().ok_or_else(|| broken("empty".into()))? as usize;
    if count > OUTPUT_COUNT_MAX || words.len() < 2 + 8 * count {
        return Err(broken(format!("{count} tensors in {} bytes", slot.len())));
    }
    let mut at = 2 + 8 * count;
    let mut outputs = Vec::with_capacity(count);
    for head in words[2..2 + 8 * count].chunks_exact(8) {
        let rank = head[0] as usize;
        let sizes = head[1..].get(..rank).ok_or_else(|| broken(format!("rank {rank}")))?;
        let length = sizes.iter().try_fold(1usize, |product, size| product.checked_mul(*size as usize));
        let numbers = length
            .and_then(|length| words.get(at..at.checked_add(length)?))
            .ok_or_else(|| broken(format!("a tensor of shape {sizes:?} exceeds the slot")))?;
        at += numbers.len();
        outputs.push(Output {
            shape: sizes.iter().map(|size| *size as usize).collect(),
            numbers: bytemuck::cast_slice(numbers),
        });
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_survive_the_slot_and_hostile_heads_do_not() {
        let (a, b) = ([1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [7.0f32]);
        let outputs = [Output { shape: vec![2, 3], numbers: &a }, Output { shape: vec![1], numbers: &b }];
        let mut words = vec![0u32; 64];
        let slot: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        let used = write(slot, &outputs).expect("fits");
        assert_eq!(used, slot_bytes(&[vec![2, 3], vec![1]]));
        assert_eq!(read(&slot[..used]).expect("whole"), outputs);
        assert!(read(&slot[..used - 4]).is_err(), "cut");
        assert!(write(&mut slot[..40], &outputs).is_err(), "too small");
        for (word, value) in [(0, 17), (2, 8), (3, u32::MAX)] {
            let mut hostile = words.clone();
            hostile[word] = value;
            assert!(read(bytemuck::cast_slice(&hostile)).is_err(), "word {word} = {value}");
        }
    }
}
