//! What the launcher and its processes say, written to standard error by a thread of its own. Whoever reads it may stop (a
//! pager, Ctrl-S, a logger that hangs): no repair waits for him. What the queue has no room for is dropped and counted, and
//! the count is written in its place once writing goes on.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Memory of the lines that wait to be written.
const QUEUE_BYTES: usize = 1 << 20;
/// What a line takes beside its bytes.
const LINE_OVERHEAD: usize = 64;
/// For the last lines to be written when the launcher ends.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

static LOG: Log = Log::new();

/// Says a line.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::log::pass_on(format!("{}\n", format_args!($($words)*)).into_bytes())
    };
}
pub(crate) use say;

/// Starts the thread. To be called once signals are taken, and before any child is started.
pub fn start() -> io::Result<()> {
    thread::Builder::new().name("log".into()).spawn(|| LOG.write_to(io::stderr()))?;
    LOG.queue().has_writer = true;
    Ok(())
}

/// Writes bytes to standard error: after those that wait already, or at once where no thread was started.
pub fn pass_on(bytes: Vec<u8>) {
    if let Some(bytes) = LOG.push(bytes) {
        let _ = io::stderr().write_all(&bytes); // that it cannot be said is no reason to stop
    }
}

/// Waits until all is written, or the patience is over.
pub fn flush() {
    LOG.flush(FLUSH_PATIENCE);
}

struct Log {
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines for which there was no room, behind those that wait.
    dropped: u64,
    is_writing: bool,
    has_writer: bool,
}

impl Log {
    const fn new() -> Self {
        let queue = Queue { lines: VecDeque::new(), bytes: 0, dropped: 0, is_writing: false, has_writer: false };
        Self { queue: Mutex::new(queue), changed: Condvar::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a line back where nobody writes what is queued.
    fn push(&self, line: Vec<u8>) -> Option<Vec<u8>> {
        let mut queue = self.queue();
        if !queue.has_writer {
            return Some(line);
        }
        let bytes = queue.bytes + line.len() + LINE_OVERHEAD;
        // From the first that is dropped on, until all that waited is written: so that the count stands where the gap is.
        if queue.dropped == 0 && bytes <= QUEUE_BYTES {
            queue.bytes = bytes;
            queue.lines.push_back(line);
        } else {
            queue.dropped += 1;
        }
        self.changed.notify_all();
        None
    }

    fn write_to(&self, mut out: impl Write) {
        loop {
            let line = self.next();
            let _ = out.write_all(&line); // a full disk, a logger that died: no reason to stop
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.queue();
        queue.is_writing = false;
        self.changed.notify_all();
        queue = self.changed.wait_while(queue, |queue| queue.is_idle()).unwrap_or_else(PoisonError::into_inner);
        queue.is_writing = true;
        if let Some(line) = queue.lines.pop_front() {
            queue.bytes -= line.len() + LINE_OVERHEAD;
            return line;
        }
        let dropped = std::mem::take(&mut queue.dropped);
        format!("launcher: {dropped} lines were dropped here: nobody read them\n").into_bytes()
    }

    fn flush(&self, patience: Duration) {
        let queue = self.queue();
        if queue.has_writer {
            let is_busy = |queue: &mut Queue| queue.is_writing || !queue.is_idle();
            let _ = self.changed.wait_timeout_while(queue, patience, is_busy);
        }
    }
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, time::Instant};

    use super::*;

    #[test]
    fn nobody_waits_for_a_reader_and_what_is_dropped_is_counted_in_its_place() {
        let log: &'static Log = Box::leak(Box::new(Log::new()));
        assert!(log.push(b"direct\n".to_vec()).is_some(), "nobody would write it");
        let (mut reader, writer) = io::pipe().expect("a pipe");
        thread::spawn(|| log.write_to(writer));
        log.queue().has_writer = true;
        let line = |number: usize| format!("{number:>1023}\n").into_bytes();
        let lines = 4 * QUEUE_BYTES / 1024; // more than the queue and the pipe hold
        (0..lines).for_each(|number| assert!(log.push(line(number)).is_none()));
        let before = Instant::now();
        log.flush(Duration::from_millis(10));
        assert!(before.elapsed() >= Duration::from_millis(10), "there is something left to write");
        assert!(log.queue().bytes <= QUEUE_BYTES);
        let dropped = log.queue().dropped;

        let kept = lines - dropped as usize;
        let mut read = vec![0; kept * 1024];
        reader.read_exact(&mut read).expect("it is written");
        for (number, read) in read.chunks(1024).enumerate() {
            assert_eq!(read, line(number), "in order, and whole");
        }
        let note = format!("launcher: {dropped} lines were dropped here: nobody read them\n");
        let mut read = vec![0; note.len()];
        reader.read_exact(&mut read).expect("it is written");
        assert_eq!(String::from_utf8_lossy(&read), note);
        log.flush(Duration::from_secs(60));
        assert!(log.push(line(7)).is_none());
        let mut read = vec![0; 1024];
        reader.read_exact(&mut read).expect("it goes on");
        assert_eq!(read, line(7));
    }
}
