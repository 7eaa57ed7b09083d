//! What `framepipe status --json` says.

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
    /// Each process.
    pub processes: Vec<Process>,
    /// Each slot pool.
    pub pools: Vec<PoolUse>,
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

/// One process.
#[derive(Clone, Debug, Deserialize)]
pub struct Process {
    /// Its stage's name, or "gateway".
    pub stage: String,
    /// Its pid.
    pub pid: u32,
    /// "starting", "ready", "stopping" or "dead".
    pub state: String,
    /// Restarts after deaths.
    pub restarts: u32,
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
    /// The processes of a stage, or of the gateway.
    pub fn stage<'s>(&'s self, stage: &'s str) -> impl Iterator<Item = &'s Process> {
        self.processes.iter().filter(move |process| process.stage == stage)
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
