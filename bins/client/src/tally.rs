//! Which frames are this push's, and which of them have their results. A stream may bring others' results too, and a result may
//! come before the push that it is of has been answered.
//!
//! Of results whose frames are not known, [`EARLY_MAX`] are remembered, those of the highest numbers: frames are numbered as they are
//! accepted, so that those of the push that is under way are above all that came before it.

use std::collections::{BTreeMap, HashSet};

use framepipe_client::Batch;

/// Results whose frames are not known (yet) that are remembered: more than come between a batch's acceptance and its answer.
const EARLY_MAX: usize = 16 << 10;

/// The books of one push.
#[derive(Debug, Default)]
pub struct Tally {
    /// Frames whose results are still out.
    out: HashSet<u64>,
    /// Results that came of frames which are not known (yet): whether each is an error.
    early: BTreeMap<u64, bool>,
    /// Frames accepted.
    pub pushed: u64,
    /// Those of them that have their results.
    pub done: u64,
    /// Frames whose results are errors.
    pub failed: u64,
    /// Files that got no frame.
    pub refused: u64,
}

impl Tally {
    /// A batch was accepted.
    pub fn accepted(&mut self, batch: &Batch) {
        let end = batch.first_frame.saturating_add(batch.accepted.into());
        for frame in batch.first_frame..end {
            self.pushed += 1;
            match self.early.remove(&frame) {
                Some(is_error) => self.count(is_error),
                None => drop(self.out.insert(frame)),
            }
        }
        self.early = self.early.split_off(&end); // what was accepted before is another's
    }

    /// A file became no frame.
    pub fn refused(&mut self) {
        self.refused += 1;
    }

    /// Files that got no frame, and frames whose results are errors.
    pub fn errors(&self) -> u64 {
        self.failed + self.refused
    }

    /// A result came. `is_pushing`: a push may be under way, and it may be of that.
    pub fn received(&mut self, frame: u64, is_error: bool, is_pushing: bool) {
        if self.out.remove(&frame) {
            self.count(is_error);
        } else if is_pushing {
            self.early.insert(frame, is_error);
            if self.early.len() > EARLY_MAX {
                self.early.pop_first();
            }
        }
    }

    /// No push is under way any more, whose results might have come before.
    pub fn answered(&mut self) {
        self.early.clear();
    }

    /// Frames without a result.
    pub fn left(&self) -> usize {
        self.out.len()
    }

    fn count(&mut self, is_error: bool) {
        self.done += 1;
        self.failed += u64::from(is_error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first_frame: u64, accepted: u32) -> Batch {
        Batch { stream: "s".into(), first_frame, accepted, blob: None }
    }

    #[test]
    fn a_result_counts_once_whether_it_comes_before_its_push_is_answered_or_after() {
        let mut tally = Tally::default();
        tally.received(11, true, true); // before
        tally.accepted(&batch(10, 3));
        assert_eq!((tally.pushed, tally.done, tally.errors(), tally.left()), (3, 1, 1, 2));
        for frame in [10, 10, 12] {
            tally.received(frame, false, true);
        }
        assert_eq!((tally.done, tally.errors(), tally.left()), (3, 1, 0));
    }

    #[test]
    fn results_of_others_are_not_counted_and_not_remembered_for_ever() {
        let mut tally = Tally::default();
        tally.received(7, true, false);
        tally.received(8, true, true);
        tally.answered();
        assert!(tally.early.is_empty());
        tally.accepted(&batch(9, 1));
        assert_eq!((tally.done, tally.errors(), tally.left()), (0, 0, 1));
    }

    #[test]
    fn while_a_push_is_under_way_the_newest_results_of_others_are_remembered_and_no_more() {
        let mut tally = Tally::default();
        let newest = 3 * EARLY_MAX as u64;
        (0..=newest).rev().chain(0..=newest).for_each(|frame| tally.received(frame, false, true));
        assert_eq!(tally.early.len(), EARLY_MAX);
        // The push comes last of all: its frame has the highest number, and its result is there.
        tally.accepted(&batch(newest - 1, 1));
        assert_eq!((tally.done, tally.left()), (1, 0));
        assert_eq!(tally.early.into_keys().collect::<Vec<_>>(), [newest], "what lies behind it may be the next push's");
    }
}
