//! From keys to blocks and facts. The keeper alone writes; all others read without a lock: each entry has a version, which is
//! odd while it is written, and a reader that saw it change has read nothing.
//!
//! An entry that names a block is a hint until it is held: the reader writes its lease, fences, and asks [`Index::still`]; the
//! keeper removes the entry, fences, and looks at the leases before the block goes.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::{
    Area, Digest, Kind,
    digest::{halves, whole},
};

/// Words of facts that an entry holds by itself.
pub const INLINE_WORDS: usize = 8;
/// Entries of a bucket: where a key may lie.
const WAYS: usize = 8;

#[repr(C, align(128))]
pub(crate) struct EntryWords {
    version: AtomicU64,
    key: [AtomicU64; 2],
    /// A [`Kind`] and 1; 0: the entry is empty.
    kind: AtomicU64,
    block: AtomicU64,
    bytes: AtomicU64,
    inline: [AtomicU64; INLINE_WORDS],
}

/// What a key stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// A packed [`crate::BlockRef`]; 0: none.
    pub block: u64,
    /// Bytes there.
    pub bytes: u64,
    /// Facts.
    pub inline: [u64; INLINE_WORDS],
}

/// An entry, as it was found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// What it says.
    pub value: Value,
    entry: usize,
    version: u64,
}

/// How an entry was put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// It is there.
    Done,
    /// All places where it may lie are taken, by these: remove one.
    Full([Digest; WAYS]),
    /// There is no index.
    None,
}

impl Area {
    fn bucket(&self, key: Digest) -> &[EntryWords] {
        let entries = self.entries();
        if entries.is_empty() {
            return &[];
        }
        let first = (key as usize % (entries.len() / WAYS)) * WAYS;
        &entries[first..first + WAYS]
    }

    fn place(&self, entry: &EntryWords) -> usize {
        (std::ptr::from_ref(entry) as usize - self.entries().as_ptr() as usize) / size_of::<EntryWords>()
    }

    /// What a key stands for.
    pub fn find(&self, key: Digest) -> Option<Found> {
        self.bucket(key).iter().find_map(|entry| {
            let (found, value, version) = entry.read()?;
            (found == key).then(|| Found { value, entry: self.place(entry), version })
        })
    }

    /// True while the entry is what it was when it was found. Write the lease before.
    pub fn still(&self, found: &Found) -> bool {
        fence(Ordering::SeqCst); // pairs with the one of `remove`
        self.entries()[found.entry].version.load(Ordering::Acquire) == found.version
    }

    /// The keeper: a key stands for something from now on.
    pub fn put(&self, key: Digest, value: &Value) -> Put {
        let bucket = self.bucket(key);
        if bucket.is_empty() {
            return Put::None;
        }
        let is = |entry: &&EntryWords| entry.read().is_some_and(|(found, ..)| found == key);
        let free = || bucket.iter().find(|entry| entry.read().is_none());
        let Some(entry) = bucket.iter().find(is).or_else(free) else {
            let taken = |entry: &EntryWords| entry.read().map_or(0, |(key, ..)| key);
            return Put::Full(std::array::from_fn(|way| taken(&bucket[way])));
        };
        entry.write(|| {
            let [low, high] = halves(key);
            entry.key[0].store(low, Ordering::Relaxed);
            entry.key[1].store(high, Ordering::Relaxed);
            entry.block.store(value.block, Ordering::Relaxed);
            entry.bytes.store(value.bytes, Ordering::Relaxed);
            entry.inline.iter().zip(value.inline).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
            entry.kind.store(value.kind as u64 + 1, Ordering::Relaxed);
        });
        Put::Done
    }

    /// The keeper: a key stands for nothing. Look at the leases afterwards.
    pub fn remove(&self, key: Digest) -> bool {
        let found = self.bucket(key).iter().find(|entry| entry.read().is_some_and(|(found, ..)| found == key));
        if let Some(entry) = found {
            entry.write(|| entry.kind.store(0, Ordering::Relaxed));
        }
        fence(Ordering::SeqCst); // pairs with the one of `still`
        found.is_some()
    }

    /// The entries in some of the places, of which there are [`crate::Geometry::entries`].
    pub fn in_places(&self, places: std::ops::Range<usize>) -> impl Iterator<Item = (Digest, Value)> + '_ {
        let entries = self.entries().get(places).unwrap_or_default();
        entries.iter().filter_map(|entry| entry.read().map(|(key, value, _)| (key, value)))
    }

    /// Every entry that can be read.
    pub fn all(&self) -> impl Iterator<Item = (Digest, Value)> + '_ {
        self.entries().iter().filter_map(|entry| entry.read().map(|(key, value, _)| (key, value)))
    }

    /// [`Self::repair_places`], of all.
    pub fn repair_index(&self) -> usize {
        self.repair_places(0..self.entries().len())
    }

    /// The keeper: empties, in some of the places, what says that it is being written, and what lies where its key may not. None
    /// but the keeper writes: a predecessor died there, or it is damaged. Returns how many those were.
    pub fn repair_places(&self, places: std::ops::Range<usize>) -> usize {
        let (first, buckets) = (places.start, self.entries().len() / WAYS);
        let is_misplaced = |key: Digest, place: usize| key as usize % buckets != place / WAYS;
        let entries = self.entries().get(places).unwrap_or_default().iter().zip(first..);
        let wrong = entries.filter(|(entry, place)| {
            entry.version.load(Ordering::Relaxed) % 2 == 1
                || entry.read().is_some_and(|(key, ..)| is_misplaced(key, *place))
        });
        wrong.map(|(entry, _)| entry.write(|| entry.kind.store(0, Ordering::Relaxed))).count()
    }
}

impl EntryWords {
    /// Key, value and version; `None` where it is empty, or being written.
    fn read(&self) -> Option<(Digest, Value, u64)> {
        let version = self.version.load(Ordering::Acquire);
        if version % 2 == 1 {
            return None;
        }
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let kind = Kind::from_number(load(&self.kind).checked_sub(1)?)?;
        let key = whole([load(&self.key[0]), load(&self.key[1])]);
        let inline = std::array::from_fn(|word| load(&self.inline[word]));
        let value = Value { kind, block: load(&self.block), bytes: load(&self.bytes), inline };
        fence(Ordering::Acquire);
        (self.version.load(Ordering::Relaxed) == version).then_some((key, value, version))
    }

    /// The version is odd meanwhile, whatever damage made of it before.
    fn write(&self, write: impl FnOnce()) {
        let odd = self.version.load(Ordering::Relaxed) | 1;
        self.version.store(odd, Ordering::Relaxed);
        fence(Ordering::Release);
        write();
        self.version.store(odd.wrapping_add(1), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reader_believes_an_entry_that_is_written_whatever_its_version_was() {
        for version in [0, 1, 6, 7, u64::MAX] {
            let entry = EntryWords {
                version: AtomicU64::new(version),
                key: Default::default(),
                kind: AtomicU64::new(1),
                block: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                inline: Default::default(),
            };
            entry.write(|| assert!(entry.read().is_none(), "version {version}"));
            let (.., after) = entry.read().expect("it is written");
            assert_ne!(after, version);
        }
    }
}
