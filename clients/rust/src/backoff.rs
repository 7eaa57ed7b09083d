//! Waiting between attempts: short at first, doubling, never past a deadline.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);

/// The pauses of one series of attempts, which ends `total` after its first failure.
#[derive(Debug)]
pub struct Backoff {
    total: Duration,
    end: Option<Instant>,
    next: Duration,
}

impl Backoff {
    pub fn new(total: Duration) -> Self {
        Self { total, end: None, next: FIRST }
    }

    /// The pauses of attempts that end at this moment.
    pub fn until(end: Instant) -> Self {
        Self { total: Duration::ZERO, end: Some(end), next: FIRST }
    }

    /// An attempt succeeded: the next failure begins a new series.
    pub fn over(&mut self) {
        *self = Self::new(self.total);
    }

    /// How long to wait before the next attempt; `None` if there is no time for one.
    pub fn pause(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let left = self.end.get_or_insert(now + self.total).saturating_duration_since(now);
        if left.is_zero() {
            return None;
        }
        let jitter = (random() >> 32) as f64 / f64::from(u32::MAX);
        let pause = self.next.mul_f64(0.5 + jitter / 2.0);
        self.next = (self.next * 2).min(LONGEST);
        Some(pause.min(left))
    }
}

/// A number that no other call gives: the keys of the standard hash maps are random.
pub fn random() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_with_the_total() {
        let mut backoff = Backoff::new(Duration::from_secs(60));
        let pauses: Vec<_> = (0..10).map(|_| backoff.pause().unwrap()).collect();
        assert!(pauses[0] <= FIRST && pauses[9] > LONGEST / 2 && pauses.iter().all(|p| *p <= LONGEST));
        assert!(Backoff::new(Duration::ZERO).pause().is_none());
        backoff.over();
        assert!(backoff.pause().unwrap() <= FIRST);
    }
}
