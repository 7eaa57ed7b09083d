//! Kills a process after every single instruction of each step that it takes on shared memory, by ptrace, and shows that
//! nothing is lost, leaked or stuck: before recovery the living still make progress, and after it every accepted frame
//! comes out once, and every job, slot and hint is free again.
//!
//! The last cases step the *recovery* instead: it is halted after every so many instructions while a living process
//! works on, then goes on, and must have harmed nothing; and it is killed. So is that of a launcher that takes over, when all
//! have died and what lay in slabs with them.

mod support;

use std::time::Instant;

use framepipe_shm::{Blame, Gate, Worker};
use framepipe_stepper::Stopped;
use support::{A, B, Bench, GATEWAY};

const VICTIM: u16 = 7;

/// The key of the frames that every bench begins with, at place 0; and the one that a victim brings.
const OLD_KEY: u64 = 11;
const NEW_KEY: u64 = 12;

/// What the victim does, after frames were brought to the stage that it works for.
struct Case {
    name: &'static str,
    /// True where the victim is a gateway that takes jobs.
    admits: bool,
    /// The place in the table of keys that it writes.
    key: Option<usize>,
    frames_at: usize,
    /// True where the reserved job is there as well, behind the frames.
    reserved: bool,
    step: fn(&Bench),
}

const CASES: &[Case] = &[
    Case {
        name: "put back (pop, claim, acquire, free, push)",
        admits: false,
        key: None,
        frames_at: B,
        reserved: false,
        step: put_back,
    },
    Case {
        name: "admit (draft, accept)",
        admits: true,
        key: None,
        frames_at: A,
        reserved: false,
        step: |bench| done(bench.accept(VICTIM, 2)),
    },
    Case {
        name: "admit with a key",
        admits: true,
        key: Some(1),
        frames_at: A,
        reserved: false,
        step: |bench| done(bench.accept_keyed(VICTIM, 2, 1, NEW_KEY)),
    },
    Case {
        name: "admit with a key in the place of another",
        admits: true,
        key: Some(0),
        frames_at: A,
        reserved: false,
        step: |bench| done(bench.accept_keyed(VICTIM, 2, 0, NEW_KEY)),
    },
    Case {
        name: "draft, drop",
        admits: true,
        key: None,
        frames_at: A,
        reserved: false,
        step: |bench| done(Gate::new(&bench.segment, VICTIM).draft(2)),
    },
    Case {
        name: "stage A (claim, acquire, publish)",
        admits: false,
        key: None,
        frames_at: A,
        reserved: false,
        step: |bench| done(bench.work(VICTIM, A)),
    },
    Case {
        name: "stage B (claim, acquire, publish, free input)",
        admits: false,
        key: None,
        frames_at: B,
        reserved: false,
        step: |bench| done(bench.work(VICTIM, B)),
    },
    Case {
        name: "deliver (claim, free)",
        admits: false,
        key: None,
        frames_at: GATEWAY,
        reserved: false,
        step: |bench| done(bench.deliver(VICTIM)),
    },
    Case {
        name: "send the reserved job (draft, send)",
        admits: true,
        key: None,
        frames_at: A,
        reserved: false,
        step: |bench| done(bench.send_reserved(VICTIM)),
    },
    Case {
        name: "deliver all, the reserved job last",
        admits: false,
        key: None,
        frames_at: GATEWAY,
        reserved: true,
        step: |bench| (0..4).for_each(|_| done(bench.deliver(VICTIM))),
    },
];

/// Keeps a result from being optimised away.
fn done<T>(result: T) {
    std::hint::black_box(result);
}

/// Claims a job, takes a slot for it and puts it back: a pop and a push, with all that recovery needs between them.
fn put_back(bench: &Bench) {
    let worker = Worker::new(&bench.segment, VICTIM, B);
    let mut work = worker.claim().expect("frames wait");
    worker.acquire(&mut work, B, 8).expect("slots are free");
    worker.put_back(work).expect("the victim lives");
}

const JOBS: usize = 8;
/// Frames accepted before the victim's step.
const ACCEPTED: u64 = JOBS as u64 + 3;

