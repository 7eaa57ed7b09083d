//! Random histories against a naive twin in memory.

use crate::support::*;
use framepipe_journal::{JournalError, Journals, Kept, Options, Record, StreamId};
use proptest::prelude::*;
use std::{fs::OpenOptions, path::Path};

#[derive(Debug, Clone)]
enum Step {
    Append {
        stream: usize,
        bytes: usize,
    },
    Publish {
        stream: usize,
    },
    /// Acknowledges that part of what is visible, in 1/255.
    Acknowledge {
        stream: usize,
        part: u8,
    },
    Reopen,
    /// An end that is no death: what lies in memory goes to the disk.
    Close,
    /// A death that leaves the last segment that much shorter, in 1/255 of its records.
    CutTail {
        stream: usize,
        part: u8,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stream = 0..2_usize;
    let step = prop_oneof![
        12 => (stream.clone(), 0..=300_usize).prop_map(|(stream, bytes)| Step::Append { stream, bytes }),
        4 => stream.clone().prop_map(|stream| Step::Publish { stream }),
        3 => (stream.clone(), any::<u8>()).prop_map(|(stream, part)| Step::Acknowledge { stream, part }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Close),
        1 => (stream, any::<u8>()).prop_map(|(stream, part)| Step::CutTail { stream, part }),
    ];
    proptest::collection::vec(step, 1..120)
}

/// One stream, naively: all records ever, and two positions.
#[derive(Debug, Default)]
struct Twin {
    log: Vec<Record>,
    visible: u64,
    acknowledged: u64,
}

impl Twin {
    fn next(&self) -> u64 {
        self.log.last().map_or(0, |record| record.sequence).max(self.acknowledged) + 1
    }

    fn kept(&self) -> impl Iterator<Item = &Record> {
        self.log.iter().filter(|record| record.sequence > self.acknowledged)
    }

    /// The log loses its last `bytes` bytes; returns those of the half record that is left to cut.
    fn cut(&mut self, mut bytes: u64) -> u64 {
        while bytes > 0 {
            let record = self.log.pop().expect("no more is cut than was written");
            let record_bytes = record_bytes(&record);
            if record_bytes > bytes {
                return record_bytes - bytes;
            }
            bytes -= record_bytes;
        }
        0
    }
}

fn record_bytes(record: &Record) -> u64 {
    RECORD_HEADER_BYTES + record.payload.len() as u64
}

fn agree(journals: &Journals, stream: &StreamId, twin: &Twin) {
    let visible: Vec<_> = twin.kept().filter(|record| record.sequence <= twin.visible).cloned().collect();
    assert_eq!(read_all(journals, stream).unwrap(), visible);
    assert_eq!(journals.visible_until(stream).unwrap(), twin.visible);
    let (records, bytes) = (twin.kept().count() as u64, twin.kept().map(record_bytes).sum());
    assert_eq!(journals.kept(stream).unwrap(), Kept { records, bytes, reserved_frames: 0 });
    for record in &twin.log {
        let kept = record.sequence > twin.acknowledged;
        assert_eq!(journals.contains(record.run, record.frame), kept, "{record:?}");
    }
}

fn reopen(journals: Journals, dir: &Path, options: Options, twins: &mut [Twin], half_record: u64) -> Journals {
    drop(journals);
    let (journals, report) = Journals::open(dir, &memory(dir), options, || ()).unwrap();
    assert_eq!(report.damage, []);
    assert_eq!(report.cut.iter().map(|cut| cut.bytes).sum::<u64>(), half_record);
    assert_eq!(report.records, twins.iter().map(|twin| twin.kept().count()).sum::<usize>());
    for twin in twins {
        twin.visible = twin.acknowledged;
    }
    journals
}

fn play(steps: &[Step], memory_bytes_max: u64) {
    let options = Options { memory_bytes_max, ..OPTIONS };
    let dir = tempfile::tempdir().unwrap();
    let ids = [id("one"), id("two")];
    let mut twins = [Twin::default(), Twin::default()];
    let (mut journals, _) = Journals::open(dir.path(), &memory(dir.path()), options, || ()).unwrap();
    for stream in &ids {
        journals.create_stream(stream, |_| false).unwrap();
    }
    for (frame, step) in (0_u64..).zip(steps) {
        match *step {
            Step::Append { stream, bytes } => {
                let expected = record(twins[stream].next(), 7, frame, bytes);
                let sequence = journals.append(&ids[stream], 7, frame, &expected.payload).unwrap();
                assert_eq!(sequence, expected.sequence);
                let again = journals.append(&ids[stream], 7, frame, b"again");
                assert!(matches!(again, Err(JournalError::Duplicate { run: 7, .. })));
                twins[stream].log.push(expected);
            }
            Step::Publish { stream } => {
                twins[stream].visible = twins[stream].next() - 1;
                assert_eq!(journals.publish(&ids[stream]).unwrap(), twins[stream].visible);
            }
            Step::Acknowledge { stream, part } => {
                let sequence = twins[stream].visible * u64::from(part) / 255;
                journals.acknowledge(&ids[stream], sequence).unwrap();
                twins[stream].acknowledged = twins[stream].acknowledged.max(sequence);
                let beyond = journals.acknowledge(&ids[stream], twins[stream].visible + 1);
                assert!(matches!(beyond, Err(JournalError::NotPublished { .. })));
            }
            Step::Reopen => journals = reopen(journals, dir.path(), options, &mut twins, 0),
            Step::Close => {
                journals.close(|| ()).unwrap();
                assert!(!memory(dir.path()).exists());
                journals = reopen(journals, dir.path(), options, &mut twins, 0);
            }
            Step::CutTail { stream, part } => {
                let last = segments(dir.path(), &ids[stream]).pop().unwrap();
                let records_bytes = last.metadata().unwrap().len() - SEGMENT_HEADER_BYTES;
                let cut_bytes = records_bytes * u64::from(part) / 255;
                let file = OpenOptions::new().write(true).open(&last).unwrap();
                file.set_len(SEGMENT_HEADER_BYTES + records_bytes - cut_bytes).unwrap();
                let half_record = twins[stream].cut(cut_bytes);
                journals = reopen(journals, dir.path(), options, &mut twins, half_record);
            }
        }
        for (stream, twin) in ids.iter().zip(&twins) {
            agree(&journals, stream, twin);
        }
        assert!(memory_bytes(dir.path()) <= memory_bytes_max);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_agrees_with_a_naive_twin(steps in steps(), memory_bytes_max in prop_oneof![Just(0), 0..6000_u64]) {
        play(&steps, memory_bytes_max);
    }
}
