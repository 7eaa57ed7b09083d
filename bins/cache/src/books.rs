//! What the index names, and what goes for it: an LRU-K for each kind. What frames in flight still read may go from the index at
//! any time: its block is freed when none names it.

use framepipe_cache::{Area, BlockRef, Count, Digest, Kind, LruK, Offer, Policy, Put, Told, Value};
use framepipe_pipeline::CacheConfig;
use framepipe_shm::Owner;

/// Of an arena's blocks, what is left free for whoever makes the next entry: else it would find none, and not be kept.
const FREE_BLOCKS: u64 = 2;
const FREE_PART: u64 = 20;
/// The kinds that lie in blocks.
pub const IN_BLOCKS: [Kind; 2] = [Kind::Tensors, Kind::Results];

/// The books of one area.
pub struct Books<'a> {
    area: &'a Area,
    policies: [LruK; 3],
}

/// What was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    /// Offers.
    pub offers: usize,
    /// Entries that were dropped as damaged.
    pub damaged: usize,
}

impl<'a> Books<'a> {
    /// Books without an entry.
    pub fn new(area: &'a Area, config: &CacheConfig) -> Self {
        let policy = |kind| {
            let (bytes_max, entries_max) = budget(area, kind, config);
            let (k, correlated_period) = (config.k as usize, config.correlated_ms);
            // As many are remembered as may be there.
            LruK::new(Policy { bytes_max, k, correlated_period, history_max: entries_max as usize })
        };
        Self { area, policies: Kind::ALL.map(policy) }
    }

    /// Bytes of what can be made again.
    pub fn evictable_bytes(&self) -> u64 {
        IN_BLOCKS.iter().map(|kind| self.policies[*kind as usize].bytes()).sum()
    }

    /// How many entries there are.
    pub fn entries(&self) -> usize {
        self.policies.iter().map(LruK::len).sum()
    }

    /// What a predecessor left: entries whose blocks are as they say stay, each as if it was referenced now; all else goes.
    /// Returns how much was repaired.
    pub fn take_over(&mut self, now_ms: u64) -> usize {
        let mut repaired = self.area.repair_index();
        let entries: Vec<(Digest, Value)> = self.area.all().collect();
        for (key, value) in &entries {
            let is_good = self.is_good(*key, value);
            repaired += usize::from(!is_good);
            if !is_good || !self.admit(*key, value, now_ms) {
                self.drop_entry(*key);
            }
        }
        repaired + IN_BLOCKS.iter().map(|kind| self.disown_strays(*kind, 0, usize::MAX)).sum::<usize>()
    }

    /// Hears what readers say.
    pub fn hear(&mut self, now_ms: u64, is_alive: impl Fn(Owner) -> bool) -> Heard {
        let (area, mut heard) = (self.area, Heard::default());
        area.hear(is_alive, |offer| {
            heard.offers += 1;
            match offer.told {
                Told::Touched => {
                    self.policies[offer.kind as usize].refer(offer.key, now_ms);
                }
                Told::Made => self.take_in(&offer, now_ms),
                Told::Damaged => {
                    let found = area.find(offer.key).filter(|found| found.value.kind == offer.kind);
                    // Another block than the one that was read may be there by now.
                    let is_it = found.is_some_and(|it| offer.block == 0 || offer.block == it.value.block);
                    heard.damaged += usize::from(is_it && self.condemn(offer.kind, offer.key));
                }
            }
        });
        heard
    }

    fn take_in(&mut self, offer: &Offer, now_ms: u64) {
        let Offer { kind, key, block, bytes, inline, .. } = *offer;
        let value = Value { kind, block, bytes, inline };
        if self.policies[kind as usize].refer(key, now_ms) {
            if kind == Kind::Metadata {
                self.area.put(key, &value); // the newer facts
                return;
            }
            if self.area.find(key).is_some() {
                return; // of a block that two have made the first one stays, and the other is swept
            }
            self.policies[kind as usize].remove(key); // its entry was damaged, and is no more
        }
        let is_there = self.area.find(key).is_some(); // under another kind, which no honest process makes
        if is_there || !self.is_good(key, &value) {
            return;
        }
        if self.admit(key, &value, now_ms) && self.put(key, &value) {
            self.area.count(Count::Insertion(kind), 1);
        } else {
            self.policies[kind as usize].remove(key);
            self.disown(key, &value);
        }
    }

    /// True where an entry is what its block says, which is the index's from then on.
    fn is_good(&self, key: Digest, value: &Value) -> bool {
        let Some(kind) = value.kind.arena() else { return value.block == 0 };
        let Some(first) = BlockRef::unpack(value.block).filter(|first| first.arena() == kind) else { return false };
        let arena = self.area.arena(kind);
        let is_of = arena.record(first).is_some_and(|record| record.key == key && record.bytes == value.bytes);
        is_of && {
            arena.adopt(first);
            arena.lives(first)
        }
    }

    /// Books an entry; what must go for it does.
    fn admit(&mut self, key: Digest, value: &Value, now_ms: u64) -> bool {
        let bytes = self.size(value);
        let Ok(victims) = self.policies[value.kind as usize].insert(key, bytes, now_ms, |_| false) else {
            return false;
        };
        self.area.count(Count::Eviction(value.kind), victims.len() as u64);
        for victim in victims {
            self.drop_entry(victim);
        }
        true
    }

