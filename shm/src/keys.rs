//! The table of idempotency keys: which frames a key's first call was given, so that its repetition gets the same answer,
//! across the gateway's death too.
//!
//! An entry is written **before** `accepted` is raised ([`crate::Gate::accept`]), and counts only if its frames lie below
//! `accepted`: killed between the two, the call was never answered, and the entry is erased by the next gateway, before
//! it gives the same numbers to other frames. Only the gateway, of which there is one, reads and writes the table.

use crate::{
    segment::Segment,
    sync::{AtomicU64, Ordering},
};

/// Head of an entry; its record follows.
#[repr(C)]
pub(crate) struct KeyHead {
    first: AtomicU64,
    /// 0: the entry is empty. Stored last when it is written, and first when it is erased.
    count: AtomicU64,
    expires_ns: AtomicU64,
    _reserved: AtomicU64,
}

/// An entry's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyEntry {
    /// Number of the first frame that the key's call was given.
    pub first: u64,
    /// How many frames.
    pub count: u64,
    /// When the entry may be forgotten, CLOCK_MONOTONIC, nanoseconds.
    pub expires_ns: u64,
}

/// An entry to be written with the acceptance of a batch.
#[derive(Clone, Copy, Debug)]
pub struct KeyNote<'r> {
    /// Its place in the table; what stands there is replaced.
    pub place: usize,
    /// When it may be forgotten, CLOCK_MONOTONIC, nanoseconds.
    pub expires_ns: u64,
    /// Its record, of the geometry's `key_bytes`: the key, and what else the answer needs.
    pub record: &'r [u8],
}

/// One entry.
pub(crate) struct Key<'s> {
    segment: &'s Segment,
    place: usize,
}

impl<'s> Key<'s> {
    /// The entry at a place; `None` where the table has no such place, or this process does not map it.
    pub fn at(segment: &'s Segment, place: usize) -> Option<Self> {
        let is_there = segment.keys().is_some() && (place as u64) < segment.geometry().keys;
        is_there.then_some(Self { segment, place })
    }

    fn offset(&self) -> usize {
        self.place * self.segment.layout().key_stride
    }

    fn head(&self) -> &'s KeyHead {
        let keys = self.segment.keys().expect("`at` looked");
        // SAFETY: the layout places a KeyHead, atomics alone, at the head of each entry.
        let heads = unsafe { keys.table::<KeyHead>(self.offset(), 1) };
        &heads[0]
    }

    fn bytes(&self) -> std::ptr::NonNull<u8> {
        let keys = self.segment.keys().expect("`at` looked");
        keys.at(self.offset() + size_of::<KeyHead>(), self.segment.geometry().key_bytes as usize)
    }

    /// Writes the entry. Killed meanwhile, it is empty or whole.
    pub fn write(&self, entry: KeyEntry, record: &[u8]) {
        assert_eq!(record.len() as u64, self.segment.geometry().key_bytes, "a record has the geometry's size");
        self.erase();
        self.head().first.store(entry.first, Ordering::Relaxed);
        self.head().expires_ns.store(entry.expires_ns, Ordering::Relaxed);
        // SAFETY: in bounds; the gateway alone, one thread at a time, touches the table's records.
        unsafe { std::ptr::copy_nonoverlapping(record.as_ptr(), self.bytes().as_ptr(), record.len()) };
        self.head().count.store(entry.count, Ordering::Release);
    }

    /// Empties the entry.
    pub fn erase(&self) {
        // SeqCst: nothing that is written to the entry after it may be seen before it.
        self.head().count.swap(0, Ordering::SeqCst);
    }

    /// The entry, if it is one.
    pub fn read(&self) -> Option<(KeyEntry, &'s [u8])> {
        let head = self.head();
        let count = head.count.load(Ordering::Acquire);
        let (first, expires_ns) = (head.first.load(Ordering::Relaxed), head.expires_ns.load(Ordering::Relaxed));
        let length = self.segment.geometry().key_bytes as usize;
        // SAFETY: in bounds; as in `write`.
        let record = unsafe { std::slice::from_raw_parts(self.bytes().as_ptr(), length) };
        (count > 0).then_some((KeyEntry { first, count, expires_ns }, record))
    }
}
