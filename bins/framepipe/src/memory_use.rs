//! What a pipeline has of the machine's memory, by owner: read from the file system and from /proc at that moment.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use framepipe_pipeline::{Config, cache_folder, observe::Process};
use serde::{Deserialize, Serialize};

/// Folders in one another that are looked into: journals lie in a folder a stream, and the cache in one below the segment's.
pub const DEPTH_MAX: usize = 3;
/// What `stat` counts a file's memory in.
const BLOCK_BYTES: u64 = 512;

/// What one owner has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryNote {
    /// "segment", "cache", "journal" (all in tmpfs); "launcher", a stage's name, "gateway" or "keeper": its processes' own memory,
    /// without what they share.
    pub owner: String,
    /// Bytes.
    pub bytes: u64,
}

/// Of each owner, those in tmpfs first.
pub fn by_owner(config: &Config, processes: &[Process]) -> Vec<MemoryNote> {
    let note = |owner: &str, bytes| MemoryNote { owner: owner.into(), bytes };
    let segment = config.segment();
    let mut notes = vec![
        note("segment", in_folder(&segment, 1)),
        note("cache", in_folder(&cache_folder(&segment), DEPTH_MAX)),
        note("journal", in_folder(&config.journals_in_memory(), DEPTH_MAX)),
        note("launcher", own_bytes(std::process::id())),
    ];
    for process in processes {
        let bytes = own_bytes(process.pid);
        match notes.iter_mut().find(|note| note.owner == process.stage) {
            Some(note) => note.bytes += bytes,
            None => notes.push(note(&process.stage, bytes)),
        }
    }
    notes
}

/// What the files of a folder have; of a sparse one, as much as is there.
pub fn in_folder(folder: &Path, depth: usize) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 }; // there is none, or it has just gone
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() && depth > 1 => in_folder(&entry.path(), depth - 1),
        Ok(found) if found.is_file() => found.blocks() * BLOCK_BYTES,
        _ => 0,
    };
    entries.flatten().map(bytes).sum()
}

/// A process's resident memory but for files and shared memory; 0 where it has ended.
fn own_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    own_pages(&text).unwrap_or(0) * rustix::param::page_size() as u64
}

fn own_pages(statm: &str) -> Option<u64> {
    let mut numbers = statm.split_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(resident.saturating_sub(shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_shares_is_not_its_own() {
        assert_eq!(own_pages("9000 3000 1000 5 0 800 0\n"), Some(2000));
        assert_eq!(own_pages(""), None);
        assert!(own_bytes(std::process::id()) > 0, "this one has some");
        assert_eq!(own_bytes(u32::MAX), 0, "there is no such process");
    }

    #[test]
    fn a_folders_memory_is_that_of_its_files_as_deep_as_is_looked() {
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in tmpfs");
        fs::create_dir(folder.path().join("stream")).expect("the test's own");
        fs::write(folder.path().join("control"), [1; 8192]).expect("the test's own");
        fs::write(folder.path().join("stream/0"), [1; 4096]).expect("the test's own");
        let sparse = fs::File::create(folder.path().join("sparse")).expect("the test's own");
        sparse.set_len(1 << 30).expect("it takes no memory");
        assert_eq!([1, 2].map(|depth| in_folder(folder.path(), depth)), [8192, 12_288]);
        assert_eq!(in_folder(Path::new("/nowhere"), 1), 0);
    }
}
