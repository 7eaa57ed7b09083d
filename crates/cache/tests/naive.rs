//! The policy against a twin that looks at every entry each time: each policy that is in use, and any other.

#[path = "support/naive.rs"]
mod twin;

use framepipe_cache::{K_MAX, Key, LruK, Policy};
use proptest::prelude::*;
use twin::Naive;

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

/// Both take the same steps, and after each have the same entries.
fn agree(policy: Policy, steps: Vec<(Step, u64)>, bytes_of: impl Fn(u64) -> u64) -> Result<(), TestCaseError> {
    let (mut quick, mut naive) = (LruK::new(policy), Naive::new(policy));
    let mut now = 1;
    for (step, pause) in steps {
        now += pause;
        match step {
            Step::Refer(key) => prop_assert_eq!(quick.refer(key, now), naive.refer(key, now)),
            Step::Insert(key, bytes, held) => prop_assert_eq!(
                quick.insert(key, bytes_of(bytes), now, |key| held.contains(&key)),
                naive.insert(key, bytes_of(bytes), now, &held)
            ),
            Step::Remove(key) => prop_assert_eq!(quick.remove(key), naive.remove(key)),
        }
        prop_assert_eq!(quick.bytes(), naive.used());
        prop_assert!(quick.bytes() <= policy.bytes_max);
        for key in 0..12 {
            prop_assert_eq!(quick.holds(key), naive.holds(key));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn it_does_what_the_paper_says(
        steps in steps(), k in 1..=K_MAX, correlated_period in 0_u64..10, history_max in 0_usize..8
    ) {
        agree(Policy { bytes_max: 100, k, correlated_period, history_max }, steps, |bytes| bytes)?;
    }

    /// Facts about files: entries of size 1, as many as there may be.
    #[test]
    fn entries_that_are_counted_go_as_the_paper_says(steps in steps(), k in 1..=3_usize) {
        for correlated_period in [0, 4] {
            agree(Policy { bytes_max: 6, k, correlated_period, history_max: 4 }, steps.clone(), |_| 1)?;
        }
    }

    /// Tensors: entries of whole blocks.
    #[test]
    fn entries_that_are_weighed_go_as_the_paper_says(steps in steps(), k in 1..=3_usize) {
        for correlated_period in [0, 4] {
            let policy = Policy { bytes_max: 64 << 20, k, correlated_period, history_max: 4 };
            agree(policy, steps.clone(), |bytes| bytes.min(1 << 10) << 20)?;
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
