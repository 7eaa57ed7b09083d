//! The system that is measured: folders in a temporary place, no TCP port, its processes known by stage.

use std::{
    ffi::OsStr,
    ops,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use framepipe_client::Client;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::process::getpriority_process;
use serde_json::Value;
use tempfile::TempDir;

use crate::clock;

/// For the models to load and warm up.
const READY_WAIT: Duration = Duration::from_secs(120);
/// Between two looks at whether the launcher has ended already.
const LOOK: Duration = Duration::from_millis(200);

/// A running pipeline. Dropped, it is told to stop.
pub struct Server {
    launcher: Child,
    folder: TempDir,
    config: PathBuf,
    program: PathBuf,
}

/// A process of the pipeline.
pub struct Member {
    /// Its stage, "gateway" or "launcher".
    pub stage: String,
    pid: u32,
}

/// Runs of attribute models, and crops in them, one a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct CropRuns {
    pub runs: u64,
    pub crops: u64,
}

impl ops::Sub for CropRuns {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { runs: self.runs - before.runs, crops: self.crops - before.crops }
    }
}

impl Server {
    /// Starts `framepipe up` with this configuration.
    pub fn start(config: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("framepipe-bench-").tempdir()?;
        let program = std::env::current_exe()?.with_file_name("framepipe");
        let launcher = Command::new(&program)
            .args(["up".as_ref(), "--config".as_ref(), config.as_os_str()])
            .args(["--name", &format!("bench-{}", std::process::id()), "--tcp", ""])
            .args([OsStr::new("--run-dir"), folder.path().join("run").as_os_str()])
            .args([OsStr::new("--state-dir"), folder.path().join("state").as_os_str()])
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { launcher, folder, config: config.to_owned(), program })
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("unix:{}", self.folder.path().join("run/grpc.sock").display())
    }

    /// Waits until it takes frames.
    pub async fn wait_ready(&mut self, client: &Client) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WAIT;
        while Instant::now() < deadline {
            if let Some(status) = self.launcher.try_wait()? {
                bail!("the pipeline did not start ({status}): its own words are above");
            }
            if client.wait_ready(LOOK).await.is_ok() {
                return Ok(());
            }
        }
        bail!("the pipeline is not ready after {READY_WAIT:?}")
    }

    fn status(&self) -> anyhow::Result<Value> {
        let status = Command::new(&self.program)
            .args(["status".as_ref(), "--json".as_ref(), "--config".as_ref(), self.config.as_os_str()])
            .args([OsStr::new("--run-dir"), self.folder.path().join("run").as_os_str()])
            .output()?;
        ensure!(status.status.success(), "framepipe status: {}", String::from_utf8_lossy(&status.stderr));
        Ok(serde_json::from_slice(&status.stdout)?)
    }

    /// How often attribute models have run.
    pub fn crop_runs(&self) -> anyhow::Result<CropRuns> {
        let status = self.status()?;
        let processes = status["processes"].as_array().context("framepipe status names no processes")?;
        let sum = |key| processes.iter().map(|process| process[key].as_u64()).sum::<Option<u64>>();
        let counted = sum("crop_runs").zip(sum("crops"));
        let (runs, crops) = counted.context("framepipe status does not count crops")?;
        Ok(CropRuns { runs, crops })
    }

    /// Its processes, the launcher last.
    pub fn members(&self) -> anyhow::Result<Vec<Member>> {
        let status = self.status()?;
        let mut members = vec![];
        for process in status["processes"].as_array().context("framepipe status names no processes")? {
            let stage = process["stage"].as_str().context("a process without a stage")?;
            members.push(Member { stage: stage.to_owned(), pid: process["pid"].as_u64().context("its pid")? as u32 });
        }
        members.push(Member { stage: "launcher".into(), pid: self.launcher.id() });
        Ok(members)
    }

    /// Drains it and waits for its end.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.terminate();
        let status = self.launcher.wait()?;
        ensure!(status.success(), "the pipeline ended with {status}");
        Ok(())
    }

    fn terminate(&self) {
        let _ = kill(Pid::from_raw(self.launcher.id() as i32), Signal::SIGTERM); // an error: it has ended
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.launcher.try_wait(), Ok(None)) {
            self.terminate();
            let _ = self.launcher.wait();
        }
    }
}

impl Member {
    /// CPU time that it has used, in ns. An error when it has ended: a restart spoils a measurement.
    pub fn cpu_ns(&self) -> anyhow::Result<u64> {
        clock::cpu_ns(self.pid).with_context(|| format!("a {} process", self.stage))
    }

    /// Its nice value.
    pub fn nice(&self) -> anyhow::Result<i32> {
        Ok(getpriority_process(rustix::process::Pid::from_raw(self.pid as i32))?)
    }
}
