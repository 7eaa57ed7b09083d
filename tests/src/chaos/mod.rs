//! Chaos: a pipeline under load from real clients, whose processes are killed, stopped and restarted and whose clients are
//! disconnected at random from a seed; and a ledger that must come out even at the end.
//!
//! | file | what it holds |
//! |---|---|
//! | `ledger.rs` | what was pushed, and what came back |
//! | `clients.rs` | pushers and readers, some of which are cut off in mid-call |
//! | `strikes.rs` | who is struck next, and how |
//! | `traces.rs` | what a run leaves behind |

mod clients;
mod ledger;
mod strikes;
mod traces;

pub use clients::{Clients, Images};
pub use ledger::{Counts, Image, Ledger};
pub use strikes::{Deaths, LAUNCHER, Striker, Strikes, Target};
pub use traces::{Before, processes_left};

/// Numbers from a seed: xorshift64*, of Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled".
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed, one series for each `purpose`.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut this = Self((seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1));
        for _ in 0..8 {
            this.next();
        }
        this
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
