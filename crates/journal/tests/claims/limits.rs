//! Bounds, the lock, and what survives a restart.

use crate::support::*;
use framepipe_journal::{JournalError, Journals, Options, StreamId};
use std::{fs, os::unix::fs::PermissionsExt};

#[test]
fn one_thread_may_read_while_another_waits_for_its_turn() {
    fn is_shareable<T: Send + Sync>() {}
    is_shareable::<Journals>();
}

#[test]
#[ignore = "the child process of a_second_process_is_refused_and_told_who_holds_the_journal"]
fn second_process() {
    let Some(dir) = child_dir() else { return };
    let error = Journals::open(&dir, &memory(&dir), OPTIONS, || ()).unwrap_err();
    let JournalError::Locked { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(*holder, Some(std::os::unix::process::parent_id()));
    assert!(error.to_string().contains(&format!("process {}", std::os::unix::process::parent_id())), "{error}");
}

#[test]
fn a_second_process_is_refused_and_told_who_holds_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("journal");
    let journals = open_whole(&dir);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(child("limits::second_process", &dir).status().unwrap().success());
    assert!(matches!(Journals::open(&dir, &memory(&dir), OPTIONS, || ()), Err(JournalError::Locked { .. })));
    drop(journals);
    open_whole(&dir);
}

#[test]
fn at_the_limit_the_stream_idle_longest_gives_way_unless_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let mut journals = open_whole(dir.path());
    let [kept, reserved, held, older, newer] = ["kept", "reserved", "held", "older", "newer"].map(id);
    for stream in [&kept, &reserved, &held, &older] {
        assert_eq!(journals.create_stream(stream, |_| false).unwrap(), []);
    }
    journals.append(&kept, 1, 1, b"x").unwrap();
    journals.reserve(&reserved, 1).unwrap();
    let is_held = |stream: &StreamId| *stream == held;
    assert_eq!(journals.create_stream(&newer, is_held).unwrap(), std::slice::from_ref(&older));
    assert_eq!(journals.create_stream(&newer, is_held).unwrap(), [], "it exists");
    let full = journals.create_stream(&older, |stream| is_held(stream) || *stream == newer);
    assert!(matches!(full, Err(JournalError::StreamsFull { limit: 4 })));
    assert!(matches!(journals.append(&older, 1, 2, b""), Err(JournalError::NoSuchStream { .. })));
    // Written to, it is no longer the one that is idle longest.
    journals.release(&reserved, 1).unwrap();
    journals.append(&newer, 1, 3, b"").unwrap();
    let sequence = journals.publish(&newer).unwrap();
    journals.acknowledge(&newer, sequence).unwrap();
    assert_eq!(journals.create_stream(&older, |_| false).unwrap(), [held]);
    // With a lower limit all streams are still opened, and as many as are needed give way.
    drop(journals);
    let (mut journals, report) =
        Journals::open(dir.path(), &memory(dir.path()), Options { streams_max: 2, ..OPTIONS }, || ()).unwrap();
    assert_eq!((report.streams, report.records), (4, 1));
    let dropped = journals.create_stream(&id("last"), |_| false).unwrap();
    assert_eq!(dropped.len(), 3);
    assert!(!dropped.contains(&kept));
}

/// Appends, publishes and acknowledges that many results of `run`.
fn deliver(journals: &mut Journals, stream: &StreamId, run: u64, results: u64) {
    for frame in 1..=results {
        let sequence = journals.append(stream, run, frame, b"read").unwrap();
        journals.publish(stream).unwrap();
        journals.acknowledge(stream, sequence).unwrap();
    }
}

#[test]
fn a_stream_that_comes_back_never_repeats_a_sequence_so_a_stale_position_acknowledges_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let one = Options { streams_max: 1, ..OPTIONS };
    let [s, other] = ["s", "other"].map(id);
    let (mut journals, _) = Journals::open(dir.path(), &memory(dir.path()), one, || ()).unwrap();
    journals.create_stream(&s, |_| false).unwrap();
    deliver(&mut journals, &s, 1, 5);
    assert_eq!(journals.create_stream(&other, |_| false).unwrap(), std::slice::from_ref(&s));
    drop(journals);
    let (mut journals, _) = Journals::open(dir.path(), &memory(dir.path()), one, || ()).unwrap();
    assert_eq!(journals.create_stream(&s, |_| false).unwrap(), std::slice::from_ref(&other));
    assert_eq!(journals.visible_until(&s).unwrap(), 5);
    let expected = [record(6, 2, 1, 20), record(7, 2, 2, 20)];
    for record in &expected {
        assert_eq!(journals.append(&s, 2, record.frame, &record.payload).unwrap(), record.sequence);
    }
    for _ in 0..2 {
        journals.publish(&s).unwrap();
        for stale in 0..=5 {
            journals.acknowledge(&s, stale).unwrap();
            assert_eq!(read_all(&journals, &s).unwrap(), expected);
        }
        drop(journals);
        journals = Journals::open(dir.path(), &memory(dir.path()), one, || ()).unwrap().0;
    }
    // Of several that give way at once the highest counts.
    drop(journals);
    let mut journals = open_whole(dir.path());
    journals.publish(&s).unwrap();
    journals.acknowledge(&s, 7).unwrap();
    journals.create_stream(&other, |_| false).unwrap();
    deliver(&mut journals, &other, 3, 10);
    assert_eq!(journals.visible_until(&other).unwrap(), 15);
    for (name, dropped) in [("new", 2), ("newer", 1)] {
        drop(journals);
        journals = Journals::open(dir.path(), &memory(dir.path()), one, || ()).unwrap().0;
        assert_eq!(journals.create_stream(&id(name), |_| false).unwrap().len(), dropped);
        assert_eq!(journals.visible_until(&id(name)).unwrap(), 15);
    }
}

