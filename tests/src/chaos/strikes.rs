//! Who is struck next, and how: by the numbers of the seed. What is counted is what was struck: a process that was dead
//! before the blow counts for nothing.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use framepipe_shm::monotonic_ns;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::{Ledger, Random};
use crate::{Repair, Status};

/// Strikes by what was struck.
#[derive(Clone, Debug, Default)]
pub struct Strikes {
    /// SIGKILLs of the pipeline's processes, by role.
    pub kills: BTreeMap<String, u64>,
    /// SIGKILLs of a reader.
    pub kills_reader: u64,
    /// Of the kills, those that stopped the process first.
    pub stopped_first: u64,
    /// Times that two processes were struck at once.
    pub two_at_once: u64,
    /// Processes that were stopped and went on.
    pub stopped: u64,
}

/// Deaths of processes that had frames in hand.
#[derive(Clone, Debug, Default)]
pub struct Deaths {
    /// How long each one's repair took, in milliseconds.
    pub repairs_ms: Vec<f64>,
    /// Frames that were in their hands.
    pub frames: usize,
}

/// What is to be struck.
pub enum Target {
    /// A process of the pipeline.
    Process,
    /// The launcher.
    Launcher,
    /// A reader's process.
    Reader,
}

/// The launcher's role, among those of the other processes.
pub const LAUNCHER: &str = "launcher";

/// What the strikes' threads tell.
#[derive(Default)]
struct Told {
    strikes: Strikes,
    /// When this observer's pidfd told of the deaths, by pid.
    deaths_ns: BTreeMap<u32, Vec<u64>>,
}

/// Strikes at the processes of one pipeline.
pub struct Striker {
    random: Random,
    run: PathBuf,
    ledger: Arc<Ledger>,
    told: Arc<Mutex<Told>>,
    threads: Vec<JoinHandle<()>>,
    /// Deaths and their repairs, as far as the launchers lived to tell, by pid and moment.
    repairs: BTreeMap<(u32, u64), Repair>,
}

/// Longest time that a process stays stopped.
const STOP_MS_MAX: usize = 500;
/// For a process that is killed to be dead.
const DEATH_WAIT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

