//! Truncation and flipped bits, at every byte: never wrong data, never a crash, never a sequence given out twice.

use crate::support::*;
use framepipe_journal::{JournalError, Journals, Record, StreamId};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A journal whose one stream holds `sizes.len()` records with payloads of these sizes.
fn written(dir: &Path, sizes: &[usize]) -> (StreamId, Vec<Record>) {
    let stream = id("s");
    let mut journals = open_whole(dir);
    journals.create_stream(&stream, |_| false).unwrap();
    let records: Vec<_> = (1_u64..).zip(sizes).map(|(n, bytes)| record(n, 5, 100 + n, *bytes)).collect();
    for record in &records {
        assert_eq!(journals.append(&stream, 5, record.frame, &record.payload).unwrap(), record.sequence);
    }
    (stream, records)
}

/// Puts the files back as they were, and a changed one.
fn restore(files: &[(PathBuf, Vec<u8>)], changed: &Path, bytes: &[u8]) {
    let folder = changed.parent().unwrap();
    fs::remove_dir_all(folder).unwrap();
    fs::create_dir(folder).unwrap();
    for (path, whole) in files {
        fs::write(path, if path == changed { bytes } else { whole }).unwrap();
    }
}

fn snapshot(dir: &Path, stream: &StreamId) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir.join("streams").join(stream.as_str())).unwrap();
    entries.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn next_sequence(journals: &mut Journals, stream: &StreamId) -> u64 {
    journals.append(stream, 6, 1, b"next").unwrap()
}

#[test]
fn a_file_cut_at_any_byte_keeps_every_whole_record_and_goes_on_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, records) = written(dir.path(), &[20, 0, 40]);
    let files = snapshot(dir.path(), &stream);
    let path = segments(dir.path(), &stream).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    let mut ends = vec![SEGMENT_HEADER_BYTES];
    ends.extend(records.iter().scan(SEGMENT_HEADER_BYTES, |end, record| {
        *end += RECORD_HEADER_BYTES + record.payload.len() as u64;
        Some(*end)
    }));
    assert_eq!(*ends.last().unwrap(), whole.len() as u64);
    for length in 0..=whole.len() as u64 {
        restore(&files, &path, &whole[..length as usize]);
        let (mut journals, report) = open(dir.path());
        let left = ends.iter().filter(|end| **end <= length).count().saturating_sub(1);
        let clean = ends.contains(&length);
        assert_eq!((report.damage.len(), report.cut.len(), report.records), (0, usize::from(!clean), left), "{length}");
        journals.publish(&stream).unwrap();
        assert_eq!(read_all(&journals, &stream).unwrap(), records[..left], "{length}");
        assert_eq!(next_sequence(&mut journals, &stream), left as u64 + 1, "{length}");
        drop(journals);
        assert_eq!(open_whole(dir.path()).kept(&stream).unwrap().records, left as u64 + 1, "{length}");
    }
}

#[test]
fn a_flipped_bit_anywhere_costs_at_most_its_own_record_and_serves_no_wrong_byte() {
    let dir = tempfile::tempdir().unwrap();
    // Two segments: of three records, and of two.
    let (stream, records) = written(dir.path(), &[300, 250, 290, 200, 300]);
    let files = snapshot(dir.path(), &stream);
    let paths = segments(dir.path(), &stream);
    assert_eq!(paths.len(), 2);
    for (first, path) in [0, 3].into_iter().zip(&paths) {
        let (_, whole) = files.iter().find(|(one, _)| one == path).unwrap();
        let is_last = first == 3;
        let in_file = if is_last { 3..5 } else { 0..3 };
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            restore(&files, path, &bytes);
            let (mut journals, report) = open(dir.path());
            journals.publish(&stream).unwrap();
            let found = read_all(&journals, &stream).unwrap();
            let mut end = SEGMENT_HEADER_BYTES as usize;
            let hit = records[in_file.clone()].iter().position(|record| {
                end += RECORD_HEADER_BYTES as usize + record.payload.len();
                at < end
            });
            let in_header = at < SEGMENT_HEADER_BYTES as usize;
            let lost = if in_header { in_file.clone() } else { first + hit.unwrap()..first + hit.unwrap() + 1 };
            let expected: Vec<_> = records
                .iter()
                .enumerate()
                .filter(|(n, _)| !lost.contains(n))
                .map(|(_, record)| record.clone())
                .collect();
            assert_eq!(found, expected, "byte {at} of {path:?}");
            assert_eq!(report.damage.len() + report.cut.len(), 1, "byte {at} of {path:?}: {report:?}");
            // Only a last record whose length is damaged can pass for an interrupted append.
            let sequence = next_sequence(&mut journals, &stream);
            assert!(sequence >= 6 || (sequence == 5 && !report.cut.is_empty()), "byte {at} of {path:?}: {sequence}");
            assert!(sequence == 6 || is_last, "damage in the middle skips no number: {sequence}");
            drop(journals);
            // What is damaged stays reported, and opening again changes nothing more.
            let (journals, again) = open(dir.path());
            assert_eq!(again.damage, report.damage);
            assert_eq!(again.cut, []);
            assert_eq!(journals.kept(&stream).unwrap().records, found.len() as u64 + 1);
            let count = segments(dir.path(), &stream).len();
            drop(journals);
            open(dir.path());
            assert_eq!(segments(dir.path(), &stream).len(), count, "byte {at} of {path:?}");
        }
    }
}

