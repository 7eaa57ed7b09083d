//! The run. Each round measures everything once, one after the other: the system, while the bare engines are blocked;
//! then the engines, while the system is up and idle. What is compared is compared within a round, so that a machine
//! that grows slower in the course of the run makes both slower.

use std::{io::Write as _, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use framepipe_client::Client;
use framepipe_model::Manifest;
use framepipe_pipeline::{Config, Overrides, stage_index};
use tokio::runtime::Runtime;

use crate::{
    clock::{self, machine_cpu, now_ns},
    engine::Engines,
    int8_limit,
    load::{Load, Sample},
    server::{Member, Server},
    statistics::rate,
};

/// Before each measured window, under the same load.
const WARM_UP: Duration = Duration::from_secs(1);
/// Between the system's last result and the engine's turn: the last acknowledgement is sent within half a second.
const SETTLE: Duration = Duration::from_secs(1);

/// What to measure.
pub struct Plan<'a> {
    pub config: &'a Path,
    pub window: Duration,
    pub rounds: usize,
    pub batch: usize,
    pub in_flight: usize,
    /// The detector's float twin.
    pub float: &'a str,
    /// 10^9 multiply-accumulates of one inference, and the program that measures the limit.
    pub int8_limit: Option<(f64, &'a Path)>,
}

/// What was measured.
pub struct Measured {
    /// The detector.
    pub detector: String,
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
}

/// What one round gave.
pub struct Round {
    pub system: System,
    /// In the system's layout.
    pub engine: Bare,
    /// One process of one thread.
    pub int8: Bare,
    /// One process of one thread.
    pub float: Bare,
    /// 10^9 multiply-accumulates per second that the cores of the layout can do.
    pub int8_limit: Option<f64>,
}

/// The system under load.
pub struct System {
    /// Frames per second.
    pub fps: f64,
    pub sample: Sample,
    /// CPU seconds by group: each stage, gateway, launcher, client.
    pub cpu_s: Vec<(String, f64)>,
    /// Share of the machine that other processes used.
    pub others: f64,
}

/// A bare engine.
pub struct Bare {
    /// Inferences per second.
    pub fps: f64,
    /// CPU seconds of one inference.
    pub cpu_s: f64,
    /// Share of the machine that other processes used.
    pub others: f64,
    /// Share of the machine that the idle system used.
    pub idle_system: f64,
}

/// Runs all of it.
pub fn run(plan: &Plan<'_>) -> anyhow::Result<Measured> {
    let config = Config::load(plan.config, &Overrides::default())?;
    let manifest = Manifest::find(&config.models, &config.detector)?;
    let stage = &config.stages[stage_index("detect").expect("the stage table has this stage")];
    let (processes, threads, nice) = (stage.processes, stage.threads, stage.nice);
    let input = [manifest.input.plan.width(), manifest.input.plan.height()];

    println!("bringing up the system: {}", plan.config.display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut server = Server::start(plan.config)?;
    let client = runtime.block_on(async { Client::connect_lazy(&server.address()) })?;
    runtime.block_on(server.wait_ready(&client))?;
    let members = server.members()?;
    let nice = nice_of_detect(&members, nice)?;
    println!("starting the bare engines: {processes} + 1 of {}, 1 of {}", config.detector, plan.float);
    let mut bench = Bench {
        plan,
        cores: std::thread::available_parallelism()?.get(),
        processes,
        threads,
        load: Load::new(client, &config.server.inbox[0], input, plan.batch, plan.in_flight)?,
        engine: Engines::start(plan.config, &config.detector, processes, threads, nice)?,
        int8: Engines::start(plan.config, &config.detector, 1, 1, nice)?,
        float: Engines::start(plan.config, plan.float, 1, 1, nice)?,
        members,
        runtime,
    };
    let rounds = (1..=plan.rounds).map(|number| bench.round(number)).collect::<anyhow::Result<_>>()?;
    let measured = Measured {
        candidates_max: manifest.detector()?.candidates_max,
        detector: config.detector,
        processes,
        threads,
        cores: bench.cores,
        gmac: plan.int8_limit.map(|(gmac, _)| gmac),
        rounds,
    };
    drop(bench);
    server.stop()?;
    Ok(measured)
}

/// The bare engine runs at the nice value at which detect does run, whatever the configuration says.
fn nice_of_detect(members: &[Member], configured: i32) -> anyhow::Result<i32> {
    let detect = members.iter().find(|member| member.stage == "detect").context("the system has no detect process")?;
    let nice = detect.nice()?;
    if nice != configured {
        println!("WARNING: detect runs at nice {nice}, and the configuration says {configured}");
    }
    Ok(nice)
}

struct Bench<'a> {
    plan: &'a Plan<'a>,
    cores: usize,
    processes: u32,
    threads: u32,
    load: Load,
    engine: Engines,
    int8: Engines,
    float: Engines,
    members: Vec<Member>,
    /// Nothing of the client runs outside its `block_on`.
    runtime: Runtime,
}

impl Bench<'_> {
    fn round(&mut self, number: usize) -> anyhow::Result<Round> {
        let plan = self.plan;
        say(&format!("round {number} of {}: system ", plan.rounds))?;
        let system = self.system()?;
        say(&format!("{:.2}/s, bare engine ", system.fps))?;
        let engine = bare(&mut self.engine, plan.window, self.cores, &self.members)?;
        say(&format!("{:.2}/s; one process of one thread: INT8 ", engine.fps))?;
        let int8 = bare(&mut self.int8, plan.window, self.cores, &self.members)?;
        say(&format!("{:.2}/s, FP32 ", int8.fps))?;
        let float = bare(&mut self.float, plan.window, self.cores, &self.members)?;
        say(&format!("{:.2}/s\n", float.fps))?;
        let limit = |(_, program): (f64, &Path)| int8_limit::measure(program, self.processes * self.threads);
        Ok(Round { system, engine, int8, float, int8_limit: plan.int8_limit.map(limit).transpose()? })
    }

    fn system(&mut self) -> anyhow::Result<System> {
        let (begin, end) = window(self.plan.window)?;
        let (from, before, others) = (now_ns()?, self.cpu_by_group()?, machine_cpu()?);
        let sample = self.runtime.block_on(self.load.run(begin, end))?;
        let (to, after, others_after) = (now_ns()?, self.cpu_by_group()?, machine_cpu()?);
        self.runtime.block_on(async { tokio::time::sleep(SETTLE).await });
        let used = before.into_iter().zip(after).map(|((group, before), (_, after))| (group, after - before));
        let cpu_s: Vec<(String, f64)> = used.collect();
        let own = cpu_s.iter().map(|(_, seconds)| seconds).sum::<f64>();
        let machine_s = (to - from) as f64 / 1e9 * self.cores as f64;
        let fps = rate(&sample.completed, begin, end);
        ensure!(fps > 0.0, "no frame was completed within {:?}: give more --seconds", self.plan.window);
        let others = ((others_after - others).as_secs_f64() - own) / machine_s;
        Ok(System { fps, sample, cpu_s, others })
    }

    /// CPU seconds of each stage, gateway, launcher, and this client.
    fn cpu_by_group(&self) -> anyhow::Result<Vec<(String, f64)>> {
        let mut groups: Vec<(String, f64)> = vec![];
        for member in &self.members {
            let seconds = member.cpu_ns()? as f64 / 1e9;
            match groups.iter_mut().find(|(stage, _)| *stage == member.stage) {
                Some((_, sum)) => *sum += seconds,
                None => groups.push((member.stage.clone(), seconds)),
            }
        }
        groups.push(("client".into(), clock::cpu_ns(std::process::id())? as f64 / 1e9));
        Ok(groups)
    }
}

