//! Blocks of one size in a sparse file: taken free, reserved, written, held by frames or cached by the index, and freed, which
//! gives their memory back at once. What is larger than a block is a chain of them: in a row in the file where there is such a
//! row, and mapped in a row where there is none.
//!
//! Killed anywhere, a process leaves blocks that are TAKEN by a dead owner, HELD by nobody, or TAIL of no chain: `sweep.rs`
//! finds them.

use std::{
    io,
    ops::Deref,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicU64, Ordering},
};

use framepipe_shm::Owner;
use rustix::fs::{FallocateFlags, fallocate};

use crate::{
    Area, ArenaKind, BlockRef, Digest,
    digest::{halves, whole},
    row::Row,
    word::{BlockWord, State},
};

/// Bytes that are copied at once.
const PIECE_BYTES: usize = 1 << 20;

/// What is known of a chain, beside its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// The key by which the index may name it; 0: it shall not.
    pub key: Digest,
    /// Checksum of its bytes.
    pub sum: Digest,
    /// How many they are.
    pub bytes: u64,
}

/// A record as it lies in the area.
#[repr(C)]
pub(crate) struct RecordWords([AtomicU64; 8]);

impl RecordWords {
    fn store(&self, record: &Record) {
        let ([k0, k1], [s0, s1]) = (halves(record.key), halves(record.sum));
        for (word, value) in self.0.iter().zip([k0, k1, s0, s1, record.bytes]) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn load(&self) -> Record {
        let [k0, k1, s0, s1, bytes] = [0, 1, 2, 3, 4].map(|word: usize| self.0[word].load(Ordering::Relaxed));
        Record { key: whole([k0, k1]), sum: whole([s0, s1]), bytes }
    }
}

/// Why no blocks could be taken.
#[derive(Debug, thiserror::Error)]
pub enum Shortage {
    /// Too few of them are free.
    #[error("{needed} blocks of {block_bytes} bytes are not free in the arena of {}", .arena.name())]
    Full {
        /// Which arena.
        arena: ArenaKind,
        /// Blocks that were needed.
        needed: usize,
        /// Bytes of each.
        block_bytes: u64,
    },
    /// The tmpfs, or the cgroup, has no memory for them.
    #[error("the tmpfs has no memory for another block: {0}")]
    Memory(io::Error),
}

/// A view of one arena.
#[derive(Clone, Copy)]
pub struct Arena<'a> {
    area: &'a Area,
    kind: ArenaKind,
}

/// Blocks in a chain that this process has taken and writes; dropped otherwise than by [`Taken::hold`], they are free again.
#[must_use = "dropped, the blocks are free again"]
pub struct Taken<'a> {
    arena: Arena<'a>,
    owner: Owner,
    first: BlockRef,
    blocks: Vec<usize>,
    bytes: usize,
}

/// A chain's bytes, to be read as long as something names it.
pub enum View<'a> {
    /// They lie in a row in the file.
    Mapped(&'a [u8]),
    /// They were mapped in a row.
    Row(Row),
}

impl Deref for View<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Row(row) => row,
        }
    }
}

/// Blocks that follow one another in the file: the first one, and how many.
pub(crate) type Run = (usize, usize);

impl<'a> Arena<'a> {
    pub(crate) fn new(area: &'a Area, kind: ArenaKind) -> Self {
        Self { area, kind }
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> usize {
        self.area.geometry().arenas[self.kind as usize].block_bytes as usize
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> usize {
        self.area.geometry().arenas[self.kind as usize].blocks as usize
    }

    /// Bytes of the blocks that are not free.
    pub fn bytes_in_use(&self) -> u64 {
        (self.in_use() * self.block_bytes()) as u64
    }

    /// How many blocks are not free.
    pub fn in_use(&self) -> usize {
        (0..self.blocks()).filter(|block| self.word(*block).state() != State::Free).count()
    }

    pub(crate) fn kind(&self) -> ArenaKind {
        self.kind
    }

    pub(crate) fn words(&self) -> &'a [AtomicU64] {
        self.area.words(self.kind)
    }

    pub(crate) fn word(&self, block: usize) -> BlockWord {
        BlockWord(self.words()[block].load(Ordering::Acquire))
    }

    pub(crate) fn swap(&self, block: usize, from: BlockWord, to: BlockWord) -> bool {
        self.words()[block].compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Acquire).is_ok()
    }

    /// Writes the word of a block that this process has taken, which nobody else changes.
    fn set(&self, block: usize, word: BlockWord) {
        self.words()[block].store(word.0, Ordering::Release);
    }

