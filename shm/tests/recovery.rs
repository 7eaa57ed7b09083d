//! What recovery promises beside putting frames back.

mod support;

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use framepipe_shm::{Access, Blame, HostSlab, Outcome, Place, Segment, Worker};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
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

#[test]
fn a_frame_that_lost_its_slab_starts_again_with_its_record_of_deaths_and_keeps_no_slot_that_it_waits_for() {
    let bench = Bench::new(4, 1);
    assert!(bench.accept(1, 1) && bench.work(1, A));
    for blame in [Blame::Frames, Blame::Frames] {
        bench.segment.processes()[1].occupy(9, B, 0);
        let _claimed = Worker::new(&bench.segment, 9, B).claim().expect("the frame waits");
        bench.segment.processes()[1].vacate();
        bench.segment.recover(blame);
    }
    bench.segment.processes()[0].vacate();
    bench.lose_slab();
    let repair = bench.take_over();
    assert_eq!((repair.restarted, repair.slots), (1, 2), "what A had written is freed: {repair:?}");
    bench.segment.processes()[0].occupy(1, 0, 0);
    let worker = Worker::new(&bench.segment, 1, A);
    let work = worker.claim().expect("it waits at A");
    assert_eq!((work.is_suspect(), work.attempts()), (true, 1));
    worker.put_back(work).expect("it lives");
    bench.drain();
    assert!(bench.ledger.has(0));
    bench.assert_clean("at the end");
}

#[test]
fn a_slab_of_another_size_or_one_that_may_shrink_is_refused_and_what_is_not_mapped_still_has_its_place() {
    let bench = Bench::new(4, 2);
    let folder = bench.segment.folder();
    let slab = |bytes: u64, seals: SealFlags| {
        let slab = memfd_create("test-slab", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).expect("a memfd");
        rustix::fs::ftruncate(&slab, bytes).expect("it grows");
        fcntl_add_seals(&slab, seals).expect("it can be sealed");
        slab
    };
    let open = || Segment::open(folder, Access::All).expect("it was made");
    let refused = |pool: usize, memory: BorrowedFd<'_>| {
        open().map_slabs(&[HostSlab { pool, memory }]).expect_err("it is refused").to_string()
    };
    assert!(refused(2, slab(4096, SealFlags::SHRINK).as_fd()).contains("4096 bytes, and the pool's slots 8192"));
    assert!(refused(2, slab(8192, SealFlags::GROW).as_fd()).contains("it may shrink"));
    assert!(refused(0, slab(8192, SealFlags::SHRINK).as_fd()).contains("no such pool"));
    assert!(refused(2, std::fs::File::open("/dev/null").expect("it is there").as_fd()).contains("no memfd"));

    let unmapped = open(); // as a device's memory is
    assert!(bench.accept(1, 2));
    for expected in [0, 4096] {
        let worker = Worker::new(&unmapped, 1, A);
        let mut work = worker.claim().expect("frames wait");
        worker.acquire(&mut work, 2, 5).expect("slots are free");
        let output = work.output(2).expect("it was acquired");
        output.used = 5;
        let place = Place { pool: 2, offset: expected, slot_bytes: 4096, used: 5 };
        assert_eq!((output.place(), output.bytes.len()), (place, 0));
        worker.publish(work, Outcome { queue: B, carry: 0, descriptor: &[0; 8] }).expect("it lives");
        // It stays claimed, so that the next one gets another slot.
        let work = Worker::new(&unmapped, 1, B).claim().expect("it was published");
        assert_eq!((work.input_place(2), work.input(2)), (Some(place), None));
    }
}
