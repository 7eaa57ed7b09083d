//! What is asked of the system that is measured: its crops, what it copied, and how nice its processes are.

use std::ops;

use anyhow::Context as _;
use framepipe_temporary::{Member, Server};
use rustix::process::getpriority_process;

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

/// How often attribute models have run.
pub fn crop_runs(server: &Server) -> anyhow::Result<CropRuns> {
    let status = server.status()?;
    let processes = status["processes"].as_array().context("framepipe status names no processes")?;
    let sum = |key| processes.iter().map(|process| process[key].as_u64()).sum::<Option<u64>>();
    let counted = sum("crop_runs").zip(sum("crops"));
    let (runs, crops) = counted.context("framepipe status does not count crops")?;
    Ok(CropRuns { runs, crops })
}

/// Bytes of frames that all processes have copied.
pub fn bytes_copied(server: &Server) -> anyhow::Result<u64> {
    let status = server.status()?;
    let processes = status["processes"].as_array().context("framepipe status names no processes")?;
    let sum = processes.iter().map(|process| process["bytes_copied"].as_u64()).sum::<Option<u64>>();
    sum.context("framepipe status does not count copied bytes")
}

/// The nice value at which a process runs.
pub fn nice(member: &Member) -> anyhow::Result<i32> {
    Ok(getpriority_process(rustix::process::Pid::from_raw(member.pid as i32))?)
}
