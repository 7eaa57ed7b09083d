//! A block's word: all that must change at once.

use framepipe_shm::Owner;

use crate::{ARENA_COUNT, ArenaKind};

/// Where a block stands in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    /// Nobody's; it takes no memory.
    Free = 0,
    /// A process writes it, or gives its memory back.
    Taken = 1,
    /// The first block of a chain that a frame's request, or its lease, names.
    Held = 2,
    /// Not the first one of a chain.
    Tail = 3,
    /// The first block of a chain that the index names; frames may too.
    Cached = 4,
    /// Held, and being moved to disk by the keeper.
    Moving = 5,
}

impl State {
    /// True of the first block of a chain that frames hold or the index has.
    pub fn lives(self) -> bool {
        matches!(self, Self::Held | Self::Cached)
    }

    /// True where its bytes are there, whether or not they are about to go.
    pub fn is_readable(self) -> bool {
        self.lives() || self == Self::Moving
    }
}

/// `generation:24 | owner:16 | next:20 | state:4`. The generation grows whenever the block is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockWord(pub u64);

impl BlockWord {
    pub fn state(self) -> State {
        match self.0 & 15 {
            1 => State::Taken,
            2 => State::Held,
            3 => State::Tail,
            4 => State::Cached,
            5 => State::Moving,
            _ => State::Free,
        }
    }

    /// The block behind it in its chain.
    pub fn next(self) -> Option<usize> {
        ((self.0 >> 4 & 0xf_ffff) as usize).checked_sub(1)
    }

    /// Who has taken it.
    pub fn owner(self) -> Owner {
        (self.0 >> 24) as Owner
    }

    pub fn generation(self) -> u32 {
        (self.0 >> 40) as u32
    }

    /// → TAKEN: another life.
    pub fn taken(self, owner: Owner) -> Self {
        let generation = u64::from(self.generation().wrapping_add(1) & 0xff_ffff);
        Self(generation << 40 | u64::from(owner) << 24 | self.0 & 0xf_ffff << 4 | State::Taken as u64)
    }

    /// The same with another one behind it.
    pub fn followed_by(self, next: Option<usize>) -> Self {
        let next = next.map_or(0, |next| next as u64 + 1);
        Self(self.0 & !(0xf_ffff << 4) | next << 4)
    }

    /// The same in another state, which is no process's.
    pub fn as_state(self, state: State) -> Self {
        Self(self.0 & !(0xffff << 24 | 15) | state as u64)
    }

    /// → FREE.
    pub fn freed(self) -> Self {
        self.followed_by(None).as_state(State::Free)
    }
}

/// The first block of a chain, in one of its lives; as a word `generation:24 << 32 | arena:4 << 28 | index + 1`, never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BlockRef {
    pub(crate) arena: ArenaKind,
    pub(crate) index: usize,
    pub(crate) generation: u32,
}

impl BlockRef {
    /// As a word.
    pub fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | (self.arena as u64) << 28 | (self.index as u64 + 1)
    }

    /// Of a word; `None` for 0, and for what no pack made.
    pub fn unpack(word: u64) -> Option<Self> {
        let arena = (word >> 28 & 15) as usize;
        let index = ((word & 0xfff_ffff) as usize).checked_sub(1)?;
        let generation = (word >> 32) as u32;
        (arena < ARENA_COUNT && generation <= 0xff_ffff).then(|| Self {
            arena: ArenaKind::ALL[arena],
            index,
            generation,
        })
    }

    /// Which arena it lies in.
    pub fn arena(self) -> ArenaKind {
        self.arena
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_word_keeps_its_fields_apart() {
        let word = BlockWord(0).taken(0xabcd).followed_by(Some(0xf_fffe));
        assert_eq!(
            (word.state(), word.owner(), word.next(), word.generation()),
            (State::Taken, 0xabcd, Some(0xf_fffe), 1)
        );
        let held = word.as_state(State::Held);
        assert_eq!((held.state(), held.owner(), held.next(), held.generation()), (State::Held, 0, Some(0xf_fffe), 1));
        let again = held.taken(7);
        assert_eq!((again.next(), again.generation()), (Some(0xf_fffe), 2), "who frees a chain follows it");
        assert_eq!(again.freed(), BlockWord(2 << 40));
        let last = BlockWord(u64::MAX << 40).taken(1);
        assert_eq!((last.generation(), last.owner()), (0, 1), "the generation wraps around");
    }

    #[test]
    fn a_reference_survives_its_word() {
        let block = BlockRef { arena: ArenaKind::Results, index: 0xf_fffe, generation: 0xff_ffff };
        assert_eq!(BlockRef::unpack(block.pack()), Some(block));
        assert_eq!(BlockRef::unpack(0), None);
        assert_eq!(BlockRef::unpack(15 << 28 | 1), None);
        assert_eq!(BlockRef::unpack(u64::MAX), None);
    }
}
