//! The attributes slot: entries one after another, each an [`Entry`] followed by its `count` numbers (f32).

use bytemuck::{Pod, Zeroable};

use crate::RecordError;

/// What an entry's numbers mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
    /// Two numbers: the index into the output's labels, and its score, 0 to 1.
    Class = 1,
    /// One number: a quantity in the output's unit.
    Number = 2,
    /// Any count of numbers: an embedding.
    Vector = 3,
    /// Pairs of numbers, best first: an index into the output's labels, [`NOTHING`] where there are no more, and its score.
    Classes = 4,
    /// Triples of numbers: x and y in source pixels, and a score, 0 to 1.
    Keypoints = 5,
    /// A score, 0 to 1, then an index into the output's charset each, [`NOTHING`] where there are no more.
    Text = 6,
}

impl Kind {
    /// The kind of this number.
    pub fn from_number(number: u32) -> Option<Self> {
        let all = [Self::Class, Self::Number, Self::Vector, Self::Classes, Self::Keypoints, Self::Text];
        all.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// What fills an entry up: the count of an output's numbers is always the same.
pub const NOTHING: f32 = -1.0;

/// Head of one attribute of one detection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Entry {
    /// Index into the frame's detections.
    pub detection: u32,
    /// Index into the pipeline's attribute models.
    pub model: u32,
    /// Index into that model's outputs.
    pub output: u32,
    /// A [`Kind`].
    pub kind: u32,
    /// How many f32 follow.
    pub count: u32,
}

/// Bytes of an entry with `count` numbers.
pub const fn entry_bytes(count: usize) -> usize {
    size_of::<Entry>() + count * 4
}

/// Appends an entry at `used` bytes and returns the bytes used after it.
///
/// # Errors
/// When the slot is too small.
pub fn append(slot: &mut [u8], used: usize, entry: Entry, numbers: &[f32]) -> Result<usize, RecordError> {
    debug_assert_eq!(entry.count as usize, numbers.len());
    let end = used + entry_bytes(numbers.len());
    let target = slot
        .get_mut(used..end)
        .ok_or_else(|| RecordError::new("attributes", format!("the slot is too small for {end} bytes")))?;
    target[..size_of::<Entry>()].copy_from_slice(bytemuck::bytes_of(&entry));
    target[size_of::<Entry>()..].copy_from_slice(bytemuck::cast_slice(numbers));
    Ok(end)
}

/// Reads the entries of `bytes` in order; the first broken one ends the iteration with its error.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = Result<(Entry, Vec<f32>), RecordError>> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = read_first(rest);
        rest = read.as_ref().map_or(&[], |(_, _, tail)| tail);
        Some(read.map(|(entry, numbers, _)| (entry, numbers)))
    })
}

fn read_first(bytes: &[u8]) -> Result<(Entry, Vec<f32>, &[u8]), RecordError> {
    let broken = |what: &str| RecordError::new("attributes", what);
    let (head, tail) =
        bytes.split_at_checked(size_of::<Entry>()).ok_or_else(|| broken("cut inside an entry's head"))?;
    let entry: Entry = bytemuck::pod_read_unaligned(head);
    let length = (entry.count as usize).checked_mul(4).ok_or_else(|| broken("its count overflows"))?;
    let (numbers, tail) = tail.split_at_checked(length).ok_or_else(|| broken("cut inside an entry's numbers"))?;
    Ok((entry, numbers.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect(), tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_the_slot_and_a_cut_is_an_error() {
        let entry = |count| Entry { detection: 3, model: 1, output: 0, kind: Kind::Vector as u32, count };
        let mut slot = vec![0u8; 256];
        let used = append(&mut slot, 0, entry(2), &[1.0, 2.0]).expect("fits");
        let used = append(&mut slot, used, entry(3), &[3.0, 4.0, 5.0]).expect("fits");
        let read: Vec<_> = entries(&slot[..used]).collect::<Result<_, _>>().expect("whole");
        assert_eq!(read, [(entry(2), vec![1.0, 2.0]), (entry(3), vec![3.0, 4.0, 5.0])]);
        assert!(entries(&slot[..used - 1]).last().expect("two entries").is_err());
        assert!(append(&mut slot[..20], 0, entry(3), &[0.0; 3]).is_err());
    }
}