/// Brings three frames to a stage, and the reserved job behind them. Every job has had a life before.
fn prepared(frames_at: usize, reserved: bool) -> Bench {
    let bench = Bench::new(JOBS as u64, 8);
    bench.segment.processes()[1].occupy(VICTIM, 0, 0);
    assert!(bench.accept_keyed(1, JOBS, 0, OLD_KEY));
    assert!(bench.send_reserved(1) && !bench.send_reserved(1));
    bench.drain();
    assert!(bench.accept(1, 3) && (!reserved || bench.send_reserved(1)));
    for queue in [A, B] {
        while queue < frames_at && bench.work(1, queue) {}
    }
    bench
}

fn assert_all_delivered(bench: &Bench, context: &str) {
    for frame in 0..bench.segment.accepted() {
        assert!(bench.ledger.has(frame), "{context}: frame {frame} is lost");
    }
}

/// Whatever was left in the jobs by former lives and deaths: a gateway that dies with all jobs drafted and none accepted
/// leaves no frame behind.
fn assert_no_phantom(bench: &Bench, context: &str) {
    const GATEWAY_OWNER: u16 = 8;
    assert!(bench.accept(1, 2), "{context}");
    bench.drain();
    bench.segment.processes()[2].occupy(GATEWAY_OWNER, 2, 0);
    std::mem::forget(Gate::new(&bench.segment, GATEWAY_OWNER).draft(JOBS).expect("all jobs are free"));
    bench.segment.processes()[2].vacate();
    let repair = bench.segment.recover(Blame::Frames);
    assert_eq!((repair.accepted, repair.freed), (0, JOBS), "{context}: a frame that nobody accepted");
}

/// A key is remembered if and only if its frames were accepted; another's is forgotten only where its place was taken.
fn assert_keys(bench: &Bench, case: &Case, was_accepted: bool, context: &str) {
    let keys = bench.take_over_keys(1);
    let (old, new) = ((OLD_KEY, 0, JOBS as u64), (NEW_KEY, ACCEPTED, 2));
    let expected_new = (was_accepted && case.key.is_some()).then_some(new);
    let found_new: Vec<_> = keys.iter().copied().filter(|key| key.0 != OLD_KEY).collect();
    assert_eq!(found_new, Vec::from_iter(expected_new), "{context}: {keys:?}");
    let may_be_forgotten = case.key == Some(0);
    let must_be_forgotten = may_be_forgotten && expected_new.is_some();
    assert!(keys.contains(&old) != must_be_forgotten || may_be_forgotten && !must_be_forgotten, "{context}: {keys:?}");
}

fn kill_at_every_instruction(case: &Case, recover_first: bool) {
    let start = Instant::now();
    let kills = at_every_instruction(
        1,
        || prepared(case.frames_at, case.reserved),
        case.step,
        |bench, victim, point| {
            let context = format!("{}, killed after {point} instructions", case.name);
            victim.kill();
            bench.segment.processes()[1].vacate();
            let was_accepted = bench.segment.accepted() > ACCEPTED;
            if !recover_first && case.admits {
                bench.drain(); // there is one gateway, and the next one starts after the recovery: nobody accepts now
            } else if !recover_first {
                let frame = bench.segment.accepted();
                assert!(bench.accept(1, 1), "{context}: the living cannot accept");
                bench.drain();
                assert!(bench.ledger.has(frame), "{context}: the living make no progress before recovery");
            }
            let repair = bench.segment.recover(Blame::Frames);
            assert!(was_accepted || repair.accepted == 0, "{context}: a frame that nobody accepted: {repair:?}");
            let again = bench.segment.recover(Blame::Frames);
            assert_eq!(again, Default::default(), "{context}: a second recovery finds nothing to do");
            bench.drain();
            assert_all_delivered(bench, &context);
            bench.assert_clean(&context);
            assert_keys(bench, case, was_accepted, &context);
            assert_no_phantom(bench, &context);
            assert_keys(bench, case, was_accepted, &context); // now that others have the numbers of what was not accepted
        },
    );
    let order = if recover_first { "recovered at once" } else { "the living go first" };
    println!("{:48} {order:20} {kills:6} kills: nothing lost, leaked or stuck ({:.1?})", case.name, start.elapsed());
}

/// Halts a recovery after every `stride` instructions while a living process works on.
fn halt_recovery(stride: usize) {
    let start = Instant::now();
    let halts = at_every_instruction(stride, with_dead_worker, recover, |bench, halted, point| {
        let context = format!("recovery halted after {point} instructions");
        assert!(bench.accept(1, 1), "{context}");
        bench.drain();
        halted.finish();
        halted.kill();
        bench.drain();
        assert_all_delivered(bench, &context);
        bench.assert_clean(&context);
    });
    println!(
        "recovery halted every {stride} instructions, the living at work: {halts} halts ({:.1?})",
        start.elapsed()
    );
}

