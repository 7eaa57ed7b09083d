//! `framepipe drain`: whoever waits for the pipeline's end hears how many frames are left, and how it ended.

use std::{
    io,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::control::{Answer, CLIENT_PATIENCE, say};

/// Between two words on how many frames are left.
const EVERY: Duration = Duration::from_millis(500);
/// Those who wait, at once.
const WAITING_MAX: usize = 16;

/// Those who wait for the end. Their connections end with the launcher's process, which tells them that it is gone.
pub struct Farewell {
    frames_left: Box<dyn Fn() -> usize + Send + Sync>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Each is written to by one thread at a time, and none is while the list is locked.
    clients: Vec<Arc<Mutex<UnixStream>>>,
    /// True while a thread counts down for them.
    are_told: bool,
}

impl Farewell {
    /// Of a pipeline with so many frames in flight.
    pub fn new(frames_left: impl Fn() -> usize + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { frames_left: Box::new(frames_left), waiting: Mutex::default() })
    }

    /// Has one more wait.
    pub fn wait(self: &Arc<Self>, stream: UnixStream) -> io::Result<()> {
        if let Some(stream) = self.enter(stream)? {
            let words = format!("{WAITING_MAX} wait for the end already; it drains");
            return say(&stream, &Answer::Failed(words), CLIENT_PATIENCE);
        }
        Ok(())
    }

    /// Takes a client in, or gives it back where there is no room.
    fn enter(self: &Arc<Self>, stream: UnixStream) -> io::Result<Option<UnixStream>> {
        let mut waiting = self.waiting();
        if waiting.clients.len() >= WAITING_MAX {
            return Ok(Some(stream));
        }
        waiting.clients.push(Arc::new(Mutex::new(stream)));
        if !waiting.are_told {
            let farewell = self.clone();
            thread::Builder::new().name("drain".into()).spawn(move || farewell.count_down())?;
            waiting.are_told = true;
        }
        Ok(None)
    }

    /// Says how many frames are left, until the process ends, or nobody waits any more.
    fn count_down(&self) {
        let mut said = None;
        loop {
            let left = (self.frames_left)();
            if said != Some(left) {
                self.tell(&Answer::Progress(format!("{left} frames left")), CLIENT_PATIENCE);
            }
            let mut waiting = self.waiting();
            if waiting.clients.is_empty() {
                waiting.are_told = false;
                return;
            }
            drop(waiting);
            said = Some(left);
            thread::sleep(EVERY);
        }
    }

    /// Says how it ended.
    pub fn end(&self, answer: &Answer) {
        self.tell(answer, CLIENT_PATIENCE);
    }

    /// Tells all of them, within the patience, and forgets who has gone or does not read.
    fn tell(&self, answer: &Answer, patience: Duration) {
        let end = Instant::now() + patience;
        let clients = self.waiting().clients.clone();
        let is_gone = |client: &&Arc<Mutex<UnixStream>>| {
            let stream = client.lock().unwrap_or_else(PoisonError::into_inner);
            say(&stream, answer, end.saturating_duration_since(Instant::now())).is_err()
        };
        let gone: Vec<_> = clients.iter().filter(is_gone).collect();
        self.waiting().clients.retain(|client| !gone.iter().any(|gone| Arc::ptr_eq(client, gone)));
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// One who waits, and his end.
    fn client(farewell: &Farewell) -> BufReader<UnixStream> {
        let (client, server) = UnixStream::pair().expect("a socket");
        client.set_read_timeout(Some(LIMIT)).expect("it can be set");
        farewell.waiting().clients.push(Arc::new(Mutex::new(server)));
        BufReader::new(client)
    }

    fn line(client: &mut impl io::BufRead) -> String {
        let mut line = String::new();
        client.read_line(&mut line).expect("it is told in time");
        line
    }

    #[test]
    fn one_who_does_not_read_holds_up_nobody_who_comes_or_waits() {
        let farewell = Farewell::new(|| 5);
        farewell.waiting().are_told = true; // by the test
        let (mut reads, mut deaf) = (client(&farewell), client(&farewell));
        let long = Answer::Progress("x".repeat(4 << 20));
        let telling = {
            let farewell = farewell.clone();
            thread::spawn(move || farewell.tell(&long, LIMIT))
        };
        let told = line(&mut reads);
        deaf.fill_buf().expect("he is being told"); // and takes no more
        let (comes, server) = UnixStream::pair().expect("a socket");
        farewell.wait(server).expect("there is room");
        assert_eq!(line(&mut deaf).len(), told.len(), "who came waited until the one who does not read was given up");
        telling.join().expect("no panic");
        farewell.end(&Answer::Done("over".into()));
        assert_eq!(line(&mut BufReader::new(comes)), "{\"done\":\"over\"}\n");
        assert_eq!(line(&mut reads), "{\"done\":\"over\"}\n");
    }

    #[test]
    fn all_are_told_within_one_patience_and_who_has_gone_is_forgotten() {
        let farewell = Farewell::new(|| 5);
        let deaf: Vec<_> = (0..WAITING_MAX - 1).map(|_| client(&farewell)).collect();
        let long = Answer::Progress("x".repeat(4 << 20));
        let began = Instant::now();
        farewell.tell(&long, Duration::from_millis(500));
        assert!(began.elapsed() < Duration::from_millis(500) * (WAITING_MAX as u32 / 2), "{:?}", began.elapsed());
        assert!(farewell.waiting().clients.is_empty());
        drop(deaf);
        let mut clients: Vec<_> = (0..WAITING_MAX).map(|_| client(&farewell)).collect();
        let (one_more, server) = UnixStream::pair().expect("a socket");
        farewell.wait(server).expect("it is told");
        assert!(line(&mut BufReader::new(one_more)).contains("wait for the end already"));
        clients.clear();
        farewell.end(&Answer::Done("over".into()));
        assert!(farewell.waiting().clients.is_empty());
    }

    #[test]
    fn who_waits_hears_how_many_frames_are_left() {
        let farewell = Farewell::new(|| 5);
        let (client, server) = UnixStream::pair().expect("a socket");
        client.set_read_timeout(Some(LIMIT)).expect("it can be set");
        farewell.wait(server).expect("there is room");
        assert_eq!(line(&mut BufReader::new(client)), "{\"progress\":\"5 frames left\"}\n");
    }
}
