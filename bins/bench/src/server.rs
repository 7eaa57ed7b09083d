//! What is asked of the system that is measured: its processes by stage, and its crops.

use std::ops;

use anyhow::Context as _;
use framepipe_temporary::Server;
use rustix::process::getpriority_process;

use crate::clock;

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

/// How often attribute models have run.
pub fn crop_runs(server: &Server) -> anyhow::Result<CropRuns> {
    let status = server.status()?;
    let processes = status["processes"].as_array().context("framepipe status names no processes")?;
    let sum = |key| processes.iter().map(|process| process[key].as_u64()).sum::<Option<u64>>();
    let counted = sum("crop_runs").zip(sum("crops"));
    let (runs, crops) = counted.context("framepipe status does not count crops")?;
    Ok(CropRuns { runs, crops })
}

/// Its processes, the launcher last.
pub fn members(server: &Server) -> anyhow::Result<Vec<Member>> {
    let status = server.status()?;
    let mut members = vec![];
    for process in status["processes"].as_array().context("framepipe status names no processes")? {
        let stage = process["stage"].as_str().context("a process without a stage")?;
        members.push(Member { stage: stage.to_owned(), pid: process["pid"].as_u64().context("its pid")? as u32 });
    }
    members.push(Member { stage: "launcher".into(), pid: server.pid() });
    Ok(members)
}

/// Bytes of frames that all processes have copied.
pub fn bytes_copied(server: &Server) -> anyhow::Result<u64> {
    let status = server.status()?;
    let processes = status["processes"].as_array().context("framepipe status names no processes")?;
    let sum = processes.iter().map(|process| process["bytes_copied"].as_u64()).sum::<Option<u64>>();
    sum.context("framepipe status does not count copied bytes")
}

impl Member {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// CPU time that it has used, in ns. An error when it has ended: a restart spoils a measurement.
    pub fn cpu_ns(&self) -> anyhow::Result<u64> {
        clock::cpu_ns(self.pid).with_context(|| format!("a {} process", self.stage))
    }

    /// Its nice value.
    pub fn nice(&self) -> anyhow::Result<i32> {
        Ok(getpriority_process(rustix::process::Pid::from_raw(self.pid as i32))?)
    }
}
