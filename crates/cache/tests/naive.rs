//! The policy against a twin that looks at every entry each time, written after the paper's figure 2.1.

use framepipe_cache::{K_MAX, Key, LruK, Policy, TooLarge};
use proptest::prelude::*;

/// One entry: HIST, LAST, and its size where it is resident.
#[derive(Clone, Debug)]
struct Page {
    key: Key,
    hist: Vec<u64>,
    last: u64,
    bytes: Option<u64>,
}

struct Naive {
    policy: Policy,
    pages: Vec<Page>,
}

impl Naive {
    fn used(&self) -> u64 {
        self.pages.iter().filter_map(|page| page.bytes).sum()
    }

    fn refer(&mut self, key: Key, now: u64) -> bool {
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

    fn insert(&mut self, key: Key, bytes: u64, now: u64, held: &[Key]) -> Result<Vec<Key>, TooLarge> {
        if self.refer(key, now) {
            return Ok(Vec::new());
        }
        if bytes > self.policy.bytes_max {
            return Err(TooLarge);
        }
        let (before, mut victims) = (self.pages.clone(), Vec::new());
        while self.used() + bytes > self.policy.bytes_max {
            let candidates = self.pages.iter().filter(|page| page.bytes.is_some() && !held.contains(&page.key));
            let order = |page: &&Page| {
                let is_eligible = now - page.last > self.policy.correlated_period;
                (!is_eligible, if is_eligible { page.hist[self.policy.k - 1] } else { 0 }, page.last, page.key)
            };
            let Some(victim) = candidates.min_by_key(order).map(|page| page.key) else {
                self.pages = before;
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

    fn remove(&mut self, key: Key) -> bool {
        let was = self.pages.iter().any(|page| page.key == key && page.bytes.is_some());
        self.pages.retain(|page| page.key != key);
        was
    }
}

#[derive(Clone, Debug)]
enum Step {
    Refer(Key),
    Insert(Key, u64, Vec<Key>),
    Remove(Key),
}

fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
    let key = 0_u128..12;
    let step = prop_oneof![
        4 => key.clone().prop_map(Step::Refer),
        6 => (key.clone(), prop_oneof![9 => 0_u64..40, 1 => Just(u64::MAX)], proptest::collection::vec(key.clone(), 0..4))
            .prop_map(|(key, bytes, held)| Step::Insert(key, bytes, held)),
        1 => key.prop_map(Step::Remove),
    ];
    proptest::collection::vec((step, 0_u64..6), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn it_does_what_the_paper_says(
        steps in steps(), k in 1..=K_MAX, correlated_period in 0_u64..10, history_max in 0_usize..8
    ) {
        let policy = Policy { bytes_max: 100, k, correlated_period, history_max };
        let (mut quick, mut naive) = (LruK::new(policy), Naive { policy, pages: Vec::new() });
        let mut now = 1;
        for (step, pause) in steps {
            now += pause;
            match step {
                Step::Refer(key) => prop_assert_eq!(quick.refer(key, now), naive.refer(key, now)),
                Step::Insert(key, bytes, held) => prop_assert_eq!(
                    quick.insert(key, bytes, now, |key| held.contains(&key)),
                    naive.insert(key, bytes, now, &held)
                ),
                Step::Remove(key) => prop_assert_eq!(quick.remove(key), naive.remove(key)),
            }
            prop_assert_eq!(quick.bytes(), naive.used());
            prop_assert!(quick.bytes() <= policy.bytes_max);
            for key in 0..12 {
                let is_there = naive.pages.iter().any(|page| page.key == key && page.bytes.is_some());
                prop_assert_eq!(quick.holds(key), is_there);
            }
        }
    }
}

#[test]
fn sizes_may_be_as_large_as_numbers_are() {
    let mut cache = LruK::new(Policy { bytes_max: u64::MAX, k: 2, correlated_period: 0, history_max: 4 });
    assert_eq!(cache.insert(1, u64::MAX - 1, 1, |_| false), Ok(Vec::new()));
    assert_eq!(cache.insert(2, 1, 2, |_| false), Ok(Vec::new()));
    assert_eq!(cache.insert(3, u64::MAX, 3, |_| false), Ok(vec![1, 2]));
    assert_eq!(cache.bytes(), u64::MAX);
}
