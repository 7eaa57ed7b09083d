//! LRU-K: the entry goes first whose K-th last reference lies farthest back. One scan over many entries, each referenced
//! once, does not push out those that come again and again. E. J. O'Neil, P. E. O'Neil, G. Weikum: "The LRU-K Page
//! Replacement Algorithm For Database Disk Buffering", SIGMOD 1993, figure 2.1, with
//!
//! - entries of different sizes: as many go as make room;
//! - ties (fewer than K references: infinitely far back) by the last reference, oldest first, as the paper proposes;
//! - history kept for a number of entries that have gone, instead of a time: that bounds the memory;
//! - where every entry is within its correlated-reference period, the one whose last reference is oldest.
//!
//! K = 1 without a correlated-reference period is LRU.

use std::collections::{BTreeSet, HashMap};

use crate::history::{History, K_MAX};

/// Names an entry: 128 bits of a hash of what it holds.
pub type Key = u128;

/// How entries are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Bytes of all resident entries.
    pub bytes_max: u64,
    /// The reference that counts, 1 (LRU) to [`K_MAX`].
    pub k: usize,
    /// References that lie no farther apart are one, in the unit of the caller's clock.
    pub correlated_period: u64,
    /// Entries that are remembered when they have gone.
    pub history_max: usize,
}

/// An entry is larger than the whole cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLarge;

/// The entries of a cache by name and size, resident and remembered. Each call takes time O(log n), an insertion that for
/// each entry that goes, and looks at each held one before it.
#[derive(Debug)]
pub struct LruK {
    policy: Policy,
    bytes: u64,
    now: u64,
    resident: HashMap<Key, Resident>,
    /// Resident, behind their correlated-reference period: (K-th last reference, last reference, key); the first goes first.
    ripe: BTreeSet<(u64, u64, Key)>,
    /// Resident, within it: (last reference, key).
    fresh: BTreeSet<(u64, Key)>,
    gone: HashMap<Key, History>,
    /// (Last reference, key) of those.
    gone_order: BTreeSet<(u64, Key)>,
}

#[derive(Clone, Copy, Debug)]
struct Resident {
    history: History,
    bytes: u64,
    is_ripe: bool,
}

impl LruK {
    /// An empty cache.
    ///
    /// # Panics
    /// Where K is not 1 to [`K_MAX`].
    pub fn new(policy: Policy) -> Self {
        assert!((1..=K_MAX).contains(&policy.k), "K is 1 to {K_MAX}");
        Self {
            policy,
            bytes: 0,
            now: 0,
            resident: HashMap::new(),
            ripe: BTreeSet::new(),
            fresh: BTreeSet::new(),
            gone: HashMap::new(),
            gone_order: BTreeSet::new(),
        }
    }

    /// Bytes of the resident entries.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many are resident.
    pub fn len(&self) -> usize {
        self.resident.len()
    }

    /// True where none is.
    pub fn is_empty(&self) -> bool {
        self.resident.is_empty()
    }

    /// True where the entry is resident; that is no reference.
    pub fn holds(&self, key: Key) -> bool {
        self.resident.contains_key(&key)
    }

    /// A reference at a time, from 1 on, which never runs backwards: an earlier one counts as the last one. True where the
    /// entry is resident; where it is not, nothing happens.
    pub fn refer(&mut self, key: Key, now: u64) -> bool {
        let now = self.advance(now);
        let Some(mut one) = self.take_out(key) else { return false };
        one.history.refer(now, self.policy.correlated_period);
        self.put_in(key, one);
        true
    }

