//! A pipeline of a program's own: folders in a temporary place, no TCP port, ended with the program. And what a program needs that
//! measures it: CPU times of its processes ([`Member`]), clocks, rates.

pub mod clock;
mod member;
mod rate;

use std::{
    os::unix::process::CommandExt as _,
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
use serde_json::Value;
use tempfile::TempDir;

pub use crate::{member::Member, rate::steady_rate};

/// For the models to load and warm up.
const READY_WAIT: Duration = Duration::from_secs(120);
/// Between two looks at whether the launcher has ended already.
const LOOK: Duration = Duration::from_millis(200);

/// A running pipeline. Dropped, it is told to stop.
pub struct Server {
    program: PathBuf,
    config: PathBuf,
    launcher: Child,
    folder: TempDir,
    started: Instant,
}

impl Server {
    /// Starts `framepipe up`, which lies beside this program, with this configuration and more arguments. `title` begins the
    /// instance's name. To be called by the main thread: with the end of the one that calls, the pipeline ends.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(title: &str, config: &Path, arguments: &[String]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix(&format!("framepipe-{title}-")).tempdir()?;
        let program = std::env::current_exe()?.with_file_name("framepipe");
        let started = Instant::now();
        let launcher = Command::new(&program)
            .arg("up")
            .args(["--config".as_ref(), config.as_os_str()])
            .args(["--name".as_ref(), folder.path().file_name().context("a folder has a name")?])
            .args(["--tcp", "", "--http", "", "--end-with", &std::process::id().to_string()])
            .args(["--run-dir".as_ref(), folder.path().join("run").as_os_str()])
            .args(["--state-dir".as_ref(), folder.path().join("state").as_os_str()])
            .args(arguments)
            // In a group of its own: Ctrl-C would be one signal to it, and this program's end a second, by which it stops at once.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { program, config: config.to_owned(), launcher, folder, started })
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("unix:{}", self.folder.path().join("run/grpc.sock").display())
    }

    /// The launcher's process.
    pub fn pid(&self) -> u32 {
        self.launcher.id()
    }

    /// What `framepipe status --json` says.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn status(&self) -> anyhow::Result<Value> {
        let status = Command::new(&self.program)
            .args(["status".as_ref(), "--json".as_ref(), "--config".as_ref(), self.config.as_os_str()])
            .args(["--run-dir".as_ref(), self.folder.path().join("run").as_os_str()])
            .output()?;
        ensure!(status.status.success(), "framepipe status: {}", String::from_utf8_lossy(&status.stderr));
        Ok(serde_json::from_slice(&status.stdout)?)
    }

    /// Waits until it takes frames; milliseconds since its start.
    ///
    /// # Errors
    /// When it ends instead, or is not ready after two minutes.
    pub async fn wait_ready(&mut self, client: &Client) -> anyhow::Result<u64> {
        let deadline = Instant::now() + READY_WAIT;
        while Instant::now() < deadline {
            if let Some(status) = self.launcher.try_wait()? {
                bail!("the pipeline did not start ({status}): its own words are above");
            }
            if client.wait_ready(LOOK).await.is_ok() {
                return Ok(self.started.elapsed().as_millis() as u64);
            }
        }
        bail!("the pipeline is not ready after {READY_WAIT:?}")
    }

    /// Drains it and waits for its end.
    ///
    /// # Errors
    /// When it ends with a failure.
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
