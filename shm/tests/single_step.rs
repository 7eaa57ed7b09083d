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

/// What the victim does, after frames were brought to the stage that it works for.
struct Case {
    name: &'static str,
    /// True where the victim is a gateway that takes jobs.
    admits: bool,
    frames_at: usize,
    step: fn(&Bench),
}

const CASES: &[Case] = &[
    Case { name: "put back (pop, claim, acquire, free, push)", admits: false, frames_at: B, step: put_back },
    Case { name: "admit (draft, accept)", admits: true, frames_at: A, step: |bench| done(bench.accept(VICTIM, 2)) },
    Case {
        name: "draft, drop",
        admits: true,
        frames_at: A,
        step: |bench| done(Gate::new(&bench.segment, VICTIM).draft(2)),
    },
    Case {
        name: "stage A (claim, acquire, publish)",
        admits: false,
        frames_at: A,
        step: |bench| done(bench.work(VICTIM, A)),
    },
    Case {
        name: "stage B (claim, acquire, publish, free input)",
        admits: false,
        frames_at: B,
        step: |bench| done(bench.work(VICTIM, B)),
    },
    Case {
        name: "deliver (claim, free)",
        admits: false,
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
fn run_to(child: Pid, trace: &[u64], count: usize) {
    if count == 0 {
        return;
    }
    ptrace::write_user(child, (DEBUG_REGISTERS).cast_mut().cast(), trace[count] as i64).expect("breakpoint address");
    let control = DEBUG_REGISTERS.wrapping_add(7 * 8);
    ptrace::write_user(child, control.cast_mut().cast(), 1).expect("breakpoint on");
    let passes = trace[1..=count].iter().filter(|address| **address == trace[count]).count();
    for _ in 0..passes {
        ptrace::cont(child, None).expect("the child is stopped");
        assert_eq!(wait_stop(child), Stop::Trap, "the child takes the same way each time");
    }
    assert_eq!(instruction_pointer(child), trace[count], "the child takes the same way each time");
}

/// Offset of the debug registers in the kernel's `struct user` (x86-64).
const DEBUG_REGISTERS: *const u8 = std::ptr::without_provenance(848);

fn kill_and_wait(child: Pid) {
    kill(child, Signal::SIGKILL).expect("kill");
    while !matches!(waitpid(child, None).expect("wait"), WaitStatus::Signaled(..) | WaitStatus::Exited(..)) {}
}

const JOBS: usize = 8;

/// Brings three frames to a stage. Every job has had a life before.
fn prepared(frames_at: usize) -> Bench {
    let bench = Bench::new(JOBS as u64, 8);
    bench.segment.processes()[1].occupy(VICTIM, 0, 0);
    assert!(bench.accept(1, JOBS));
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

fn kill_at_every_instruction(case: &Case, recover_first: bool) {
    let start = Instant::now();
    let trace = {
        let bench = prepared(case.frames_at);
        let child = traced(&bench, case.step);
        let trace = trace(child);
        kill_and_wait(child);
        trace
    };
    for point in 0..trace.len() {
        let context = format!("{}, killed after {point} instructions", case.name);
        let bench = prepared(case.frames_at);
        let before = bench.segment.accepted();
        let child = traced(&bench, case.step);
        run_to(child, &trace, point);
        kill_and_wait(child);
        bench.segment.processes()[1].vacate();
        let was_accepted = bench.segment.accepted() > before;
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
        assert_all_delivered(&bench, &context);
        bench.assert_clean(&context);
        assert_no_phantom(&bench, &context);
    }
    let order = if recover_first { "recovered at once" } else { "the living go first" };
    let points = trace.len();
    println!("{:48} {order:20} {points:6} kills: nothing lost, leaked or stuck ({:.1?})", case.name, start.elapsed());
}

/// Halts a recovery after every `stride` instructions while a living process works on.
fn halt_recovery(stride: usize) {
    let start = Instant::now();
    // The dead had one job claimed, with a slot taken for it.
    let prepare = || {
        let bench = prepared(B);
        let worker = Worker::new(&bench.segment, VICTIM, B);
        let mut work = worker.claim().expect("frames wait");
        worker.acquire(&mut work, B, 8).expect("slots are free");
        let _dies_with_it = work;
        bench.segment.processes()[1].vacate();
        bench
    };
    let recover = |bench: &Bench| done(bench.segment.recover(Blame::Frames));
    let trace = {
        let bench = prepare();
        let child = traced(&bench, recover);
        let trace = trace(child);
        kill_and_wait(child);
        trace
    };
    for point in (0..trace.len()).step_by(stride) {
        let context = format!("recovery halted after {point} instructions");
        let bench = prepare();
        let child = traced(&bench, recover);
        run_to(child, &trace, point);
        assert!(bench.accept(1, 1), "{context}");
        bench.drain();
        ptrace::write_user(child, DEBUG_REGISTERS.wrapping_add(7 * 8).cast_mut().cast(), 0).expect("breakpoint off");
        ptrace::cont(child, None).expect("go on");
        assert_eq!(wait_stop(child), Stop::Finished, "{context}");
        kill_and_wait(child);
        bench.drain();
        assert_all_delivered(&bench, &context);
        bench.assert_clean(&context);
    }
    let points = trace.len().div_ceil(stride);
    println!(
        "recovery halted every {stride} instructions, the living at work: {points} halts ({:.1?})",
        start.elapsed()
    );
}

fn main() {
    let start = Instant::now();
    for case in CASES {
        for recover_first in [true, false] {
            kill_at_every_instruction(case, recover_first);
        }
    }
    halt_recovery(3);
    println!("test result: ok. single-step kills passed in {:.1?}", start.elapsed());
}
