//! An area of its own for each test: small blocks, chains of one byte each, and a word that forked processes share.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(unsafe_code, reason = "words shared with forked children")]

use std::{
    collections::HashSet,
    fs,
    mem::ManuallyDrop,
    num::NonZeroUsize,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use framepipe_cache::{Area, Arena, ArenaGeometry, ArenaKind, BlockRef, Geometry, Record, Use};
use framepipe_shm::Owner;

/// Bytes of a block.
pub const BLOCK: usize = 4096;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 up to `end`, which is left out.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// An area with one arena, which goes when it is dropped.
pub struct Store {
    pub area: Area,
    kind: ArenaKind,
}

impl Store {
    pub fn new(kind: ArenaKind, blocks: u64, entries: u64) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("framepipe-cache-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = PathBuf::from("/dev/shm").join(name);
        let mut geometry = Geometry { entries, ..Geometry::default() };
        geometry.arenas[kind as usize] = ArenaGeometry { block_bytes: BLOCK as u64, blocks };
        Area::make(&folder, geometry).expect("a small area fits");
        Self { area: Area::open(&folder, Use::ALL).expect("it was made"), kind }
    }

    /// The same in a forked child, which inherits no mapping.
    pub fn in_child(&self) -> ManuallyDrop<Self> {
        let area = Area::open(self.area.folder(), Use::ALL).expect("it was made");
        ManuallyDrop::new(Self { area, kind: self.kind })
    }

    pub fn arena(&self) -> Arena<'_> {
        self.area.arena(self.kind)
    }

    /// Takes and holds a chain all of whose bytes are `byte`; `named` is told its name before.
    pub fn put(&self, owner: Owner, bytes: usize, byte: u8, named: impl FnOnce(u64)) -> Option<BlockRef> {
        let mut taken = self.arena().take(owner, bytes).ok()?;
        // Nothing from the heap: a process that is stepped through takes the same way each time.
        let piece = [byte; 4096];
        for at in (0..bytes).step_by(piece.len()) {
            taken.write_at(at, &piece[..piece.len().min(bytes - at)]).expect("its memory is reserved");
        }
        taken.describe(&record(bytes, byte));
        named(taken.first().pack());
        Some(taken.hold())
    }

    /// True where the chain lives; then it is what [`Self::put`] made.
    pub fn lives(&self, first: BlockRef, bytes: usize, byte: u8, context: &str) -> bool {
        let lives = self.arena().lives(first);
        if lives {
            assert!(self.shows(first, bytes, byte, context), "{context}: {first:?} lives and shows nothing");
            assert_eq!(self.arena().record(first), Some(record(bytes, byte)), "{context}");
        }
        lives
    }

    /// True where the chain shows bytes, which are all `byte` then.
    pub fn shows(&self, first: BlockRef, bytes: usize, byte: u8, context: &str) -> bool {
        let Some(view) = self.arena().view(first, bytes) else { return false };
        let wrong = view.iter().position(|found| *found != byte);
        assert_eq!(wrong, None, "{context}: {first:?} is not all {byte}");
        true
    }

    /// What a keeper does: names are asked for after the words.
    pub fn sweep(
        &self,
        keeper: Owner,
        named: impl FnOnce() -> HashSet<u64>,
        is_alive: impl Fn(Owner) -> bool,
    ) -> usize {
        let candidates = self.arena().candidates();
        self.arena().sweep(keeper, candidates, &named(), is_alive).blocks
    }

    /// Nothing is anybody's, and the arena's file takes no memory.
    pub fn assert_all_free(&self, context: &str) {
        assert_eq!(self.arena().in_use(), 0, "{context}: blocks leak");
        assert_eq!(self.file_blocks(), 0, "{context}: memory was not given back");
    }

    /// 512 bytes each: what the arena's file takes of the tmpfs.
    pub fn file_blocks(&self) -> u64 {
        fs::metadata(self.area.folder().join(self.kind.name())).expect("the arena has a file").blocks()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.area.folder());
    }
}

/// What is known of a chain of `bytes` times `byte`.
pub fn record(bytes: usize, byte: u8) -> Record {
    Record { key: u128::from(byte) << 64 | 1, sum: u128::from(byte) * 3, bytes: bytes as u64 }
}

/// Words that forked processes share.
pub struct Shared {
    start: NonNull<AtomicU64>,
    count: usize,
}

impl Shared {
    pub fn new(count: usize) -> Self {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
        let bytes = NonZeroUsize::new(count * 8).expect("not zero");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new anonymous mapping of zeroes; it is unmapped when this is dropped.
        let start = unsafe { mmap_anonymous(None, bytes, protection, MapFlags::MAP_SHARED) };
        Self { start: start.expect("the pages can be had").cast(), count }
    }

    /// The same words, for a forked child's use.
    pub fn again(&self) -> Self {
        Self { ..*self }
    }
}

impl std::ops::Deref for Shared {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `count` words were mapped, and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length.
        let _ = unsafe { nix::sys::mman::munmap(self.start.cast(), self.count * 8) };
    }
}
