//! Kills a process throughout each step that it takes on the journal, and opens what it left: every record that was there
//! is there once, the one in hand is there whole or not at all, nothing that was acknowledged comes back, and no file is left
//! over.
//!
//! The tracks of a step are files, and only system calls change those: it is killed at the entry to and the exit from each,
//! and again some instructions further on. What a single write leaves that is cut short is `tests/claims/damage.rs`'s.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use framepipe_journal::{JournalError, Journals, Options, StreamId};
use framepipe_stepper::at_every_system_call;
use tempfile::TempDir;

/// Records of 40 bytes payload: five fill a segment; two segments fill the memory.
const OPTIONS: Options = Options {
    stream_bytes_max: 1 << 20,
    streams_max: 2,
    segment_bytes: 400,
    result_bytes_max: 300,
    memory_bytes_max: 800,
    retention: Duration::from_secs(1000),
};
const RUN: u64 = 7;
/// The frame that a victim appends.
const NEW: u64 = 1000;

/// What a victim does.
struct Case {
    name: &'static str,
    /// Records that are there before, all of them visible.
    records: u64,
    /// How many of them are acknowledged.
    acknowledged: u64,
    step: fn(Journals),
    /// The frame that it appends, if it does.
    appends: bool,
    /// Up to where its step forgets.
    forgets: u64,
}

const CASES: &[Case] = &[
    Case { name: "append", records: 2, acknowledged: 0, step: append, appends: true, forgets: 0 },
    Case { name: "append that begins a segment", records: 5, acknowledged: 0, step: append, appends: true, forgets: 0 },
    Case {
        name: "append that spills to the disk",
        records: 10,
        acknowledged: 0,
        step: append,
        appends: true,
        forgets: 0,
    },
    Case { name: "append on the disk", records: 12, acknowledged: 0, step: append, appends: true, forgets: 0 },
    Case { name: "the first append", records: 0, acknowledged: 0, step: append, appends: true, forgets: 0 },
    Case { name: "acknowledge", records: 4, acknowledged: 1, step: acknowledge::<3>, appends: false, forgets: 3 },
    Case {
        name: "acknowledge that deletes segments",
        records: 14,
        acknowledged: 1,
        step: acknowledge::<11>,
        appends: false,
        forgets: 11,
    },
    Case { name: "drop by age", records: 7, acknowledged: 1, step: expire, appends: false, forgets: 7 },
    Case { name: "make a stream", records: 3, acknowledged: 0, step: make_stream, appends: false, forgets: 0 },
    Case { name: "drop a stream for another", records: 3, acknowledged: 3, step: replace, appends: false, forgets: 3 },
    Case { name: "close: move to the disk", records: 12, acknowledged: 1, step: close, appends: false, forgets: 1 },
];

fn append(mut journals: Journals) {
    journals.append(&stream(), RUN, NEW, &payload(NEW)).expect("there is room");
    std::mem::forget(journals); // the victim lives on, as far as the test is concerned
}

fn acknowledge<const UNTIL: u64>(mut journals: Journals) {
    journals.acknowledge(&stream(), UNTIL).expect("it is visible");
    std::mem::forget(journals);
}

fn expire(mut journals: Journals) {
    journals.expire(SystemTime::now() + Duration::from_secs(5000), |_, _| {}).expect("the disk takes it");
    std::mem::forget(journals);
}

fn make_stream(mut journals: Journals) {
    journals.create_stream(&id("another"), |_| false).expect("there is room");
    std::mem::forget(journals);
}

fn replace(mut journals: Journals) {
    journals.create_stream(&id("another"), |_| false).expect("there is room");
    journals.create_stream(&id("a-third"), |_| false).expect("an idle one gives way");
    std::mem::forget(journals);
}

fn close(mut journals: Journals) {
    journals.close(|| ()).expect("the disk takes it");
    std::mem::forget(journals);
}

fn id(name: &str) -> StreamId {
    StreamId::new(name).expect("a good name")
}

fn stream() -> StreamId {
    id("s")
}

fn payload(frame: u64) -> Vec<u8> {
    frame.to_le_bytes().repeat(5)
}

fn memory(dir: &Path) -> PathBuf {
    dir.join("memory")
}

fn open(dir: &Path) -> Journals {
    let (journals, report) = Journals::open(dir, &memory(dir), OPTIONS, || ()).expect("it opens");
    assert_eq!(report.damage, [], "a death damages nothing");
    journals
}

