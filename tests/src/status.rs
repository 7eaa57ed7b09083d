//! What `framepipe status --json` says.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde::Deserialize;

/// How a pipeline is.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// The launcher's pid.
    pub pid: u32,
    /// Frames accepted since the segment was made.
    pub accepted: u64,
    /// Jobs by state.
    pub jobs: Jobs,
    /// The generations of models that may have frames in flight.
    pub generations: Vec<Generation>,
    /// Each stage.
    pub stages: Vec<Stage>,
    /// Each process.
    pub processes: Vec<Process>,
    /// Each slot pool.
    pub pools: Vec<PoolUse>,
    /// The newest deaths and their repairs.
    pub repairs: Vec<Repair>,
}

#[derive(Deserialize)]
struct Answer {
    status: Status,
}

/// A generation of models.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// Its models, the detector first.
    pub models: Vec<String>,
    /// True of the one that new frames are accepted for.
    pub serves: bool,
}

/// A death, and the repair of what it left.
#[derive(Clone, Debug, Deserialize)]
pub struct Repair {
    /// The process's stage, "gateway" or "keeper".
    pub stage: String,
    /// Its pid.
    pub pid: u32,
    /// When the launcher noticed its death, CLOCK_MONOTONIC, nanoseconds.
    pub noticed_ns: u64,
    /// When it was repaired.
    pub repaired_ns: u64,
    /// Frames that the process had in hand.
    pub frames: usize,
}

impl Repair {
    /// From the death to the hints' being pushed again, in milliseconds. The death, that is its pidfd's being readable,
    /// is taken from whoever saw it first: the launcher, whose own return from `poll` may be late, or an observer of
    /// deaths of this pid, who may be later still. An observer's moment that is not within a second of the launcher's
    /// is of another process.
    pub fn took_ms(&self, observed_ns: impl Iterator<Item = u64>) -> f64 {
        const NEAR_NS: u64 = 1_000_000_000;
        let seen_ns = observed_ns.filter(|seen| seen.abs_diff(self.noticed_ns) < NEAR_NS).min();
        let dead_ns = seen_ns.map_or(self.noticed_ns, |seen| seen.min(self.noticed_ns));
        (self.repaired_ns - dead_ns) as f64 / 1e6
    }
}

/// Jobs by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Jobs {
    /// Nobody's.
    pub free: usize,
    /// Being accepted.
    pub writing: usize,
    /// Waiting in a queue.
    pub ready: usize,
    /// In a process's hands.
    pub claimed: usize,
}

/// One stage.
#[derive(Clone, Debug, Deserialize)]
pub struct Stage {
    /// Its name.
    pub stage: String,
    /// The processes that it shall have.
    pub wanted: u32,
    /// Most frames of one batch.
    pub batch_max: u32,
}

/// One process.
#[derive(Clone, Debug, Deserialize)]
pub struct Process {
    /// Its stage's name, "gateway" or "keeper".
    pub stage: String,
    /// Its number in the stage.
    pub instance: usize,
    /// Its pid.
    pub pid: u32,
    /// The CPUs that it may use.
    pub cpus: Option<String>,
    /// "starting", "ready", "stopping" or "dead".
    pub state: String,
    /// Restarts after deaths.
    pub restarts: u32,
    /// Batches processed.
    pub batches: u64,
    /// Seconds spent on them.
    pub busy_s: f64,
    /// Bytes of frames that it copied.
    pub bytes_copied: u64,
    /// The gateway's: results dropped unread for their age.
    pub dropped: u64,
    /// Attribute's: runs of its models.
    pub crop_runs: u64,
    /// Attribute's: crops in these runs, one a model.
    pub crops: u64,
}

/// One pool.
#[derive(Clone, Debug, Deserialize)]
pub struct PoolUse {
    /// Its name.
    pub name: String,
    /// Slots in use.
    pub used: usize,
}

impl Status {
    /// Asks the launcher whose run folder this is; `None` while there is none.
    pub fn ask(run: &Path) -> Option<Self> {
        let mut stream = UnixStream::connect(run.join("control.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"\"status\"\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer: Answer = serde_json::from_slice(&answer).ok()?;
        Some(answer.status)
    }

    /// The processes of a stage, or the gateway, or the keeper.
    pub fn stage<'s>(&'s self, stage: &'s str) -> impl Iterator<Item = &'s Process> {
        self.processes.iter().filter(move |process| process.stage == stage)
    }

    /// The processes that a stage shall have.
    pub fn wanted(&self, stage: &str) -> u32 {
        self.stages.iter().find(|one| one.stage == stage).expect("the stage is in the status").wanted
    }

    /// Frames that are accepted and not answered yet.
    pub fn in_flight(&self) -> usize {
        self.jobs.ready + self.jobs.claimed
    }

    /// The names of the pools that have slots in use.
    pub fn pools_in_use(&self) -> Vec<&str> {
        self.pools.iter().filter(|pool| pool.used > 0).map(|pool| pool.name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_is_counted_from_who_saw_the_death_first() {
        let [noticed_ns, repaired_ns] = [5_002_000_000, 5_003_000_000];
        let repair = Repair { stage: "detect".into(), pid: 1, noticed_ns, repaired_ns, frames: 1 };
        assert_eq!(repair.took_ms([].into_iter()), 1.0);
        assert_eq!(repair.took_ms([5_000_000_000].into_iter()), 3.0, "the observer was first");
        assert_eq!(repair.took_ms([5_002_500_000].into_iter()), 1.0, "the launcher was first");
        assert_eq!(repair.took_ms([1_000_000_000].into_iter()), 1.0, "another process of this pid");
    }
}
