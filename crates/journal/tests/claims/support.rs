//! What the claims share.

use framepipe_journal::{JournalError, Journals, OpenReport, Options, Record, StreamId};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// The format's sizes, written down a second time: a change of the format must be meant.
pub const SEGMENT_HEADER_BYTES: u64 = 28;
pub const RECORD_HEADER_BYTES: u64 = 32;

/// Tells a child process its directory, and that it is one.
pub const CHILD_DIR: &str = "FRAMEPIPE_JOURNAL_CHILD_DIR";

/// Small segments, so that every test crosses their ends; all of them on disk.
pub const OPTIONS: Options = Options {
    stream_bytes_max: 1 << 20,
    streams_max: 4,
    segment_bytes: 1000,
    result_bytes_max: 300,
    memory_bytes_max: 0,
    retention: Duration::ZERO,
};

/// The journal's folder in memory, of a test's own.
pub fn memory(dir: &Path) -> PathBuf {
    dir.join("memory")
}

pub fn id(name: &str) -> StreamId {
    StreamId::new(name).unwrap()
}

pub fn open(dir: &Path) -> (Journals, OpenReport) {
    Journals::open(dir, &memory(dir), OPTIONS, || ()).unwrap()
}

/// Opens a journal that no death has touched.
pub fn open_whole(dir: &Path) -> Journals {
    let (journals, report) = open(dir);
    assert_eq!((&report.cut[..], &report.damage[..]), (&[][..], &[][..]));
    journals
}

/// A payload that tells whose it is.
pub fn payload(run: u64, frame: u64, bytes: usize) -> Vec<u8> {
    let seed = (run << 32 | frame).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..bytes as u64).map(|at| seed.wrapping_mul(at + 1).to_be_bytes()[0]).collect()
}

pub fn record(sequence: u64, run: u64, frame: u64, bytes: usize) -> Record {
    Record { sequence, run, frame, payload: payload(run, frame, bytes) }
}

/// Everything that is visible.
pub fn read_all(journals: &Journals, stream: &StreamId) -> Result<Vec<Record>, JournalError> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let some = journals.read(stream, after, 7, 500)?;
        let Some(last) = some.last() else { return Ok(all) };
        after = last.sequence;
        all.extend(some);
    }
}

/// The segments of a stream, on disk and in memory, in order.
pub fn segments(dir: &Path, stream: &StreamId) -> Vec<PathBuf> {
    let folders = [dir.join("streams").join(stream.as_str()), memory(dir).join(stream.as_str())];
    let entries = folders.iter().filter(|folder| folder.exists()).flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort_by_key(|path| path.file_name().unwrap().to_owned());
    paths
}

/// Bytes of all segments in memory.
pub fn memory_bytes(dir: &Path) -> u64 {
    let streams = std::fs::read_dir(memory(dir)).into_iter().flatten().map(|stream| stream.unwrap().path());
    let streams = streams.filter(|path| path.is_dir());
    let files = streams.flat_map(|stream| std::fs::read_dir(stream).unwrap());
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// Bytes of all files of a stream.
pub fn disk_bytes(dir: &Path, stream: &StreamId) -> u64 {
    let entries = std::fs::read_dir(dir.join("streams").join(stream.as_str())).unwrap();
    entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// This test binary once more, to run the one ignored test `name` on `dir`. A size limit that it sets for its files
/// gives it errors and not SIGXFSZ.
pub fn child(name: &str, dir: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(CHILD_DIR, dir).stdin(Stdio::null());
    command
}

/// In the child: its directory. None where somebody runs the ignored tests by hand.
pub fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD_DIR).map(PathBuf::from)
}
