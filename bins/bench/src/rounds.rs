//! The run. Each round measures everything once, one after the other: the system, while the bare engines are blocked;
//! then the engines, while the system is up and idle. What is compared is compared within a round, so that a machine
//! that grows slower in the course of the run makes both slower.

use std::{io::Write as _, path::Path, time::Duration};

use framepipe_model::{Manifest, ModelRef};
use framepipe_pipeline::{Config, Overrides, StageConfig, stage_index};
use tempfile::TempDir;

use crate::{
    cascade::{self, Cascade},
    engine::{Bare, Engines, Work, bare},
    int8_limit::{self, Int8Limit},
    load::Workload,
    running::{Running, System, Window},
    variant,
};

/// Before each measured window, under the same load.
const WARM_UP: Duration = Duration::from_secs(1);

/// What to measure.
pub struct Plan<'a> {
    pub config: &'a Path,
    /// The pipeline whose cascade is measured too.
    pub cascade: &'a Path,
    pub window: Duration,
    pub rounds: usize,
    pub batch: usize,
    pub in_flight: usize,
    /// The detector's float twin.
    pub float: &'a ModelRef,
    /// 10^9 multiply-accumulates of one inference, and the program that measures the limit.
    pub int8_limit: Option<(f64, &'a Path)>,
}

/// What was measured.
pub struct Measured {
    /// The detector.
    pub detector: ModelRef,
    /// Most candidates of a frame that go into NMS.
    pub candidates_max: usize,
    /// Processes of the detect stage, and of the bare engine.
    pub processes: u32,
    /// Threads of each.
    pub threads: u32,
    /// Cores of the machine.
    pub cores: usize,
    /// 10^9 multiply-accumulates of one inference.
    pub gmac: Option<f64>,
    pub rounds: Vec<Round>,
    pub cascades: Vec<Cascade>,
}

/// What one round gave.
pub struct Round {
    pub system: System,
    /// In the system's layout.
    pub engine: Bare,
    /// The whole system with the detector's float twin.
    pub float_system: System,
    /// One process of one thread.
    pub int8: Bare,
    /// One process of one thread.
    pub float: Bare,
    /// 10^9 multiply-accumulates per second that the cores of the layout can do.
    pub int8_limit: Option<Int8Limit>,
}

/// Runs all of it.
pub fn run(plan: &Plan<'_>) -> anyhow::Result<Measured> {
    let config = Config::load(plan.config, &Overrides::default())?;
    let manifest = Manifest::find(&config.models, &config.detector)?;
    let stage = &config.stages[stage_index("detect").expect("the stage table has this stage")];
    let input = [manifest.input.plan.width(), manifest.input.plan.height()];

    let mut bench = Bench::start(plan, &config, stage, input)?;
    let rounds = (1..=plan.rounds).map(|number| bench.round(number)).collect::<anyhow::Result<_>>()?;
    let cores = bench.stop()?;
    let cascades = cascade::run(plan)?;
    Ok(Measured {
        candidates_max: manifest.detector()?.candidates_max,
        detector: config.detector,
        processes: stage.processes,
        threads: stage.threads,
        cores,
        gmac: plan.int8_limit.map(|(gmac, _)| gmac),
        rounds,
        cascades,
    })
}

struct Bench<'a> {
    plan: &'a Plan<'a>,
    window: Window,
    /// Cores that the layout uses.
    engine_threads: u32,
    running: Running,
    float_running: Running,
    /// With the configuration of the latter.
    _folder: TempDir,
    engine: Engines,
    int8: Engines,
    float: Engines,
}

impl<'a> Bench<'a> {
    fn start(plan: &'a Plan<'a>, config: &Config, stage: &StageConfig, size: [u32; 2]) -> anyhow::Result<Self> {
        let workload = Workload { size, batch: plan.batch, in_flight_max: plan.in_flight, crops: 0, attributes: 0 };
        let inbox = &config.server.inbox[0];
        let running = Running::start(plan.config, inbox, workload)?;
        let folder = tempfile::Builder::new().prefix("framepipe-bench-config-").tempdir()?;
        let float = variant::with(plan.config, "detector", plan.float.to_string().into(), folder.path())?;
        let float_running = Running::start(&float, inbox, workload)?;
        let nice = running.nice_of("detect", stage.nice)?;
        let StageConfig { processes, threads, .. } = *stage;
        println!("starting the bare engines: {processes} + 1 of {}, 1 of {}", config.detector, plan.float);
        let work = |model: &ModelRef, threads| Work::alone(plan.config, model, threads, nice);
        Ok(Self {
            plan,
            window: Window { warm_up: WARM_UP, length: plan.window },
            engine_threads: processes * threads,
            running,
            float_running,
            _folder: folder,
            engine: Engines::start(&work(&config.detector, threads), processes)?,
            int8: Engines::start(&work(&config.detector, 1), 1)?,
            float: Engines::start(&work(plan.float, 1), 1)?,
        })
    }

    /// Ends it; the machine's cores.
    fn stop(self) -> anyhow::Result<usize> {
        let cores = self.running.cores;
        drop((self.engine, self.int8, self.float));
        self.float_running.stop()?;
        self.running.stop()?;
        Ok(cores)
    }

    fn round(&mut self, number: usize) -> anyhow::Result<Round> {
        let plan = self.plan;
        say(&format!("round {number} of {}: system ", plan.rounds))?;
        let system = self.running.measure(self.window)?;
        say(&format!("{:.2}/s, bare engine ", system.fps))?;
        let engine = bare(&mut self.engine, self.window, &self.running)?;
        say(&format!("{:.2}/s; system FP32 ", engine.fps))?;
        let float_system = self.float_running.measure(self.window)?;
        say(&format!("{:.2}/s; bare engine, one process of one thread: INT8 ", float_system.fps))?;
        let int8 = bare(&mut self.int8, self.window, &self.running)?;
        say(&format!("{:.2}/s, FP32 ", int8.fps))?;
        let float = bare(&mut self.float, self.window, &self.running)?;
        say(&format!("{:.2}/s\n", float.fps))?;
        let limit = |(_, program): (f64, &Path)| int8_limit::measure(program, self.engine_threads);
        Ok(Round { system, engine, float_system, int8, float, int8_limit: plan.int8_limit.map(limit).transpose()? })
    }
}

/// Progress, within a line.
pub fn say(what: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    write!(out, "{what}")?;
    Ok(out.flush()?)
}