#[test]
fn killed_before_or_behind_the_dropping_of_a_stream_its_sequences_never_come_back() {
    let one = Options { streams_max: 1, ..OPTIONS };
    let [old, new] = ["old", "new"].map(id);
    // A file where a folder is to be made stops the call there, as a death does: as the old stream is to be dropped,
    // when the floor is raised; and as the new one is to be made, when the old one is gone.
    for (blocked, left) in [(".partial-old", 1), (".partial-new", 0)] {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("streams").join(blocked);
        let (mut journals, _) = Journals::open(dir.path(), &memory(dir.path()), one, || ()).unwrap();
        journals.create_stream(&old, |_| false).unwrap();
        deliver(&mut journals, &old, 1, 5);
        fs::write(&blocked, b"").unwrap();
        assert!(matches!(journals.create_stream(&new, |_| false), Err(JournalError::Io { .. })));
        drop(journals);
        fs::remove_file(&blocked).unwrap();
        let (mut journals, report) = open(dir.path());
        assert_eq!((report.streams, report.floor_damage), (left, None));
        for stream in [&new, &old] {
            journals.create_stream(stream, |_| false).unwrap();
            assert_eq!(journals.append(stream, 2, u64::from(*stream == new), b"").unwrap(), 6, "{stream} {blocked:?}");
        }
    }
}

#[test]
fn a_damaged_floor_is_reported_and_begins_anew_behind_the_streams_that_are_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut journals = open_whole(dir.path());
    journals.create_stream(&id("s"), |_| false).unwrap();
    deliver(&mut journals, &id("s"), 1, 5);
    drop(journals);
    let floor = dir.path().join("floor");
    fs::write(&floor, [7; 32]).unwrap();
    let (mut journals, report) = open(dir.path());
    assert_eq!((report.damage, report.floor_damage), (vec![], Some(floor)));
    journals.create_stream(&id("new"), |_| false).unwrap();
    assert_eq!(journals.append(&id("new"), 1, 9, b"").unwrap(), 6);
    drop(journals);
    assert_eq!(open(dir.path()).1.floor_damage, None);
}

#[test]
fn streams_half_made_or_half_removed_are_gone_after_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_whole(dir.path()));
    let streams = dir.path().join("streams");
    fs::create_dir(streams.join("emptied-by-hand")).unwrap();
    fs::create_dir(streams.join(".partial-gone")).unwrap();
    fs::write(streams.join(".partial-gone/00000000000000000001.log"), b"x").unwrap();
    fs::create_dir(streams.join("not a stream")).unwrap();
    let mut journals = open_whole(dir.path());
    assert_eq!(journals.stream_ids().collect::<Vec<_>>(), [&id("emptied-by-hand")]);
    assert!(!streams.join(".partial-gone").exists());
    assert!(streams.join("not a stream").exists(), "what is not ours stays");
    assert_eq!(journals.append(&id("emptied-by-hand"), 1, 1, b"x").unwrap(), 1);
    // What is left of it is in nobody's way in the same process either.
    fs::create_dir(streams.join(".partial-again")).unwrap();
    fs::write(streams.join(".partial-again/00000000000000000009.log"), b"x").unwrap();
    journals.create_stream(&id("again"), |_| false).unwrap();
    assert_eq!(journals.append(&id("again"), 1, 2, b"x").unwrap(), 1);
}

