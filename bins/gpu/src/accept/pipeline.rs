//! The whole pipeline on the GPU, under load from a client: `framepipe-bench system`, which lies beside this program, at several
//! numbers of crops a frame: raw frames with MPS and without, and JPEGs that the CPU decodes, or who is faster.

use std::{
    ffi::OsStr,
    fmt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::photo;

/// Sides of the JPEG.
const SIZE: (u32, u32) = (1280, 720);
/// Crops a frame, and the least frames a second, decoded, that a T4 has to do.
pub const TARGETS: [(u32, f64); 3] = [(0, 2600.0), (1, 1430.0), (2, 876.0)];

/// What the frames are, and how processes share the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Raw frames of the detector's size, by MPS.
    RawByMps,
    /// The same, by turns.
    RawByTurns,
    /// JPEGs of 1280x720, decoded on the CPU, by MPS.
    Jpeg,
    /// The same, decoded by who is faster, CPU or GPU.
    JpegAuto,
}

impl Way {
    const ALL: [Self; 4] = [Self::RawByMps, Self::RawByTurns, Self::Jpeg, Self::JpegAuto];

    /// True for frames that need no decoding.
    pub fn is_raw(self) -> bool {
        matches!(self, Self::RawByMps | Self::RawByTurns)
    }

    /// Crops a frame. The GPU decodes what is kept for crops.
    fn crops(self) -> &'static [u32] {
        if self == Self::JpegAuto { &[1, 2, 4] } else { &[0, 1, 2, 4] }
    }
}

/// What `framepipe-bench system` prints.
#[derive(Serialize, Deserialize)]
pub struct Measured {
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

/// A run, and what was measured, or why nothing was.
#[derive(Serialize)]
pub struct Run {
    pub way: Way,
    pub crops: u32,
    pub measured: Option<Measured>,
    pub refused: Option<String>,
}

/// Measures a configuration on the GPU of this UUID, each run handed over as it is done.
pub fn measure(
    config: &Path,
    uuid: &str,
    seconds: f64,
    mut done: impl FnMut(Run) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut jpeg = tempfile::NamedTempFile::new()?;
    let (width, height) = SIZE;
    std::io::Write::write_all(&mut jpeg, &photo::jpeg(&photo::pixels(width, height), width, height)?)?;
    for way in Way::ALL {
        for crops in way.crops() {
            let (measured, refused) = match run(config, uuid, *crops, seconds, way, jpeg.path()) {
                Ok(measured) => (Some(measured), None),
                Err(error) => (None, Some(format!("{error:#}"))),
            };
            done(Run { way, crops: *crops, measured, refused })?;
        }
    }
    Ok(())
}

fn run(config: &Path, uuid: &str, crops: u32, seconds: f64, way: Way, jpeg: &Path) -> anyhow::Result<Measured> {
    eprintln!("gpu-accept: the pipeline of {}, {way}, {crops} crops a frame ...", config.display());
    let program = std::env::current_exe()?.with_file_name("framepipe-bench");
    let mps = if way == Way::RawByTurns { "off" } else { "require" };
    let mut command = Command::new(&program);
    command.args(["system".as_ref(), "--config".as_ref(), config.as_os_str()]);
    command.args(["--device", uuid, "--mps", mps, "--crops", &crops.to_string(), "--seconds", &seconds.to_string()]);
    if !way.is_raw() {
        let who = if way == Way::JpegAuto { "auto" } else { "cpu" };
        command.args([OsStr::new("--image"), jpeg.as_os_str(), "--jpeg".as_ref(), who.as_ref()]);
    }
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{} ended with {}: {said}", program.display(), output.status);
    let last = said.lines().last().context("it printed nothing")?;
    serde_json::from_str(last).with_context(|| format!("it printed {last:?}"))
}

/// A rate that a T4 has to reach.
pub struct Target {
    pub crops: u32,
    pub least: f64,
    pub found: f64,
}

impl Target {
    pub fn is_met(&self) -> bool {
        self.found >= self.least
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { crops, least, found } = self;
        write!(f, "{crops} crops a frame, raw frames: {found:.0} a second, where {least:.0} are wanted")
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = SIZE;
        match self {
            Self::RawByMps => f.write_str("raw frames, MPS"),
            Self::RawByTurns => f.write_str("raw frames, no MPS"),
            Self::Jpeg => write!(f, "JPEGs of {width}x{height}, MPS"),
            Self::JpegAuto => write!(f, "the same, decoded by CPU or GPU, MPS"),
        }
    }
}
