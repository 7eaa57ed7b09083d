//! What recovery promises beside putting frames back.

mod support;

use std::time::{Duration, Instant};

use framepipe_shm::{Blame, Worker};
use support::{A, B, Bench};

#[test]
fn a_recovery_wakes_every_sleeper() {
    let bench = Bench::new(4, 2);
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut woken = false;
    std::thread::scope(|scope| {
        // Two at one queue and one at a pool without a free slot: each would sleep past the deadline.
        let long = Duration::from_secs(600);
        let segment = &bench.segment;
        assert!(bench.accept(1, 2) && bench.work(1, A) && bench.work(1, A));
        let sleepers = [
            scope.spawn(move || _ = Worker::new(segment, 1, A).wait(long, || false)),
            scope.spawn(move || _ = Worker::new(segment, 1, A).wait(long, || false)),
            scope.spawn(move || _ = Worker::new(segment, 1, B).wait_for_slot(0, 8, long, || false)),
        ];
        let asleep = || !sleepers.iter().all(|sleeper| sleeper.is_finished());
        while asleep() && Instant::now() < deadline {
            segment.recover(Blame::Frames);
            std::thread::yield_now();
        }
        woken = !asleep();
        while asleep() {
            segment.wake_all(); // so that a failure is told at once
        }
    });
    assert!(woken, "a sleeper slept on");
}

#[test]
fn only_a_death_alone_is_an_attempt() {
    let bench = Bench::new(4, 4);
    assert!(bench.accept(1, 1));
    let mut seen = Vec::new();
    for blame in [Blame::Nobody, Blame::Frames, Blame::Nobody, Blame::Frames, Blame::Frames] {
        bench.segment.processes()[1].occupy(9, A, 0);
        let work = Worker::new(&bench.segment, 9, A).claim().expect("the frame waits");
        seen.push((work.is_suspect(), work.attempts()));
        bench.segment.processes()[1].vacate();
        assert_eq!(bench.segment.recover(blame).reclaimed, 1);
    }
    assert_eq!(seen, [(false, 0), (false, 0), (true, 0), (true, 0), (true, 1)]);
    assert!(bench.work(1, A) && bench.work(1, B), "a stage that succeeds clears the record");
}

#[test]
fn an_owner_id_is_not_given_while_a_word_bears_it() {
    let bench = Bench::new(4, 4);
    assert!(bench.accept(1, 1));
    let owner = bench.segment.new_owner();
    bench.segment.processes()[1].occupy(owner, A, 0);
    let _claimed = Worker::new(&bench.segment, owner, A).claim().expect("the frame waits");
    bench.segment.processes()[1].vacate();
    for _ in 0..=u16::MAX as usize {
        assert_ne!(bench.segment.new_owner(), owner, "the dead one's claim still bears it");
    }
}