fn prepare(case: &Case) -> TempDir {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let mut journals = open(dir.path());
    journals.create_stream(&stream(), |_| false).expect("made");
    for frame in 1..=case.records {
        journals.append(&stream(), RUN, frame, &payload(frame)).expect("there is room");
    }
    journals.publish(&stream()).expect("it is there");
    journals.acknowledge(&stream(), case.acknowledged).expect("they are visible");
    dir
}

/// The journal as the victim has it: opened, with its records shown.
fn enter(dir: &TempDir) -> Journals {
    let mut journals = open(dir.path());
    journals.publish(&stream()).expect("it is there");
    journals
}

fn check(dir: &Path, case: &Case, context: &str) {
    let mut journals = open(dir);
    let Ok(visible) = journals.publish(&stream()) else {
        assert!(case.name.starts_with("drop a stream"), "{context}: the stream is gone");
        return check_files(dir, context);
    };
    let found = journals.read(&stream(), 0, 1000, 1 << 20).unwrap_or_else(|error| panic!("{context}: {error}"));
    let first = found.first().map_or(visible, |record| record.sequence - 1);
    let done = [case.acknowledged, case.forgets];
    assert!(done.contains(&first), "{context}: forgotten up to {first}, not one of {done:?}");
    for (record, sequence) in found.iter().zip(first + 1..) {
        let frame = if sequence > case.records { NEW } else { sequence };
        let read = (record.sequence, record.run, record.frame, &record.payload);
        assert_eq!(read, (sequence, RUN, frame, &payload(frame)), "{context}");
        assert!(journals.contains(RUN, frame), "{context}: frame {frame}");
    }
    let has_new = visible > case.records;
    assert!(case.appends || !has_new, "{context}: a record that nobody appended");
    assert!(visible >= case.records && visible <= case.records + 1, "{context}: {visible} records");
    assert_eq!(found.len() as u64, visible - first, "{context}: all are readable");
    assert_eq!(journals.contains(RUN, NEW), has_new, "{context}");
    match journals.append(&stream(), RUN, NEW, &payload(NEW)) {
        Err(JournalError::Duplicate { .. }) => assert!(has_new, "{context}: it is not there"),
        appended => {
            let appended = appended.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!((appended, has_new), (case.records + 1, false), "{context}");
        }
    }
    if let Some(gap) = journals.gap(&stream(), 0).expect("it is there") {
        assert_eq!((case.name, gap), ("drop by age", (2, 7)), "{context}");
    } else if case.name == "drop by age" {
        assert_eq!(first, case.acknowledged, "{context}: records are gone, and nobody is told");
    }
    drop(journals);
    check_files(dir, context);
    open(dir).close(|| ()).expect("it closes");
    assert!(!memory(dir).exists(), "{context}: nothing is left in memory");
}

/// No file is there that is no part of the format.
fn check_files(dir: &Path, context: &str) {
    for folder in [dir.join("streams"), memory(dir)].iter().filter(|folder| folder.exists()) {
        for entry in std::fs::read_dir(folder).expect("readable").flatten() {
            let name = entry.file_name().into_string().expect("ASCII");
            if name == "owner" && entry.path().is_file() {
                continue;
            }
            assert!(["s", "another", "a-third"].contains(&name.as_str()), "{context}: {name}");
            for file in std::fs::read_dir(entry.path()).expect("readable").flatten() {
                let file = file.file_name().into_string().expect("ASCII");
                let known = file.ends_with(".log") || ["acknowledged", "dropped"].contains(&file.as_str());
                assert!(known, "{context}: {name}/{file}");
            }
        }
    }
}

fn main() {
    let start = Instant::now();
    for case in CASES {
        let case_start = Instant::now();
        let mut kills = 0;
        for salt in [0, 37, 91, 151, 211] {
            let further = |stop: usize| if salt == 0 { 0 } else { 1 + stop * salt % 700 };
            kills += at_every_system_call(
                further,
                || prepare(case),
                enter,
                case.step,
                |dir, victim, stop| {
                    victim.kill();
                    check(dir.path(), case, &format!("{}, killed at the {stop}th entry or exit", case.name));
                },
            );
        }
        println!("{:36} {kills:6} kills: nothing lost, doubled or left ({:.1?})", case.name, case_start.elapsed());
    }
    println!("test result: ok. single-step kills of the journal passed in {:.1?}", start.elapsed());
}
