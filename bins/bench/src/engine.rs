//! The bare engine: children of this program that run models on fixed tensors and nothing else: a detector, or a
//! cascade of a detector and attribute models.
//!
//! A child says `ready` when the model is warm. Then, for each line `END` on its standard input (ns of
//! CLOCK_MONOTONIC), it runs until END has passed and answers with one line: the times at which each inference was
//! completed (of a cascade, each frame). In between it is blocked. It ends with its standard input.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use framepipe_infer::{CpuModel, ModelFile, Options, Runtime};
use framepipe_model::{AttributeHead, Detector, Manifest, ModelRef};
use framepipe_pipeline::{Config, NO_TELEMETRY, Overrides};
use framepipe_temporary::{
    Member,
    clock::{self, machine_cpu, now_ns},
    steady_rate,
};
use framepipe_vision::DataType;
use rustix::process::setpriority_process;

use crate::running::{Running, Window};

const READY: &str = "ready";

/// What a child is to run.
#[derive(Args, Clone)]
pub struct Work {
    /// Says where the models and ONNX Runtime lie.
    #[arg(long)]
    pub config: PathBuf,
    /// The detector.
    #[arg(long)]
    pub model: ModelRef,
    /// The attribute models.
    #[arg(long = "attribute")]
    pub attributes: Vec<ModelRef>,
    /// Crops of a frame for each attribute model.
    #[arg(long)]
    pub crops: u32,
    /// Crops in one run.
    #[arg(long)]
    pub crop_batch: u32,
    #[arg(long)]
    pub threads: u32,
    #[arg(long, allow_negative_numbers = true)]
    pub nice: i32,
}

impl Work {
    /// A detector alone.
    pub fn alone(config: &Path, model: &ModelRef, threads: u32, nice: i32) -> Self {
        let (config, model) = (config.to_owned(), model.to_owned());
        Self { config, model, attributes: vec![], crops: 0, crop_batch: 1, threads, nice }
    }

    fn arguments(&self) -> Vec<OsString> {
        let Self { config, model, attributes, crops, crop_batch, threads, nice } = self;
        let attributes = attributes.iter().flat_map(|name| ["--attribute".into(), name.to_string().into()]);
        let mut arguments: Vec<OsString> =
            vec!["--config".into(), config.into(), "--model".into(), model.to_string().into()];
        arguments.extend(attributes);
        for (flag, number) in [("--crops", crops), ("--crop-batch", crop_batch), ("--threads", threads)] {
            arguments.extend([flag.into(), number.to_string().into()]);
        }
        arguments.extend(["--nice".into(), nice.to_string().into()]);
        arguments
    }

    /// Frames whose crops fill whole batches.
    fn frames_of_a_cycle(&self) -> u32 {
        (1..self.crop_batch)
            .find(|frames| (frames * self.crops).is_multiple_of(self.crop_batch))
            .unwrap_or(self.crop_batch)
    }
}

/// A model with its input.
struct Loaded {
    model: CpuModel,
    batch: usize,
    tensor: Vec<f32>,
}

impl Loaded {
    fn open(
        runtime: &Runtime,
        manifest: &Manifest,
        outputs: &[&str],
        rows_max: Option<&[Vec<usize>]>,
        threads: u32,
        batch: usize,
    ) -> anyhow::Result<Self> {
        let input = &manifest.input;
        ensure!(input.plan.dtype() == DataType::F32, "{}: this benchmark feeds models of f32", manifest.name);
        let options = Options { threads: threads as usize, batch_max: batch };
        let model = CpuModel::open(
            runtime,
            ModelFile { path: &manifest.model_path(), sha256: &manifest.sha256 },
            input,
            outputs,
            options,
        )?;
        let mut model = model.filled_up(rows_max);
        ensure!(model.batch_max() == batch, "{}: it is fixed to a batch of {}", manifest.name, model.batch_max());
        model.warm_up(&[])?;
        Ok(Self { model, batch, tensor: tensor(batch * input.plan.tensor_bytes() / DataType::F32.bytes()) })
    }

    fn run(&mut self) -> anyhow::Result<()> {
        Ok(self.model.run_f32(self.batch, &self.tensor, |_, _, _| {})?)
    }
}

/// A child's `main`.
pub fn serve(work: &Work) -> anyhow::Result<()> {
    setpriority_process(None, work.nice).with_context(|| format!("cannot run at nice {}", work.nice))?;
    let config = Config::load(&work.config, &Overrides::default())?;
    let runtime = Runtime::load(&config.onnxruntime)?;
    let manifest = Manifest::find(&config.models, &work.model)?;
    let head = Detector::new(&manifest)?;
    let mut detector = Loaded::open(&runtime, &manifest, &head.outputs(), head.rows_max(), work.threads, 1)?;
    let open = |name: &ModelRef| {
        let manifest = Manifest::find(&config.models, name)?;
        let head = AttributeHead::new(&manifest)?;
        Loaded::open(&runtime, &manifest, &head.outputs(), None, work.threads, work.crop_batch as usize)
    };
    let mut attributes = work.attributes.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;

    println!("{READY}");
    for line in std::io::stdin().lines() {
        let end: u64 = line?.parse().context("the end of a window")?;
        let mut completed = Vec::new();
        while completed.last().is_none_or(|last| *last < end) {
            cycle(work, &mut detector, &mut attributes, &mut completed)?;
        }
        let words: Vec<String> = completed.iter().map(u64::to_string).collect();
        println!("{}", words.join(" "));
    }
    Ok(())
}