    /// Puts an entry into the index. Where its bucket is full, what is worth least there goes.
    fn put(&mut self, key: Digest, value: &Value) -> bool {
        match self.area.put(key, value) {
            Put::Done => true,
            Put::None => false,
            Put::Full(taken) => {
                let worth = |key: &Digest| self.policies.iter().find_map(|policy| policy.worth(*key));
                let Some(least) = taken.into_iter().min_by_key(worth) else { return false };
                let kind = self.area.find(least).map(|found| found.value.kind);
                for policy in &mut self.policies {
                    policy.let_go(least);
                }
                kind.into_iter().for_each(|kind| self.area.count(Count::Eviction(kind), 1));
                self.drop_entry(least);
                self.area.put(key, value) == Put::Done
            }
        }
    }

    /// Drops what can be made again, what is worth least first, until its blocks are `bytes`.
    pub fn evict(&mut self, bytes: u64, now_ms: u64) {
        let mut left = bytes;
        while left > 0 {
            let first = |policy: &mut LruK| policy.first_to_go(now_ms).and_then(|key| Some((policy.worth(key)?, key)));
            let firsts = IN_BLOCKS.map(|kind| first(&mut self.policies[kind as usize]).map(|first| (first, kind)));
            let Some(((_, key), kind)) = firsts.into_iter().flatten().min_by_key(|(first, _)| *first) else { return };
            let policy = &mut self.policies[kind as usize];
            let before = policy.bytes();
            policy.let_go(key);
            left = left.saturating_sub(before - policy.bytes());
            self.drop_entry(key);
            self.area.count(Count::Eviction(kind), 1);
        }
    }

    /// Drops all of a kind.
    pub fn drop_all(&mut self, kind: Kind) {
        let keys: Vec<Digest> = self.area.all().filter(|(_, value)| value.kind == kind).map(|(key, _)| key).collect();
        for key in keys {
            self.forget(kind, key);
        }
    }

    /// Drops an entry that is damaged.
    pub fn condemn(&mut self, kind: Kind, key: Digest) -> bool {
        let was_there = self.forget(kind, key);
        self.area.count(Count::Damage(kind), u64::from(was_there));
        was_there
    }

    /// Drops the entries in these places of the index that are damaged, or whose blocks are not as they say. Returns how many.
    pub fn drop_strays(&mut self, places: std::ops::Range<usize>) -> usize {
        let repaired = self.area.repair_places(places.clone());
        let entries: Vec<(Digest, Value)> = self.area.in_places(places).collect();
        let strays = entries.into_iter().filter(|(key, value)| {
            let is_known = self.policies[value.kind as usize].holds(*key);
            (!is_known || !self.is_good(*key, value)) && self.forget(value.kind, *key)
        });
        repaired + strays.count()
    }

    /// Lets go of cached blocks that no entry names: of a kind, some of them. Returns how many.
    pub fn disown_strays(&self, kind: Kind, skip: usize, most: usize) -> usize {
        let Some(arena) = kind.arena().map(|arena| self.area.arena(arena)) else { return 0 };
        let names = |key, first: BlockRef| self.area.find(key).is_some_and(|found| found.value.block == first.pack());
        let cached = arena.cached().skip(skip).take(most);
        cached.filter(|(first, record)| !names(record.key, *first) && arena.disown(*first)).count()
    }

    fn forget(&mut self, kind: Kind, key: Digest) -> bool {
        self.policies[kind as usize].remove(key);
        self.drop_entry(key)
    }

    /// Takes an entry out of the index; its block is freed when no frame names it.
    fn drop_entry(&self, key: Digest) -> bool {
        let found = self.area.find(key);
        let was_there = self.area.remove(key);
        if let Some(found) = found {
            self.disown(key, &found.value);
        }
        was_there
    }

    /// Lets go of an entry's block, if it is that key's: a damaged entry may name another's.
    fn disown(&self, key: Digest, value: &Value) {
        if let Some(first) = BlockRef::unpack(value.block) {
            let arena = self.area.arena(first.arena());
            if arena.record(first).is_some_and(|record| record.key == key) {
                arena.disown(first);
            }
        }
    }

    /// Bytes of its blocks; of facts, one.
    fn size(&self, value: &Value) -> u64 {
        let Some(kind) = value.kind.arena() else { return 1 };
        let block_bytes = self.area.arena(kind).block_bytes() as u64;
        value.bytes.max(1).next_multiple_of(block_bytes)
    }
}

/// Most bytes of a kind's entries, and how many these can be. Facts are counted, not weighed.
pub fn budget(area: &Area, kind: Kind, config: &CacheConfig) -> (u64, u64) {
    let Some(arena) = kind.arena() else {
        let entries = if area.geometry().entries > 0 { config.metadata_entries_max.into() } else { 0 };
        return (entries, entries);
    };
    let arena = area.geometry().arenas[arena as usize];
    let blocks = arena.blocks - FREE_BLOCKS.max(arena.blocks / FREE_PART).min(arena.blocks / 2);
    (blocks * arena.block_bytes, blocks)
}

#[cfg(test)]
mod tests;
