//! Blocks that nobody names any more, given back. The keeper's step, while all others work on; idempotent.
//!
//! In this order: **first** the words are looked at ([`Arena::candidates`]), **then** what frames name (requests and leases),
//! **then** what is named by nobody is freed, if its word is still what it was. Whoever lets frames hold a chain has named it in
//! a job before, so that a word which says HELD is either named by the time that names are looked at, or has been let go.

use std::{
    collections::HashSet,
    sync::atomic::{Ordering, fence},
};

use framepipe_shm::Owner;

use crate::{
    Arena, BlockRef,
    word::{BlockWord, State},
};

/// The blocks that were not free, as they were.
pub struct Candidates(Vec<(usize, BlockWord)>);

impl Candidates {
    /// True where there are none: nothing is to be swept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a sweep gave back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Blocks.
    pub blocks: usize,
}

impl Arena<'_> {
    /// The blocks that may be nobody's: to be asked before anybody is asked what is named.
    pub fn candidates(&self) -> Candidates {
        let blocks = (0..self.blocks()).map(|block| (block, self.word(block)));
        let candidates = Candidates(blocks.filter(|(_, word)| word.state() != State::Free).collect());
        fence(Ordering::SeqCst); // pairs with the one of `Taken::hold`
        candidates
    }

    /// Frees those of the candidates that are held and not `named` (as [`BlockRef::pack`] packs), taken by one of the dead,
    /// or the tail of nothing.
    pub fn sweep(
        &self,
        keeper: Owner,
        Candidates(seen): Candidates,
        named: &HashSet<u64>,
        is_alive: impl Fn(Owner) -> bool,
    ) -> Swept {
        let is_dead = |word: &BlockWord| word.state() == State::Taken && !is_alive(word.owner());
        let is_unnamed = |block: usize, word: &BlockWord| {
            let first = BlockRef { arena: self.kind(), index: block, generation: word.generation() };
            word.state() == State::Held && !named.contains(&first.pack())
        };
        let held: usize = (seen.iter().filter(|(block, word)| is_unnamed(*block, word)))
            .map(|(block, word)| self.free_exactly(keeper, *block, *word))
            .sum();
        // What the dead had may be linked in any order. No link is followed, and none of these blocks is free before all links
        // are cut: another process might make it the tail of its own chain, and the link led there.
        let seize = |(block, word): &(usize, BlockWord)| self.seize(keeper, *block, *word).then_some(*block);
        let mut left: Vec<usize> = seen.iter().filter(|(_, word)| is_dead(word)).filter_map(seize).collect();
        let tails: Vec<_> = seen.into_iter().filter(|(_, word)| word.state() == State::Tail).collect();
        if !tails.is_empty() {
            let reached = self.reached();
            left.extend(tails.iter().filter(|(block, _)| !reached[*block]).filter_map(seize));
        }
        let blocks = held + left.len();
        left.sort_unstable();
        self.give_back(left);
        Swept { blocks }
    }

    /// By block, whether some chain's first block leads to it.
    fn reached(&self) -> Vec<bool> {
        let mut reached = vec![false; self.blocks()];
        for first in 0..self.blocks() {
            if matches!(self.word(first).state(), State::Free | State::Tail) {
                continue;
            }
            let mut next = self.word(first).next();
            while let Some(block) = next.filter(|block| *block < reached.len() && !reached[*block]) {
                reached[block] = true;
                next = self.word(block).next();
            }
        }
        reached
    }
}
