//! `framepipe status`: how a pipeline is, read from shared memory at that moment.

use std::{fmt, time::Instant};

use framepipe_cache::Area;
use framepipe_model::ModelRef;
use framepipe_pipeline::{Config, GATEWAY, Generation, Pool, process_name, queue_before};
use framepipe_shm::{Counter, ProcessState, Segment, monotonic_ns};
use serde::{Deserialize, Serialize};

use crate::{
    cache_stats::CacheStats,
    deaths::{RepairNote, Repairs},
    gpu::GpuNote,
    swap::Shared,
};

/// How a pipeline is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The instance's name.
    pub name: String,
    /// The launcher's pid.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: f64,
    /// The GPU, where the pipeline has one.
    pub gpu: Option<GpuNote>,
    /// Frames accepted since the segment was made.
    pub accepted: u64,
    /// Jobs by state.
    pub jobs: Jobs,
    /// The generations of models that may have frames in flight, in order.
    pub generations: Vec<GenerationNote>,
    /// Each process.
    pub processes: Vec<Process>,
    /// Each queue.
    pub queues: Vec<Queue>,
    /// Each slot pool.
    pub pools: Vec<PoolUse>,
    /// The cache.
    pub cache: CacheStats,
    /// The newest deaths and their repairs.
    pub repairs: Vec<RepairNote>,
}

/// A generation of models.
#[derive(Debug, Serialize, Deserialize)]
pub struct GenerationNote {
    /// Its number.
    pub number: u64,
    /// Its models, the detector first.
    pub models: Vec<String>,
    /// True of the one that new frames are accepted for.
    pub serves: bool,
}

/// Jobs by state.
#[derive(Debug, Serialize, Deserialize)]
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
#[derive(Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its stage's name, "gateway" or "keeper".
    pub stage: String,
    /// Its number in the stage.
    pub instance: usize,
    /// Whose frames it processes; gateway and keeper: all.
    pub generation: Option<u64>,
    /// Its pid.
    pub pid: u32,
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

/// One queue.
#[derive(Debug, Serialize, Deserialize)]
pub struct Queue {
    /// The stage that it stands before.
    pub stage: String,
    /// Frames in it.
    pub depth: usize,
}

/// One pool.
#[derive(Debug, Serialize, Deserialize)]
pub struct PoolUse {
    /// Its name.
    pub name: String,
    /// Slots in use.
    pub used: usize,
    /// Slots.
    pub slots: usize,
}

/// Answers for a pipeline.
pub struct Answers {
    config: Config,
    gpu: Option<GpuNote>,
    segment: &'static Segment,
    area: &'static Area,
    started: Instant,
    /// Processes of the stages.
    workers: usize,
    repairs: Repairs,
    generations: Shared,
}

impl Answers {
    /// Answers for this pipeline.
    pub fn new(
        config: &Config,
        gpu: Option<GpuNote>,
        (segment, area): (&'static Segment, &'static Area),
        repairs: Repairs,
        generations: Shared,
    ) -> Self {
        let workers = config.stages.iter().map(|stage| stage.processes as usize).sum();
        let config = config.clone();
        Self { config, gpu, segment, area, started: Instant::now(), workers, repairs, generations }
    }

    /// How the pipeline is at this moment.
    pub fn status(&self) -> Status {
        let living = self.generations.lock().living.clone();
        let entry_queue = self.segment.entry_queue();
        let note = |one: &Generation| GenerationNote {
            number: one.number,
            models: one.models().map(ModelRef::to_string).collect(),
            serves: queue_before(0, one.parity()) == entry_queue,
        };
        let workers = living.iter().flat_map(|one| {
            let first = one.parity() * self.workers;
            (first..first + self.workers).map(|place| self.process(place, Some(one.number)))
        });
        let processes =
            workers.chain([2 * self.workers, 2 * self.workers + 1].map(|place| self.process(place, None))).collect();
        let depth = |stage| {
            let queues = if stage == GATEWAY { 0..1 } else { 0..2 }.map(|parity| queue_before(stage, parity));
            queues.map(|queue| self.segment.queue_depth(queue)).sum()
        };
        let [free, writing, ready, claimed] = self.segment.job_census();
        let pool_use = |pool: &Pool| {
            let (used, slots) = self.segment.pool_use(*pool as usize);
            PoolUse { name: pool.name().into(), used, slots }
        };
        Status {
            name: self.config.name.clone(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs_f64(),
            gpu: self.gpu.clone(),
            accepted: self.segment.accepted(),
            jobs: Jobs { free, writing, ready, claimed },
            generations: living.iter().map(note).collect(),
            processes,
            queues: (0..=GATEWAY)
                .map(|stage| Queue { stage: process_name(stage).into(), depth: depth(stage) })
                .collect(),
            pools: Pool::ALL.iter().map(pool_use).collect(),
            cache: CacheStats::of(self.area, &self.config.cache),
            repairs: self.repairs.newest(),
        }
    }

    fn process(&self, place: usize, generation: Option<u64>) -> Process {
        let entry = &self.segment.processes()[place];
        let (stage, instance, pid, _) = entry.identity();
        let heartbeat_ns = Some(entry.heartbeat_ns()).filter(|beat| *beat > 0);
        let state = match entry.state() {
            ProcessState::Vacant => "dead",
            ProcessState::Starting => "starting",
            ProcessState::Ready => "ready",
            ProcessState::Stopping => "stopping",
        };
        Process {
            stage: process_name(stage).into(),
            instance,
            generation,
            pid,
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
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Jobs { free, writing, ready, claimed } = self.jobs;
        writeln!(f, "{}: pid {}, up {:.0} s, {} frames accepted", self.name, self.pid, self.uptime_s, self.accepted)?;
        if let Some(gpu) = &self.gpu {
            writeln!(f, "{gpu}")?;
        }
        writeln!(
            f,
            "frames in flight: {} ({ready} waiting, {claimed} in hand; {free} places free)",
            writing + ready + claimed
        )?;
        for one in &self.generations {
            let what = if one.serves { "" } else { " (does not take new frames)" };
            writeln!(f, "generation {}{what}: {}", one.number, one.models.join(", "))?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "{:<14}{:>8}  {:<9}{:>9}{:>10}{:>8}{:>9}",
            "process", "pid", "state", "restarts", "frames", "errors", "busy s"
        )?;
        for one in &self.processes {
            let title = format!("{}[{}]", one.stage, one.instance);
            let Process { pid, state, restarts, frames, errors, busy_s, .. } = one;
            writeln!(f, "{title:<14}{pid:>8}  {state:<9}{restarts:>9}{frames:>10}{errors:>8}{busy_s:>9.1}")?;
        }
        writeln!(f, "\n{:<14}{:>8}", "queue before", "depth")?;
        for queue in &self.queues {
            writeln!(f, "{:<14}{:>8}", queue.stage, queue.depth)?;
        }
        writeln!(f, "\n{:<14}{:>8}", "pool", "used")?;
        for pool in self.pools.iter().filter(|pool| pool.slots > 0) {
            writeln!(f, "{:<14}{:>8} of {}", pool.name, pool.used, pool.slots)?;
        }
        write!(f, "\n{}", self.cache.in_short())
    }
}
