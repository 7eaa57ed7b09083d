//! The whole pipeline on the GPU, under load from a client: `framepipe-bench system`, which lies beside this program, at several
//! numbers of crops a frame.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

/// Crops a frame.
const CROPS: [u32; 4] = [0, 1, 2, 4];

/// What `framepipe-bench system` prints.
#[derive(Serialize, Deserialize)]
pub struct Run {
    pub crops: u32,
    pub in_flight: usize,
    /// Frames a second, the median of the rounds.
    pub fps: f64,
    pub rounds: Vec<f64>,
    pub latency_p50_ms: f64,
    pub latency_p99_ms: f64,
    /// By stage.
    pub cpu_ms_per_frame: Vec<(String, f64)>,
    /// By stage: waited, worked.
    pub stage_ms: Vec<(String, f64, f64)>,
}

/// Measures a configuration on the GPU of this UUID.
pub fn measure(config: &Path, uuid: &str, seconds: f64) -> anyhow::Result<Vec<Run>> {
    CROPS.iter().map(|crops| run(config, uuid, *crops, seconds)).collect()
}

fn run(config: &Path, uuid: &str, crops: u32, seconds: f64) -> anyhow::Result<Run> {
    eprintln!("gpu-accept: the pipeline of {} with {crops} crops a frame ...", config.display());
    let program = std::env::current_exe()?.with_file_name("framepipe-bench");
    let output = Command::new(&program)
        .args(["system".as_ref(), "--config".as_ref(), config.as_os_str()])
        .args(["--device", uuid, "--crops", &crops.to_string(), "--seconds", &seconds.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{} ended with {}: {said}", program.display(), output.status);
    let last = said.lines().last().context("it printed nothing")?;
    serde_json::from_str(last).with_context(|| format!("it printed {last:?}"))
}
