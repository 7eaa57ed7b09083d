//! How a pipeline is, read from its segment at that moment: for `framepipe status` and for `/metrics`. Nobody is asked, and
//! nothing is changed.

mod stages;

use framepipe_shm::{Counter, ProcessState, Segment, monotonic_ns};
use serde::{Deserialize, Serialize};

pub use self::stages::{StageTotals, oldest_waiting, resident_bytes};
use crate::{
    CpuList, GATEWAY, GATEWAY_ENTRY, Generation, KEEPER, KEEPER_ENTRY, Pool, STAGES, entries_of, process_name,
    queue_before,
};

/// Jobs by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl Jobs {
    /// Of a segment.
    pub fn of(segment: &Segment) -> Self {
        let [free, writing, ready, claimed] = segment.job_census();
        Self { free, writing, ready, claimed }
    }
}

/// One process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its stage's name, "gateway" or "keeper".
    pub stage: String,
    /// Its number in the stage.
    pub instance: usize,
    /// Whose frames it processes; gateway and keeper: all.
    pub generation: Option<u64>,
    /// Its pid.
    pub pid: u32,
    /// The CPUs that it may use, as the kernel says.
    pub cpus: Option<String>,
    /// "starting", "ready", "stopping" or "dead".
    pub state: String,
    /// Restarts after deaths.
    pub restarts: u32,
    /// Milliseconds since it last went round its loop.
    pub heartbeat_age_ms: Option<u64>,
    /// Frames published, since the segment was made.
    pub frames: u64,
    /// Those of them that are errors.
    pub errors: u64,
    /// Batches processed.
    pub batches: u64,
    /// Seconds spent on them.
    pub busy_s: f64,
    /// Times a frame was put back for want of a slot.
    pub put_back: u64,
    /// Bytes of frames copied.
    pub bytes_copied: u64,
    /// The gateway's: results dropped unread for their age.
    pub dropped: u64,
    /// Attribute's: runs of its models.
    pub crop_runs: u64,
    /// Attribute's: crops in these runs, one a model.
    pub crops: u64,
}

impl Process {
    /// Those that there are, or shall be: the workers of these generations, the gateway, and the keeper.
    pub fn all(segment: &Segment, generations: &[Generation]) -> Vec<Self> {
        let stages = |one: &Generation| {
            let (parity, generation) = (one.parity(), Some(one.number));
            (0..STAGES.len()).map(move |stage| (entries_of(stage, parity), stage, generation))
        };
        let others = [(GATEWAY_ENTRY, GATEWAY), (KEEPER_ENTRY, KEEPER)];
        let others = others.map(|(entry, stage)| (entry..entry + 1, stage, None));
        let entries = generations.iter().flat_map(stages).chain(others).flat_map(|(entries, stage, generation)| {
            entries.enumerate().map(move |(instance, entry)| (entry, (stage, instance), generation))
        });
        entries.filter_map(|(entry, identity, generation)| Self::of(segment, entry, identity, generation)).collect()
    }

    /// The one of an entry, whose place is known by that; none, where there is none and shall be none.
    fn of(segment: &Segment, entry: usize, (stage, instance): (usize, usize), generation: Option<u64>) -> Option<Self> {
        let entry = &segment.processes()[entry];
        if entry.owner() == 0 && !entry.is_wanted() {
            return None;
        }
        let (_, _, pid, _) = entry.identity();
        let heartbeat_ns = Some(entry.heartbeat_ns()).filter(|beat| *beat > 0);
        let state = match entry.state() {
            ProcessState::Vacant => "dead",
            ProcessState::Starting => "starting",
            ProcessState::Ready => "ready",
            ProcessState::Stopping => "stopping",
        };
        Some(Self {
            stage: process_name(stage).into(),
            instance,
            generation,
            pid,
            cpus: CpuList::of_process(pid).map(|cpus| cpus.to_string()),
            state: state.into(),
            restarts: entry.restarts(),
            heartbeat_age_ms: heartbeat_ns.map(|beat| monotonic_ns().saturating_sub(beat) / 1_000_000),
            frames: entry.counted(Counter::Frames),
            errors: entry.counted(Counter::Errors),
            batches: entry.counted(Counter::Batches),
            busy_s: entry.counted(Counter::BusyNs) as f64 / 1e9,
            put_back: entry.counted(Counter::PutBack),
            bytes_copied: entry.counted(Counter::BytesCopied),
            dropped: entry.counted(Counter::Dropped),
            crop_runs: entry.counted(Counter::CropRuns),
            crops: entry.counted(Counter::Crops),
        })
    }

    /// As people name it: `detect[0]`.
    pub fn title(&self) -> String {
        format!("{}[{}]", self.stage, self.instance)
    }
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// The stage that it stands before.
    pub stage: String,
    /// Frames in it.
    pub depth: usize,
    /// Milliseconds since the oldest of them was accepted; none where it is empty.
    pub oldest_ms: Option<u64>,
}

impl Queue {
    /// All queues of a segment: before each stage both parities' as one, then the gateway's.
    pub fn all(segment: &Segment) -> Vec<Self> {
        let depth = |stage| {
            let queues = if stage == GATEWAY { 0..1 } else { 0..2 }.map(|parity| queue_before(stage, parity));
            queues.map(|queue| segment.queue_depth(queue)).sum()
        };
        let (accepted, now_ns) = (oldest_waiting(segment), monotonic_ns());
        let queue = |stage: usize| {
            let oldest_ms = accepted[stage].map(|accepted_ns| now_ns.saturating_sub(accepted_ns) / 1_000_000);
            Self { stage: process_name(stage).into(), depth: depth(stage), oldest_ms }
        };
        (0..=GATEWAY).map(queue).collect()
    }
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolUse {
    /// Its name.
    pub name: String,
    /// Slots in use.
    pub used: usize,
    /// Slots.
    pub slots: usize,
}

impl PoolUse {
    /// All pools of a segment.
    pub fn all(segment: &Segment) -> Vec<Self> {
        let pool_use = |pool: &Pool| {
            let (used, slots) = segment.pool_use(*pool as usize);
            Self { name: pool.name().into(), used, slots }
        };
        Pool::ALL.iter().map(pool_use).collect()
    }
}
