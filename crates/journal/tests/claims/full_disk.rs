//! Writes that the system refuses. A limit on the size of files stands for a full disk: it, too, lets the first
//! bytes of a write pass. It holds for a whole process, so a child sets it.

use crate::support::*;
use framepipe_journal::JournalError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

#[test]
#[ignore = "the child process of a_refused_write_changes_nothing_and_can_be_repeated"]
fn child_with_small_files() {
    let Some(dir) = child_dir() else { return };
    let stream = id("s");
    let mut journals = open_whole(&dir);
    journals.create_stream(&stream, |_| false).unwrap();
    let mut expected = Vec::new();
    for frame in 1..=30 {
        let next = record(frame, 1, frame, 20 + 7 * frame as usize);
        let before = (segments(&dir, &stream), disk_bytes(&dir, &stream), journals.kept(&stream).unwrap());
        // Every place that the limit can cut the write of this frame, the making of its segment included.
        let active_bytes = before.0.last().unwrap().metadata().unwrap().len();
        for limit in (0..40).chain(active_bytes..active_bytes + RECORD_HEADER_BYTES + next.payload.len() as u64) {
            limit_files(Some(limit));
            let refused = journals.append(&stream, 1, frame, &next.payload);
            limit_files(None);
            let Err(error) = refused else {
                // The record began a new segment, and fits there below the limit.
                assert!(segments(&dir, &stream).len() > before.0.len());
                assert_eq!(refused.unwrap(), frame);
                break;
            };
            assert!(matches!(error, JournalError::Io { .. }), "{error}");
            assert!(!journals.contains(1, frame));
            assert_eq!(journals.kept(&stream).unwrap(), before.2);
            let added = disk_bytes(&dir, &stream) - before.1;
            assert!([0, SEGMENT_HEADER_BYTES].contains(&added), "{added} bytes are left of a refused append");
        }
        if !journals.contains(1, frame) {
            assert_eq!(journals.append(&stream, 1, frame, &next.payload).unwrap(), frame);
        }
        expected.push(next);
        journals.publish(&stream).unwrap();
        assert_eq!(read_all(&journals, &stream).unwrap(), expected);
    }
    limit_files(Some(0));
    assert!(matches!(journals.acknowledge(&stream, 5), Err(JournalError::Io { .. })));
    assert!(matches!(journals.create_stream(&id("new"), |_| false), Err(JournalError::Io { .. })));
    assert_eq!(std::fs::read_dir(dir.join("streams")).unwrap().count(), 1, "nothing is left of the new stream");
    assert_eq!(read_all(&journals, &stream).unwrap(), expected);
    // A process that dies here, having begun a segment, is replaced by one that still finds the disk full.
    drop(journals);
    std::fs::write(dir.join("streams/s/00000000000000000031.log"), b"").unwrap();
    let (mut journals, report) = open(&dir);
    assert_eq!((report.records, report.cut.len(), report.damage.len()), (30, 1, 0));
    journals.publish(&stream).unwrap();
    assert_eq!(read_all(&journals, &stream).unwrap(), expected);
    limit_files(None);
    assert_eq!(read_all(&journals, &stream).unwrap(), expected);
    journals.acknowledge(&stream, 5).unwrap();
    journals.create_stream(&id("new"), |_| false).unwrap();
    assert_eq!(read_all(&journals, &stream).unwrap(), expected[5..]);
}

#[test]
fn a_refused_write_changes_nothing_and_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let output = child("full_disk::child_with_small_files", dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
