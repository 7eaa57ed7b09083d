//! What a process says on standard error: passed on line by line, and its last lines kept for the story of its death.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader, Read},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crossbeam_channel::Receiver;

use crate::log;

/// Lines kept of each process.
const LINES: usize = 32;
/// Bytes kept of each line.
const LINE_BYTES: usize = 512;
/// Bytes passed on at once, of a line without an end.
const CHUNK_BYTES: u64 = 8192;

/// The last lines of one process.
pub struct LastWords {
    lines: Arc<Mutex<VecDeque<String>>>,
    /// Disconnected once the process's standard error is at its end.
    end: Receiver<()>,
}

impl LastWords {
    /// Hears a process on a thread of its own, until its standard error ends.
    pub fn hear(pid: u32, from: impl Read + Send + 'static) -> io::Result<Self> {
        let (says_end, end) = crossbeam_channel::bounded(0);
        let lines = Arc::new(Mutex::new(VecDeque::with_capacity(LINES)));
        let kept = lines.clone();
        let listen = move || {
            let _dropped_at_the_end = says_end;
            // An error is an end as well.
            let _ = pass_on(BufReader::new(from), &kept);
        };
        thread::Builder::new().name(format!("words-{pid}")).spawn(listen)?;
        Ok(Self { lines, end })
    }

    /// The last lines. Of a dead process: waits until all it said has been heard, or `patience`, since a process of its
    /// own making may still hold the other end.
    pub fn take(&self, patience: Duration) -> Vec<String> {
        let _ = self.end.recv_timeout(patience); // disconnected, or time is over
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

fn pass_on(mut from: impl io::BufRead, kept: &Mutex<VecDeque<String>>) -> io::Result<()> {
    let mut line = Vec::new();
    while from.by_ref().take(CHUNK_BYTES).read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES)]);
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LINES {
            kept.pop_front();
        }
        kept.push_back(text.trim_end().to_owned());
        drop(kept);
        log::pass_on(std::mem::take(&mut line));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(said: Vec<u8>) -> Vec<String> {
        LastWords::hear(1, io::Cursor::new(said)).expect("a thread").take(Duration::from_secs(60))
    }

    #[test]
    fn the_last_lines_are_kept_whatever_they_hold() {
        assert_eq!(heard(b"one\ntwo \xff\nunfinished".to_vec()), ["one", "two \u{fffd}", "unfinished"]);
        let many: Vec<u8> = (0..100).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        let last = heard(many);
        assert_eq!((last.len(), last[0].as_str(), last[31].as_str()), (LINES, "line 68", "line 99"));
        let long = heard(vec![b'x'; 1 << 20]);
        assert!(long.len() <= LINES && long.iter().all(|line| line.len() <= LINE_BYTES));
    }
}
