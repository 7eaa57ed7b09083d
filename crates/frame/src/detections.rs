//! The detections slot: `u32 count`, `u32 mask_bytes`, then so many [`Detection`]s, highest score first, and so many bytes of
//! masks (`masks.rs`).

use bytemuck::{Pod, Zeroable};

use crate::RecordError;

/// One object found, in source pixels.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Detection {
    /// Index into the detector's labels.
    pub class: u32,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// Left edge, source pixels.
    pub x0: f32,
    /// Top edge, source pixels.
    pub y0: f32,
    /// Right edge, source pixels.
    pub x1: f32,
    /// Bottom edge, source pixels.
    pub y1: f32,
    /// Row of the detector's outputs that has its mask; 0 where there are no masks.
    pub row: u32,
}

const HEADER_BYTES: usize = 8;

/// Bytes of a slot that holds `count` detections and masks of `mask_bytes`.
pub const fn slot_bytes(count: usize, mask_bytes: usize) -> usize {
    HEADER_BYTES + count * size_of::<Detection>() + mask_bytes
}

/// Writes `detections` and their `masks`, and returns the bytes used. The slot was sized for them.
///
/// # Errors
/// When the slot is too small.
pub fn write(slot: &mut [u8], detections: &[Detection], masks: &[u8]) -> Result<usize, RecordError> {
    let bytes = slot_bytes(detections.len(), masks.len());
    if slot.len() < bytes {
        return Err(RecordError::new("detections", format!("{bytes} bytes do not fit a slot of {}", slot.len())));
    }
    let counts = [detections.len() as u32, masks.len() as u32];
    slot[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&counts));
    let (boxes, tail) = slot[HEADER_BYTES..bytes].split_at_mut(size_of_val(detections));
    boxes.copy_from_slice(bytemuck::cast_slice(detections));
    tail.copy_from_slice(masks);
    Ok(bytes)
}

/// Reads the detections that [`write()`] wrote; the slice lies in the slot.
///
/// # Errors
/// When the counts do not fit the bytes.
pub fn read(slot: &[u8]) -> Result<&[Detection], RecordError> {
    let broken = |what: String| RecordError::new("detections", what);
    let (boxes, _) = parts(slot)?;
    bytemuck::try_cast_slice(boxes).map_err(|error| broken(error.to_string()))
}

/// Reads the masks' bytes that [`write()`] wrote.
///
/// # Errors
/// When the counts do not fit the bytes.
pub fn read_masks(slot: &[u8]) -> Result<&[u8], RecordError> {
    parts(slot).map(|(_, masks)| masks)
}

fn parts(slot: &[u8]) -> Result<(&[u8], &[u8]), RecordError> {
    let broken = |what: String| RecordError::new("detections", what);
    let (header, rest) =
        slot.split_at_checked(HEADER_BYTES).ok_or_else(|| broken(format!("{} bytes hold no header", slot.len())))?;
    let [count, mask_bytes]: [u32; 2] = bytemuck::pod_read_unaligned(header);
    let parts = (count as usize).checked_mul(size_of::<Detection>()).and_then(|bytes| rest.split_at_checked(bytes));
    parts
        .and_then(|(boxes, rest)| Some((boxes, rest.get(..mask_bytes as usize)?)))
        .ok_or_else(|| broken(format!("{count} detections and {mask_bytes} bytes do not fit {} bytes", slot.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detections_survive_the_slot_and_hostile_counts_do_not() {
        let one = Detection { class: 1, score: 0.5, x0: 1.0, y0: 2.0, x1: 3.0, y1: 4.0, row: 5 };
        let mut slot = vec![0u64; 9];
        let slot: &mut [u8] = bytemuck::cast_slice_mut(&mut slot);
        let used = write(slot, &[one, one], &[6, 7]).expect("they fit");
        assert_eq!(used, slot_bytes(2, 2));
        assert_eq!(read(&slot[..used]).expect("they read back"), &[one, one]);
        assert_eq!(read_masks(&slot[..used]).expect("they read back"), [6, 7]);
        assert!(read(&slot[..used - 1]).is_err(), "cut");
        assert!(write(slot, &[one; 2], &[0; 9]).is_err());
        for (word, value) in [(0, u32::MAX), (0, 3), (1, u32::MAX), (1, 9)] {
            let mut hostile = slot.to_vec();
            hostile[word * 4..][..4].copy_from_slice(&value.to_ne_bytes());
            assert!(read(&hostile).is_err() && read_masks(&hostile).is_err(), "word {word} = {value}");
        }
        assert!(read(&slot[..4]).is_err());
    }
}
