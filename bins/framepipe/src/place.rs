//! One place in the pipeline: the process that fills it, and when the next one does.

use std::time::{Duration, Instant};

use framepipe_pipeline::{STAGES, process_name};
use framepipe_shm::{Counter, ProcessEntry};

use crate::child::Child;

/// Wait before a second restart; doubled each time, up to the most.
const BACKOFF_LEAST: Duration = Duration::from_millis(100);
const BACKOFF_MOST: Duration = Duration::from_secs(10);
/// For a process to take its first frame: models load slowly on a busy machine. One that has not by then is killed as hung.
pub const START_MAX: Duration = Duration::from_secs(120);
/// For all processes that a change has started to do so: as long, and half as long again, so that one that hangs is killed, and known as
/// hung, before the change is given up, and one that died at its start has another try.
pub const WARM_UP_MAX: Duration = START_MAX.saturating_mul(3).checked_div(2).expect("2 is not 0");
/// A process that has lived so long starts again at once.
const HEALTHY: Duration = Duration::from_secs(10);

/// What processes of an entry have done: frames published; batches, too, as the keeper has no frames.
pub fn work_of(entry: &ProcessEntry) -> u64 {
    entry.counted(Counter::Frames) + entry.counted(Counter::Batches)
}

/// One place in the pipeline that a process fills.
pub struct Place {
    /// Its stage; `GATEWAY` for the gateway, `KEEPER` for the cache's keeper.
    pub stage: usize,
    /// Its number in the stage.
    pub instance: usize,
    /// Of the generations that it serves; gateway and keeper serve all.
    pub parity: usize,
    /// Its entry in the process table.
    pub entry: usize,
    /// True where a process of its stage shall have it, while there are frames for its parity.
    pub is_wanted: bool,
    /// The process, while there is one.
    pub child: Option<Child>,
    /// When the last one started.
    pub started: Instant,
    /// When the next one does.
    pub restart_at: Option<Instant>,
    backoff: Duration,
    /// True once any process of this place took frames.
    pub was_ready: bool,
    /// Why the last one said that it cannot go on, or was killed.
    pub failure: Option<String>,
    /// What the place had done when the last process started ([`work_of`]).
    pub work_before: u64,
}

impl Place {
    /// A place without a process.
    pub fn new(stage: usize, instance: usize, parity: usize, entry: usize) -> Self {
        Self {
            stage,
            instance,
            parity,
            entry,
            is_wanted: false,
            child: None,
            started: Instant::now(),
            restart_at: None,
            backoff: Duration::ZERO,
            was_ready: false,
            failure: None,
            work_before: 0,
        }
    }

    /// Forgets its former processes.
    pub fn renew(&mut self) {
        *self = Self::new(self.stage, self.instance, self.parity, self.entry);
    }

    /// Forgets former failures, where the process that died was none: it had lived long, or done more `work` than those before.
    pub fn forgive(&mut self, work: u64) {
        if work > self.work_before || self.started.elapsed() >= HEALTHY {
            self.backoff = Duration::ZERO;
        }
    }

    /// Puts the next start off, longer each time.
    pub fn postpone(&mut self) -> Duration {
        let wait = self.backoff;
        self.backoff = (wait * 2).clamp(BACKOFF_LEAST, BACKOFF_MOST);
        self.restart_at = Some(Instant::now() + wait);
        wait
    }

    /// True where it is a stage's, whose processes are a generation's.
    pub fn is_worker(&self) -> bool {
        self.stage < STAGES.len()
    }

    /// True where its processes open the pipeline's GPU.
    pub fn uses_gpu(&self) -> bool {
        STAGES.get(self.stage).is_some_and(|row| row.uses_gpu)
    }

    /// Its name, whoever fills it.
    pub fn name(&self) -> String {
        match self.is_worker() {
            true => format!("{}[{}]", process_name(self.stage), self.instance),
            false => process_name(self.stage).into(),
        }
    }

    /// Its name, for the log.
    pub fn title(&self) -> String {
        match &self.child {
            Some(child) if self.is_worker() => self.title_of(child.pid),
            _ => self.name(),
        }
    }

    /// The name of a process that fills it, or did.
    pub fn title_of(&self, pid: u32) -> String {
        format!("{} (pid {pid})", self.name())
    }
}
