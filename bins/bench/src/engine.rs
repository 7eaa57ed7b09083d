//! The bare engine: children of this program that run a model on one fixed tensor and nothing else.
//!
//! A child says `ready` when the model is warm. Then, for each line `END` on its standard input (ns of
//! CLOCK_MONOTONIC), it runs until END has passed and answers with one line: the times at which each inference was
//! completed. In between it is blocked. It ends with its standard input.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use framepipe_infer::{CpuModel, Options, Runtime};
use framepipe_model::{Detector, Manifest};
use framepipe_pipeline::{Config, Overrides};
use framepipe_vision::DataType;
use rustix::process::setpriority_process;

use crate::clock;

const READY: &str = "ready";

/// What a child is to run.
#[derive(Args)]
pub struct Order {
    /// Says where the models and ONNX Runtime lie.
    #[arg(long)]
    config: PathBuf,
    #[arg(long)]
    model: String,
    #[arg(long)]
    threads: usize,
    #[arg(long, allow_negative_numbers = true)]
    nice: i32,
}

/// A child's `main`.
pub fn serve(order: &Order) -> anyhow::Result<()> {
    setpriority_process(None, order.nice).with_context(|| format!("cannot run at nice {}", order.nice))?;
    let config = Config::load(&order.config, &Overrides::default())?;
    let manifest = Manifest::find(&config.models, &order.model)?;
    ensure!(manifest.input.plan.dtype() == DataType::F32, "{}: this benchmark feeds models of f32", order.model);
    let head = Detector::new(&manifest)?;
    let runtime = Runtime::load(&config.onnxruntime)?;
    let options = Options { threads: order.threads, batch_max: 1 };
    let mut model = CpuModel::open(&runtime, &manifest.model_path(), &manifest.input, &head.outputs(), options)?;
    model.warm_up(&[])?;
    let tensor = tensor(manifest.input.plan.tensor_bytes() / DataType::F32.bytes());

    println!("{READY}");
    for line in std::io::stdin().lines() {
        let end: u64 = line?.parse().context("the end of a window")?;
        let mut completed = Vec::new();
        while completed.last().is_none_or(|last| *last < end) {
            model.run_f32(1, &tensor, |_, _, _| {})?;
            completed.push(clock::now_ns()?);
        }
        let words: Vec<String> = completed.iter().map(u64::to_string).collect();
        println!("{}", words.join(" "));
    }
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

/// Children that run the same model.
pub struct Engines(Vec<Engine>);

struct Engine {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Engines {
    /// Starts `processes` children and waits until they are warm.
    pub fn start(config: &Path, model: &str, processes: u32, threads: u32, nice: i32) -> anyhow::Result<Self> {
        let start = |_| Engine::start(config, model, threads, nice);
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
    fn start(config: &Path, model: &str, threads: u32, nice: i32) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("engine")
            .args(["--config".as_ref(), config.as_os_str()])
            .args(["--model", model, "--threads", &threads.to_string(), "--nice", &nice.to_string()])
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
