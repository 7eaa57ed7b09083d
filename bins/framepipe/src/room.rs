//! Room in memory: what a pipeline needs, and what there is of it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use framepipe_pipeline::{Config, MemoryNeed};
use rustix::fs::statvfs;

/// Levels of folders below a segment, at most: its own, and the cache's.
const SEGMENT_DEPTH_MAX: usize = 3;

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
            held: held(&config.segment(), SEGMENT_DEPTH_MAX) + held(&config.journals_in_memory(), SEGMENT_DEPTH_MAX),
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

fn held(path: &Path, depth: usize) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() || depth == 0 {
        return metadata.blocks() * 512;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| held(&entry.path(), depth - 1)).sum()
}
