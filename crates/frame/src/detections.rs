//! The detections slot: a count, then that many [`Detection`]s, highest score first.

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
}

const HEADER_BYTES: usize = 8;

/// Bytes of a slot that holds `count` detections.
pub const fn slot_bytes(count: usize) -> usize {
    HEADER_BYTES + count * size_of::<Detection>()
}

/// Writes `detections` and returns the bytes used. The slot was sized for them.
///
/// # Errors
/// When the slot is too small.
pub fn write(slot: &mut [u8], detections: &[Detection]) -> Result<usize, RecordError> {
    let bytes = slot_bytes(detections.len());
    if slot.len() < bytes {
        return Err(RecordError::new("detections", format!("{bytes} bytes do not fit a slot of {}", slot.len())));
    }
    slot[..8].copy_from_slice(&(detections.len() as u64).to_ne_bytes());
    slot[HEADER_BYTES..bytes].copy_from_slice(bytemuck::cast_slice(detections));
    Ok(bytes)
}

/// Reads what [`write()`] wrote; the slice lies in the slot.
///
/// # Errors
/// When the count does not fit the bytes.
pub fn read(slot: &[u8]) -> Result<&[Detection], RecordError> {
    let broken = |what: String| RecordError::new("detections", what);
    let header = slot.get(..HEADER_BYTES).ok_or_else(|| broken(format!("{} bytes hold no header", slot.len())))?;
    let count = u64::from_ne_bytes(header.try_into().expect("8 bytes were taken"));
    let bytes = usize::try_from(count)
        .ok()
        .and_then(|count| count.checked_mul(size_of::<Detection>()))
        .and_then(|bytes| bytes.checked_add(HEADER_BYTES))
        .filter(|bytes| *bytes <= slot.len())
        .ok_or_else(|| broken(format!("{count} detections do not fit {} bytes", slot.len())))?;
    bytemuck::try_cast_slice(&slot[HEADER_BYTES..bytes]).map_err(|error| broken(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detections_survive_the_slot_and_hostile_counts_do_not() {
        let one = Detection { class: 1, score: 0.5, x0: 1.0, y0: 2.0, x1: 3.0, y1: 4.0 };
        let mut slot = vec![0u64; 16];
        let slot: &mut [u8] = bytemuck::cast_slice_mut(&mut slot);
        let used = write(slot, &[one, one]).expect("they fit");
        assert_eq!(read(&slot[..used]).expect("they read back"), &[one, one]);
        assert!(write(slot, &[one; 6]).is_err());
        slot[..8].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert!(read(slot).is_err());
        assert!(read(&slot[..4]).is_err());
    }
}
