//! A storm of `kill -9`: two processes a stage work on frames that flow without end while one after another (sometimes
//! two at once, sometimes stopped first) is killed and recovered. Nothing is lost, doubled or leaked.
#![allow(unsafe_code, reason = "fork")]

mod support;

use std::time::{Duration, Instant};

use framepipe_shm::{Blame, Worker};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};
use support::{A, B, Bench};

struct Victim {
    pid: Pid,
    entry: usize,
    queue: usize,
}

fn spawn(bench: &Bench, entry: usize, queue: usize) -> Victim {
    let owner = bench.segment.new_owner();
    bench.segment.processes()[entry].occupy(owner, queue, entry);
    // SAFETY: this process has one thread.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => Victim { pid: child, entry, queue },
        ForkResult::Child => {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("prctl");
            let bench = bench.in_child();
            loop {
                if !bench.work(owner, queue) {
                    Worker::new(&bench.segment, owner, queue).wait(Duration::from_millis(20), || false);
                }
            }
        }
    }
}

fn main() {
    let seconds = std::env::var("STORM_SECONDS").map_or(4, |text| text.parse().expect("STORM_SECONDS is a number"));
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let bench = Bench::new(16, 6);
    let mut victims: Vec<Victim> =
        [A, A, B, B].into_iter().enumerate().map(|(number, queue)| spawn(&bench, number + 1, queue)).collect();
    let (start, mut kills, mut with_claim) = (Instant::now(), 0, 0);
    let (mut next_kill, mut progress, mut delivered) = (start, start, 0);
    let end = start + Duration::from_secs(seconds);
    while Instant::now() < end {
        while bench.accept(1, 3) {}
        while bench.deliver(1) {
            (progress, delivered) = (Instant::now(), delivered + 1);
        }
        assert!(progress.elapsed() < Duration::from_secs(10), "stuck after {kills} kills, {delivered} frames");
        if Instant::now() < next_kill {
            std::hint::spin_loop();
            continue;
        }
        next_kill = Instant::now() + Duration::from_micros(300 + next() % 3000);
        let first = next() as usize % victims.len();
        let many = 1 + usize::from(next().is_multiple_of(8));
        let chosen: Vec<usize> = (0..many).map(|more| (first + more) % victims.len()).collect();
        for index in &chosen {
            if next().is_multiple_of(4) {
                kill(victims[*index].pid, Signal::SIGSTOP).expect("stop");
            }
            kill(victims[*index].pid, Signal::SIGKILL).expect("kill");
        }
        for index in &chosen {
            waitpid(victims[*index].pid, None).expect("wait");
            bench.segment.processes()[victims[*index].entry].vacate();
        }
        kills += chosen.len();
        with_claim += bench.segment.recover(Blame::Frames).reclaimed;
        for index in chosen {
            victims[index] = spawn(&bench, victims[index].entry, victims[index].queue);
        }
    }
    for victim in &victims {
        kill(victim.pid, Signal::SIGKILL).expect("kill");
        waitpid(victim.pid, None).expect("wait");
        bench.segment.processes()[victim.entry].vacate();
    }
    bench.segment.recover(Blame::Nobody);
    bench.drain();
    let accepted = bench.segment.accepted();
    let lost = (0..accepted).filter(|frame| !bench.ledger.has(*frame)).count();
    assert_eq!(lost, 0, "of {accepted} frames");
    bench.assert_clean("after the storm");
    assert!(kills > 20 && with_claim > 0, "the storm was one: {kills} kills, {with_claim} with a job claimed");
    println!(
        "test result: ok. {accepted} frames in {seconds} s under {kills} kill -9 ({with_claim} with a job claimed): \
         nothing lost, doubled or leaked"
    );
}
