//! What a pipeline has of the machine's memory.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{Home, Status};

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where to look.
pub struct Memory {
    run: PathBuf,
    shm: PathBuf,
}

impl Memory {
    /// Of the pipeline whose folders are these.
    pub fn of(home: &Home) -> Self {
        Self { run: home.run(), shm: home.shm() }
    }

    /// The most that it has until that moment, in MiB.
    pub async fn most_mib(&self, until: Instant) -> f64 {
        let mut most = 0.0f64;
        while Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
            most = most.max(self.mib());
        }
        most
    }

    /// All processes' own memory (of what they share, each one's part), and the files in tmpfs: the segment, which is
    /// allocated as a whole, and unread results.
    pub fn mib(&self) -> f64 {
        self.mib_of(&[]) + file_bytes(&self.shm) as f64 / f64::from(1 << 20)
    }

    /// The own memory of the launcher and of these stages' processes; of all, where none is named.
    pub fn mib_of(&self, stages: &[&str]) -> f64 {
        let status = Status::ask(&self.run).expect("the launcher answers");
        let is_meant = |stage: &str| stages.is_empty() || stages.contains(&stage);
        let pids = status.processes.iter().filter(|one| is_meant(&one.stage)).map(|one| one.pid).chain([status.pid]);
        pids.map(own_kib).sum::<u64>() as f64 / 1024.0
    }
}

fn own_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let is_own = |line: &&str| line.starts_with("Pss_Anon:") || line.starts_with("Pss_File:");
    let kib = |line: &str| line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    text.lines().filter(is_own).filter_map(kib).sum()
}

fn file_bytes(folder: &Path) -> u64 {
    let bytes = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => file_bytes(&entry.path()),
        _ => entry.metadata().map_or(0, |file| file.len()),
    };
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(bytes).sum()
}
