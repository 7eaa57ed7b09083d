//! The GPU of a pipeline that has one: found once, so that all processes use the same one, and what the environment of each
//! process says of it. The launcher knows no CUDA: it asks the program `framepipe-gpu`, and ends.

use std::{ffi::OsString, fmt, process::Command, time::Duration};

use anyhow::{Context as _, bail, ensure};
use framepipe_pipeline::{Config, Device, Mps};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::{
    child::sibling,
    cpus::{self, Cpus},
    mps::{self, Daemon},
    run_out,
};

/// The program that knows GPUs.
pub const PROGRAM: &str = "framepipe-gpu";
/// For it to say which there are: a driver that nobody uses starts slowly.
const PATIENCE: Duration = Duration::from_secs(60);
/// So that a GPU's number means the same to all processes.
const ORDER: (&str, &str) = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
/// The GPUs that a process sees; empty: none.
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// What `framepipe-gpu list --json` says of one GPU, as far as the launcher needs it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Listed {
    uuid: String,
    name: String,
    pci_bus_id: String,
}

/// The pipeline's GPU.
pub struct Gpu {
    uuid: String,
    name: String,
    /// The CPUs that are near to it, where not all are.
    pub cpus: Option<Cpus>,
    daemon: Option<Daemon>,
}

/// The pipeline's GPU, for `framepipe status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GpuNote {
    /// Its UUID.
    pub uuid: String,
    /// What its maker calls it.
    pub name: String,
    /// True where the processes share it by MPS.
    pub has_mps: bool,
}

impl Gpu {
    /// Finds the GPU of a pipeline that has one, and starts the daemon that has processes share it; none: the pipeline has no
    /// GPU. What a dead launcher has left of a daemon is ended first, in any case.
    pub fn open(config: &Config) -> anyhow::Result<Option<Self>> {
        mps::end_left(&config.run);
        let Device::Gpu(uuid) = &config.device else { return Ok(None) };
        let mut gpu =
            Self::find(uuid.as_deref()).with_context(|| format!("pipeline.device = \"{}\"", config.device))?;
        if config.mps != Mps::Off {
            match Daemon::start(&config.run, &gpu.uuid) {
                Ok(daemon) => gpu.daemon = Some(daemon),
                Err(error) if config.mps == Mps::Require => {
                    return Err(error.context("pipeline.mps = \"require\" (--mps)"));
                }
                Err(error) => warn!("no MPS, the GPU is one process's at a time: {error:#}"),
            }
        }
        let cpus = gpu.cpus.as_ref().map_or(String::new(), |cpus| format!(", its processes on the CPUs {cpus}"));
        info!("{}{cpus}", gpu.note());
        Ok(Some(gpu))
    }

    /// One that is none, for tests.
    #[cfg(test)]
    pub fn stand_in(uuid: &str) -> Self {
        Self { uuid: uuid.into(), name: "T4".into(), cpus: None, daemon: None }
    }

    fn find(uuid: Option<&str>) -> anyhow::Result<Self> {
        let Listed { uuid, name, pci_bus_id } = choose(listed(uuid)?, uuid)?;
        Ok(Self { uuid, name, cpus: cpus::near_to(&pci_bus_id), daemon: None })
    }

    /// How it is, for people and programs.
    pub fn note(&self) -> GpuNote {
        GpuNote { uuid: self.uuid.clone(), name: self.name.clone(), has_mps: self.is_shared() }
    }

    /// Its UUID.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// True where the processes share it by MPS.
    pub fn is_shared(&self) -> bool {
        self.daemon.is_some()
    }

    /// What the environment of a process that opens it says.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mps = self.daemon.iter().flat_map(Daemon::environment);
        [(ORDER.0, ORDER.1.into()), (VISIBLE, (&self.uuid).into())].into_iter().chain(mps).collect()
    }
}

/// What the environment of a process says that opens no GPU: that there is none, so that no library of its opens one.
pub fn no_gpu() -> Vec<(&'static str, OsString)> {
    vec![(VISIBLE, OsString::new())]
}

