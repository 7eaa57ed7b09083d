//! Who is struck next, and how: by the numbers of the seed.

use std::{collections::BTreeMap, path::PathBuf, thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;

use super::Random;
use crate::Status;

/// Strikes by what was struck.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Strikes {
    /// SIGKILLs, by role.
    pub kills: BTreeMap<String, u64>,
    /// Of them, those that stopped the process first.
    pub stopped_first: u64,
    /// Of them, those that struck two processes at once.
    pub two_at_once: u64,
    /// Processes that were stopped and went on.
    pub stopped: u64,
    /// Deaths of a process that had a frame in hand, as far as the launchers lived to tell.
    pub with_frames: u64,
}

/// What is to be struck.
pub enum Target {
    /// A process of the pipeline.
    Process,
    /// The launcher.
    Launcher,
    /// A reader's process.
    Client,
}

/// Strikes at the processes of one pipeline.
pub struct Striker {
    random: Random,
    run: PathBuf,
    /// What was done.
    pub strikes: Strikes,
    /// Every pid seen.
    pub pids: std::collections::BTreeSet<u32>,
    repaired: std::collections::BTreeSet<(u32, u64)>,
}

/// Longest time that a process stays stopped.
const STOP_MS_MAX: usize = 500;

impl Striker {
    /// A striker at the pipeline with this run folder.
    pub fn new(seed: u64, run: PathBuf) -> Self {
        let random = Random::new(seed, 1);
        Self { random, run, strikes: Strikes::default(), pids: [].into(), repaired: [].into() }
    }

    /// The pause before the next strike, of a mean of 1/`rate` seconds.
    pub fn pause(&mut self, rate: f64) -> Duration {
        let mean_us = 1e6 / rate;
        Duration::from_micros(self.random.below((2.0 * mean_us) as usize + 1) as u64)
    }

    /// What is next.
    pub fn target(&mut self) -> Target {
        match self.random.below(100) {
            0..=3 => Target::Launcher,
            4..=7 => Target::Client,
            _ => Target::Process,
        }
    }

    /// Counts a kill.
    pub fn count(&mut self, role: &str) {
        *self.strikes.kills.entry(role.to_owned()).or_default() += 1;
    }

    /// Looks at the pipeline: who is there, and who died with frames in hand.
    pub fn look(&mut self) -> Option<Status> {
        let status = Status::ask(&self.run)?;
        self.pids.extend(status.processes.iter().map(|process| process.pid).filter(|pid| *pid != 0));
        for repair in &status.repairs {
            if self.repaired.insert((repair.pid, repair.noticed_ns)) {
                self.strikes.with_frames += u64::from(repair.frames > 0);
            }
        }
        Some(status)
    }

    /// Strikes one process, or two at once. Those that are ready, which a frame may be with.
    pub fn strike_process(&mut self) {
        let Some(status) = self.look() else { return };
        let ready: Vec<_> = status.processes.iter().filter(|one| one.state == "ready" && one.pid != 0).collect();
        if ready.is_empty() {
            return;
        }
        // One in six is the gateway; the others share the rest.
        let gateway = self.random.one_in(6);
        let among: Vec<_> = ready.iter().filter(|one| (one.stage == "gateway") == gateway).collect();
        if among.is_empty() {
            return;
        }
        let first = self.random.below(among.len());
        let two = !gateway && among.len() > 1 && self.random.one_in(8);
        let victims: Vec<_> = (0..1 + usize::from(two)).map(|more| among[(first + more) % among.len()]).collect();
        let way = self.random.below(10);
        let stop = Duration::from_millis(self.random.below(STOP_MS_MAX) as u64);
        self.strikes.two_at_once += u64::from(two && way > 0);
        for victim in victims {
            if way == 0 {
                self.strikes.stopped += 1;
                stop_then(victim.pid, stop, Signal::SIGCONT);
                continue;
            }
            self.count(&victim.stage);
            if way <= 2 {
                self.strikes.stopped_first += 1;
                stop_then(victim.pid, stop, Signal::SIGKILL);
            } else {
                send(victim.pid, Signal::SIGKILL);
            }
        }
    }
}

/// Stops a process for a while, on a thread of its own.
fn stop_then(pid: u32, stop: Duration, signal: Signal) {
    send(pid, Signal::SIGSTOP);
    thread::spawn(move || {
        thread::sleep(stop);
        send(pid, signal);
    });
}

/// Sends a signal; the process may have died by now.
pub fn send(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal);
}
