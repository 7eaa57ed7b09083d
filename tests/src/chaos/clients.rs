//! The load: pushers and readers of several streams, with the Rust client and the Python one.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use framepipe_client::{Batch, Client, Error, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use serde::Deserialize;
use tokio::task::JoinHandle;

use super::{
    Ledger, Random,
    ledger::{Image, Said},
};
use crate::{Home, Server, images::png, repository};

/// Streams that the Rust client reads; one more is read by the Python client.
const STREAMS: usize = 4;
const PYTHON_STREAM: &str = "python";
/// A pusher pauses while so many of all frames are out: the load stays, and the end comes soon.
const OUT_MAX: usize = 600;
const BATCH_MAX: usize = 32;
/// Extension of the files that are pushed twice, and are nobody's to delete before the end.
const TWICE: &str = "twice";
/// For the server to come back: longer than any outage here.
const PATIENCE: Duration = Duration::from_secs(120);

/// Images to push, each of a size of its own.
pub struct Images(Vec<Vec<u8>>);

/// Sizes are 16 to 35 pixels a side.
const SIDES: u32 = 20;

fn size(number: usize) -> (u32, u32) {
    let place = (number % (SIDES * SIDES) as usize) as u32;
    (16 + place % SIDES, 16 + place / SIDES)
}

impl Default for Images {
    fn default() -> Self {
        Self((0..(SIDES * SIDES) as usize).map(size).map(|(width, height)| png(width, height)).collect())
    }
}

impl Images {
    fn bytes(&self, number: usize) -> &Vec<u8> {
        &self.0[number % self.0.len()]
    }
}

/// All clients, at work until they are stopped.
pub struct Clients {
    stop: Arc<AtomicBool>,
    pushers: Vec<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
    done: Arc<AtomicBool>,
    python: PythonReader,
    unreleased: Arc<Mutex<Vec<(Client, Batch)>>>,
    inbox: PathBuf,
}

#[derive(Clone)]
struct Pusher {
    stream: String,
    client: Client,
    inbox: PathBuf,
    images: Arc<Images>,
    ledger: Arc<Ledger>,
    random: Random,
    stop: Arc<AtomicBool>,
    unreleased: Arc<Mutex<Vec<(Client, Batch)>>>,
}

impl Clients {
    /// Starts them. The first stream's clients and the Python client come by TCP, the others by the socket.
    pub fn start(home: &Home, server: &Server, tcp: &str, seed: u64, ledger: &Arc<Ledger>) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (images, unreleased) = (Arc::new(Images::default()), Arc::default());
        let by_tcp = || Client::connect_lazy(tcp).expect("the address is one").with_inbox(home.inbox());
        let client = |number| if number == 0 { by_tcp() } else { server.client() }.with_reconnect(PATIENCE);
        let streams = (0..STREAMS).map(|number| format!("camera-{number}")).chain([PYTHON_STREAM.to_owned()]);
        let clients: Vec<(String, Client)> =
            streams.enumerate().map(|(number, stream)| (stream, client(number))).collect();
        let pusher = |(number, (stream, client)): (usize, &(String, Client))| Pusher {
            stream: stream.clone(),
            client: client.clone(),
            inbox: home.inbox(),
            images: images.clone(),
            ledger: ledger.clone(),
            random: Random::new(seed, 100 + number as u64),
            stop: stop.clone(),
            unreleased: Arc::clone(&unreleased),
        };
        let pushers = clients.iter().enumerate().map(pusher).map(|pusher| tokio::spawn(pusher.run())).collect();
        let readers = clients.iter().take(STREAMS).enumerate().map(|(number, (stream, client))| {
            let random = Random::new(seed, 200 + number as u64);
            tokio::spawn(read(stream.clone(), client.clone(), ledger.clone(), random, done.clone()))
        });
        let readers = readers.collect();
        let python = PythonReader::start(tcp.to_owned(), ledger.clone(), done.clone());
        Self { stop, pushers, readers, done, python, unreleased, inbox: home.inbox() }
    }

    /// The pid of the Python client at this moment.
    pub fn python_pid(&self) -> Option<u32> {
        *self.python.pid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the pushing, and waits for the calls under way.
    pub async fn stop_pushing(&mut self) {
        self.stop.store(true, Ordering::Release);
        for pusher in self.pushers.drain(..) {
            pusher.await.expect("a pusher's own checks hold");
        }
    }

    /// Ends the readers; every result is there. The files of frames that others read go.
    pub async fn stop_reading(self) {
        self.done.store(true, Ordering::Release);
        for reader in self.readers {
            reader.await.expect("a reader's own checks hold");
        }
        self.python.end();
        for (client, batch) in self.unreleased.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            client.release(&batch);
        }
        for entry in std::fs::read_dir(&self.inbox).expect("the inbox is there") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == TWICE) {
                std::fs::remove_file(path).expect("the file is the clients' own");
            }
        }
    }
}

