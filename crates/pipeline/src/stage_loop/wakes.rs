//! Which wake-ups may wait a little. To wake a process takes longer than many a step: a stage that has more to do, and is quick,
//! wakes the next stage once for several frames. What is published is there for all to see meanwhile; a process that dies before it
//! has woken anybody leaves frames whose next stage recovery wakes, as it does after any death.

use std::time::{Duration, Instant};

/// Longest that a wake-up waits, as far as the last batch tells how long the next one takes.
const LATE_MAX: Duration = Duration::from_millis(1);
/// Most bytes of the slots that a batch takes for which wake-ups wait: more take their time, whatever the last batch took.
const BYTES_MAX: usize = 1 << 20;

/// Wake-ups that are owed, by queue.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    /// Frames for the next stage.
    pub onward: u32,
    /// Frames for the gateway.
    pub finished: u32,
    /// When the first of them was published.
    since: Option<Instant>,
}

impl Wakes {
    /// Owes more: a batch was published just now.
    pub fn owe(&mut self, onward: u32, finished: u32, now: Instant) {
        self.onward += onward;
        self.finished += finished;
        self.since.get_or_insert(now);
    }

    /// True where they may wait until another batch is published that takes so long.
    pub fn may_wait_for(&self, took: Duration, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) + took <= LATE_MAX)
    }

    /// The same of a batch that takes slots of so many bytes.
    pub fn may_wait_for_bytes(bytes: usize) -> bool {
        bytes <= BYTES_MAX
    }

    /// What is owed, which is nothing from now on.
    pub fn pay(&mut self) -> Self {
        std::mem::take(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_waits_for_a_quick_batch_and_no_longer() {
        let (mut wakes, start) = (Wakes::default(), Instant::now());
        let part = LATE_MAX / 4;
        assert!(!wakes.may_wait_for(Duration::ZERO, start), "nothing is owed");
        wakes.owe(2, 1, start);
        wakes.owe(1, 0, start + part);
        assert!(wakes.may_wait_for(3 * part, start + part));
        assert!(!wakes.may_wait_for(3 * part + Duration::from_nanos(1), start + part), "it would be late");
        assert!(!wakes.may_wait_for(5 * part, start), "the first one is too long already");
        let owed = wakes.pay();
        assert_eq!((owed.onward, owed.finished), (3, 1));
        assert!(!wakes.may_wait_for(Duration::ZERO, start) && (wakes.onward, wakes.finished) == (0, 0));
        assert!(Wakes::may_wait_for_bytes(416 * 416 * 3) && !Wakes::may_wait_for_bytes(416 * 416 * 3 * 4));
    }
}
