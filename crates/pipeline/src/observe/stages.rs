//! Stages as wholes: sums over all entries of the process table that are theirs, whichever processes had them, so that no sum
//! ever goes down while the segment lives.

use std::{fs, mem::offset_of, sync::atomic::Ordering};

use framepipe_frame::Request;
use framepipe_shm::{Counter, ProcessEntry, ProcessState, Segment, monotonic_ns};

use crate::{GATEWAY, KEEPER, stage_before};

/// A stage, or the gateway, or the keeper.
#[derive(Clone, Debug, Default)]
pub struct StageTotals {
    /// Processes that load and warm up.
    pub starting: u64,
    /// Those that take frames.
    pub ready: u64,
    /// Those that finish what they have.
    pub stopping: u64,
    /// Restarts after deaths.
    pub restarts: u64,
    /// Nanoseconds since the one that is silent longest went round its loop; none where no process has.
    pub heartbeat_age_ns: Option<u64>,
    /// Bytes of memory that its processes have resident, shared memory that they touched included.
    pub resident_bytes: u64,
    counters: [u64; COUNTERS.len()],
}

const COUNTERS: [Counter; 14] = [
    Counter::Frames,
    Counter::Errors,
    Counter::Batches,
    Counter::BusyNs,
    Counter::PutBack,
    Counter::BytesCopied,
    Counter::Dropped,
    Counter::CropRuns,
    Counter::Crops,
    Counter::Deaths,
    Counter::Recoveries,
    Counter::RecoveryNs,
    Counter::RecoveredFrames,
    Counter::Quarantined,
];

impl StageTotals {
    /// All of a segment: the stages in their order, then the gateway, then the keeper.
    pub fn all(segment: &Segment) -> Vec<Self> {
        let mut all = vec![Self::default(); KEEPER + 1];
        for entry in segment.processes() {
            let (stage, _, pid, _) = entry.identity();
            if let Some(totals) = all.get_mut(stage) {
                totals.add(entry, pid);
            }
        }
        all
    }

    fn add(&mut self, entry: &ProcessEntry, pid: u32) {
        for (sum, counter) in self.counters.iter_mut().zip(COUNTERS) {
            *sum += entry.counted(counter);
        }
        self.restarts += u64::from(entry.restarts());
        if entry.owner() == 0 {
            return;
        }
        match entry.state() {
            ProcessState::Starting => self.starting += 1,
            ProcessState::Ready => self.ready += 1,
            ProcessState::Stopping => self.stopping += 1,
            ProcessState::Vacant => {}
        }
        if let Some(beat_ns) = Some(entry.heartbeat_ns()).filter(|beat| *beat > 0) {
            self.heartbeat_age_ns = self.heartbeat_age_ns.max(Some(monotonic_ns().saturating_sub(beat_ns)));
        }
        self.resident_bytes += resident_bytes(pid);
    }

    /// What its processes have counted.
    pub fn counted(&self, counter: Counter) -> u64 {
        COUNTERS.iter().position(|one| *one == counter).map_or(0, |place| self.counters[place])
    }
}

/// Bytes of memory that a process has resident; 0 where there is none.
pub fn resident_bytes(pid: u32) -> u64 {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// When the oldest frame that waits before each stage, and before the gateway, was accepted (CLOCK_MONOTONIC, nanoseconds).
pub fn oldest_waiting(segment: &Segment) -> [Option<u64>; GATEWAY + 1] {
    let mut oldest = [None; GATEWAY + 1];
    for job in 0..segment.frame_jobs() {
        let Some(view) = segment.job_view(job) else { continue };
        let Some(stage) = view.waits_in.and_then(stage_before) else { continue };
        let accepted = view.request.get(offset_of!(Request, accepted_ns) / 8).map(|word| word.load(Ordering::Relaxed));
        if segment.stands(job, &view) {
            let oldest = &mut oldest[stage];
            *oldest = [*oldest, accepted].into_iter().flatten().min();
        }
    }
    oldest
}
