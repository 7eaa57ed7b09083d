//! How large the parts of the area are. All processes agree on it: it is part of what the segment was made for.

use bytemuck::{Pod, Zeroable};

/// What a block is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(usize)]
pub enum ArenaKind {
    /// Images that clients gave away, in chunks.
    Images = 0,
    /// Tensors, one a block.
    Tensors = 1,
    /// Results, in chunks.
    Results = 2,
}

/// How many arenas there are.
pub const ARENA_COUNT: usize = 3;

impl ArenaKind {
    /// Every arena.
    pub const ALL: [Self; ARENA_COUNT] = [Self::Images, Self::Tensors, Self::Results];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Tensors => "tensors",
            Self::Results => "results",
        }
    }
}

/// What the index names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(usize)]
pub enum Kind {
    /// Facts about a file: its content's key, format and size. They lie in the index itself.
    Metadata = 0,
    /// The tensor of an image by a preprocess graph.
    Tensors = 1,
    /// The result of an image by a pipeline's models.
    Results = 2,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Metadata, Self::Tensors, Self::Results];

    /// Its name in `framepipe cache`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Tensors => "tensors",
            Self::Results => "results",
        }
    }

    /// Where its bytes lie; none where the index holds all of it.
    pub fn arena(self) -> Option<ArenaKind> {
        match self {
            Self::Metadata => None,
            Self::Tensors => Some(ArenaKind::Tensors),
            Self::Results => Some(ArenaKind::Results),
        }
    }

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u64 == number)
    }
}

/// One arena: `blocks` blocks of `block_bytes` bytes; 0 blocks: there is none.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct ArenaGeometry {
    /// Bytes of a block; a multiple of the page.
    pub block_bytes: u64,
    /// How many there are.
    pub blocks: u64,
}

/// The geometry of an area.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Geometry {
    /// By [`ArenaKind`].
    pub arenas: [ArenaGeometry; ARENA_COUNT],
    /// Entries of the index: a power of two of at least 8; 0: there is no index.
    pub entries: u64,
}

pub(crate) const PAGE_BYTES: u64 = 4096;
/// Most blocks of an arena: as many as a word can name.
pub(crate) const BLOCKS_MAX: u64 = (1 << 20) - 1;
const ENTRIES_MAX: u64 = 1 << 24;
const BLOCK_BYTES_MAX: u64 = 1 << 30;

impl ArenaGeometry {
    /// As many blocks of at least `block_bytes` as `bytes` hold.
    pub fn of(bytes: u64, block_bytes: u64) -> Self {
        let block_bytes = block_bytes.max(1).next_multiple_of(PAGE_BYTES);
        Self { block_bytes, blocks: (bytes / block_bytes).min(BLOCKS_MAX) }
    }

    /// Bytes of all blocks.
    pub fn bytes(&self) -> u64 {
        self.block_bytes * self.blocks
    }
}

impl Geometry {
    /// Looks whether the numbers can be.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (kind, arena) in ArenaKind::ALL.iter().zip(&self.arenas).filter(|(_, arena)| arena.blocks > 0) {
            let is_good = arena.blocks <= BLOCKS_MAX
                && arena.block_bytes % PAGE_BYTES == 0
                && (PAGE_BYTES..=BLOCK_BYTES_MAX).contains(&arena.block_bytes);
            if !is_good {
                return Err(format!(
                    "its arena of {} has {} blocks of {}",
                    kind.name(),
                    arena.blocks,
                    arena.block_bytes
                ));
            }
        }
        let is_good = self.entries == 0 || self.entries.is_power_of_two() && (8..=ENTRIES_MAX).contains(&self.entries);
        if is_good { Ok(()) } else { Err(format!("its index has {} entries", self.entries)) }
    }
}