/// The GPUs of this machine; of one that is cut into parts, the part that is meant.
pub fn listed(uuid: Option<&str>) -> anyhow::Result<Vec<Listed>> {
    let mut command = Command::new(sibling(PROGRAM).context("this build has no program for GPUs")?);
    command.args(["list", "--json"]).env(ORDER.0, ORDER.1);
    if let Some(part) = uuid.filter(|uuid| uuid.starts_with("MIG-")) {
        command.env(VISIBLE, part); // of a GPU's parts the driver shows the first one, unless another is named
    }
    let (status, said) = run_out::run(&command, b"", PATIENCE)?;
    ensure!(status.success(), "{}", said.text_or(status));
    serde_json::from_slice(&said.stdout).with_context(|| format!("what {PROGRAM} says of GPUs"))
}

/// The GPU that is meant, of those that there are. A part of one is called as it was asked for, since the driver's name of it
/// is not the one that it is opened by.
pub fn choose(listed: Vec<Listed>, uuid: Option<&str>) -> anyhow::Result<Listed> {
    let there: Vec<String> = listed.iter().map(|gpu| gpu.uuid.clone()).collect();
    let found = match uuid {
        Some(part) if part.starts_with("MIG-") => {
            listed.into_iter().next().map(|gpu| Listed { uuid: part.to_owned(), ..gpu })
        }
        Some(uuid) => listed.into_iter().find(|gpu| gpu.uuid.eq_ignore_ascii_case(uuid)),
        None => listed.into_iter().next(),
    };
    let Some(gpu) = found else { bail!("{PROGRAM} finds no such GPU; there is: {}", there.join(", ")) };
    // It goes into environments, and to another program.
    let is_plain = gpu.uuid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') && !gpu.uuid.is_empty();
    ensure!(is_plain, "{PROGRAM} says that a GPU is called {:?}, which is no UUID", gpu.uuid);
    Ok(gpu)
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.uuid)
    }
}

impl fmt::Display for GpuNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mps = if self.has_mps { "shared by MPS" } else { "without MPS" };
        write!(f, "GPU {} ({}), {mps}", self.name, self.uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> Vec<Listed> {
        let listed = r#"[{"uuid": "GPU-1a", "name": "T4", "pci_bus_id": "0000:3b:00.0", "multiprocessors": 40},
                         {"uuid": "GPU-2b", "name": "L4", "pci_bus_id": "0000:af:00.0", "multiprocessors": 58}]"#;
        serde_json::from_str(listed).expect("more is said than is needed")
    }

    #[test]
    fn the_first_gpu_or_the_one_that_is_named_is_taken_and_no_other() {
        let chosen = |uuid| choose(listed(), uuid).map(|gpu| gpu.uuid).map_err(|error| error.to_string());
        assert_eq!(chosen(None), Ok("GPU-1a".into()));
        assert_eq!(chosen(Some("GPU-2B")), Ok("GPU-2b".into()));
        assert_eq!(chosen(Some("MIG-7c")), Ok("MIG-7c".into()), "the driver was asked for that one alone");
        assert_eq!(chosen(Some("GPU-3c")), Err("framepipe-gpu finds no such GPU; there is: GPU-1a, GPU-2b".into()));
        let hostile = vec![Listed { uuid: "GPU-1,GPU-2".into(), ..listed().remove(0) }];
        assert!(choose(hostile, None).is_err(), "two would be seen");
    }

    #[test]
    fn a_process_sees_the_one_gpu_or_none() {
        let gpu = Gpu::stand_in("GPU-1a");
        let seen = [("CUDA_DEVICE_ORDER", "PCI_BUS_ID".into()), ("CUDA_VISIBLE_DEVICES", "GPU-1a".into())];
        assert_eq!(gpu.environment(), seen);
        assert_eq!(no_gpu(), [("CUDA_VISIBLE_DEVICES", OsString::new())]);
        assert_eq!(gpu.note().to_string(), "GPU T4 (GPU-1a), without MPS");
    }
}
