//! The process table: who lives, under which owner id, and what it has done.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// State of a process, as `framepipe status` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum ProcessState {
    /// No process has this entry.
    Vacant = 0,
    /// Started; not ready for frames yet.
    Starting = 1,
    /// Takes frames.
    Ready = 2,
    /// Finishes what it has and ends.
    Stopping = 3,
}

/// What a process counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Counter {
    /// Frames published.
    Frames = 0,
    /// Frames published as errors.
    Errors = 1,
    /// Batches processed.
    Batches = 2,
    /// Nanoseconds spent on batches.
    BusyNs = 3,
    /// Frames put back for want of a slot.
    PutBack = 4,
    /// Bytes of frames copied.
    BytesCopied = 5,
    /// The gateway's: results dropped unread for their age.
    Dropped = 6,
    /// Attribute's: runs of its models.
    CropRuns = 7,
    /// Attribute's: crops in these runs, one a model.
    Crops = 8,
    /// Deaths that it was not told to come to. The launcher counts this, and what follows.
    Deaths = 9,
    /// Recoveries of what the dead had.
    Recoveries = 10,
    /// Nanoseconds from the notice of a death to the end of its recovery.
    RecoveryNs = 11,
    /// Frames that the dead had in hand.
    RecoveredFrames = 12,
    /// Frames that were put into quarantine for deaths.
    Quarantined = 13,
}

/// Words of counters in an entry: with the rest it fills two of 128 bytes.
const COUNTERS: usize = 26;

/// One entry. The launcher writes all of it but the state, heartbeat and counters, which are its process's; those of deaths
/// are the launcher's.
#[repr(C, align(128))]
pub struct ProcessEntry {
    owner: AtomicU32,
    stage: AtomicU32,
    instance: AtomicU32,
    pid: AtomicU32,
    start_time: AtomicU64,
    state: AtomicU32,
    restarts: AtomicU32,
    heartbeat_ns: AtomicU64,
    counters: [AtomicU64; COUNTERS],
    is_wanted: AtomicU32,
}

impl ProcessEntry {
    /// The process's owner id; 0: the entry is vacant.
    pub fn owner(&self) -> crate::Owner {
        self.owner.load(Ordering::Acquire) as crate::Owner
    }

    /// Gives the entry to a process that is about to start. The owner is stored last: it makes the entry count.
    pub fn occupy(&self, owner: crate::Owner, stage: usize, instance: usize) {
        self.stage.store(stage as u32, Ordering::Relaxed);
        self.instance.store(instance as u32, Ordering::Relaxed);
        self.pid.store(0, Ordering::Relaxed);
        self.start_time.store(0, Ordering::Relaxed);
        self.heartbeat_ns.store(0, Ordering::Relaxed);
        self.set_state(ProcessState::Starting);
        self.owner.store(u32::from(owner), Ordering::Release);
    }

    /// Records the process that was started (pid, and start time in clock ticks since boot, against reuse of the pid).
    pub fn started(&self, pid: u32, start_time: u64) {
        self.start_time.store(start_time, Ordering::Relaxed);
        self.pid.store(pid, Ordering::Release);
    }

    /// Vacates the entry: its process is dead and waited for. What bears its owner id is the dead's from now on.
    pub fn vacate(&self) {
        self.owner.store(0, Ordering::Release);
        self.set_state(ProcessState::Vacant);
        self.pid.store(0, Ordering::Relaxed);
    }

    /// Stage, instance, pid and start time. The pid is 0 before the process was started.
    pub fn identity(&self) -> (usize, usize, u32, u64) {
        let pid = self.pid.load(Ordering::Acquire);
        let (stage, instance) = (self.stage.load(Ordering::Relaxed), self.instance.load(Ordering::Relaxed));
        (stage as usize, instance as usize, pid, self.start_time.load(Ordering::Relaxed))
    }

    /// The process's state.
    pub fn state(&self) -> ProcessState {
        match self.state.load(Ordering::Acquire) {
            1 => ProcessState::Starting,
            2 => ProcessState::Ready,
            3 => ProcessState::Stopping,
            _ => ProcessState::Vacant,
        }
    }

    /// Sets the process's state.
    pub fn set_state(&self, state: ProcessState) {
        self.state.store(state as u32, Ordering::Release);
    }

    /// True where the launcher wants a process to have this entry, whether one has or not.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed) != 0
    }

    /// Says whether a process shall have this entry.
    pub fn set_wanted(&self, is_wanted: bool) {
        self.is_wanted.store(is_wanted.into(), Ordering::Relaxed);
    }

    /// How often a process of this entry was restarted after a death.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Sets the number of restarts.
    pub fn set_restarts(&self, restarts: u32) {
        self.restarts.store(restarts, Ordering::Relaxed);
    }

    /// Says that the process goes round its loop.
    pub fn beat(&self) {
        self.heartbeat_ns.store(crate::monotonic_ns(), Ordering::Relaxed);
    }

    /// When the process last went round its loop, CLOCK_MONOTONIC; 0: never.
    pub fn heartbeat_ns(&self) -> u64 {
        self.heartbeat_ns.load(Ordering::Relaxed)
    }

    /// Adds to a counter.
    pub fn count(&self, counter: Counter, amount: u64) {
        self.counters[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// Reads a counter.
    pub fn counted(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }
}
