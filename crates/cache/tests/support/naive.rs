//! LRU-K as a twin that looks at every entry each time, written after the paper's figure 2.1.
#![allow(dead_code, reason = "each test uses its part")]

use framepipe_cache::{Key, Policy, TooLarge};

/// One entry: HIST, LAST, and its size where it is resident.
#[derive(Clone, Debug)]
struct Page {
    key: Key,
    hist: Vec<u64>,
    last: u64,
    bytes: Option<u64>,
}

/// The twin.
pub struct Naive {
    policy: Policy,
    pages: Vec<Page>,
}

impl Naive {
    /// Without an entry.
    pub fn new(policy: Policy) -> Self {
        Self { policy, pages: Vec::new() }
    }

    /// True where the entry is resident.
    pub fn holds(&self, key: Key) -> bool {
        self.pages.iter().any(|page| page.key == key && page.bytes.is_some())
    }

    /// Bytes of the resident entries.
    pub fn used(&self) -> u64 {
        self.pages.iter().filter_map(|page| page.bytes).sum()
    }

    /// See [`framepipe_cache::LruK::refer`].
    pub fn refer(&mut self, key: Key, now: u64) -> bool {
        let (k, crp) = (self.policy.k, self.policy.correlated_period);
        let Some(page) = self.pages.iter_mut().find(|page| page.key == key && page.bytes.is_some()) else {
            return false;
        };
        if now - page.last > crp {
            let correlation_period_of_referenced_page = page.last - page.hist[0];
            for i in (1..k).rev() {
                page.hist[i] = match page.hist[i - 1] {
                    0 => 0,
                    time => time + correlation_period_of_referenced_page,
                };
            }
            page.hist[0] = now;
        }
        page.last = now;
        true
    }

    /// See [`framepipe_cache::LruK::insert`].
    pub fn insert(&mut self, key: Key, bytes: u64, now: u64, held: &[Key]) -> Result<Vec<Key>, TooLarge> {
        if self.refer(key, now) {
            return Ok(Vec::new());
        }
        if bytes > self.policy.bytes_max {
            return Err(TooLarge);
        }
        let before = (!held.is_empty()).then(|| self.pages.clone()); // else there is always a victim
        let mut victims = Vec::new();
        while self.used() + bytes > self.policy.bytes_max {
            let candidates = self.pages.iter().filter(|page| page.bytes.is_some() && !held.contains(&page.key));
            let order = |page: &&Page| {
                let is_eligible = now - page.last > self.policy.correlated_period;
                (!is_eligible, if is_eligible { page.hist[self.policy.k - 1] } else { 0 }, page.last, page.key)
            };
            let Some(victim) = candidates.min_by_key(order).map(|page| page.key) else {
                self.pages = before.expect("all of them are held");
                return Err(TooLarge);
            };
            self.pages.iter_mut().find(|page| page.key == victim).expect("it is there").bytes = None;
            victims.push(victim);
            while self.pages.iter().filter(|page| page.bytes.is_none()).count() > self.policy.history_max {
                let gone = self.pages.iter().filter(|page| page.bytes.is_none());
                let oldest = gone.min_by_key(|page| (page.last, page.key)).expect("one has gone").key;
                self.pages.retain(|page| page.key != oldest);
            }
        }
        match self.pages.iter_mut().find(|page| page.key == key) {
            Some(page) => {
                if now - page.last > self.policy.correlated_period {
                    page.hist.rotate_right(1);
                    page.hist[0] = now;
                }
                (page.last, page.bytes) = (now, Some(bytes));
            }
            None => {
                let hist = (0..self.policy.k).map(|i| if i == 0 { now } else { 0 }).collect();
                self.pages.push(Page { key, hist, last: now, bytes: Some(bytes) });
            }
        }
        Ok(victims)
    }

    /// See [`framepipe_cache::LruK::remove`].
    pub fn remove(&mut self, key: Key) -> bool {
        let was = self.holds(key);
        self.pages.retain(|page| page.key != key);
        was
    }
}
