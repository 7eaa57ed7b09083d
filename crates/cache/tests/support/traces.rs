//! Traces of references, each made anew of a seed, and what a policy makes of them. The clock is the number of the reference.
#![allow(dead_code, reason = "each user takes its part")]

use framepipe_cache::{Key, LruK, Policy};

/// Entries in the cache, each of one byte.
pub const CAPACITY: u64 = 500;
/// Entries that are remembered when they have gone.
pub const HISTORY: usize = 4 * CAPACITY as usize;
/// References within which a second one counts as the same, where references come twice.
pub const PERIOD: u64 = 32;
/// References by Zipf's law of a trace.
const REFERENCES: u64 = 100 * CAPACITY;
const SKEW: f64 = 0.9;
/// Keys of scans, which do not count as hits or misses.
const SCANNED: Key = 1 << 64;

/// A trace.
pub struct Trace {
    pub name: &'static str,
    pub what: &'static str,
    /// Keys that Zipf's law draws from.
    pub keys: usize,
    /// References between two scans; 0: there are none.
    scan_each: u64,
    /// True where each reference comes twice, the second one 1 to 16 references later.
    twice: bool,
    /// True where half way the keys' ranks are turned around.
    shifts: bool,
}

/// Every trace.
pub const TRACES: [Trace; 6] = [
    Trace { name: "zipf", what: "Zipf 0.9 of 50,000 keys", keys: 50_000, scan_each: 0, twice: false, shifts: false },
    Trace {
        name: "scans",
        what: "the same; after each 2,500 references a scan of 1,000 keys that never come again",
        keys: 50_000,
        scan_each: 5 * CAPACITY,
        twice: false,
        shifts: false,
    },
    Trace {
        name: "scans, 5,000 keys",
        what: "the same of 5,000 keys",
        keys: 5_000,
        scan_each: 5 * CAPACITY,
        twice: false,
        shifts: false,
    },
    Trace {
        name: "twice",
        what: "zipf, each reference once more 1 to 16 references later",
        keys: 50_000,
        scan_each: 0,
        twice: true,
        shifts: false,
    },
    Trace { name: "twice, scans", what: "both", keys: 50_000, scan_each: 5 * CAPACITY, twice: true, shifts: false },
    Trace {
        name: "shift",
        what: "zipf; half way the keys change ranks: the most frequent become the least",
        keys: 50_000,
        scan_each: 0,
        twice: false,
        shifts: true,
    },
];

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 up to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Trace {
    /// Its references. A second reference that is another's correlate is no draw of its own, and does not count.
    pub fn references(&self, seed: u64) -> Vec<Reference> {
        let mut sums: Vec<f64> = (1..=self.keys).map(|rank| (rank as f64).powf(-SKEW)).collect();
        (1..self.keys).for_each(|i| sums[i] += sums[i - 1]);
        let mut random = Random(seed);
        let (mut timed, mut time, mut scanned) = (Vec::new(), 0, SCANNED);
        for i in 0..REFERENCES {
            let drawn = random.unit() * sums[self.keys - 1];
            let rank = sums.partition_point(|sum| *sum <= drawn);
            let key = if self.shifts && i >= REFERENCES / 2 { self.keys - 1 - rank } else { rank } as Key;
            timed.push((time, Reference { key, counts: true }));
            if self.twice {
                timed.push((time + 8 * (1 + random.next() % 16), Reference { key, counts: false }));
            }
            time += 16;
            if self.scan_each > 0 && i % self.scan_each == self.scan_each - 1 {
                let scan = (0..2 * CAPACITY)
                    .map(|key| (time + 16 * key, Reference { key: scanned + Key::from(key), counts: false }));
                timed.extend(scan);
                time += 16 * 2 * CAPACITY;
                scanned += Key::from(2 * CAPACITY);
            }
        }
        timed.sort_by_key(|(time, _)| *time);
        timed.into_iter().map(|(_, reference)| reference).collect()
    }
}

/// One reference.
#[derive(Clone, Copy)]
pub struct Reference {
    pub key: Key,
    /// True where it counts as a hit or a miss.
    pub counts: bool,
}

/// Hits among the references that count, of a cache that says of each reference whether its key was there.
pub fn hits(references: &[Reference], mut refer: impl FnMut(Key, u64) -> bool) -> u64 {
    let count = |(now, reference): (u64, &Reference)| u64::from(refer(reference.key, now) && reference.counts);
    (1..).zip(references).map(count).sum()
}

/// Hits over references that count.
pub fn hit_rate(references: &[Reference], k: usize, correlated_period: u64) -> f64 {
    let mut cache = LruK::new(policy(k, correlated_period));
    let hits = hits(references, |key, now| {
        let was_there = cache.holds(key);
        cache.insert(key, 1, now, |_| false).expect("an entry is smaller than the cache");
        was_there
    });
    hits as f64 / references.iter().filter(|reference| reference.counts).count() as f64
}

/// Of [`CAPACITY`] entries.
pub fn policy(k: usize, correlated_period: u64) -> Policy {
    Policy { bytes_max: CAPACITY, k, correlated_period, history_max: HISTORY }
}