/// Runs as many frames as fill whole batches of crops. Each counts as completed after an equal share of the time.
fn cycle(
    work: &Work,
    detector: &mut Loaded,
    attributes: &mut [Loaded],
    completed: &mut Vec<u64>,
) -> anyhow::Result<()> {
    let (start, frames) = (now_ns()?, work.frames_of_a_cycle());
    for _ in 0..frames {
        detector.run()?;
    }
    for model in attributes {
        for _ in 0..frames * work.crops / work.crop_batch {
            model.run()?;
        }
    }
    let took = now_ns()? - start;
    completed.extend((1..=u64::from(frames)).map(|frame| start + took * frame / u64::from(frames)));
    Ok(())
}

/// Numbers as of a normalised image: -2 to 2, always the same.
fn tensor(length: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    };
    (0..length).map(|_| next()).collect()
}

/// A bare engine.
pub struct Bare {
    /// Inferences, or frames of a cascade, per second.
    pub fps: f64,
    /// CPU seconds of one.
    pub cpu_s: f64,
    /// Share of the machine that other processes used.
    pub others: f64,
    /// Share of the machine that the idle system used.
    pub idle_system: f64,
}

/// Runs bare engines for a window, beside the idle system.
pub fn bare(engines: &mut Engines, window: Window, system: &Running) -> anyhow::Result<Bare> {
    let system_cpu_ns = || system.members.iter().map(Member::cpu_ns).sum::<anyhow::Result<u64>>();
    let (begin, end) = window.begin_end()?;
    let (from, before, system_before, machine) = (now_ns()?, engines.cpu_ns()?, system_cpu_ns()?, machine_cpu()?);
    let completed = engines.run_until(end)?;
    let machine_s = (now_ns()? - from) as f64 / 1e9 * system.cores as f64;
    let own_s = (engines.cpu_ns()? - before) as f64 / 1e9;
    let system_s = (system_cpu_ns()? - system_before) as f64 / 1e9;
    let others = ((machine_cpu()? - machine).as_secs_f64() - own_s - system_s) / machine_s;
    let fps = steady_rate(&completed, begin, end);
    ensure!(fps > 0.0, "no inference was completed within {:?}: give more --seconds", window.length);
    Ok(Bare { fps, cpu_s: own_s / completed.len() as f64, others, idle_system: system_s / machine_s })
}

/// Children that do the same work.
pub struct Engines(Vec<Engine>);

struct Engine {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Engines {
    /// Starts `processes` children and waits until they are warm.
    pub fn start(work: &Work, processes: u32) -> anyhow::Result<Self> {
        let start = |_| Engine::start(work);
        let mut engines = Self((0..processes).map(start).collect::<anyhow::Result<_>>()?);
        for engine in &mut engines.0 {
            let answer = engine.answer()?;
            ensure!(answer == READY, "the bare engine says {answer:?} instead of {READY:?}");
        }
        Ok(engines)
    }

    /// Runs all of them until `end`; the times at which inferences were completed, in order.
    pub fn run_until(&mut self, end: u64) -> anyhow::Result<Vec<u64>> {
        for engine in &mut self.0 {
            let orders = engine.orders.as_mut().expect("it is taken when the engine is dropped");
            writeln!(orders, "{end}").context("the bare engine ended: its own words are above")?;
        }
        let mut completed = Vec::new();
        for engine in &mut self.0 {
            for word in engine.answer()?.split_ascii_whitespace() {
                completed.push(word.parse().context("the time of an inference")?);
            }
        }
        completed.sort_unstable();
        Ok(completed)
    }

    /// CPU time that they have used, in ns.
    pub fn cpu_ns(&self) -> anyhow::Result<u64> {
        self.0.iter().map(|engine| clock::cpu_ns(engine.child.id())).sum()
    }
}

impl Engine {
    fn start(work: &Work) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("engine")
            .env(NO_TELEMETRY.0, NO_TELEMETRY.1)
            .args(work.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the bare engine")?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take().expect("it is a pipe"));
        Ok(Self { child, orders, answers: BufReader::new(answers) })
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "the bare engine ended: its own words are above");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.orders.take()); // it ends with its standard input
        let _ = self.child.wait(); // an error: it is gone
    }
}