/// Kills a recovery after every `stride` instructions; the next one finishes its work.
fn kill_recovery(stride: usize) {
    let start = Instant::now();
    let kills = at_every_instruction(stride, with_dead_worker, recover, |bench, victim, point| {
        let context = format!("recovery killed after {point} instructions");
        victim.kill();
        bench.segment.recover(Blame::Nobody);
        bench.drain();
        assert_all_delivered(bench, &context);
        bench.assert_clean(&context);
    });
    println!("recovery killed every {stride} instructions, and begun again: {kills} kills ({:.1?})", start.elapsed());
}

/// Kills a launcher after every `stride` instructions of its taking over; the next one takes over. Where `work_between`, that one's workers
/// work on, until all die again and a third one takes over.
fn kill_take_over(stride: usize, work_between: bool) {
    let start = Instant::now();
    let kills = at_every_instruction(
        stride,
        with_all_dead,
        |bench| done(bench.take_over()),
        |bench, victim, point| {
            let context = format!("take-over killed after {point} instructions");
            victim.kill();
            bench.lose_slab();
            bench.take_over();
            assert_eq!(bench.segment.pool_use(2).0, 0, "{context}: a slot of the slab that is gone");
            assert_eq!(bench.take_over(), Default::default(), "{context}: another take-over finds nothing to do");
            bench.segment.processes()[0].occupy(1, 0, 0);
            if work_between {
                assert!(bench.work(1, A) && bench.work(1, A) && bench.work(1, B), "{context}");
                bench.segment.processes()[0].vacate();
                bench.lose_slab();
                assert_eq!(bench.take_over().restarted, 1, "{context}: the frame at B");
                bench.segment.processes()[0].occupy(1, 0, 0);
            }
            bench.drain();
            assert_all_delivered(bench, &context);
            bench.assert_clean(&context);
        },
    );
    let then = if work_between { "worked on, taken over again" } else { "taken over again" };
    println!(
        "take-over without slabs killed every {stride} instructions, {then}: {kills} kills: nothing lost, leaked or stuck ({:.1?})",
        start.elapsed()
    );
}

fn at_every_instruction(
    stride: usize,
    prepare: impl Fn() -> Bench,
    step: fn(&Bench),
    mut at: impl FnMut(&Bench, Stopped, usize),
) -> usize {
    let (enter, step) = (|bench: &Bench| bench.in_child(), |bench: std::mem::ManuallyDrop<Bench>| step(&bench));
    let at = |bench: Bench, stopped, point| at(&bench, stopped, point);
    framepipe_stepper::at_every_instruction(stride, prepare, enter, step, at)
}

fn recover(bench: &Bench) {
    done(bench.segment.recover(Blame::Frames));
}

/// A worker has died with one job claimed, and a slot taken for it.
fn with_dead_worker() -> Bench {
    let bench = prepared(B, true);
    let worker = Worker::new(&bench.segment, VICTIM, B);
    let mut work = worker.claim().expect("frames wait");
    worker.acquire(&mut work, B, 8).expect("slots are free");
    let _dies_with_it = work;
    bench.segment.processes()[1].vacate();
    bench
}

/// All have died, and what lay in the slab: a frame at A; two at B, one of which had been claimed with a slot taken for it; one
/// at the gateway.
fn with_all_dead() -> Bench {
    let bench = prepared(A, false);
    assert!(bench.accept(1, 1));
    assert!((0..3).all(|_| bench.work(1, A)) && bench.work(1, B));
    let worker = Worker::new(&bench.segment, VICTIM, B);
    let mut work = worker.claim().expect("two frames wait");
    worker.acquire(&mut work, B, 8).expect("slots are free");
    let _dies_with_it = work;
    (0..2).for_each(|entry| bench.segment.processes()[entry].vacate());
    bench.lose_slab();
    bench
}

fn main() {
    let start = Instant::now();
    for case in CASES {
        for recover_first in [true, false] {
            kill_at_every_instruction(case, recover_first);
        }
    }
    halt_recovery(3);
    kill_recovery(3);
    kill_take_over(1, false);
    kill_take_over(3, true);
    println!("test result: ok. single-step kills passed in {:.1?}", start.elapsed());
}
