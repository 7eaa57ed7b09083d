//! The process table's entries: which is whose. They are the same whatever the configuration says, so that processes come and go
//! while frames flow, and a launcher takes over what one with other numbers left.

use std::ops::Range;

use crate::{STAGES, config::PROCESSES_MAX};

/// Entries of one stage and parity: one a process, and one in which the next process gets warm while all others serve.
pub const ENTRIES_EACH: usize = PROCESSES_MAX as usize + 1;
/// The gateway's entry, behind those of both parities' workers.
pub const GATEWAY_ENTRY: usize = 2 * STAGES.len() * ENTRIES_EACH;
/// The keeper's.
pub const KEEPER_ENTRY: usize = GATEWAY_ENTRY + 1;
/// All entries.
pub const ENTRIES: usize = KEEPER_ENTRY + 1;

/// The entries of the workers of a stage, of the generations of this parity.
pub fn entries_of(stage: usize, parity: usize) -> Range<usize> {
    let first = (parity * STAGES.len() + stage) * ENTRIES_EACH;
    first..first + ENTRIES_EACH
}

/// The entries of all workers of the generations of this parity.
pub fn worker_entries(parity: usize) -> Range<usize> {
    entries_of(0, parity).start..entries_of(STAGES.len() - 1, parity).end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_is_one_stages_of_one_parity_the_gateways_or_the_keepers() {
        let stages = (0..2).flat_map(|parity| (0..STAGES.len()).map(move |stage| (stage, parity)));
        let workers: Vec<usize> = stages.flat_map(|(stage, parity)| entries_of(stage, parity)).collect();
        let all: Vec<usize> = workers.iter().copied().chain([GATEWAY_ENTRY, KEEPER_ENTRY]).collect();
        assert_eq!(all, (0..ENTRIES).collect::<Vec<_>>());
        assert_eq!((0..2).flat_map(worker_entries).collect::<Vec<_>>(), workers);
    }
}