fn bare(engines: &mut Engines, length: Duration, cores: usize, members: &[Member]) -> anyhow::Result<Bare> {
    let system_cpu_ns = || members.iter().map(Member::cpu_ns).sum::<anyhow::Result<u64>>();
    let (begin, end) = window(length)?;
    let (from, before, system, machine) = (now_ns()?, engines.cpu_ns()?, system_cpu_ns()?, machine_cpu()?);
    let completed = engines.run_until(end)?;
    let machine_s = (now_ns()? - from) as f64 / 1e9 * cores as f64;
    let own_s = (engines.cpu_ns()? - before) as f64 / 1e9;
    let system_s = (system_cpu_ns()? - system) as f64 / 1e9;
    let others = ((machine_cpu()? - machine).as_secs_f64() - own_s - system_s) / machine_s;
    let fps = rate(&completed, begin, end);
    ensure!(fps > 0.0, "no inference was completed within {length:?}: give more --seconds");
    Ok(Bare { fps, cpu_s: own_s / completed.len() as f64, others, idle_system: system_s / machine_s })
}

/// Progress, within a line.
fn say(what: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    write!(out, "{what}")?;
    Ok(out.flush()?)
}

/// Begin and end of a window after the warm-up.
fn window(length: Duration) -> anyhow::Result<(u64, u64)> {
    let begin = now_ns()? + WARM_UP.as_nanos() as u64;
    Ok((begin, begin + length.as_nanos() as u64))
}
