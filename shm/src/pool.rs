//! Slot pools: where frames' bytes lie. A pool belongs to one writing stage and has size classes; a slot belongs to a
//! job, and lives if and only if the current bank of its job lists it, or a live worker that has claimed the job took
//! it to write into.

use crate::{
    event::Event,
    geometry::{CLASS_COUNT_MAX, POOL_COUNT_MAX},
    hints::HintSet,
    segment::Segment,
    sync::{AtomicU64, Ordering},
    word::{Owner, SlotWord},
};

/// One slot in one of its lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotRef {
    /// The pool's number.
    pub pool: usize,
    /// The class's number.
    pub class: usize,
    /// The slot's number in its class.
    pub index: usize,
    /// The slot word's generation in that life; odd, as a slot's first life is 1 and each taking and freeing adds 1.
    pub generation: u32,
}

impl SlotRef {
    /// `generation:31 | index:20 | class:4 | pool:4 | 1`; never 0.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.generation) << 33
            | (self.index as u64) << 13
            | (self.class as u64) << 5
            | (self.pool as u64) << 1
            | 1
    }

    /// The slot of these bits; `None` for 0 and for what no pack made.
    pub(crate) fn unpack(bits: u64) -> Option<Self> {
        let slot = Self {
            pool: (bits >> 1 & 15) as usize,
            class: (bits >> 5 & 15) as usize,
            index: (bits >> 13 & 0xf_ffff) as usize,
            generation: (bits >> 33) as u32,
        };
        (bits & 1 == 1 && slot.pool < POOL_COUNT_MAX && slot.class < CLASS_COUNT_MAX).then_some(slot)
    }
}

/// Where a slot lies in its pool's slab or file: for who reaches it by other means than this process's mapping, as a GPU does.
/// Checked against the geometry, whatever another process wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The pool.
    pub pool: usize,
    /// Bytes from the slab's start to the slot's; a multiple of the page.
    pub offset: usize,
    /// Bytes of the slot.
    pub slot_bytes: usize,
    /// Bytes of it in use, from its start on; of an output, as far as its writer has said.
    pub used: usize,
}

/// A view of one size class.
#[derive(Clone, Copy)]
pub(crate) struct Class<'s> {
    words: &'s [AtomicU64],
    free: HintSet<'s>,
    pool: usize,
    class: usize,
    /// Bytes of a slot.
    pub slot_bytes: usize,
}

impl<'s> Class<'s> {
    /// The class; `None` where the geometry has none.
    pub fn new(segment: &'s Segment, pool: usize, class: usize) -> Option<Self> {
        let place = segment.layout().pools[pool].classes[class];
        if place.slots == 0 {
            return None;
        }
        // SAFETY: the layout places the class's slot words and the words of its hints, atomics, there.
        let (words, free) = unsafe {
            let hints = HintSet::words(place.slots as u64) as usize;
            (segment.control().table(place.words, place.slots), segment.control().table(place.free, hints))
        };
        Some(Self { words, free: HintSet::new(free), pool, class, slot_bytes: place.slot_bytes })
    }

    fn word(&self, index: usize) -> SlotWord {
        SlotWord(self.words[index].load(Ordering::Acquire))
    }

    fn swap(&self, index: usize, from: SlotWord, to: SlotWord) -> bool {
        self.words[index].compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes a free slot for a job.
    pub fn take(&self, owner: Owner, job: u32) -> Option<SlotRef> {
        while let Some(hint) = self.free.take() {
            let index = hint as usize;
            if index >= self.words.len() {
                continue; // no hint of ours: drop it
            }
            let seen = self.word(index);
            let taken = seen.taken(owner, job);
            if !seen.is_used() && self.swap(index, seen, taken) {
                return Some(SlotRef { pool: self.pool, class: self.class, index, generation: taken.generation() });
            } // else a stale hint: drop it
        }
        None
    }

    /// Frees a slot if it still is in this life; whoever comes second does nothing.
    pub fn free(&self, slot: SlotRef) {
        let Some(word) = self.words.get(slot.index) else { return };
        let seen = SlotWord(word.load(Ordering::Acquire));
        if seen.is_used() && seen.generation() == slot.generation && self.swap(slot.index, seen, seen.freed()) {
            self.free.add(slot.index as u32);
        }
    }

    /// True while the slot is in the life that the reference names, and is this job's.
    pub fn lives_for(&self, slot: SlotRef, job: u32) -> bool {
        let word = self.word(slot.index);
        word.is_used() && word.generation() == slot.generation && word.job() == job
    }

    /// True when a take would find nothing, as far as the hints say.
    pub fn is_exhausted(&self) -> bool {
        self.free.is_empty()
    }

    /// The slots in use, with their words.
    pub fn used(&self) -> impl Iterator<Item = (SlotRef, SlotWord)> + '_ {
        (0..self.words.len()).filter_map(|index| {
            let word = self.word(index);
            let slot = SlotRef { pool: self.pool, class: self.class, index, generation: word.generation() };
            word.is_used().then_some((slot, word))
        })
    }

    /// Adds the hints of free slots that are missing; how many.
    pub fn repair_hints(&self) -> usize {
        let missing = |index: &usize| !self.free.contains(*index as u32) && !self.word(*index).is_used();
        (0..self.words.len()).filter(missing).map(|index| self.free.add(index as u32)).count()
    }
}

impl Segment {
    /// The classes of a pool, smallest first.
    pub(crate) fn classes(&self, pool: usize) -> impl Iterator<Item = Class<'_>> {
        (0..CLASS_COUNT_MAX).filter_map(move |class| Class::new(self, pool, class))
    }

    /// The event on which workers wait for a slot of a pool.
    pub(crate) fn pool_event(&self, pool: usize) -> Event<'_> {
        self.event(self.layout().pools[pool].event)
    }

    /// Frees a slot and wakes those who wait for one: all, as they may wait for different classes.
    pub(crate) fn free_slot(&self, slot: SlotRef) {
        if let Some(class) = Class::new(self, slot.pool, slot.class) {
            class.free(slot);
            self.pool_event(slot.pool).notify(i32::MAX as u32);
        }
    }

    /// Bytes of a slot; `None` where the geometry has no such slot.
    pub(crate) fn slot_bytes(&self, slot: SlotRef) -> Option<usize> {
        let place = self.layout().pools.get(slot.pool)?.classes.get(slot.class)?;
        (slot.index < place.slots).then_some(place.slot_bytes)
    }

    /// Where a slot lies that has `used` bytes in use; `None` where the geometry has no such slot, or it is smaller.
    pub(crate) fn place(&self, slot: SlotRef, used: usize) -> Option<Place> {
        let slot_bytes = self.slot_bytes(slot).filter(|most| used <= *most)?;
        let offset = self.layout().pools[slot.pool].classes[slot.class].data + slot.index * slot_bytes;
        Some(Place { pool: slot.pool, offset, slot_bytes, used })
    }

    /// How many slots of a pool frames have in use, and how many there are.
    pub fn pool_use(&self, pool: usize) -> (usize, usize) {
        let is_frames = |(_, word): &(SlotRef, SlotWord)| !self.is_reserved(word.job());
        let used = self.classes(pool).map(|class| class.used().filter(is_frames).count()).sum();
        let total = self.layout().pools[pool].classes.iter().map(|class| class.slots).sum();
        (used, total)
    }
}