impl Striker {
    /// A striker at the pipeline with this run folder.
    pub fn new(seed: u64, run: PathBuf, ledger: Arc<Ledger>) -> Self {
        let random = Random::new(seed, 1);
        Self { random, run, ledger, told: Arc::default(), threads: Vec::new(), repairs: BTreeMap::new() }
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
            4..=7 => Target::Reader,
            _ => Target::Process,
        }
    }

    /// Looks at the pipeline: who is there, and who died with frames in hand.
    pub fn look(&mut self) -> Option<Status> {
        let status = Status::ask(&self.run)?;
        for repair in &status.repairs {
            self.repairs.insert((repair.pid, repair.noticed_ns), repair.clone());
        }
        Some(status)
    }

    /// Counts a strike at the launcher, which the caller kills. The last moment to hear of deaths from it.
    pub fn strike_launcher(&mut self) {
        self.look();
        self.ledger.launcher_struck();
        *lock(&self.told).strikes.kills.entry(LAUNCHER.to_owned()).or_default() += 1;
    }

    /// Kills a reader.
    pub fn strike_reader(&mut self, pid: u32) {
        if Victim::of(pid).is_some_and(|victim| victim.send(Signal::KILL)) {
            lock(&self.told).strikes.kills_reader += 1;
        }
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
        let way = self.random.below(10);
        let stop = Duration::from_millis(self.random.below(STOP_MS_MAX) as u64);
        let victims = (0..1 + usize::from(two)).map(|more| among[(first + more) % among.len()]);
        let struck: Vec<bool> = victims
            .map(|victim| match way {
                0 => self.strike(victim.pid, &victim.stage, Some(stop), Signal::CONT),
                1..=2 => self.strike(victim.pid, &victim.stage, Some(stop), Signal::KILL),
                _ => self.strike(victim.pid, &victim.stage, None, Signal::KILL),
            })
            .collect();
        lock(&self.told).strikes.two_at_once += u64::from(struck == [true, true]);
    }

    /// Stops a process, if it is to be stopped, and sends the signal thereafter; false where it is dead already. A
    /// thread does what takes time, and notes when a kill's death was there.
    fn strike(&mut self, pid: u32, role: &str, stop: Option<Duration>, signal: Signal) -> bool {
        let Some(victim) = Victim::of(pid) else { return false };
        if !victim.send(if stop.is_some() { Signal::STOP } else { signal }) {
            return false;
        }
        if stop.is_none() {
            self.ledger.killed();
        }
        let (told, ledger, role) = (self.told.clone(), self.ledger.clone(), role.to_owned());
        let rest = move || {
            if let Some(stop) = stop {
                thread::sleep(stop);
                if !victim.send(signal) {
                    return; // the launcher, or another strike, was first
                }
                if signal == Signal::KILL {
                    ledger.killed();
                }
            }
            if signal != Signal::KILL {
                lock(&told).strikes.stopped += 1;
                return;
            }
            let dead_ns = victim.wait(&DEATH_WAIT).then(monotonic_ns);
            let mut told = lock(&told);
            *told.strikes.kills.entry(role).or_default() += 1;
            told.strikes.stopped_first += u64::from(stop.is_some());
            told.deaths_ns.entry(pid).or_default().extend(dead_ns);
        };
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread::Builder::new().name(format!("strike-{pid}")).spawn(rest).expect("a thread"));
        true
    }

    /// How many strikes there were until now.
    pub fn kills(&self) -> u64 {
        lock(&self.told).strikes.kills.values().sum()
    }

    /// Ends the striking: what is stopped goes on, or is killed.
    pub fn rest(&mut self) {
        for thread in self.threads.drain(..) {
            thread.join().expect("a strike does not panic");
        }
    }

    /// What was struck, and the deaths with frames in hand.
    pub fn close(mut self) -> (Strikes, Deaths) {
        self.rest();
        let told = lock(&self.told);
        let with_frames = self.repairs.values().filter(|repair| repair.frames > 0);
        let took = |repair: &Repair| {
            let deaths = told.deaths_ns.get(&repair.pid).map_or(&[][..], Vec::as_slice);
            repair.took_ms(deaths.iter().copied())
        };
        let frames = with_frames.clone().map(|repair| repair.frames).sum();
        (told.strikes.clone(), Deaths { repairs_ms: with_frames.map(took).collect(), frames })
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process by its pidfd: no later process of the same pid is struck.
struct Victim(OwnedFd);

impl Victim {
    fn of(pid: u32) -> Option<Self> {
        pidfd_open(Pid::from_raw(pid as i32)?, PidfdFlags::empty()).ok().map(Self)
    }

    /// True if it is dead within that time.
    fn wait(&self, limit: &Timespec) -> bool {
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(limit)).is_ok_and(|ready| ready > 0)
    }

    /// Sends a signal; false where it is dead.
    fn send(&self, signal: Signal) -> bool {
        !self.wait(&AT_ONCE) && pidfd_send_signal(&self.0, signal).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_strike_counts_once_and_the_dead_are_not_struck() {
        let ledger = Arc::new(Ledger::default());
        let mut striker = Striker::new(1, PathBuf::new(), ledger);
        let mut child = Command::new("sleep").arg("60").spawn().expect("it runs");
        let pid = child.id();
        assert!(striker.strike(pid, "detect", None, Signal::KILL));
        striker.rest();
        assert!(!striker.strike(pid, "detect", None, Signal::KILL), "it is dead");
        assert!(!striker.strike(pid, "detect", Some(Duration::ZERO), Signal::CONT), "it is dead");
        child.wait().expect("it is dead");
        let (strikes, deaths) = striker.close();
        assert_eq!(
            (strikes.kills["detect"], strikes.stopped, strikes.stopped_first, deaths.repairs_ms.len()),
            (1, 0, 0, 0)
        );
    }
}
