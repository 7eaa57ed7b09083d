//! Kills a process after each single instruction of a step that it takes, by ptrace and real `kill -9`: what the test then
//! finds is what a death there leaves behind. A hardware breakpoint brings the process to each instruction, since stepping to
//! each would be quadratic. x86-64 Linux.
#![allow(unsafe_code, reason = "fork")]

use std::process::exit;

use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill, raise},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};

/// Offset of the debug registers in the kernel's `struct user` (x86-64).
const DEBUG_REGISTERS: *const u8 = std::ptr::without_provenance(848);
/// Longest step.
const INSTRUCTIONS_MAX: usize = 1 << 20;
/// The heap finds its shape after a few rounds.
const RETRACES_MAX: usize = 20;

/// A forked process, stopped at some instruction of its step.
pub struct Stopped {
    pid: Pid,
}

/// How a stopped process was found after it went on.
#[derive(PartialEq, Eq, Debug)]
enum Stop {
    /// At an instruction.
    Trap,
    /// It has finished its step.
    Finished,
}

impl Stopped {
    /// Forks a process that makes itself ready, stops, does `step` when it goes on, and stops again.
    fn fork<S>(enter: impl FnOnce() -> S, step: impl FnOnce(S)) -> Self {
        // SAFETY: the caller's process has one thread.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => {
                assert!(matches!(waitpid(child, None), Ok(WaitStatus::Stopped(_, Signal::SIGSTOP))));
                Self { pid: child }
            }
            ForkResult::Child => {
                let state = enter();
                ptrace::traceme().expect("traceme");
                raise(Signal::SIGSTOP).expect("stop");
                step(state);
                raise(Signal::SIGUSR1).expect("signal the end");
                exit(0);
            }
        }
    }

    fn wait(&self) -> Stop {
        match waitpid(self.pid, None).expect("wait") {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Stop::Trap,
            WaitStatus::Stopped(_, Signal::SIGUSR1) => Stop::Finished,
            other => panic!("the process did not finish its step: {other:?}"),
        }
    }

    fn instruction_pointer(&self) -> u64 {
        ptrace::getregs(self.pid).expect("it is stopped").rip
    }

    /// Steps to the end, and notes the address of each instruction, as it was about to run.
    fn trace(&self, addresses: &mut Vec<u64>) {
        addresses.clear();
        addresses.push(self.instruction_pointer());
        loop {
            ptrace::step(self.pid, None).expect("it is stopped");
            if self.wait() == Stop::Finished {
                // Behind the system call that raises the signal of the end: the signal may be faster than a breakpoint.
                addresses.pop();
                return;
            }
            assert!(addresses.len() < INSTRUCTIONS_MAX, "a step has {INSTRUCTIONS_MAX} instructions at most");
            addresses.push(self.instruction_pointer());
        }
    }

    /// Runs up to instruction `count` of the trace: its address, as often as the trace has passed it, the start included,
    /// where a breakpoint strikes as well. False where the process took another way than the traced one: its heap,
    /// inherited from this process, had another shape.
    fn run_to(&self, trace: &[u64], count: usize) -> bool {
        if count == 0 {
            return true;
        }
        ptrace::write_user(self.pid, DEBUG_REGISTERS.cast_mut().cast(), trace[count] as i64).expect("breakpoint");
        self.set_breakpoints(1);
        let passes = (0..=count).filter(|at| trace[*at] == trace[count] && !is_round(trace, *at)).count();
        for _ in 0..passes {
            ptrace::cont(self.pid, None).expect("it is stopped");
            if self.wait() == Stop::Finished {
                return false;
            }
        }
        self.instruction_pointer() == trace[count]
    }

    /// Runs to the `count`th entry to or exit from a system call, and `further` instructions on. False where the step has
    /// come to its end before.
    fn run_to_system_call(&self, count: usize, further: usize) -> bool {
        for _ in 0..count {
            ptrace::syscall(self.pid, None).expect("it is stopped");
            if self.wait() == Stop::Finished {
                return false;
            }
        }
        for _ in 0..further {
            ptrace::step(self.pid, None).expect("it is stopped");
            if self.wait() == Stop::Finished {
                break; // the end of the step is a place as well
            }
        }
        true
    }

    fn set_breakpoints(&self, control: i64) {
        ptrace::write_user(self.pid, DEBUG_REGISTERS.wrapping_add(7 * 8).cast_mut().cast(), control)
            .expect("breakpoint");
    }

    /// Lets it finish its step.
    pub fn finish(&self) {
        self.set_breakpoints(0);
        ptrace::cont(self.pid, None).expect("it is stopped");
        assert_eq!(self.wait(), Stop::Finished);
    }

    /// Kills it, and waits for its death.
    pub fn kill(self) {
        kill(self.pid, Signal::SIGKILL).expect("kill");
        while !matches!(waitpid(self.pid, None).expect("wait"), WaitStatus::Signaled(..) | WaitStatus::Exited(..)) {}
    }
}

