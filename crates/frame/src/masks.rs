//! Objects' masks, behind the detections in their slot: entries one after another, each a [`Mask`] followed by the runs of its
//! pixels, whose lengths take 7 bits a byte, lowest first, the top bit saying that more follow.
//!
//! The pixels go column by column, each from top to bottom: a run of those that are not the object's, which may be empty,
//! then one of those that are, and so on (COCO's RLE). The runs add up to the mask's pixels.

use bytemuck::{Pod, Zeroable};

use crate::RecordError;

/// Head of one detection's mask: the part of the image that it covers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Mask {
    /// Index into the frame's detections.
    pub detection: u32,
    /// First column, source pixels.
    pub x: u32,
    /// First row, source pixels.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes that the runs take.
    pub run_bytes: u32,
}

/// The masks of one frame, in memory that was taken at start.
#[derive(Debug)]
pub struct Masks {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Masks {
    /// Room for `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes_max), bytes_max }
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Their bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends a mask of these runs, whose bytes are counted here. False: there was no room for it.
    pub fn push(&mut self, mask: Mask, runs: &[u32]) -> bool {
        let run_bytes: usize = runs.iter().map(|run| bytes_of(*run)).sum();
        if self.bytes.len() + size_of::<Mask>() + run_bytes > self.bytes_max {
            return false;
        }
        self.bytes.extend_from_slice(bytemuck::bytes_of(&Mask { run_bytes: run_bytes as u32, ..mask }));
        for run in runs {
            let mut run = *run;
            while run >= 0x80 {
                self.bytes.push(run as u8 | 0x80);
                run >>= 7;
            }
            self.bytes.push(run as u8);
        }
        true
    }
}

/// Bytes of a run's length.
fn bytes_of(run: u32) -> usize {
    (32 - (run | 1).leading_zeros()).div_ceil(7) as usize
}

/// Reads the masks in `bytes` in order, each with its runs; the first broken one ends the iteration with its error.
pub fn masks(bytes: &[u8]) -> impl Iterator<Item = Result<(Mask, Vec<u32>), RecordError>> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = read_first(rest);
        rest = read.as_ref().map_or(&[], |(_, _, tail)| tail);
        Some(read.map(|(mask, runs, _)| (mask, runs)))
    })
}

fn read_first(bytes: &[u8]) -> Result<(Mask, Vec<u32>, &[u8]), RecordError> {
    let broken = |what: &str| RecordError::new("masks", what);
    let (head, tail) = bytes.split_at_checked(size_of::<Mask>()).ok_or_else(|| broken("cut inside a mask's head"))?;
    let mask: Mask = bytemuck::pod_read_unaligned(head);
    let (coded, tail) =
        tail.split_at_checked(mask.run_bytes as usize).ok_or_else(|| broken("cut inside a mask's runs"))?;
    let (mut runs, mut sum) = (Vec::new(), 0u64);
    for bytes in coded.split_inclusive(|byte| byte & 0x80 == 0) {
        let is_whole = bytes.len() <= 5 && bytes.last().is_some_and(|last| last & 0x80 == 0);
        let run = bytes.iter().rev().fold(0u64, |run, byte| run << 7 | u64::from(byte & 0x7f));
        let run = u32::try_from(run).ok().filter(|_| is_whole).ok_or_else(|| broken("a run's length is none"))?;
        sum += u64::from(run);
        runs.push(run);
    }
    if sum != u64::from(mask.width) * u64::from(mask.height) {
        return Err(broken(&format!("runs of {sum} pixels make no {}x{}", mask.width, mask.height)));
    }
    Ok((mask, runs, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: Mask = Mask { detection: 3, x: 7, y: 9, width: 65_536, height: 65_535, run_bytes: 0 };

    #[test]
    fn masks_survive_the_slot_and_a_cut_is_an_error() {
        let rest = 65_536 * 65_535 - 127 - 128 - 16_383 - 16_384 - 2_097_151;
        let runs = [0, 127, 128, 16_383, 16_384, 2_097_151, rest];
        let bytes = 24 + 1 + 1 + 2 + 2 + 3 + 3 + 5;
        let small = Mask { detection: 4, width: 2, height: 1, ..MASK };
        let mut all = Masks::new(bytes + 26);
        assert!(all.push(MASK, &runs));
        assert_eq!(all.bytes().len(), bytes);
        assert!(!all.push(MASK, &runs), "there is no room for it");
        assert!(all.push(small, &[1, 1]), "and there is for a smaller one");
        let read: Vec<_> = masks(all.bytes()).collect::<Result<_, _>>().expect("whole");
        let read_small = Mask { run_bytes: 2, ..small };
        assert_eq!(read, [(Mask { run_bytes: 17, ..MASK }, runs.to_vec()), (read_small, vec![1, 1])]);
        for cut in [1, 3, 26 + 1] {
            assert!(masks(&all.bytes()[..all.bytes().len() - cut]).any(|mask| mask.is_err()), "cut by {cut}");
        }
        all.clear();
        assert!(all.bytes().is_empty());
    }

    #[test]
    fn hostile_runs_are_errors() {
        let broken = |width: u32, coded: &[u8]| {
            let head = Mask { detection: 0, x: 0, y: 0, width, height: 1, run_bytes: coded.len() as u32 };
            let bytes = [bytemuck::bytes_of(&head), coded].concat();
            masks(&bytes).next().expect("there is one").is_err()
        };
        assert!(!broken(u32::MAX, &[0xff, 0xff, 0xff, 0xff, 0x0f]));
        assert!(broken(u32::MAX, &[0xff, 0xff, 0xff, 0xff, 0x1f]), "more than a u32");
        assert!(broken(1, &[0x81, 0x80, 0x80, 0x80, 0x80, 0x00]), "six bytes");
        assert!(broken(1, &[0x81]), "more should follow");
        assert!(broken(3, &[1, 1]), "too few pixels");
        assert!(broken(0, &[0xff, 0xff, 0xff, 0xff, 0x0f, 1]), "their sum is no u32");
    }
}