#[test]
fn reserved_room_is_counted_until_it_is_used_or_released_and_never_refuses_an_append() {
    let dir = tempfile::tempdir().unwrap();
    let frame_bytes = u64::from(OPTIONS.result_bytes_max) + RECORD_HEADER_BYTES;
    let options = Options { stream_bytes_max: 3 * frame_bytes, ..OPTIONS };
    let (mut journals, _) = Journals::open(dir.path(), &memory(dir.path()), options, || ()).unwrap();
    let stream = id("s");
    journals.create_stream(&stream, |_| false).unwrap();
    journals.reserve(&stream, 2).unwrap();
    assert!(matches!(journals.reserve(&stream, 2), Err(JournalError::NoRoom { frames: 2, kept: 0, .. })));
    journals.release(&stream, 1).unwrap();
    journals.append(&stream, 1, 1, &[0; 300]).unwrap();
    assert!(matches!(journals.reserve(&stream, 3), Err(JournalError::NoRoom { reserved: 0, .. })));
    // A smaller result gives the rest of its reservation back.
    journals.reserve(&stream, 2).unwrap();
    journals.append(&stream, 1, 2, b"").unwrap();
    let full = journals.reserve(&stream, 1).unwrap_err();
    let JournalError::NoRoom { limit, kept, reserved, .. } = full else { panic!("{full}") };
    assert_eq!(limit - kept - reserved, u64::from(OPTIONS.result_bytes_max));
    // What a former process accepted is owed its place beyond the limit as well.
    journals.reserve_accepted(&stream, 5).unwrap();
    assert_eq!(journals.kept(&stream).unwrap().reserved_frames, 6);
    for frame in 3..9 {
        journals.append(&stream, 1, frame, &[0; 300]).unwrap();
    }
    assert_eq!(journals.kept(&stream).unwrap().reserved_frames, 0);
    assert!(matches!(
        journals.append(&stream, 1, 9, &[0; 301]),
        Err(JournalError::TooLarge { bytes: 301, limit: 300 })
    ));
    assert!(!journals.contains(1, 9));
}

#[test]
fn acknowledgements_survive_a_restart_and_never_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let stream = id("s");
    let mut journals = open_whole(dir.path());
    journals.create_stream(&stream, |_| false).unwrap();
    for frame in 1..=20 {
        journals.append(&stream, 1, frame, &[7; 100]).unwrap();
    }
    assert!(matches!(journals.acknowledge(&stream, 1), Err(JournalError::NotPublished { visible: 0, .. })));
    assert_eq!(journals.read(&stream, 0, 100, usize::MAX).unwrap(), []);
    journals.publish(&stream).unwrap();
    journals.acknowledge(&stream, 13).unwrap();
    journals.acknowledge(&stream, 4).unwrap();
    drop(journals);
    let mut journals = open_whole(dir.path());
    assert_eq!(journals.visible_until(&stream).unwrap(), 13);
    assert!(!journals.contains(1, 13) && journals.contains(1, 14));
    journals.publish(&stream).unwrap();
    assert_eq!(journals.read(&stream, 0, 1, 0).unwrap()[0].sequence, 14);
    // All acknowledged: the numbers still go on.
    journals.acknowledge(&stream, 20).unwrap();
    drop(journals);
    assert_eq!(open_whole(dir.path()).append(&stream, 2, 1, b"").unwrap(), 21);
}

#[test]
fn neither_acknowledgements_nor_acknowledged_records_grow_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let stream = id("s");
    let mut journals = open_whole(dir.path());
    journals.create_stream(&stream, |_| false).unwrap();
    for frame in 1..=10 {
        journals.append(&stream, 1, frame, &[7; 50]).unwrap();
    }
    journals.publish(&stream).unwrap();
    let mut before = disk_bytes(dir.path(), &stream);
    for sequence in 1..=10 {
        journals.acknowledge(&stream, sequence).unwrap();
        let bytes = disk_bytes(dir.path(), &stream);
        assert!(bytes <= before, "acknowledging {sequence} grew {before} bytes to {bytes}");
        before = bytes;
    }
    for frame in 11..3_000 {
        let sequence = journals.append(&stream, 1, frame, &[7; 50]).unwrap();
        journals.publish(&stream).unwrap();
        journals.acknowledge(&stream, sequence - 1).unwrap();
        // Two segments and the file of the acknowledged position.
        assert!(disk_bytes(dir.path(), &stream) <= 2 * u64::from(OPTIONS.segment_bytes) + 32);
    }
    assert_eq!(journals.kept(&stream).unwrap().records, 1);
}

#[test]
fn a_read_keeps_its_limits_but_always_moves_on() {
    let dir = tempfile::tempdir().unwrap();
    let stream = id("s");
    let mut journals = open_whole(dir.path());
    journals.create_stream(&stream, |_| false).unwrap();
    for frame in 1..=10 {
        journals.append(&stream, 1, frame, &[7; 100]).unwrap();
    }
    journals.publish(&stream).unwrap();
    let sequences = |after, records, bytes| -> Vec<u64> {
        journals.read(&stream, after, records, bytes).unwrap().iter().map(|record| record.sequence).collect()
    };
    assert_eq!(sequences(0, 3, usize::MAX), [1, 2, 3]);
    assert_eq!(sequences(3, 100, 299), [4, 5]);
    assert_eq!(sequences(3, 100, 300), [4, 5, 6]);
    assert_eq!(sequences(7, 100, 0), [8]);
    assert_eq!(sequences(8, 0, 100), [0_u64; 0]);
    assert_eq!(sequences(10, 100, 1000), [0_u64; 0]);
    assert_eq!(sequences(u64::MAX, 100, 1000), [0_u64; 0]);
}

