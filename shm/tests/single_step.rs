//! Kills a process after every single instruction of each step that it takes on shared memory, by ptrace, and shows that
//! nothing is lost, leaked or stuck: before recovery the living still make progress, and after it every accepted frame
//! comes out once, and every job, slot and hint is free again.
//!
//! The last case steps the *recovery* instead: it is halted after every so many instructions while a living process
//! works on, then goes on, and must have harmed nothing.
#![allow(unsafe_code, reason = "fork")]

mod support;

use std::{process::exit, time::Instant};

use framepipe_shm::{Blame, Gate, Worker};
use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill, raise},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
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
    step: fn(&Bench),
}

const CASES: &[Case] = &[
    Case { name: "put back (pop, claim, acquire, free, push)", admits: false, key: None, frames_at: B, step: put_back },
    Case {
        name: "admit (draft, accept)",
        admits: true,
        key: None,
        frames_at: A,
        step: |bench| done(bench.accept(VICTIM, 2)),
    },
    Case {
        name: "admit with a key",
        admits: true,
        key: Some(1),
        frames_at: A,
        step: |bench| done(bench.accept_keyed(VICTIM, 2, 1, NEW_KEY)),
    },
    Case {
        name: "admit with a key in the place of another",
        admits: true,
        key: Some(0),
        frames_at: A,
        step: |bench| done(bench.accept_keyed(VICTIM, 2, 0, NEW_KEY)),
    },
    Case {
        name: "draft, drop",
        admits: true,
        key: None,
        frames_at: A,
        step: |bench| done(Gate::new(&bench.segment, VICTIM).draft(2)),
    },
    Case {
        name: "stage A (claim, acquire, publish)",
        admits: false,
        key: None,
        frames_at: A,
        step: |bench| done(bench.work(VICTIM, A)),
    },
    Case {
        name: "stage B (claim, acquire, publish, free input)",
        admits: false,
        key: None,
        frames_at: B,
        step: |bench| done(bench.work(VICTIM, B)),
    },
    Case {
        name: "deliver (claim, free)",
        admits: false,
        key: None,
        frames_at: GATEWAY,
        step: |bench| done(bench.deliver(VICTIM)),
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

/// Forks a child that stops, does `step` when it is continued, and stops again.
fn traced(bench: &Bench, step: impl FnOnce(&Bench)) -> Pid {
    // SAFETY: this process has one thread.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => {
            assert!(matches!(waitpid(child, None), Ok(WaitStatus::Stopped(_, Signal::SIGSTOP))));
            child
        }
        ForkResult::Child => {
            let bench = bench.in_child();
            ptrace::traceme().expect("traceme");
            raise(Signal::SIGSTOP).expect("stop");
            step(&bench);
            raise(Signal::SIGUSR1).expect("signal the end");
            exit(0);
        }
    }
}

/// How a stopped child was found after it went on.
#[derive(PartialEq, Eq, Debug)]
enum Stop {
    /// At an instruction.
    Trap,
    /// It has finished its step.
    Finished,
}

fn wait_stop(child: Pid) -> Stop {
    match waitpid(child, None).expect("wait") {
        WaitStatus::Stopped(_, Signal::SIGTRAP) => Stop::Trap,
        WaitStatus::Stopped(_, Signal::SIGUSR1) => Stop::Finished,
        other => panic!("the child did not finish its step: {other:?}"),
    }
}

fn instruction_pointer(child: Pid) -> u64 {
    ptrace::getregs(child).expect("the child is stopped").rip
}

/// Steps a child to the end of its step; the address of each instruction, as it was about to run.
fn trace(child: Pid) -> Vec<u64> {
    let mut addresses = vec![instruction_pointer(child)];
    loop {
        ptrace::step(child, None).expect("the child is stopped");
        if wait_stop(child) == Stop::Finished {
            return addresses;
        }
        addresses.push(instruction_pointer(child));
    }
}

