//! What a process maps of a segment: no more than it uses. A mapping's teardown delays the notice of its process's death,
//! and what a process may not write it cannot scribble over.

use crate::geometry::POOL_COUNT_MAX;

/// What a process maps beside the control file, which all map to be written.
#[derive(Clone, Copy, Debug)]
pub enum Access {
    /// Everything, to be written: the launcher.
    All,
    /// The requests to be read, and pools.
    Stage {
        /// Bits of the pools to be read.
        reads: u32,
        /// Bits of the pools to be written.
        writes: u32,
    },
    /// The requests and keys to be written, and pools to be read.
    Gateway {
        /// Bits of the pools to be read.
        reads: u32,
    },
}

/// The bits of these pools.
pub fn pool_bits(pools: impl IntoIterator<Item = usize>) -> u32 {
    pools.into_iter().fold(0, |bits, pool| bits | 1 << pool)
}

fn has(bits: u32, pool: usize) -> bool {
    pool < POOL_COUNT_MAX && bits >> pool & 1 == 1
}

impl Access {
    pub(crate) fn reads(self, pool: usize) -> bool {
        match self {
            Self::All => true,
            Self::Stage { reads, .. } | Self::Gateway { reads } => has(reads, pool),
        }
    }

    pub(crate) fn writes(self, pool: usize) -> bool {
        match self {
            Self::All => true,
            Self::Stage { writes, .. } => has(writes, pool),
            Self::Gateway { .. } => false,
        }
    }

    /// True for who takes frames in: requests and keys are his to write.
    pub(crate) fn admits(self) -> bool {
        matches!(self, Self::All | Self::Gateway { .. })
    }
}
