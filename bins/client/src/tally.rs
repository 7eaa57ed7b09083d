//! Which frames are this push's, and which of them have their results. A stream may bring others' results too, and a result may
//! come before the push that it is of has been answered.

use std::collections::{HashMap, HashSet};

use framepipe_client::Batch;

/// The books of one push.
#[derive(Debug, Default)]
pub struct Tally {
    /// Frames whose results are still out.
    out: HashSet<u64>,
    /// Results that came of frames which are not known (yet): whether each is an error.
    early: HashMap<u64, bool>,
    /// Frames accepted.
    pub pushed: u64,
    /// Those of them that have their results.
    pub done: u64,
    /// Files that got no frame, and frames whose results are errors.
    pub errors: u64,
}

impl Tally {
    /// A batch was accepted.
    pub fn accepted(&mut self, batch: &Batch) {
        for frame in batch.first_frame..batch.first_frame.saturating_add(batch.accepted.into()) {
            self.pushed += 1;
            match self.early.remove(&frame) {
                Some(is_error) => self.count(is_error),
                None => drop(self.out.insert(frame)),
            }
        }
    }

    /// A file became no frame.
    pub fn refused(&mut self) {
        self.errors += 1;
    }

    /// A result came. `is_pushing`: a push may be under way, and it may be of that.
    pub fn received(&mut self, frame: u64, is_error: bool, is_pushing: bool) {
        if self.out.remove(&frame) {
            self.count(is_error);
        } else if is_pushing {
            self.early.insert(frame, is_error);
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
        self.errors += u64::from(is_error);
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
        assert_eq!((tally.pushed, tally.done, tally.errors, tally.left()), (3, 1, 1, 2));
        for frame in [10, 10, 12] {
            tally.received(frame, false, true);
        }
        assert_eq!((tally.done, tally.errors, tally.left()), (3, 1, 0));
    }

    #[test]
    fn results_of_others_are_not_counted_and_not_remembered_for_ever() {
        let mut tally = Tally::default();
        tally.received(7, true, false);
        tally.received(8, true, true);
        tally.answered();
        assert!(tally.early.is_empty());
        tally.accepted(&batch(9, 1));
        assert_eq!((tally.done, tally.errors, tally.left()), (0, 0, 1));
    }
}
