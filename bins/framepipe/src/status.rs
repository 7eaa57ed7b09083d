//! `framepipe status`: how a pipeline is, read from shared memory at that moment.

use std::{
    fmt,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use clap::Args;
use framepipe_cache::Area;
use framepipe_model::ModelRef;
use framepipe_pipeline::{
    CacheStats, Config, Generation, Generations, Instance, Overrides, STAGES, StageConfig, StageRow,
    observe::{Jobs, PoolUse, Process, Queue},
    queue_before,
};
use framepipe_shm::Segment;
use serde::{Deserialize, Serialize};

use crate::{
    control,
    deaths::{RepairNote, Repairs},
    gpu::GpuNote,
    memory_use::{self, MemoryNote},
    print, ready,
    swap::Shared,
};

/// Of which pipeline, and in what form.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe status --config config/street.toml
  framepipe status --config config/street.toml --json | jq .queues
  framepipe status --config config/street.toml --ready --http 127.0.0.1:9465

Exit status: 0 it runs (--ready: and frames get through); 1 it does not; 2 wrong usage.")]
pub struct StatusArgs {
    #[command(flatten)]
    instance: Instance,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Ask only whether a frame that is pushed now gets through, as /readyz says (server.http).
    #[arg(long, conflicts_with = "json")]
    ready: bool,
    /// The pipeline's HTTP address (IP:PORT), as `framepipe up` has it, instead of the configuration's.
    #[arg(long, value_name = "ADDRESS", requires = "ready")]
    http: Option<String>,
}

/// `framepipe status`.
pub fn run(arguments: &StatusArgs) -> anyhow::Result<ExitCode> {
    let overrides = Overrides { http: arguments.http.clone(), ..Overrides::default() };
    let config = arguments.instance.load(overrides)?;
    if arguments.ready {
        let said = ready::ask(&config.name, config.server.http.as_deref())?;
        print(&format!("{said}\n"))?;
        return Ok(if said.is_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    control::check_name(&config.run, &arguments.instance)?;
    let status = control::status(&config.run)?;
    let text =
        if arguments.json { format!("{}\n", serde_json::to_string_pretty(&status)?) } else { status.to_string() };
    print(&text)
}

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
    /// Each stage.
    pub stages: Vec<StageNote>,
    /// Each process.
    pub processes: Vec<Process>,
    /// Each queue.
    pub queues: Vec<Queue>,
    /// Each slot pool.
    pub pools: Vec<PoolUse>,
    /// The memory of each owner.
    pub memory: Vec<MemoryNote>,
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

/// A stage.
#[derive(Debug, Serialize, Deserialize)]
pub struct StageNote {
    /// Its name.
    pub stage: String,
    /// The processes that it shall have, of each generation.
    pub wanted: u32,
    /// Most frames of one batch, after a reload too.
    pub batch_max: u32,
}

/// Most frames of one batch of each stage, as it is in force by now: the launcher's loop shows it, and whoever answers reads it.
#[derive(Clone, Default)]
pub struct BatchMax(Arc<[AtomicU32; STAGES.len()]>);

impl BatchMax {
    /// Shows what these stages have.
    pub fn show(&self, stages: &[StageConfig]) {
        self.0.iter().zip(stages).for_each(|(shown, stage)| shown.store(stage.batch_max, Ordering::Relaxed));
    }
}

/// Answers for a pipeline.
pub struct Answers {
    config: Config,
    gpu: Option<GpuNote>,
    segment: &'static Segment,
    area: &'static Area,
    started: Instant,
    repairs: Repairs,
    generations: Shared,
    batch_max: BatchMax,
}

impl Answers {
    /// Answers for this pipeline.
    pub fn new(
        config: &Config,
        gpu: Option<GpuNote>,
        (segment, area): (&'static Segment, &'static Area),
        repairs: Repairs,
        (generations, batch_max): (Shared, BatchMax),
    ) -> Self {
        let config = config.clone();
        Self { config, gpu, segment, area, started: Instant::now(), repairs, generations, batch_max }
    }

    /// How the pipeline is at this moment.
    pub fn status(&self) -> Status {
        let Generations { living, processes: wanted, .. } = self.generations.lock().clone();
        let entry_queue = self.segment.entry_queue();
        let note = |one: &Generation| GenerationNote {
            number: one.number,
            models: one.models().map(ModelRef::to_string).collect(),
            serves: queue_before(0, one.parity()) == entry_queue,
        };
        let stage_note = |(row, batch_max): (&StageRow, &AtomicU32)| StageNote {
            stage: row.name.into(),
            wanted: wanted.get(row.name).copied().unwrap_or(0),
            batch_max: batch_max.load(Ordering::Relaxed),
        };
        let processes = Process::all(self.segment, &living);
        Status {
            name: self.config.name.clone(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs_f64(),
            gpu: self.gpu.clone(),
            accepted: self.segment.accepted(),
            jobs: Jobs::of(self.segment),
            generations: living.iter().map(note).collect(),
            stages: STAGES.iter().zip(self.batch_max.0.iter()).map(stage_note).collect(),
            memory: memory_use::by_owner(&self.config, &processes),
            processes,
            queues: Queue::all(self.segment),
            pools: PoolUse::all(self.segment),
            cache: CacheStats::of(self.area, &self.config.cache),
            repairs: self.repairs.newest(),
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
            "{:<14}{:>8}  {:<9}{:>9}{:>10}{:>8}{:>9}  cpus",
            "process", "pid", "state", "restarts", "frames", "errors", "busy s"
        )?;
        for one in &self.processes {
            let title = one.title();
            let Process { pid, state, restarts, frames, errors, busy_s, .. } = one;
            let cpus = one.cpus.as_deref().unwrap_or_default();
            writeln!(f, "{title:<14}{pid:>8}  {state:<9}{restarts:>9}{frames:>10}{errors:>8}{busy_s:>9.1}  {cpus}")?;
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
