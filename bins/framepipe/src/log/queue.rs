//! Lines that wait to be written. Whoever reads them may stop (a pager, Ctrl-S, a logger that hangs): no repair waits for him. What
//! there is no room for is dropped and counted, and the count is said in its place once writing goes on.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use framepipe_pipeline::log::{Level, Line};

use super::{form::bytes_of, own};

/// Memory of the lines that wait to be written.
const QUEUE_BYTES: usize = 1 << 20;

/// Lines that wait.
pub struct Queue {
    lines: Mutex<Lines>,
    changed: Condvar,
}

struct Lines {
    waiting: VecDeque<Arc<Line>>,
    bytes: usize,
    /// Lines for which there was no room, behind those that wait.
    dropped: u64,
    is_writing: bool,
    has_writer: bool,
}

impl Queue {
    /// One without a writer.
    pub const fn new() -> Self {
        let lines = Lines { waiting: VecDeque::new(), bytes: 0, dropped: 0, is_writing: false, has_writer: false };
        Self { lines: Mutex::new(lines), changed: Condvar::new() }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on somebody writes what is pushed.
    pub fn has_writer(&self) {
        self.lines().has_writer = true;
    }

    /// Gives a line back where nobody writes what is queued.
    pub fn push(&self, line: Arc<Line>) -> Option<Arc<Line>> {
        let mut lines = self.lines();
        if !lines.has_writer {
            return Some(line);
        }
        let bytes = lines.bytes + bytes_of(&line);
        // From the first that is dropped on, until all that waited is written: so that the count stands where the gap is.
        if lines.dropped == 0 && bytes <= QUEUE_BYTES {
            lines.bytes = bytes;
            lines.waiting.push_back(line);
        } else {
            lines.dropped += 1;
        }
        self.changed.notify_all();
        None
    }

    /// Writes what comes, for ever.
    pub fn write_by(&self, mut write: impl FnMut(&Line)) {
        loop {
            let line = self.next();
            write(&line);
        }
    }

    fn next(&self) -> Arc<Line> {
        let mut lines = self.lines();
        lines.is_writing = false;
        self.changed.notify_all();
        lines = self.changed.wait_while(lines, |lines| lines.is_idle()).unwrap_or_else(PoisonError::into_inner);
        lines.is_writing = true;
        if let Some(line) = lines.waiting.pop_front() {
            lines.bytes -= bytes_of(&line);
            return line;
        }
        let dropped = std::mem::take(&mut lines.dropped);
        Arc::new(own(Level::Warn, format!("{dropped} lines were dropped here: nobody read them")))
    }

    /// Waits until all is written, or the patience is over.
    pub fn flush(&self, patience: Duration) {
        let lines = self.lines();
        if lines.has_writer {
            let is_busy = |lines: &mut Lines| lines.is_writing || !lines.is_idle();
            let _ = self.changed.wait_timeout_while(lines, patience, is_busy);
        }
    }
}

impl Lines {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.dropped == 0
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Read as _, Write as _},
        thread,
        time::Instant,
    };

    use super::*;

    #[test]
    fn nobody_waits_for_a_reader_and_what_is_dropped_is_counted_in_its_place() {
        let queue: &'static Queue = Box::leak(Box::new(Queue::new()));
        let line = |number: usize| Arc::new(Line::now(Level::Info, format!("{number:>1023}")));
        assert!(queue.push(line(0)).is_some(), "nobody would write it");
        let (mut reader, mut writer) = io::pipe().expect("a pipe");
        thread::spawn(move || {
            queue.write_by(|line| writer.write_all(format!("{}\n", line.message).as_bytes()).expect("it is read"));
        });
        queue.has_writer();
        let lines = 4 * QUEUE_BYTES / 1024; // more than the queue and the pipe hold
        (0..lines).for_each(|number| assert!(queue.push(line(number)).is_none()));
        let before = Instant::now();
        queue.flush(Duration::from_millis(10));
        assert!(before.elapsed() >= Duration::from_millis(10), "there is something left to write");
        assert!(queue.lines().bytes <= QUEUE_BYTES);
        let dropped = queue.lines().dropped;

        let mut read = |bytes: usize| {
            let mut read = vec![0; bytes];
            reader.read_exact(&mut read).expect("it is written");
            String::from_utf8(read).expect("it is text")
        };
        for number in 0..lines - dropped as usize {
            assert_eq!(read(1024), format!("{number:>1023}\n"), "in order, and whole");
        }
        let note = format!("{dropped} lines were dropped here: nobody read them\n");
        assert_eq!(read(note.len()), note);
        queue.flush(Duration::from_secs(60));
        assert!(queue.push(line(7)).is_none());
        assert_eq!(read(1024), format!("{:>1023}\n", 7), "it goes on");
    }
}