    /// Takes blocks for `bytes` bytes and reserves their memory: in a row, if there is one.
    ///
    /// # Errors
    /// [`Shortage`]; then nothing is taken.
    ///
    /// # Panics
    /// Where this process has not mapped the arena to be written.
    pub fn take(&self, owner: Owner, bytes: usize) -> Result<Taken<'a>, Shortage> {
        let needed = bytes.div_ceil(self.block_bytes().max(1)).max(1);
        let full = || Shortage::Full { arena: self.kind, needed, block_bytes: self.block_bytes() as u64 };
        if needed > self.blocks() {
            return Err(full());
        }
        let blocks = self.take_row(owner, needed).or_else(|| self.take_any(owner, needed)).ok_or_else(full)?;
        for (place, block) in blocks.iter().enumerate() {
            self.set(*block, self.word(*block).followed_by(blocks.get(place + 1).copied()));
        }
        let first = BlockRef { arena: self.kind, index: blocks[0], generation: self.word(blocks[0]).generation() };
        self.area.hints[self.kind as usize].store(blocks[needed - 1] + 1, Ordering::Relaxed);
        let taken = Taken { arena: *self, owner, first, blocks, bytes };
        for run in runs(taken.blocks.iter().copied()) {
            self.allocate(run, FallocateFlags::empty()).map_err(Shortage::Memory)?; // dropped, `taken` frees its blocks
        }
        Ok(taken)
    }

    fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let blocks = self.blocks();
        let start = self.area.hints[self.kind as usize].load(Ordering::Relaxed) % blocks.max(1);
        (start..blocks).chain(0..start)
    }

    fn take_row(&self, owner: Owner, needed: usize) -> Option<Vec<usize>> {
        let (mut first, mut length) = (0, 0);
        for block in self.order() {
            let follows = length > 0 && block == first + length;
            (first, length) = match self.word(block).state() == State::Free {
                true if follows => (first, length + 1),
                true => (block, 1),
                false => (0, 0),
            };
            if length == needed {
                let taken: Vec<usize> =
                    (first..first + needed).take_while(|block| self.take_one(owner, *block)).collect();
                if taken.len() == needed {
                    return Some(taken);
                }
                taken.into_iter().for_each(|block| self.set(block, self.word(block).freed()));
                length = 0; // another process takes them too: look on
            }
        }
        None
    }

    fn take_any(&self, owner: Owner, needed: usize) -> Option<Vec<usize>> {
        let taken: Vec<usize> = self.order().filter(|block| self.take_one(owner, *block)).take(needed).collect();
        if taken.len() == needed {
            return Some(taken);
        }
        taken.into_iter().for_each(|block| self.set(block, self.word(block).freed()));
        None
    }

    fn take_one(&self, owner: Owner, block: usize) -> bool {
        let seen = self.word(block);
        seen.state() == State::Free && self.swap(block, seen, seen.taken(owner).followed_by(None))
    }

    /// Reserves the memory of a run, or gives it back.
    fn allocate(&self, (first, count): Run, flags: FallocateFlags) -> io::Result<()> {
        let file = &self.area.file(self.kind).expect("who takes or frees blocks maps the arena to be written").file;
        let block_bytes = self.block_bytes() as u64;
        loop {
            match fallocate(file, flags, first as u64 * block_bytes, count as u64 * block_bytes) {
                Err(rustix::io::Errno::INTR) => {}
                other => return other.map_err(Into::into),
            }
        }
    }

    fn punch(&self, run: Run) {
        // What cannot be given back stays reserved, which costs memory and nothing else.
        let _ = self.allocate(run, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE);
    }

    fn memory(&self, (first, count): Run) -> Option<std::ptr::NonNull<u8>> {
        let block_bytes = self.block_bytes();
        Some(self.area.file(self.kind)?.memory.at(first * block_bytes, count * block_bytes))
    }

    /// The word of a block in the life that the reference names, which may come from another process; `None` where that is over,
    /// or never was: another arena's, or no block's.
    fn in_life(&self, first: BlockRef) -> Option<BlockWord> {
        let is_ours = first.arena == self.kind && first.index < self.blocks();
        is_ours.then(|| self.word(first.index)).filter(|word| word.generation() == first.generation)
    }

    /// True while the chain may be read: frames hold it, or the index has it, in this life.
    pub fn lives(&self, first: BlockRef) -> bool {
        self.in_life(first).is_some_and(|word| word.state().lives())
    }

    /// What is known of a chain that lives, whose first block this is; `None` where it does not.
    pub fn record(&self, first: BlockRef) -> Option<Record> {
        if !self.lives(first) {
            return None;
        }
        let record = self.area.records(self.kind)[first.index].load();
        std::sync::atomic::fence(Ordering::Acquire); // pairs with the one of `Taken::describe`
        self.lives(first).then_some(record)
    }

    /// The bytes of a chain that the caller's job names, in its request or a lease; `None` where it does not live. One that is
    /// being moved stays, where the caller found it here after it had claimed the job: the keeper sees that, and leaves it.
    pub fn view(&self, first: BlockRef, bytes: usize) -> Option<View<'a>> {
        let chain = self.chain(first, bytes, State::is_readable)?;
        let runs: Vec<Run> = runs(chain.into_iter()).collect();
        if let [run] = runs.as_slice() {
            let start = self.memory(*run)?;
            // SAFETY: in bounds (`at` checked). What a job names is not written, moved or freed while it does.
            return Some(View::Mapped(unsafe { std::slice::from_raw_parts(start.as_ptr(), bytes) }));
        }
        let file = &self.area.file(self.kind)?.file;
        Row::map(file, self.block_bytes(), &runs, bytes).ok().map(View::Row)
    }

    /// Copies the bytes of a chain, of which the caller need not know that it stays, and gives them to `take` piece by piece:
    /// what was freed meanwhile is read as whatever lies there, and takes no memory. True where the chain lived to the end.
    ///
    /// # Errors
    /// What the file, or `take`, says.
    pub fn copy(
        &self,
        first: BlockRef,
        bytes: usize,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        let (Some(chain), Some(arena)) = (self.chain(first, bytes, State::lives), self.area.file(self.kind)) else {
            return Ok(false);
        };
        let (mut left, mut piece) = (bytes, vec![0; bytes.min(PIECE_BYTES)]);
        for (first, count) in runs(chain.into_iter()) {
            let (mut at, end) = (first * self.block_bytes(), (first + count) * self.block_bytes());
            while at < end && left > 0 {
                let length = left.min(end - at).min(PIECE_BYTES);
                arena.file.read_exact_at(&mut piece[..length], at as u64)?;
                take(&piece[..length])?;
                (at, left) = (at + length, left - length);
            }
        }
        std::sync::atomic::fence(Ordering::Acquire);
        Ok(self.lives(first))
    }

    /// The blocks of a chain, as many as `bytes` take, while its first one is in a state that `is_good`.
    pub(crate) fn chain(&self, first: BlockRef, bytes: usize, is_good: impl Fn(State) -> bool) -> Option<Vec<usize>> {
        let is_good = || self.in_life(first).is_some_and(|word| is_good(word.state()));
        if !is_good() {
            return None;
        }
        let count = bytes.div_ceil(self.block_bytes()).max(1);
        if count > self.blocks() {
            return None;
        }
        let mut chain = vec![first.index];
        while chain.len() < count {
            let next = self.word(*chain.last().expect("it has its first")).next()?;
            if next >= self.blocks() || self.word(next).state() != State::Tail {
                return None;
            }
            chain.push(next);
        }
        is_good().then_some(chain)
    }

    /// Frees a chain that frames held, if it still is in this life; who comes second does nothing. The caller's job does not
    /// need it any more.
    pub fn free(&self, owner: Owner, first: BlockRef) -> bool {
        self.free_from(owner, first, State::Held)
    }

    fn free_from(&self, owner: Owner, first: BlockRef, from: State) -> bool {
        let seen = self.in_life(first).filter(|word| word.state() == from);
        seen.is_some_and(|seen| self.free_exactly(owner, first.index, seen) > 0)
    }

    /// Frees the chain behind a word that was HELD or MOVING, if it is that still. Returns how many blocks.
    pub(crate) fn free_exactly(&self, owner: Owner, block: usize, seen: BlockWord) -> usize {
        // TAKEN first: nobody else takes the block before its memory is given back. It keeps its successor, so that the tails
        // are still reached until they are taken too.
        if !self.swap(block, seen, seen.taken(owner)) {
            return 0;
        }
        let mut chain = vec![block];
        let mut next = seen.next();
        while let Some(block) = next.filter(|block| *block < self.blocks() && chain.len() < self.blocks()) {
            let word = self.word(block);
            if word.state() != State::Tail || !self.swap(block, word, word.taken(owner)) {
                break;
            }
            chain.push(block);
            next = word.next();
        }
        let count = chain.len();
        self.give_back(chain);
        count
    }

    /// Takes a block that is nobody's from its chain, if its word still is what it was.
    pub(crate) fn seize(&self, keeper: Owner, block: usize, seen: BlockWord) -> bool {
        self.swap(block, seen, seen.taken(keeper).followed_by(None))
    }

    /// Frees blocks that this process has taken. If it dies, some of them are free while others still lead to them: a sweep
    /// follows no link of the dead.
    pub(crate) fn give_back(&self, blocks: Vec<usize>) {
        runs(blocks.iter().copied()).for_each(|run| self.punch(run));
        blocks.iter().for_each(|block| self.set(*block, self.word(*block).freed()));
    }

    /// The keeper: a held chain becomes the index's; frames may hold it still.
    pub fn adopt(&self, first: BlockRef) -> bool {
        self.change(first, State::Held, State::Cached)
    }

    /// The keeper: the index does not name it any more; the sweep frees it when no frame does.
    pub fn disown(&self, first: BlockRef) -> bool {
        self.change(first, State::Cached, State::Held)
    }

    /// The keeper: a held chain is about to be freed, as its bytes lie on disk by now. Who reads the word from here on looks
    /// there. Look afterwards whether the frame still waits.
    pub fn begin_move(&self, first: BlockRef) -> bool {
        self.change(first, State::Held, State::Moving)
    }

    /// The keeper: the frame has come to its turn meanwhile, and the chain stays.
    pub fn abandon_move(&self, first: BlockRef) -> bool {
        self.change(first, State::Moving, State::Held)
    }

    /// The keeper: its bytes lie on disk, and nobody reads them here.
    pub fn end_move(&self, owner: Owner, first: BlockRef) -> bool {
        self.free_from(owner, first, State::Moving)
    }

    fn change(&self, first: BlockRef, from: State, to: State) -> bool {
        let seen = self.in_life(first).filter(|word| word.state() == from);
        seen.is_some_and(|seen| self.swap(first.index, seen, seen.as_state(to)))
    }

    /// Every chain that the index may name: the keeper's, to build it anew.
    pub fn cached(&self) -> impl Iterator<Item = (BlockRef, Record)> + '_ {
        (0..self.blocks()).filter_map(|index| {
            let word = self.word(index);
            let first = BlockRef { arena: self.kind, index, generation: word.generation() };
            (word.state() == State::Cached).then(|| (first, self.area.records(self.kind)[index].load()))
        })
    }

    /// Chains that a keeper which died was moving: they stay, and their frames find them again.
    pub fn settle_moves(&self) -> usize {
        let moving = (0..self.blocks()).filter(|block| {
            let seen = self.word(*block);
            seen.state() == State::Moving && self.swap(*block, seen, seen.as_state(State::Held))
        });
        moving.count()
    }
}

