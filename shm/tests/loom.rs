//! loom tries every interleaving of so many preemptions (and every reordering that the memory model allows) of small cases of the ring, the
//! set of hints and the event. Run by `RUSTFLAGS="--cfg loom" cargo test -p framepipe-shm --test loom`.
#![cfg(loom)]

use std::time::Duration;

use framepipe_shm::{Event, EventWords, HintRing, HintSet, RingEnds, model::Futex};
use loom::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
};

struct Queue {
    ends: RingEnds,
    cells: [AtomicU64; 2],
    words: EventWords,
    futex: Futex,
}

impl Queue {
    fn new() -> Arc<Self> {
        let cells = [AtomicU64::new(0), AtomicU64::new(0)];
        Arc::new(Self { ends: RingEnds::default(), cells, words: EventWords::default(), futex: Futex::default() })
    }

    fn ring(&self) -> HintRing<'_> {
        HintRing::new(&self.ends, &self.cells)
    }

    fn event(&self) -> Event<'_> {
        Event::modelled(&self.words, &self.futex)
    }
}

fn check(preemptions: usize, case: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(case);
}

#[test]
fn two_producers_and_two_consumers_lose_and_double_nothing() {
    check(2, || {
        let queue = Queue::new();
        let producers = [1, 2].map(|hint| {
            let queue = queue.clone();
            thread::spawn(move || assert!(queue.ring().push(hint), "two hints fit two cells"))
        });
        let consumers = [0, 1].map(|_| {
            let queue = queue.clone();
            thread::spawn(move || queue.ring().pop())
        });
        producers.into_iter().for_each(|producer| producer.join().expect("the producer ends"));
        let mut taken: Vec<u32> =
            consumers.into_iter().filter_map(|consumer| consumer.join().expect("it ends")).collect();
        taken.extend(std::iter::from_fn(|| queue.ring().pop()));
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
    });
}

#[test]
fn a_full_ring_refuses_and_goes_on_over_the_lap() {
    check(3, || {
        let queue = Queue::new();
        assert!(queue.ring().push(1) && queue.ring().push(2));
        let producer = {
            let queue = queue.clone();
            thread::spawn(move || queue.ring().push(3))
        };
        let first = queue.ring().pop();
        let pushed = producer.join().expect("it ends");
        let rest: Vec<u32> = std::iter::from_fn(|| queue.ring().pop()).collect();
        assert_eq!(first, Some(1));
        assert_eq!(rest, if pushed { vec![2, 3] } else { vec![2] });
    });
}

#[test]
fn what_was_written_before_a_push_is_seen_after_its_pop() {
    check(3, || {
        let queue = Queue::new();
        let data = Arc::new(AtomicU32::new(0));
        let producer = {
            let (queue, data) = (queue.clone(), data.clone());
            thread::spawn(move || {
                data.store(7, Ordering::Relaxed);
                assert!(queue.ring().push(1));
            })
        };
        if queue.ring().pop().is_some() {
            assert_eq!(data.load(Ordering::Relaxed), 7);
        }
        producer.join().expect("it ends");
    });
}

#[test]
fn a_hint_of_a_set_is_taken_once_and_what_was_written_before_it_was_added_is_seen() {
    check(3, || {
        let shared = Arc::new(([AtomicU64::new(0b10)], AtomicU32::new(0)));
        let adds = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1.store(7, Ordering::Relaxed);
                HintSet::new(&shared.0).add(0);
            })
        };
        let takes = {
            let shared = shared.clone();
            thread::spawn(move || HintSet::new(&shared.0).take())
        };
        let mut taken: Vec<u32> = HintSet::new(&shared.0).take().into_iter().collect();
        if taken == [0] {
            assert_eq!(shared.1.load(Ordering::Relaxed), 7);
        }
        adds.join().expect("it ends");
        taken.extend(takes.join().expect("it ends"));
        taken.extend(std::iter::from_fn(|| HintSet::new(&shared.0).take()));
        taken.sort_unstable();
        assert_eq!(taken, [0, 1]);
    });
}

#[test]
fn no_wake_up_is_lost() {
    // A lost wake-up leaves the consumer asleep for good: loom reports the deadlock.
    check(3, || {
        let queue = Queue::new();
        let producer = {
            let queue = queue.clone();
            thread::spawn(move || {
                assert!(queue.ring().push(1));
                queue.event().notify(1);
            })
        };
        let hint = loop {
            if let Some(hint) = queue.event().park(Duration::ZERO, || queue.ring().pop()) {
                break hint;
            }
        };
        assert_eq!(hint, 1);
        producer.join().expect("it ends");
    });
}

#[test]
fn two_sleepers_and_two_notices_all_end() {
    check(2, || {
        let queue = Queue::new();
        let consumers = [0, 1].map(|_| {
            let queue = queue.clone();
            thread::spawn(move || while queue.event().park(Duration::ZERO, || queue.ring().pop()).is_none() {})
        });
        for hint in [1, 2] {
            assert!(queue.ring().push(hint));
            queue.event().notify(1);
        }
        consumers.into_iter().for_each(|consumer| consumer.join().expect("it ends"));
    });
}