impl Pusher {
    async fn run(mut self) {
        let mut number = 0;
        while !self.stop.load(Ordering::Acquire) {
            if self.ledger.progress().1 > OUT_MAX {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            let numbers: Vec<usize> = (number..).take(1 + self.random.below(BATCH_MAX)).collect();
            number += numbers.len();
            if self.random.one_in(12) { self.push_twice(&numbers).await } else { self.push(&numbers).await }
        }
    }

    fn expected(&self, numbers: &[usize]) -> Vec<Image> {
        let image = |number: &usize| Image { name: format!("{}-{number}", self.stream), size: size(*number) };
        numbers.iter().map(image).collect()
    }

    async fn push(&mut self, numbers: &[usize]) {
        let expected = self.expected(numbers);
        let images: Vec<&Vec<u8>> = numbers.iter().map(|number| self.images.bytes(*number)).collect();
        let names = expected.iter().map(|image| image.name.clone());
        let request = PushRequest::images(images).names(names).stream(&self.stream).wait(PATIENCE);
        match self.client.push(request).await {
            Ok(batch) => {
                self.ledger.accepted(batch.first_frame, expected);
                if self.stream == PYTHON_STREAM {
                    let mut unreleased = self.unreleased.lock().unwrap_or_else(PoisonError::into_inner);
                    unreleased.push((self.client.clone(), batch));
                }
            }
            Err(Error::Overloaded { .. }) => self.ledger.refused(numbers.len()),
            Err(error) => self.ledger.fault(format!("a push to {} failed: {error}", self.stream)),
        }
    }

    /// Hangs up in the middle of a call, or after it, and makes the same call again with the same key.
    async fn push_twice(&mut self, numbers: &[usize]) {
        let expected = self.expected(numbers);
        let path = self.inbox.join(format!("{}-{}.{TWICE}", self.stream, numbers[0]));
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| self.images.bytes(*number).clone()).collect();
        std::fs::write(&path, bytes).expect("the inbox takes a file");
        let sizes = numbers.iter().map(|number| self.images.bytes(*number).len() as u64);
        let request = PushRequest::location(path.display().to_string(), sizes)
            .names(expected.iter().map(|image| image.name.clone()))
            .stream(&self.stream)
            .idempotency_key(format!("{}-{}", self.stream, numbers[0]))
            .wait(PATIENCE);
        let patience = Duration::from_micros(self.random.below(4000) as u64);
        let first = tokio::time::timeout(patience, self.client.push(request.clone())).await;
        match self.client.push(request).await {
            Ok(answer) => {
                if let Ok(Ok(first)) = first
                    && first != answer
                {
                    self.ledger.fault(format!("one key, two answers: {first:?} and {answer:?}"));
                }
                self.ledger.accepted(answer.first_frame, expected);
            }
            Err(Error::Overloaded { .. }) => self.ledger.refused(numbers.len()),
            Err(error) => self.ledger.fault(format!("a push to {} failed: {error}", self.stream)),
        }
    }
}

