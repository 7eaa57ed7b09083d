//! A journal's segment and position as a dead process, or a disk, left them: opened and read, whatever the bytes are;
//! appended to; and what is read then is there after another opening. The first byte says whether the checksums are
//! mended, behind which the fuzzer would not get otherwise.
#![no_main]

use std::{fs, path::Path, time::Duration};

use framepipe_journal::{JournalError, Journals, Options, Record, StreamId};

const OPTIONS: Options = Options {
    stream_bytes_max: 1 << 20,
    streams_max: 4,
    segment_bytes: 1 << 14,
    memory_bytes_max: 0,
    retention: Duration::ZERO,
    result_bytes_max: 1 << 10,
};
const SEGMENT_HEADER_BYTES: usize = 28;
const POSITION_BYTES: usize = 32;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((flags, bytes)) = bytes.split_first() else { return };
    let Some((position, segment)) = bytes.split_at_checked(POSITION_BYTES) else { return };
    let folder = tempfile::tempdir_in("/dev/shm").expect("there is room in /dev/shm");
    let stream = folder.path().join("streams/s");
    fs::create_dir_all(&stream).expect("the folder is the target's own");
    let mut segment = segment.to_vec();
    if flags & 1 != 0 {
        mend(&mut segment);
    }
    fs::write(stream.join("00000000000000000001.log"), &segment).expect("the folder is the target's own");
    if flags & 2 != 0 {
        fs::write(stream.join("acknowledged"), position).expect("the folder is the target's own");
    }
    let id = StreamId::new("s").expect("it is one");
    let Ok(mut journals) = open(folder.path()) else { return };
    if journals.reserve_accepted(&id, 1).is_err() || journals.append(&id, 7, 7, b"new").is_err() {
        return;
    }
    let before = read(&mut journals, &id);
    assert!(before.iter().any(|record| (record.run, record.frame) == (7, 7)), "what was appended is there");
    assert!(before.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
    drop(journals);
    let mut journals = open(folder.path()).expect("it was opened before");
    let after = read(&mut journals, &id);
    assert!(before.iter().map(key).eq(after.iter().map(key)), "{before:?} became {after:?}");
});

fn key(record: &Record) -> (u64, u64, u64, &[u8]) {
    (record.sequence, record.run, record.frame, &record.payload)
}

fn open(folder: &Path) -> Result<Journals, JournalError> {
    Journals::open(folder, &folder.join("memory"), OPTIONS, || ()).map(|(journals, _)| journals)
}

/// All records, damaged ones left out.
fn read(journals: &mut Journals, id: &StreamId) -> Vec<Record> {
    let end = journals.publish(id).expect("it was opened");
    let (mut after, mut records) = (0, Vec::new());
    while after < end {
        match journals.read(id, after, 1, 1 << 20) {
            Ok(found) if found.is_empty() => break,
            Ok(found) => records.extend(found.into_iter().inspect(|record| after = record.sequence)),
            Err(JournalError::Damaged { sequence, .. }) => after = sequence,
            Err(error) => panic!("{error}"),
        }
    }
    records
}

/// Makes the header's checksum, and those of the records that follow one another, right.
fn mend(segment: &mut [u8]) {
    let Some((header, records)) = segment.split_at_mut_checked(SEGMENT_HEADER_BYTES) else { return };
    let salt = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    let sum = crc32fast::hash(&header[..24]);
    header[24..].copy_from_slice(&sum.to_le_bytes());
    let mut rest = records;
    while let Some(length) = rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize) {
        let Some((record, tail)) = std::mem::take(&mut rest).split_at_mut_checked(32 + length) else { return };
        let mut hasher = crc32fast::Hasher::new_with_initial(salt);
        hasher.update(&record[..4]);
        hasher.update(&record[8..]);
        record[4..8].copy_from_slice(&hasher.finalize().to_le_bytes());
        rest = tail;
    }
}
