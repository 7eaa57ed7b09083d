//! The part of the journal in tmpfs: its budget is for results that nobody has read, and for nothing else.

use crate::support::*;
use framepipe_journal::{JournalError, Journals, Options, StreamId};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    fs::{self, File},
    os::unix::fs::{chown, symlink},
    path::Path,
    time::{Duration, SystemTime},
};

/// Five records of 40 bytes fill a segment; two segments and a half the memory.
const SMALL: Options =
    Options { segment_bytes: 400, memory_bytes_max: 1000, retention: Duration::from_secs(1000), ..OPTIONS };

fn open_small(dir: &Path) -> Journals {
    Journals::open(dir, &memory(dir), SMALL, || ()).unwrap().0
}

/// Appends a record of 40 bytes and shows it.
fn append(journals: &mut Journals, stream: &StreamId, frame: u64) -> u64 {
    let sequence = journals.append(stream, 1, frame, &payload(1, frame, 40)).unwrap();
    journals.publish(stream).unwrap();
    sequence
}

fn lies_in_memory(dir: &Path, stream: &StreamId, sequence: u64) -> bool {
    memory(dir).join(stream.as_str()).join(format!("{sequence:020}.log")).exists()
}

#[test]
fn streams_that_give_way_give_their_memory_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut journals = open_small(dir.path());
    for frame in 1..=100 {
        let stream = id(&format!("s{frame}"));
        journals.create_stream(&stream, |_| false).unwrap();
        let sequence = append(&mut journals, &stream, frame);
        assert!(lies_in_memory(dir.path(), &stream, sequence), "the stream {frame}");
        journals.acknowledge(&stream, sequence).unwrap();
    }
}

#[test]
fn results_that_were_read_take_no_memory_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut journals = open_small(dir.path());
    for round in 0..20 {
        for name in ["a", "b", "c", "d"] {
            journals.create_stream(&id(name), |_| false).unwrap();
            for frame in 0..4 {
                let frame = frame + 10 * (round * 26 + u64::from(name.as_bytes()[0] - b'a'));
                let sequence = append(&mut journals, &id(name), frame);
                assert!(lies_in_memory(dir.path(), &id(name), sequence), "{name}, {sequence}");
                journals.acknowledge(&id(name), sequence).unwrap();
            }
        }
    }
}

#[test]
#[ignore = "the child process of a_full_disk_stops_no_result_that_fits_into_memory"]
fn child_with_small_files() {
    let Some(dir) = child_dir() else { return };
    let (mut journals, stream) = (open_small(&dir), id("s"));
    journals.create_stream(&stream, |_| false).unwrap();
    for frame in 1..=14 {
        append(&mut journals, &stream, frame);
    }
    // The last segment lies on disk, and the memory is free again.
    assert!(!lies_in_memory(&dir, &stream, 13));
    journals.acknowledge(&stream, 12).unwrap();
    let on_disk = segments(&dir, &stream).pop().unwrap().metadata().unwrap().len();
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: Some(on_disk), maximum }).unwrap();
    assert_eq!(append(&mut journals, &stream, 15), 15);
    setrlimit(Resource::Fsize, Rlimit { current: maximum, maximum }).unwrap();
    assert!(lies_in_memory(&dir, &stream, 15));
    let expected: Vec<_> = (13..=15).map(|frame| record(frame, 1, frame, 40)).collect();
    assert_eq!(read_all(&journals, &stream).unwrap(), expected);
    drop(journals);
    let mut journals = open_small(&dir);
    journals.publish(&stream).unwrap();
    assert_eq!(read_all(&journals, &stream).unwrap(), expected);
}

#[test]
fn a_full_disk_stops_no_result_that_fits_into_memory() {
    let dir = tempfile::tempdir().unwrap();
    let output = child("memory::child_with_small_files", dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "the child process of a_full_tmpfs_is_done_without"]
fn child_with_a_full_tmpfs() {
    let Some(dir) = child_dir() else { return };
    // The file that says whose the folder is holds this path, which is longer than all else that is written at first.
    let dir = dir.join("a".repeat(200));
    fs::create_dir(&dir).unwrap();
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: Some(200), maximum }).unwrap();
    let (mut journals, report) = Journals::open(&dir, &memory(&dir), SMALL, || ()).unwrap();
    setrlimit(Resource::Fsize, Rlimit { current: maximum, maximum }).unwrap();
    assert!(report.memory_is_full);
    let stream = id("s");
    journals.create_stream(&stream, |_| false).unwrap();
    append(&mut journals, &stream, 1);
    assert!(!lies_in_memory(&dir, &stream, 1));
    drop(journals);
    // Once there is room, it is used.
    let (mut journals, report) = Journals::open(&dir, &memory(&dir), SMALL, || ()).unwrap();
    assert!(!report.memory_is_full);
    let stream = id("t");
    journals.create_stream(&stream, |_| false).unwrap();
    append(&mut journals, &stream, 2);
    assert!(lies_in_memory(&dir, &stream, 1));
}

#[test]
fn a_full_tmpfs_is_done_without() {
    let dir = tempfile::tempdir().unwrap();
    let output = child("memory::child_with_a_full_tmpfs", dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn what_is_left_of_a_dropped_stream_is_not_its_successors() {
    let (dir, stream) = (tempfile::tempdir().unwrap(), id("s"));
    let mut journals = open_small(dir.path());
    let left = memory(dir.path()).join("s");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("00000000000000000001.log"), "what is left").unwrap();
    journals.create_stream(&stream, |_| false).unwrap();
    append(&mut journals, &stream, 1);
    assert!(lies_in_memory(dir.path(), &stream, 1));
    journals.publish(&stream).unwrap();
    assert_eq!(read_all(&journals, &stream).unwrap(), [record(1, 1, 1, 40)]);
}

#[test]
fn a_clean_restart_makes_no_result_younger() {
    let (dir, stream) = (tempfile::tempdir().unwrap(), id("s"));
    let mut journals = open_small(dir.path());
    journals.create_stream(&stream, |_| false).unwrap();
    append(&mut journals, &stream, 1);
    let segment = memory(dir.path()).join("s/00000000000000000001.log");
    let long_ago = SystemTime::now() - Duration::from_secs(5000);
    File::options().write(true).open(segment).unwrap().set_modified(long_ago).unwrap();
    journals.close(|| ()).unwrap();
    drop(journals);
    let mut journals = open_small(dir.path());
    journals.publish(&stream).unwrap();
    let mut dropped = Vec::new();
    journals.expire(SystemTime::now(), |stream, count| dropped.push((stream.clone(), count))).unwrap();
    assert_eq!(dropped, [(stream.clone(), 1)]);
    assert_eq!(journals.gap(&stream, 0).unwrap(), Some((1, 1)));
}

#[test]
fn a_folder_of_another_user_is_refused_and_nothing_is_written_through_it() {
    const NOBODY: u32 = 65_534;
    let dir = tempfile::tempdir().unwrap();
    let (folder, mine) = (memory(dir.path()), dir.path().join("mine"));
    fs::create_dir(&folder).unwrap();
    fs::write(&mine, "mine").unwrap();
    symlink(&mine, folder.join("owner")).unwrap();
    if chown(&folder, Some(NOBODY), Some(NOBODY)).is_err() {
        return; // only root can give a folder away
    }
    let refused = Journals::open(dir.path(), &folder, SMALL, || ());
    assert!(matches!(refused, Err(JournalError::Io { .. })), "{refused:?}");
    assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
}
