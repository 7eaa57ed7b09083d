//! The control socket: one request a connection, a line of JSON; the launcher's answers are lines of JSON too.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use framepipe_model::ModelRef;
use serde::{Deserialize, Serialize};

use crate::{
    house::CONTROL_SOCKET,
    status::{Answers, Status},
    swap::Swapper,
};

/// For a client to say what it wants, or to take an answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);
/// For a launcher to answer at once.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest request.
const REQUEST_BYTES_MAX: u64 = 4096;
/// Requests that take time, at once: one is under way, the others wait for their turn.
const WAITING_MAX: usize = 16;

/// What a client wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How the pipeline is.
    Status,
    /// Another model in the place of one that serves.
    UseModel {
        /// The one that serves.
        old: String,
        /// What shall serve.
        new: ModelRef,
    },
}

/// What the launcher says. All but `Progress` end the connection.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How the pipeline is.
    Status(Box<Status>),
    /// What it does meanwhile.
    Progress(String),
    /// It is done.
    Done(String),
    /// It is not done: nothing has changed.
    Failed(String),
}

/// Who answers at the socket.
pub struct Control {
    answers: Answers,
    swapper: Arc<Swapper>,
    /// A generation at a time: whoever wants another one has this, from the first look at the models on.
    turn: Arc<Mutex<()>>,
    waiting: Arc<AtomicUsize>,
}

impl Control {
    /// Of this pipeline.
    pub fn new(answers: Answers, swapper: Swapper) -> Self {
        Self { answers, swapper: Arc::new(swapper), turn: Arc::default(), waiting: Arc::default() }
    }

    /// Answers whoever connects, for ever.
    pub fn serve(&self, listener: &UnixListener) {
        for stream in listener.incoming() {
            // A client that went away, or takes nothing, is its own loss.
            let _ = stream.and_then(|stream| self.answer(stream));
        }
    }

    fn answer(&self, stream: UnixStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
        stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
        let mut line = String::new();
        BufReader::new(&stream).take(REQUEST_BYTES_MAX).read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(Request::Status) => say(&stream, &Answer::Status(Box::new(self.answers.status()))),
            Ok(Request::UseModel { old, new }) => self.use_model(stream, old, new),
            Err(error) => say(&stream, &Answer::Failed(format!("no request of this version: {error}"))),
        }
    }

    fn use_model(&self, stream: UnixStream, old: String, new: ModelRef) -> std::io::Result<()> {
        let (swapper, turn, waiting) = (self.swapper.clone(), self.turn.clone(), self.waiting.clone());
        if waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return say(
                &stream,
                &Answer::Failed(format!("{WAITING_MAX} changes of models wait already: try again later")),
            );
        }
        let wait_and_swap = move || {
            {
                let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                swapper.swap(&old, &new, |answer| {
                    let _ = say(&stream, &answer); // who asked may have gone: it is done all the same
                });
            }
            waiting.fetch_sub(1, Ordering::Relaxed);
        };
        thread::Builder::new().name("use-model".into()).spawn(wait_and_swap).map(drop)
    }
}

fn say(mut stream: &UnixStream, answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Asks the launcher whose run folder this is, and returns its last answer; `progress` hears those before.
pub fn ask(run: &Path, request: &Request, mut progress: impl FnMut(String)) -> anyhow::Result<Answer> {
    let path = run.join(CONTROL_SOCKET);
    let mut stream =
        UnixStream::connect(&path).with_context(|| format!("no pipeline answers at {}: is it up?", path.display()))?;
    if let Request::Status = request {
        stream.set_read_timeout(Some(STATUS_TIMEOUT))?;
    }
    stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    for line in BufReader::new(&stream).lines() {
        let line = line.context("the launcher does not answer")?;
        match serde_json::from_str(&line).context("the launcher's answer is of another version")? {
            Answer::Progress(words) => progress(words),
            last => return Ok(last),
        }
    }
    anyhow::bail!("the launcher ended meanwhile")
}