impl Taken<'_> {
    /// Names the chain: to be written where a job names it, before it is held.
    pub fn first(&self) -> BlockRef {
        self.first
    }

    /// Writes the bytes from `at` on: by a system call, as no page is cleared or mapped before, which in a mapping takes two and
    /// a half times as long.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Panics
    /// Where they do not lie in the chain.
    pub fn write_at(&mut self, at: usize, mut bytes: &[u8]) -> io::Result<()> {
        assert!(bytes.len() <= self.bytes.saturating_sub(at), "{} bytes at {at} of {}", bytes.len(), self.bytes);
        let file = &self.arena.area.file(self.arena.kind).expect("who takes blocks maps the arena").file;
        let block_bytes = self.arena.block_bytes();
        let mut skip = at;
        for (first, count) in runs(self.blocks.iter().copied()) {
            let room = (count * block_bytes).saturating_sub(skip);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if !now.is_empty() {
                file.write_all_at(now, (first * block_bytes + skip) as u64)?;
            }
            (bytes, skip) = (later, skip.saturating_sub(count * block_bytes));
        }
        Ok(())
    }

    /// Says what is known of the chain.
    pub fn describe(&self, record: &Record) {
        // Pairs with the one of `Arena::record`: whoever reads some of this sees that the block has another life.
        std::sync::atomic::fence(Ordering::Release);
        self.arena.area.records(self.arena.kind)[self.first.index].store(record);
    }

    /// Lets frames hold it: a job names it by now, in its request or a lease, or the next sweep frees it.
    pub fn hold(mut self) -> BlockRef {
        let blocks = std::mem::take(&mut self.blocks);
        for block in blocks[1..].iter().rev() {
            self.arena.set(*block, self.arena.word(*block).as_state(State::Tail));
        }
        // Pairs with the sweep's fence between its look at the words and that at the jobs.
        std::sync::atomic::fence(Ordering::SeqCst);
        self.arena.set(blocks[0], self.arena.word(blocks[0]).as_state(State::Held));
        self.first
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        debug_assert!(self.blocks.iter().all(|block| self.arena.word(*block).owner() == self.owner));
        self.arena.give_back(std::mem::take(&mut self.blocks));
    }
}

/// Blocks that follow one another, put together.
pub(crate) fn runs(blocks: impl Iterator<Item = usize>) -> impl Iterator<Item = Run> {
    let mut blocks = blocks.peekable();
    std::iter::from_fn(move || {
        let first = blocks.next()?;
        let mut count = 1;
        while blocks.next_if_eq(&(first + count)).is_some() {
            count += 1;
        }
        Some((first, count))
    })
}
