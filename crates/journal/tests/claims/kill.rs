//! A real process is killed at random moments, again and again on the same journal.

use crate::support::*;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

const ROUNDS: u64 = 30;
const RUN: &str = "FRAMEPIPE_JOURNAL_CHILD_RUN";

/// xorshift: the same numbers for the same seed.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn bytes_of(run: u64, frame: u64) -> usize {
    ((run * 131 + frame * 37) % 301) as usize
}

#[test]
#[ignore = "the child process of a_killed_process_loses_no_record_that_it_appended"]
fn appending_child() {
    let Some(dir) = child_dir() else { return };
    let run: u64 = std::env::var(RUN).unwrap().parse().unwrap();
    let (mut journals, stream) = (open(&dir).0, id("s"));
    let mut out = std::io::stdout();
    writeln!(out).unwrap();
    journals.create_stream(&stream, |_| false).unwrap();
    journals.publish(&stream).unwrap();
    let mut state = run + 1;
    // Bounded, should nobody kill it; each line is one write.
    for frame in 0..20_000 {
        let sequence = journals.append(&stream, run, frame, &payload(run, frame, bytes_of(run, frame))).unwrap();
        writeln!(out, "appended {sequence} {frame}").unwrap();
        if random(&mut state).is_multiple_of(3) {
            let visible = journals.publish(&stream).unwrap();
            if random(&mut state).is_multiple_of(2) {
                let sequence = visible.saturating_sub(random(&mut state) % 20);
                writeln!(out, "acknowledging {sequence} 0").unwrap();
                journals.acknowledge(&stream, sequence).unwrap();
                writeln!(out, "acknowledged {sequence} 0").unwrap();
            }
        }
    }
}

#[test]
fn a_killed_process_loses_no_record_that_it_appended() {
    let (dir, stream) = (tempfile::tempdir().unwrap(), id("s"));
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut reported = BTreeMap::new();
    let (mut acknowledging, mut acknowledged, mut cuts) = (0, 0, 0);
    for run in 0..ROUNDS {
        let mut child = child("kill::appending_child", dir.path());
        let mut child = child.env(RUN, run.to_string()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut note = |line: String| {
            let words: Vec<_> = line.split(' ').collect();
            let [what, sequence, frame] = words[..] else { return };
            let (Ok(sequence), Ok(frame)) = (sequence.parse::<u64>(), frame.parse::<u64>()) else { return };
            match what {
                "appended" => assert_eq!(reported.insert(sequence, (run, frame)), None, "{sequence} given out twice"),
                "acknowledging" => acknowledging = acknowledging.max(sequence),
                "acknowledged" => acknowledged = acknowledged.max(sequence),
                _ => {}
            }
        };
        lines.by_ref().take((random(&mut state) % 250) as usize).for_each(&mut note);
        for _ in 0..random(&mut state) % 20_000 {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died is in the pipe; a last line may be half.
        lines.for_each(note);

        let (mut journals, report) = open(dir.path());
        assert_eq!(report.damage, []);
        cuts += report.cut.len();
        if journals.stream_ids().count() == 0 {
            assert!(reported.is_empty());
            continue;
        }
        let visible = journals.publish(&stream).unwrap();
        let found = read_all(&journals, &stream).unwrap();
        for (one, next) in found.iter().zip(found.iter().skip(1)) {
            assert_eq!(one.sequence + 1, next.sequence, "no gaps");
        }
        let first = found.first().map_or(visible + 1, |record| record.sequence);
        assert!((acknowledged + 1..=acknowledging + 1).contains(&first), "{acknowledged} {first} {acknowledging}");
        let last_reported = reported.last_key_value().map_or(0, |(sequence, _)| *sequence);
        assert!((last_reported..=last_reported + 1).contains(&visible), "{last_reported} reported, {visible} found");
        for found in &found {
            let Some((run, frame)) = reported.get(&found.sequence).copied() else {
                assert_eq!((found.sequence, found.run), (visible, run), "only the last append can be unreported");
                reported.insert(found.sequence, (found.run, found.frame));
                continue;
            };
            assert_eq!(*found, record(found.sequence, run, frame, bytes_of(run, frame)));
            assert!(journals.contains(run, frame));
        }
        acknowledged = first - 1;
        acknowledging = acknowledging.max(acknowledged);
    }
    assert!(reported.len() > 100, "the children appended only {} records", reported.len());
    println!("{} records appended, {acknowledged} acknowledged, {cuts} appends cut", reported.len());
}
