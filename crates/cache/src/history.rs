//! The times at which an entry was referenced. What falls into one correlated-reference period is one reference.

/// The largest K.
pub const K_MAX: usize = 4;

/// HIST and LAST of the paper that `lru_k.rs` names. Time 0 is "never".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct History {
    /// The times of the last uncorrelated references, newest first.
    times: [u64; K_MAX],
    /// The last reference, correlated or not.
    pub last: u64,
}

impl History {
    /// Of an entry that is referenced for the first time.
    pub fn new(now: u64) -> Self {
        let mut times = [0; K_MAX];
        times[0] = now;
        Self { times, last: now }
    }

    /// A reference to an entry that is resident. One of the same period leaves the times as they are; another closes
    /// the period that lies behind, as if it had been a moment: so the times before it move up by its length.
    pub fn refer(&mut self, now: u64, correlated: u64) {
        if now - self.last > correlated {
            let period = self.last - self.times[0];
            self.shift(now, period);
        }
        self.last = now;
    }

    /// A reference that brings an entry back. One of the same period is none of its own: an entry goes within its period
    /// where no other could.
    pub fn come_back(&mut self, now: u64, correlated: u64) {
        if now - self.last > correlated {
            self.shift(now, 0);
        }
        self.last = now;
    }

    fn shift(&mut self, now: u64, period: u64) {
        for i in (1..K_MAX).rev() {
            self.times[i] = if self.times[i - 1] == 0 { 0 } else { self.times[i - 1] + period };
        }
        self.times[0] = now;
    }

    /// The time of the K-th last uncorrelated reference; 0 where there have been fewer.
    pub fn kth(&self, k: usize) -> u64 {
        self.times[k - 1]
    }
}