/// True for the second and later rounds of a repeated instruction (`rep movsb`): the trace has each, a breakpoint strikes once.
fn is_round(trace: &[u64], at: usize) -> bool {
    at > 0 && trace[at] == trace[at - 1]
}

/// The next place from here on where a breakpoint strikes.
fn next(trace: &[u64], from: usize) -> usize {
    (from..trace.len()).find(|at| !is_round(trace, *at)).unwrap_or(trace.len())
}

/// Takes a step to each `stride`th of its instructions, each time from a freshly prepared `B` and in a
/// freshly forked process, which `enter` makes ready; there `at` does with the process what it will, and looks at what is
/// left. Returns how many instructions were stopped at. The calling process has one thread.
pub fn at_every_instruction<B, S>(
    stride: usize,
    prepare: impl Fn() -> B,
    enter: impl Fn(&B) -> S,
    step: impl Fn(S),
    mut at: impl FnMut(B, Stopped, usize),
) -> usize {
    // One closure, so that all processes run the very same code: of two alike the compiler makes two.
    let start = || {
        let bench = prepare();
        let child = Stopped::fork(|| enter(&bench), &step);
        (bench, child)
    };
    let record = |trace: &mut Vec<u64>| {
        let (_bench, child) = start();
        child.trace(trace);
        child.kill();
    };
    // Of a size that has its own pages: the heap, which the processes inherit, keeps its shape.
    let mut trace = Vec::with_capacity(INSTRUCTIONS_MAX);
    let (mut point, mut retraced, mut stops) = (0, 0, 0);
    record(&mut trace);
    while point < trace.len() {
        let (bench, child) = start();
        if !child.run_to(&trace, point) {
            child.kill();
            drop(bench); // so that the heap is what the next process finds
            retraced += 1;
            assert!(retraced < RETRACES_MAX, "the process takes another way each time");
            record(&mut trace);
            continue;
        }
        at(bench, child, point);
        point = next(&trace, point + stride);
        stops += 1;
    }
    stops
}

/// Takes a step to the entry and to the exit of each of its system calls, and `further(stop)` instructions on from there: for
/// steps whose tracks are files, which nothing else changes, and whose way through the code may differ from one time to the
/// next. Otherwise as [`at_every_instruction`].
pub fn at_every_system_call<B, S>(
    further: impl Fn(usize) -> usize,
    prepare: impl Fn() -> B,
    enter: impl Fn(&B) -> S,
    step: impl Fn(S),
    mut at: impl FnMut(B, Stopped, usize),
) -> usize {
    for stop in 0.. {
        let bench = prepare();
        let child = Stopped::fork(|| enter(&bench), &step);
        if !child.run_to_system_call(stop, further(stop)) {
            child.kill();
            return stop;
        }
        at(bench, child, stop);
    }
    unreachable!("a step has an end")
}