#[test]
fn options_out_of_their_range_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let bad = [
        ("result_bytes_max", Options { result_bytes_max: 0, ..OPTIONS }),
        ("result_bytes_max", Options { result_bytes_max: u32::MAX, ..OPTIONS }),
        ("segment_bytes", Options { segment_bytes: 359, ..OPTIONS }),
        ("segment_bytes", Options { segment_bytes: u32::MAX, ..OPTIONS }),
        ("stream_bytes_max", Options { stream_bytes_max: 331, ..OPTIONS }),
        ("streams_max", Options { streams_max: 0, ..OPTIONS }),
    ];
    for (expected, options) in bad {
        let error = Journals::open(dir.path(), &memory(dir.path()), options, || ()).unwrap_err();
        assert!(matches!(error, JournalError::Options { name, .. } if name == expected), "{error}");
    }
    let least = Options { stream_bytes_max: 332, streams_max: 1, segment_bytes: 360, result_bytes_max: 300, ..OPTIONS };
    Journals::open(dir.path(), &memory(dir.path()), least, || ()).unwrap();
}

#[test]
fn room_for_a_stream_that_does_not_exist_is_looked_at_without_making_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { stream_bytes_max: 1 << 60, result_bytes_max: 1 << 26, segment_bytes: 1 << 28, ..OPTIONS };
    let (journals, _) = Journals::open(dir.path(), &memory(dir.path()), options, || ()).unwrap();
    journals.check_room(&id("s"), 1).unwrap();
    let refused = journals.check_room(&id("s"), u32::MAX);
    assert!(matches!(refused, Err(JournalError::DiskFull { frames: u32::MAX, .. })), "{refused:?}");
    drop(journals);
    let options = Options { stream_bytes_max: 1 << 27, ..options };
    let (journals, _) = Journals::open(dir.path(), &memory(dir.path()), options, || ()).unwrap();
    let refused = journals.check_room(&id("s"), 2);
    assert!(matches!(refused, Err(JournalError::NoRoom { frames: 2, kept: 0, .. })), "{refused:?}");
    assert_eq!(fs::read_dir(dir.path().join("streams")).unwrap().count(), 0);
}

#[test]
fn what_disk_and_memory_cannot_hold_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { stream_bytes_max: u64::MAX, result_bytes_max: 1 << 26, segment_bytes: 1 << 28, ..OPTIONS };
    let (mut journals, _) = Journals::open(dir.path(), &memory(dir.path()), options, || ()).unwrap();
    journals.create_stream(&id("s"), |_| false).unwrap();
    journals.create_stream(&id("t"), |_| false).unwrap();
    let refused = journals.reserve(&id("s"), u32::MAX);
    assert!(matches!(refused, Err(JournalError::DiskFull { frames: u32::MAX, .. })), "{refused:?}");
    assert_eq!(journals.kept(&id("s")).unwrap().reserved_frames, 0);
    // What is reserved for one stream is not there for another.
    let free = match journals.reserve(&id("s"), u32::MAX) {
        Err(JournalError::DiskFull { free, .. }) => free,
        other => panic!("{other:?}"),
    };
    let fitting = u32::try_from(free / (1 << 26) * 3 / 4).unwrap();
    journals.reserve(&id("s"), fitting).unwrap();
    assert!(matches!(journals.reserve(&id("t"), fitting), Err(JournalError::DiskFull { .. })));
    journals.release(&id("s"), fitting).unwrap();
    journals.reserve(&id("t"), fitting).unwrap();
}

#[test]
fn the_memory_of_another_journal_is_left_alone() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = Options { memory_bytes_max: 10_000, ..OPTIONS };
    let shared = dir.path().join("shared");
    let (mut journals, _) = Journals::open(dir.path(), &shared, options, || ()).unwrap();
    journals.create_stream(&id("s"), |_| false).unwrap();
    journals.append(&id("s"), 1, 1, b"unread").unwrap();
    drop(journals);
    let refused = Journals::open(other.path(), &shared, options, || ());
    assert!(matches!(refused, Err(JournalError::Foreign { .. })), "{refused:?}");
    let (mut journals, report) = Journals::open(dir.path(), &shared, options, || ()).unwrap();
    assert_eq!(report.records, 1);
    journals.close(|| ()).unwrap();
    drop(journals);
    Journals::open(other.path(), &shared, options, || ()).unwrap();
}
