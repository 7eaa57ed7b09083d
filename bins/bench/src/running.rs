//! The system under this client's load, with the CPU time of each of its processes, and how full its crop batches are.

use std::{path::Path, thread, time::Duration};

use anyhow::{Context as _, ensure};
use framepipe_client::Client;
use framepipe_temporary::{
    Member, Server,
    clock::{machine_cpu, now_ns},
    steady_rate,
};
use tokio::runtime::Runtime;

use crate::{
    load::{Load, Sample, Workload},
    server::{self, CropRuns},
    statistics::median,
};

/// Between the system's last result and the engine's turn: the last acknowledgement is sent within half a second.
const SETTLE: Duration = Duration::from_secs(1);

/// A system that is up, and its client.
pub struct Running {
    server: Server,
    load: Load,
    pub members: Vec<Member>,
    pub cores: usize,
    /// Nothing of the client runs outside its `block_on`.
    runtime: Runtime,
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
    /// Runs of attribute models, and crops in them, within the window.
    pub crop_runs: CropRuns,
}

impl System {
    /// The share of the machine that others used, the greatest of some windows.
    pub fn others_of(windows: &[&Self]) -> f64 {
        windows.iter().map(|window| window.others).fold(0.0, f64::max)
    }
}

/// A measured window, and the time before it under the same load.
#[derive(Clone, Copy)]
pub struct Window {
    pub warm_up: Duration,
    pub length: Duration,
}

impl Window {
    /// Begin and end, from now on.
    pub fn begin_end(self) -> anyhow::Result<(u64, u64)> {
        let begin = now_ns()? + self.warm_up.as_nanos() as u64;
        Ok((begin, begin + self.length.as_nanos() as u64))
    }
}

impl Running {
    /// Brings the system up; the client stores its frames in `inbox`.
    pub fn start(config: &Path, inbox: &Path, workload: Workload) -> anyhow::Result<Self> {
        Self::start_with(config, &[], inbox, workload, None)
    }

    /// As [`Running::start`], with more arguments for `framepipe up`, and with an encoded image for its frames.
    pub fn start_with(
        config: &Path,
        arguments: &[String],
        inbox: &Path,
        workload: Workload,
        image: Option<&[u8]>,
    ) -> anyhow::Result<Self> {
        println!("bringing up the system: {}", config.display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut server = Server::start("bench", config, arguments)?;
        let client = runtime.block_on(async { Client::connect_lazy(&server.address()) })?;
        runtime.block_on(server.wait_ready(&client))?;
        Ok(Self {
            members: Member::all(&server)?,
            load: Load::new(client, inbox, workload, image)?,
            server,
            cores: thread::available_parallelism()?.get(),
            runtime,
        })
    }

    /// Bytes of frames that the system has copied so far.
    pub fn bytes_copied(&self) -> anyhow::Result<u64> {
        server::bytes_copied(&self.server)
    }

    /// Loads it for a window.
    pub fn measure(&mut self, window: Window) -> anyhow::Result<System> {
        self.measure_with(window, |_| Ok(()))
    }

    /// The same; `turn` is called with true when the window begins, and with false when it ends.
    pub fn measure_with(
        &mut self,
        window: Window,
        mut turn: impl FnMut(bool) -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<System> {
        let (begin, end) = window.begin_end()?;
        let (from, before, others) = (now_ns()?, Member::cpu_by_group(&self.members)?, machine_cpu()?);
        let Self { server, load, runtime, .. } = self;
        let (sample, crop_runs) = thread::scope(|scope| {
            let counted = scope.spawn(|| count_crop_runs(server, begin, end, &mut turn));
            let sample = runtime.block_on(load.run(begin, end));
            (sample, counted.join().expect("counting does not panic"))
        });
        let (sample, crop_runs) = (sample?, crop_runs?);
        let (to, after, others_after) = (now_ns()?, Member::cpu_by_group(&self.members)?, machine_cpu()?);
        self.runtime.block_on(async { tokio::time::sleep(SETTLE).await });
        let used = before.into_iter().zip(after).map(|((group, before), (_, after))| (group, after - before));
        let cpu_s: Vec<(String, f64)> = used.collect();
        let own = cpu_s.iter().map(|(_, seconds)| seconds).sum::<f64>();
        let machine_s = (to - from) as f64 / 1e9 * self.cores as f64;
        let fps = steady_rate(&sample.completed, begin, end);
        ensure!(fps > 0.0, "no frame was completed within {:?}: give more --seconds", window.length);
        let others = ((others_after - others).as_secs_f64() - own) / machine_s;
        Ok(System { fps, sample, cpu_s, others, crop_runs })
    }

    /// The nice value at which a stage does run, whatever the configuration says.
    pub fn nice_of(&self, stage: &str, configured: i32) -> anyhow::Result<i32> {
        let member = self.members.iter().find(|member| member.stage == stage);
        let member = member.with_context(|| format!("the system has no {stage} process"))?;
        let nice = server::nice(member)?;
        if nice != configured {
            println!("WARNING: {stage} runs at nice {nice}, and the configuration says {configured}");
        }
        Ok(nice)
    }

    /// The median time of so many gRPC calls that do nothing, but for the first ones.
    pub fn call_us(&self, calls: usize, warm_up: usize) -> anyhow::Result<f64> {
        let call = || self.runtime.block_on(self.load.call_us());
        let took = (0..calls).map(|_| call()).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(median(&took[warm_up..]))
    }

    /// Takes it down.
    pub fn stop(self) -> anyhow::Result<()> {
        let Self { mut server, load, runtime, .. } = self;
        drop((load, runtime)); // and with it the connection, for whose end the server would wait
        server.stop()
    }
}

/// Between `begin` and `end`.
fn count_crop_runs(
    server: &Server,
    begin: u64,
    end: u64,
    turn: &mut impl FnMut(bool) -> anyhow::Result<()>,
) -> anyhow::Result<CropRuns> {
    sleep_until(begin)?;
    let before = server::crop_runs(server)?;
    turn(true)?;
    sleep_until(end)?;
    turn(false)?;
    Ok(server::crop_runs(server)? - before)
}

fn sleep_until(time: u64) -> anyhow::Result<()> {
    thread::sleep(Duration::from_nanos(time.saturating_sub(now_ns()?)));
    Ok(())
}
