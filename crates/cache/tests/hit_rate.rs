//! Hit rates on traces with seeds: references drawn from a Zipf distribution, with scans in between.

use framepipe_cache::{Key, LruK, Policy};

/// Entries in the cache, each of one byte.
const CAPACITY: u64 = 500;
/// Of how many keys the Zipf distribution is. The more there are, the more a scan costs LRU: with 5,000 keys LRU-2 has
/// 1.21 times the hits, with 20,000 1.30 times, with 50,000 1.38 times.
const KEYS: usize = 50_000;
const SKEW: f64 = 0.9;
const CAPACITIES: u64 = 100;

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

/// References by Zipf's law; every `scan_each` of them (0: never) a scan over as many keys that never come again.
fn trace(seed: u64, scan_each: u64, scan: u64) -> Vec<Key> {
    let mut sums: Vec<f64> = (1..=KEYS).map(|rank| (rank as f64).powf(-SKEW)).collect();
    (1..KEYS).for_each(|i| sums[i] += sums[i - 1]);
    let mut random = Random(seed);
    let (mut keys, mut scanned) = (Vec::new(), 1_u128 << 64);
    for i in 0..CAPACITIES * CAPACITY {
        let drawn = random.unit() * sums[KEYS - 1];
        keys.push(sums.partition_point(|sum| *sum <= drawn) as Key);
        if scan_each > 0 && i % scan_each == scan_each - 1 {
            keys.extend((0..scan).map(|j| scanned + u128::from(j)));
            scanned += u128::from(scan);
        }
    }
    keys
}

/// Hits over references to keys of the Zipf distribution.
fn hit_rate(keys: &[Key], k: usize, correlated_period: u64) -> f64 {
    let history_max = 4 * CAPACITY as usize;
    let mut cache = LruK::new(Policy { bytes_max: CAPACITY, k, correlated_period, history_max });
    let (mut hits, mut all) = (0, 0);
    for (now, key) in (1..).zip(keys) {
        let was_there = cache.holds(*key);
        cache.insert(*key, 1, now, |_| false).expect("an entry is smaller than the cache");
        if *key < KEYS as Key {
            all += 1;
            hits += u32::from(was_there);
        }
    }
    f64::from(hits) / f64::from(all)
}

#[test]
fn scans_do_not_flush_what_comes_again() {
    for seed in [1, 2, 3] {
        let keys = trace(seed, 5 * CAPACITY, 2 * CAPACITY);
        let (lru, lru_2) = (hit_rate(&keys, 1, 0), hit_rate(&keys, 2, 0));
        println!("scans, seed {seed}: LRU {lru:.4}, LRU-2 {lru_2:.4}, {:.3} x", lru_2 / lru);
        let plain = trace(seed, 0, 0);
        let (plain_lru, plain_lru_2) = (hit_rate(&plain, 1, 0), hit_rate(&plain, 2, 0));
        println!("no scans, seed {seed}: LRU {plain_lru:.4}, LRU-2 {plain_lru_2:.4}");
        assert!(lru_2 >= 1.3 * lru, "LRU-2 {lru_2}, LRU {lru}");
        assert!(plain_lru_2 >= plain_lru);
    }
}
