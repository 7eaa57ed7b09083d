//! The processes of a pipeline, for who measures it.

use anyhow::Context as _;

use crate::{Server, clock};

/// A process of the pipeline.
pub struct Member {
    /// Its stage, "gateway", "keeper" or "launcher".
    pub stage: String,
    /// Its pid.
    pub pid: u32,
}

impl Member {
    /// All of a pipeline, the launcher last.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn all(server: &Server) -> anyhow::Result<Vec<Self>> {
        let status = server.status()?;
        let mut members = vec![];
        for process in status["processes"].as_array().context("framepipe status names no processes")? {
            let stage = process["stage"].as_str().context("a process without a stage")?;
            members.push(Self { stage: stage.to_owned(), pid: process["pid"].as_u64().context("its pid")? as u32 });
        }
        members.push(Self { stage: "launcher".into(), pid: server.pid() });
        Ok(members)
    }

    /// CPU time that it has used, in ns.
    ///
    /// # Errors
    /// When it has ended: a restart spoils a measurement.
    pub fn cpu_ns(&self) -> anyhow::Result<u64> {
        clock::cpu_ns(self.pid).with_context(|| format!("a {} process", self.stage))
    }

    /// CPU seconds of each stage, gateway, keeper, launcher, and of the calling program as "client".
    ///
    /// # Errors
    /// As [`Self::cpu_ns`].
    pub fn cpu_by_group(members: &[Self]) -> anyhow::Result<Vec<(String, f64)>> {
        let mut groups: Vec<(String, f64)> = vec![];
        for member in members {
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