    /// A reference that makes an entry resident, and those that must go for it not, save what `is_held`. Returns the
    /// latter; an entry that was resident counts as [`refer`](Self::refer)red to, and keeps its size.
    ///
    /// # Errors
    /// Where what is not held is too little to make room; then nothing has changed.
    pub fn insert(
        &mut self,
        key: Key,
        bytes: u64,
        now: u64,
        is_held: impl Fn(Key) -> bool,
    ) -> Result<Vec<Key>, TooLarge> {
        if self.refer(key, now) {
            return Ok(Vec::new());
        }
        let now = self.advance(now);
        let victims = self.victims(bytes, is_held).ok_or(TooLarge)?;
        for victim in &victims {
            self.evict(*victim);
        }
        let history = match self.forget(key) {
            Some(mut history) => {
                history.come_back(now, self.policy.correlated_period);
                history
            }
            None => History::new(now),
        };
        self.put_in(key, Resident { history, bytes, is_ripe: false });
        Ok(victims)
    }

    /// Makes an entry not resident, and forgets it: what it held is wrong or of no use.
    pub fn remove(&mut self, key: Key) -> bool {
        self.forget(key);
        self.take_out(key).is_some()
    }

    /// The entry that would go first; `None` where none is resident.
    pub fn first_to_go(&mut self, now: u64) -> Option<Key> {
        self.advance(now);
        self.ripe.first().map(|(_, _, key)| *key).or_else(|| self.fresh.first().map(|(_, key)| *key))
    }

    /// Makes an entry not resident, and remembers it like one that went for another. True where it was.
    pub fn let_go(&mut self, key: Key) -> bool {
        let is_resident = self.holds(key);
        if is_resident {
            self.evict(key);
        }
        is_resident
    }

    /// The times of the K-th last reference and of the last one of a resident entry: that of the least pair is worth least.
    pub fn worth(&self, key: Key) -> Option<(u64, u64)> {
        self.resident.get(&key).map(|one| (one.history.kth(self.policy.k), one.history.last))
    }

    fn advance(&mut self, now: u64) -> u64 {
        self.now = self.now.max(now).max(1);
        while let Some((last, key)) = self.fresh.first().copied() {
            if self.now - last <= self.policy.correlated_period {
                break;
            }
            self.fresh.pop_first();
            let one = self.resident.get_mut(&key).expect("what is fresh is resident");
            one.is_ripe = true;
            self.ripe.insert((one.history.kth(self.policy.k), last, key));
        }
        self.now
    }

    fn victims(&self, bytes: u64, is_held: impl Fn(Key) -> bool) -> Option<Vec<Key>> {
        if bytes > self.policy.bytes_max {
            return None;
        }
        let excess = bytes.saturating_sub(self.policy.bytes_max - self.bytes);
        let order = self.ripe.iter().map(|(_, _, key)| *key).chain(self.fresh.iter().map(|(_, key)| *key));
        let (mut victims, mut freed) = (Vec::new(), 0);
        for key in order.filter(|key| !is_held(*key)) {
            if freed >= excess {
                break;
            }
            freed += self.resident[&key].bytes;
            victims.push(key);
        }
        (freed >= excess).then_some(victims)
    }

    fn evict(&mut self, key: Key) {
        let one = self.take_out(key).expect("a victim is resident");
        self.gone.insert(key, one.history);
        self.gone_order.insert((one.history.last, key));
        if self.gone.len() > self.policy.history_max {
            let (_, oldest) = self.gone_order.pop_first().expect("as many as have gone");
            self.gone.remove(&oldest);
        }
    }

    fn forget(&mut self, key: Key) -> Option<History> {
        let history = self.gone.remove(&key)?;
        self.gone_order.remove(&(history.last, key));
        Some(history)
    }

    fn take_out(&mut self, key: Key) -> Option<Resident> {
        let one = self.resident.remove(&key)?;
        self.bytes -= one.bytes;
        match one.is_ripe {
            true => self.ripe.remove(&(one.history.kth(self.policy.k), one.history.last, key)),
            false => self.fresh.remove(&(one.history.last, key)),
        };
        Some(one)
    }

    /// An entry whose last reference is this moment's.
    fn put_in(&mut self, key: Key, mut one: Resident) {
        one.is_ripe = false;
        self.bytes += one.bytes;
        self.fresh.insert((one.history.last, key));
        self.resident.insert(key, one);
    }
}
