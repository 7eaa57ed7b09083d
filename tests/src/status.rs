//! What `framepipe status --json` says.

use std::{io::Read as _, os::unix::net::UnixStream, path::Path, time::Duration};

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
    /// The newest deaths and their repairs.
    pub repairs: Vec<Repair>,
}

/// A death, and the repair of what it left.
#[derive(Clone, Debug, Deserialize)]
pub struct Repair {
    /// The process's stage, or "gateway".
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
    /// The gateway's: results dropped unread for their age.
    pub dropped: u64,
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
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        serde_json::from_slice(&answer).ok()
    }

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