#[test]
fn a_bit_that_flips_while_the_journal_is_open_is_a_typed_error_and_the_rest_is_read_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, records) = written(dir.path(), &[300, 250, 290, 200, 300]);
    let mut journals = open_whole(dir.path());
    journals.publish(&stream).unwrap();
    for (first, path) in [0, 3].into_iter().zip(segments(dir.path(), &stream)) {
        let whole = fs::read(&path).unwrap();
        for at in SEGMENT_HEADER_BYTES as usize..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            let mut damaged = Vec::new();
            for record in &records {
                match journals.read(&stream, record.sequence - 1, 1, 0) {
                    Ok(found) => assert_eq!(found, std::slice::from_ref(record)),
                    Err(JournalError::Damaged { file, sequence, frame, offset, .. }) => {
                        assert_eq!((&file, sequence, frame), (&path, record.sequence, record.frame));
                        assert!(offset <= at as u64);
                        damaged.push(sequence);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(damaged.len(), 1, "byte {at}");
            assert!(damaged[0] > first);
            // A longer read ends before the damage, and so delivers what is good.
            let before: Vec<_> = records.iter().filter(|record| record.sequence < damaged[0]).cloned().collect();
            match journals.read(&stream, 0, 10, usize::MAX) {
                Ok(found) => assert_eq!(found, before),
                Err(error) => assert!(before.is_empty(), "{error}"),
            }
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_tail_of_other_bytes_is_reported_left_alone_and_its_numbers_are_never_given_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, records) = written(dir.path(), &[10, 10]);
    let path = segments(dir.path(), &stream).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend([0; 100]);
    fs::write(&path, &bytes).unwrap();
    let (mut journals, report) = open(dir.path());
    assert_eq!((report.cut.len(), report.damage[0].bytes), (0, 100));
    // 100 bytes can have been three records, 3 to 5.
    assert_eq!(next_sequence(&mut journals, &stream), 6);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    journals.publish(&stream).unwrap();
    let found = read_all(&journals, &stream).unwrap();
    assert_eq!((&found[..2], found[2].sequence), (&records[..], 6));
    // Acknowledged, it goes like any other segment.
    journals.acknowledge(&stream, 6).unwrap();
    assert!(!path.exists());
    drop(journals);
    assert_eq!(open_whole(dir.path()).kept(&stream).unwrap().records, 0);
}

#[test]
fn bytes_in_a_payload_never_pass_for_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, _) = written(dir.path(), &[10]);
    // A whole segment of another stream, as a payload, then damage right before it.
    let other = tempfile::tempdir().unwrap();
    let (forged, _) = written(other.path(), &[10, 10, 10]);
    let forged = fs::read(segments(other.path(), &forged).pop().unwrap()).unwrap();
    let mut journals = open_whole(dir.path());
    journals.append(&stream, 5, 7, &forged).unwrap();
    drop(journals);
    let path = segments(dir.path(), &stream).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let record = (SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES + 10) as usize;
    bytes[record + 5] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (journals, report) = open(dir.path());
    assert_eq!((journals.kept(&stream).unwrap().records, report.damage.len()), (1, 1));
}

#[test]
fn a_record_written_a_second_time_is_no_record_of_its_second_place() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, records) = written(dir.path(), &[10, 20]);
    let path = segments(dir.path(), &stream).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_within(SEGMENT_HEADER_BYTES as usize..);
    fs::write(&path, bytes).unwrap();
    let (mut journals, report) = open(dir.path());
    assert_eq!((report.records, report.damage.len()), (2, 1));
    journals.publish(&stream).unwrap();
    assert_eq!(read_all(&journals, &stream).unwrap(), records);
}

#[test]
fn a_segment_of_another_version_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, _) = written(dir.path(), &[10]);
    let path = segments(dir.path(), &stream).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..24]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(
        Journals::open(dir.path(), &memory(dir.path()), OPTIONS, || ()),
        Err(JournalError::Version { found: 2, .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
