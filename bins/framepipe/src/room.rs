//! Room in memory: what a pipeline needs, and what there is of it.

use std::{
    io,
    path::{Path, PathBuf},
};

use framepipe_pipeline::{Config, MemoryNeed};
use rustix::fs::statvfs;

use crate::memory_use::{DEPTH_MAX, in_folder};

/// What there is in `paths.shm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The folder that was asked.
    pub folder: PathBuf,
    /// Bytes of its file system.
    pub total: u64,
    /// Those that nobody has.
    pub free: u64,
    /// Those that a segment of this pipeline's has already: it runs, or its launcher died.
    pub held: u64,
}

impl Room {
    /// Of this pipeline.
    pub fn of(config: &Config) -> io::Result<Self> {
        let folder = existing(&config.shm);
        let found = statvfs(&folder)?;
        Ok(Self {
            total: found.f_blocks.saturating_mul(found.f_frsize),
            free: found.f_bavail.saturating_mul(found.f_frsize),
            held: in_folder(&config.segment(), DEPTH_MAX) + in_folder(&config.journals_in_memory(), DEPTH_MAX),
            folder,
        })
    }

    /// Bytes that the pipeline may have.
    pub fn available(&self) -> u64 {
        self.free.saturating_add(self.held)
    }

    /// What is too little to start.
    pub fn lacks(&self, need: &MemoryNeed) -> Option<String> {
        (need.segment > self.available()).then(|| {
            format!(
                "the segment takes {}, and {} can be had in {}",
                mib(need.segment),
                mib(self.available()),
                self.folder.display()
            )
        })
    }
}

/// The folder itself, or the nearest one above it that is there.
pub fn existing(folder: &Path) -> PathBuf {
    folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// Bytes in words.
pub fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