/// Reads a stream, is cut off now and then, and goes on where it was.
async fn read(stream: String, client: Client, ledger: Arc<Ledger>, mut random: Random, done: Arc<AtomicBool>) {
    while !done.load(Ordering::Acquire) {
        // Now and then it asks for all that is not acknowledged, as a reader without a memory would: repeats come.
        let after = if random.one_in(3) { 0 } else { ledger.last_sequence(&stream) };
        let options = ResultsOptions { after, ack_every: 1 + random.below(64) as u64, ..ResultsOptions::default() };
        let mut results = client.results(&stream, options);
        let mut left = 1 + random.below(3000);
        while left > 0 && !done.load(Ordering::Acquire) {
            match tokio::time::timeout(Duration::from_millis(100), results.next()).await {
                Err(_) => {}
                Ok(Some(Ok(result))) => {
                    ledger.result(&stream, result.sequence, result.frame, said(&result));
                    left -= 1;
                }
                Ok(Some(Err(Error::NotFound(_)))) => break, // nobody has pushed to it yet
                Ok(Some(Err(error))) => {
                    ledger.fault(format!("the results of {stream} broke off: {error}"));
                    break;
                }
                Ok(None) => break,
            }
        }
        if random.one_in(2) {
            results.close().await;
        }
    }
}

fn said(result: &FrameResult) -> Said {
    match &result.outcome {
        Some(Outcome::Detections(found)) => {
            Ok(Image { name: result.name.clone(), size: (found.image_width, found.image_height) })
        }
        other => Err(format!("{other:?}")),
    }
}

/// A reader in a process of its own, which may be killed: it is started again.
struct PythonReader {
    pid: Arc<Mutex<Option<u32>>>,
    thread: std::thread::JoinHandle<()>,
}

/// A line that the Python reader prints.
#[derive(Deserialize)]
struct Line {
    sequence: u64,
    frame: u64,
    name: String,
    size: Option<(u32, u32)>,
    error: Option<String>,
}

impl PythonReader {
    fn start(address: String, ledger: Arc<Ledger>, done: Arc<AtomicBool>) -> Self {
        let pid: Arc<Mutex<Option<u32>>> = Arc::default();
        let current = pid.clone();
        let read = move || {
            while !done.load(Ordering::Acquire) {
                let root = repository();
                let mut child = Command::new(root.join("build/venv/bin/python"))
                    .arg(root.join("tests/python/chaos_reader.py"))
                    .args([&address, PYTHON_STREAM])
                    .env("PYTHONPATH", root.join("clients/python"))
                    .stdout(Stdio::piped())
                    .spawn()
                    .expect("Python can be run: scripts/setup --tests");
                *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(child.id());
                let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
                // A line that a kill cut off is no line: the result comes again.
                for line in lines.map_while(Result::ok).filter_map(|line| serde_json::from_str::<Line>(&line).ok()) {
                    let said = match (line.size, line.error) {
                        (Some(size), None) => Ok(Image { name: line.name, size }),
                        (_, error) => Err(error.unwrap_or_default()),
                    };
                    ledger.result(PYTHON_STREAM, line.sequence, line.frame, said);
                }
                *current.lock().unwrap_or_else(PoisonError::into_inner) = None;
                child.wait().expect("it can be waited for");
            }
        };
        let thread = std::thread::Builder::new().name("python".into()).spawn(read).expect("a thread");
        Self { pid, thread }
    }

    fn end(self) {
        if let Some(pid) = *self.pid.lock().unwrap_or_else(PoisonError::into_inner) {
            let pid = nix::unistd::Pid::from_raw(pid as i32);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM); // or it has ended by itself
        }
        self.thread.join().expect("its own checks hold");
    }
}
