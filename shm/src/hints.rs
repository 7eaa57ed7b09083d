//! Which slots of a class may be free: a bit each, in shared memory, taken lowest first by several processes, any of which may be killed
//! at any instruction. Slots that were free the longest would be taken with a queue, and bytes written to memory that no cache
//! holds; so a class is used from its start on, no further than frames in flight need, and again while the caches hold it.
//!
//! A bit is a hint, as a ring's are: one that is lost with a dying process is set again by recovery, and one that is stale is dropped by
//! whoever takes it, because the slot word's compare-and-swap fails.

use crate::sync::{AtomicU64, Ordering};

/// A view of the bits, wherever they lie. All zeroes hold no hint.
#[derive(Clone, Copy)]
pub struct HintSet<'a>(&'a [AtomicU64]);

impl<'a> HintSet<'a> {
    /// Words for so many hints.
    pub const fn words(hints: u64) -> u64 {
        hints.div_ceil(u64::BITS as u64)
    }

    /// The bits in these words, 64 hints each.
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self(words)
    }

    /// Adds a hint; nothing where there are no words for it.
    pub fn add(&self, hint: u32) {
        if let Some(word) = self.0.get((hint / u64::BITS) as usize) {
            word.fetch_or(1 << (hint % u64::BITS), Ordering::AcqRel);
        }
    }

    /// Takes the lowest hint; `None` when there was none in any word, each at its moment.
    pub fn take(&self) -> Option<u32> {
        self.0.iter().zip((0..).step_by(u64::BITS as usize)).find_map(|(word, first)| {
            let mut seen = word.load(Ordering::Acquire);
            while seen != 0 {
                let lowest = seen & seen.wrapping_neg();
                seen = word.fetch_and(!lowest, Ordering::AcqRel);
                if seen & lowest != 0 {
                    return Some(first + lowest.trailing_zeros());
                } // else another process took it first
            }
            None
        })
    }

    /// True while it holds a hint.
    pub fn contains(&self, hint: u32) -> bool {
        let word = self.0.get((hint / u64::BITS) as usize);
        word.is_some_and(|word| word.load(Ordering::Acquire) >> (hint % u64::BITS) & 1 == 1)
    }

    /// True when a take would find nothing, each word at its moment.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| word.load(Ordering::Acquire) == 0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::iter;

    use super::*;

    #[test]
    fn the_lowest_comes_first_and_each_once() {
        let words: [AtomicU64; 3] = Default::default();
        let hints = HintSet::new(&words);
        assert!(hints.is_empty() && hints.take().is_none());
        [191, 64, 0, 63, 64].into_iter().for_each(|hint| hints.add(hint));
        hints.add(192); // there is no word for it
        assert!(hints.contains(191) && !hints.contains(1) && !hints.contains(192) && !hints.is_empty());
        assert_eq!(iter::from_fn(|| hints.take()).collect::<Vec<_>>(), [0, 63, 64, 191]);
        assert!(hints.is_empty());
        assert_eq!([0, 1, 64, 65, 1 << 20].map(HintSet::words), [0, 1, 1, 2, 1 << 14]);
    }
}
