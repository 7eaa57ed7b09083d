//! The workers of the generation that new frames enter, by the process table. That one is dead the launcher writes there, once it
//! has noticed; a launcher that is stopped, or busy, writes nothing. So the gateway watches their pidfds itself.

use std::{collections::HashMap, os::fd::OwnedFd};

use framepipe_pipeline::{Process, STAGES, StageRow, queue_before, worker_entries};
use framepipe_shm::{ProcessEntry, ProcessState, monotonic_ns};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde::Serialize;

/// The workers of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageWorkers {
    /// The stage.
    pub stage: &'static str,
    /// They take frames.
    pub ready: usize,
    /// They load and warm up.
    pub starting: usize,
    /// They were ready, and have not gone round their loops for longer than `hang_ms_max`.
    pub silent: usize,
    /// They have died, and their places are not filled again yet.
    pub dead: usize,
}

impl StageWorkers {
    /// Why the stage works on no frame; none: it does.
    pub fn why_none(&self) -> Option<String> {
        let Self { stage, ready, starting, silent, dead } = self;
        let words = || format!("{stage} has no worker ({starting} starting, {silent} silent, {dead} dead)");
        (*ready == 0).then(words)
    }
}

/// A process that the table named.
struct Watched {
    identity: (u32, u64),
    /// Readable once it is dead; none: it could not be opened.
    pidfd: Option<OwnedFd>,
}

/// Who looks at them.
pub struct Workers {
    process: &'static Process,
    watched: HashMap<usize, Watched>,
}

impl Workers {
    /// Of this gateway's pipeline.
    pub fn new(process: &'static Process) -> Self {
        Self { process, watched: HashMap::new() }
    }

    /// How they are.
    pub fn look(&mut self) -> Vec<StageWorkers> {
        let segment = self.process.segment();
        let entry_queue = segment.entry_queue();
        let parity = usize::from(entry_queue == queue_before(0, 1));
        let none = |row: &StageRow| StageWorkers { stage: row.name, ready: 0, starting: 0, silent: 0, dead: 0 };
        let mut stages: Vec<StageWorkers> = STAGES.iter().map(none).collect();
        let mut ready = Vec::new();
        for place in worker_entries(parity) {
            let entry = &segment.processes()[place];
            let (stage, ..) = entry.identity();
            if entry.owner() == 0 || stage >= STAGES.len() {
                self.watched.remove(&place);
                continue;
            }
            match entry.state() {
                ProcessState::Starting => stages[stage].starting += 1,
                ProcessState::Ready => ready.push((place, stage, entry)),
                ProcessState::Stopping | ProcessState::Vacant => {}
            }
        }
        for (place, _, entry) in &ready {
            self.watch(*place, entry);
        }
        let are_alive = are_alive(ready.iter().map(|(place, ..)| &self.watched[place]));
        for ((_, stage, entry), is_alive) in ready.into_iter().zip(are_alive) {
            let workers = &mut stages[stage];
            match is_alive {
                false => workers.dead += 1,
                true if self.is_silent(stage, entry) => workers.silent += 1,
                true => workers.ready += 1,
            }
        }
        stages
    }

    fn is_silent(&self, stage: usize, entry: &ProcessEntry) -> bool {
        let hang_ms_max = self.process.order.config.stages[stage].hang_ms_max;
        monotonic_ns().saturating_sub(entry.heartbeat_ns()) / 1_000_000 > hang_ms_max
    }

    fn watch(&mut self, place: usize, entry: &ProcessEntry) {
        let (_, _, pid, start_time) = entry.identity();
        let identity = (pid, start_time);
        let watched = self.watched.entry(place).or_insert_with(|| Watched::open(identity));
        if watched.identity != identity {
            *watched = Watched::open(identity);
        }
    }
}

impl Watched {
    fn open(identity: (u32, u64)) -> Self {
        let pid = i32::try_from(identity.0).ok().and_then(Pid::from_raw);
        Self { identity, pidfd: pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) }
    }
}

/// False of those that are dead. Of one that cannot be watched, for want of descriptors say, the table is believed. One call of the
/// kernel for all of them: the gateway looks fifty times a second.
fn are_alive<'w>(watched: impl Iterator<Item = &'w Watched> + Clone) -> Vec<bool> {
    let pidfds = watched.clone().filter_map(|one| one.pidfd.as_ref());
    let mut fds: Vec<PollFd<'_>> = pidfds.map(|pidfd| PollFd::new(pidfd, PollFlags::IN)).collect();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let has_answer = poll(&mut fds, Some(&at_once)).is_ok();
    let mut fds = fds.into_iter();
    let is_alive = |one: &'w Watched| match one.pidfd {
        Some(_) => !has_answer || fds.next().is_none_or(|fd| fd.revents().is_empty()),
        None => true,
    };
    watched.map(is_alive).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    #[test]
    fn a_death_is_seen_though_nobody_waits_for_the_dead() {
        let start = || Command::new("sleep").arg("600").spawn().expect("it can be started");
        let mut children = [start(), start(), start()];
        let of = |child: &Child| Watched::open((child.id(), 1));
        let unseen = Watched { identity: (1, 1), pidfd: None };
        let watched = [of(&children[0]), unseen, of(&children[1]), of(&children[2])];
        assert_eq!(are_alive(watched.iter()), [true; 4]);
        children[1].kill().expect("it is the test's own");
        let mut fds = [PollFd::new(watched[2].pidfd.as_ref().expect("it was opened"), PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 60, tv_nsec: 0 })).expect("it can be waited for");
        assert_eq!(are_alive(watched.iter()), [true, true, false, true], "a zombie is dead");
        for child in &mut children {
            child.kill().expect("it is the test's own");
            child.wait().expect("it is dead");
        }
    }

    #[test]
    fn a_stage_without_a_worker_says_what_became_of_them() {
        let workers = StageWorkers { stage: "detect", ready: 0, starting: 1, silent: 0, dead: 2 };
        assert_eq!(workers.why_none().as_deref(), Some("detect has no worker (1 starting, 0 silent, 2 dead)"));
        assert_eq!(StageWorkers { ready: 1, ..workers }.why_none(), None);
    }
}