/// Lets a child run up to instruction `count` of the trace. By a hardware breakpoint, not by `count` single steps, which
/// would make the test quadratic: the instruction's address, as often as the trace passes it before.
///
/// False where the child took another way than the traced one: its heap, inherited from this process, had another shape.
fn run_to(child: Pid, trace: &[u64], count: usize) -> bool {
    if count == 0 {
        return true;
    }
    ptrace::write_user(child, (DEBUG_REGISTERS).cast_mut().cast(), trace[count] as i64).expect("breakpoint address");
    let control = DEBUG_REGISTERS.wrapping_add(7 * 8);
    ptrace::write_user(child, control.cast_mut().cast(), 1).expect("breakpoint on");
    let passes = trace[1..=count].iter().filter(|address| **address == trace[count]).count();
    for _ in 0..passes {
        ptrace::cont(child, None).expect("the child is stopped");
        if wait_stop(child) == Stop::Finished {
            return false;
        }
    }
    instruction_pointer(child) == trace[count]
}

/// Takes a step to each `stride`th of its instructions, and lets `at` do with the child what it will.
fn at_every_instruction(
    stride: usize,
    prepare: impl Fn() -> Bench,
    step: fn(&Bench),
    mut at: impl FnMut(&Bench, Pid, usize),
) -> usize {
    let record = || {
        let bench = prepare();
        let child = traced(&bench, step);
        let trace = trace(child);
        kill_and_wait(child);
        trace
    };
    let (mut trace, mut point, mut retraced) = (record(), 0, 0);
    while point < trace.len() {
        let bench = prepare();
        let child = traced(&bench, step);
        if !run_to(child, &trace, point) {
            kill_and_wait(child);
            retraced += 1;
            assert!(retraced < RETRACES_MAX, "the child takes another way each time");
            trace = record();
            continue;
        }
        at(&bench, child, point);
        point += stride;
    }
    trace.len().div_ceil(stride)
}

/// The heap finds its shape after a few rounds.
const RETRACES_MAX: usize = 20;

/// Offset of the debug registers in the kernel's `struct user` (x86-64).
const DEBUG_REGISTERS: *const u8 = std::ptr::without_provenance(848);

fn kill_and_wait(child: Pid) {
    kill(child, Signal::SIGKILL).expect("kill");
    while !matches!(waitpid(child, None).expect("wait"), WaitStatus::Signaled(..) | WaitStatus::Exited(..)) {}
}

const JOBS: usize = 8;
/// Frames accepted before the victim's step.
const ACCEPTED: u64 = JOBS as u64 + 3;

/// Brings three frames to a stage. Every job has had a life before.
fn prepared(frames_at: usize) -> Bench {
    let bench = Bench::new(JOBS as u64, 8);
    bench.segment.processes()[1].occupy(VICTIM, 0, 0);
    assert!(bench.accept_keyed(1, JOBS, 0, OLD_KEY));
    bench.drain();
    assert!(bench.accept(1, 3));
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
        || prepared(case.frames_at),
        case.step,
        |bench, child, point| {
            let context = format!("{}, killed after {point} instructions", case.name);
            kill_and_wait(child);
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
    let halts = at_every_instruction(stride, with_dead_worker, recover, |bench, child, point| {
        let context = format!("recovery halted after {point} instructions");
        assert!(bench.accept(1, 1), "{context}");
        bench.drain();
        ptrace::write_user(child, DEBUG_REGISTERS.wrapping_add(7 * 8).cast_mut().cast(), 0).expect("breakpoint off");
        ptrace::cont(child, None).expect("go on");
        assert_eq!(wait_stop(child), Stop::Finished, "{context}");
        kill_and_wait(child);
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
    let kills = at_every_instruction(stride, with_dead_worker, recover, |bench, child, point| {
        let context = format!("recovery killed after {point} instructions");
        kill_and_wait(child);
        bench.segment.recover(Blame::Nobody);
        bench.drain();
        assert_all_delivered(bench, &context);
        bench.assert_clean(&context);
    });
    println!("recovery killed every {stride} instructions, and begun again: {kills} kills ({:.1?})", start.elapsed());
}

fn recover(bench: &Bench) {
    done(bench.segment.recover(Blame::Frames));
}

/// A worker has died with one job claimed, and a slot taken for it.
fn with_dead_worker() -> Bench {
    let bench = prepared(B);
    let worker = Worker::new(&bench.segment, VICTIM, B);
    let mut work = worker.claim().expect("frames wait");
    worker.acquire(&mut work, B, 8).expect("slots are free");
    let _dies_with_it = work;
    bench.segment.processes()[1].vacate();
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
    println!("test result: ok. single-step kills passed in {:.1?}", start.elapsed());
}
