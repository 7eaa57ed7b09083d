//! What a process says on standard error: taken in line by line, and its last lines kept for the story of its death. What is no
//! line of its log (a library's own words, a panic) is one of the process all the same.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader, Read},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crossbeam_channel::Receiver;
use framepipe_pipeline::log::{Level, Line};

/// Lines kept of each process.
const LINES: usize = 32;
/// Bytes kept of each line.
const LINE_BYTES: usize = 512;
/// Bytes taken in at once: a longer line, or one without an end, is cut, and each part is one.
const CHUNK_BYTES: u64 = 16 << 10;

/// The last lines of one process.
pub struct LastWords {
    lines: Arc<Mutex<VecDeque<String>>>,
    /// Disconnected once the process's standard error is at its end.
    end: Receiver<()>,
}

impl LastWords {
    /// Hears a process of this title on a thread of its own, until its standard error ends. Each line is given to `pass_on`.
    pub fn hear(
        (title, pid): (String, u32),
        from: impl Read + Send + 'static,
        pass_on: impl Fn(Line) + Send + 'static,
    ) -> io::Result<Self> {
        let (says_end, end) = crossbeam_channel::bounded(0);
        let lines = Arc::new(Mutex::new(VecDeque::with_capacity(LINES)));
        let kept = lines.clone();
        let listen = move || {
            let _dropped_at_the_end = says_end;
            // An error is an end as well.
            let _ = take_in(BufReader::new(from), |bytes| {
                let Some(line) = line_of(bytes) else { return };
                keep(&kept, &line);
                pass_on(Line { process: title.clone(), pid, ..line });
            });
        };
        thread::Builder::new().name(format!("words-{pid}")).spawn(listen)?;
        Ok(Self { lines, end })
    }

    /// The last lines. Of a dead process: waits until all it said has been heard, or `patience`, since a process of its
    /// own making may still hold the other end.
    pub fn take(&self, patience: Duration) -> Vec<String> {
        self.hear_out(patience);
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Waits until all that a dead process said has been heard, or `patience`.
    pub fn hear_out(&self, patience: Duration) {
        let _ = self.end.recv_timeout(patience); // disconnected, or time is over
    }
}

fn take_in(mut from: impl io::BufRead, mut hear: impl FnMut(&[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    while from.by_ref().take(CHUNK_BYTES).read_until(b'\n', &mut line)? > 0 {
        hear(&line);
        line.clear();
    }
    Ok(())
}

/// The line of these bytes; none of empty ones.
fn line_of(bytes: &[u8]) -> Option<Line> {
    let bytes = bytes.trim_ascii_end();
    let foreign = || Line::now(Level::Warn, String::from_utf8_lossy(bytes));
    (!bytes.is_empty()).then(|| Line::from_json(bytes).unwrap_or_else(foreign))
}

fn keep(kept: &Mutex<VecDeque<String>>, line: &Line) {
    let words = &line.message;
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() == LINES {
        kept.pop_front();
    }
    kept.push_back(words[..words.floor_char_boundary(LINE_BYTES)].to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of what a process said, and what is passed on.
    fn heard(said: Vec<u8>) -> (Vec<String>, Vec<Line>) {
        let (send, passed) = crossbeam_channel::unbounded();
        let words = LastWords::hear(("detect[0]".into(), 7), io::Cursor::new(said), move |line| {
            send.send(line).expect("the test listens");
        });
        let kept = words.expect("a thread").take(Duration::from_secs(60));
        (kept, passed.iter().collect())
    }

    #[test]
    fn the_last_lines_are_kept_whatever_they_hold() {
        assert_eq!(heard(b"one\ntwo \xff\nunfinished".to_vec()).0, ["one", "two \u{fffd}", "unfinished"]);
        let many: Vec<u8> = (0..100).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        let (last, passed) = heard(many);
        assert_eq!((last.len(), last[0].as_str(), last[31].as_str()), (LINES, "line 68", "line 99"));
        assert_eq!(passed.len(), 100);
        let (long, passed) = heard(vec![b'x'; 1 << 20]);
        assert!(long.len() <= LINES && long.iter().all(|line| line.len() <= LINE_BYTES));
        assert!(passed.iter().all(|line| line.message.len() <= CHUNK_BYTES as usize));
        assert_eq!(passed.iter().map(|line| line.message.len()).sum::<usize>(), 1 << 20, "all of it passes");
    }

    #[test]
    fn a_line_of_its_log_is_taken_as_it_was_meant() {
        let mut said = Line::now(Level::Error, "frame 5: broken");
        said.fields.insert("frame".into(), 5.into());
        let json = said.to_json();
        said.timestamp = Line::from_json(&json).expect("it is one").timestamp; // to the microsecond
        let bytes = [b"a library's words\n\n".as_slice(), &json, &json[..json.len() - 3], b"\n"].concat();
        let (kept, passed) = heard(bytes);
        assert_eq!(kept[..2], ["a library's words", "frame 5: broken"]);
        assert_eq!(passed[1], Line { process: "detect[0]".into(), pid: 7, ..said });
        let words = String::from_utf8(json[..json.len() - 3].to_vec()).expect("it is text");
        assert_eq!((passed.len(), &passed[2].message), (3, &words), "half a line is one of no program");
        assert!(passed.iter().all(|line| line.process == "detect[0]" && line.pid == 7));
    }
}
