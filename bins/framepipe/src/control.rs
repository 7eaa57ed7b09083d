//! The control socket: one request a connection, a line of JSON; the launcher's answers are lines of JSON too.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use framepipe_model::ModelRef;
use serde::{Deserialize, Serialize};

use crate::{
    drain::Farewell,
    house::CONTROL_SOCKET,
    logs::{self, Wanted},
    orders::{Desk, RestartWhat, WAITING_MAX, What},
    status::{Answers, Status},
    swap::Swapper,
};

/// For a client to say what it wants, or to take an answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);
/// For a launcher to answer at once.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest request.
const REQUEST_BYTES_MAX: u64 = 4096;

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
    /// Other numbers of processes.
    Scale {
        /// By stage.
        processes: BTreeMap<String, u32>,
    },
    /// New processes in place of those that run.
    Restart {
        /// Which.
        what: RestartWhat,
    },
    /// New frames refused, the accepted ones finished, and then the end.
    Drain,
    /// The configuration read again.
    Reload,
    /// Lines of the log, each a `Progress`.
    Logs(Wanted),
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
    /// It is not done, as the words say.
    Failed(String),
}

/// Who answers at the socket.
pub struct Control {
    answers: Answers,
    swapper: Arc<Swapper>,
    desk: Arc<Desk>,
    farewell: Arc<Farewell>,
}

impl Control {
    /// Of this pipeline.
    pub fn new(answers: Answers, swapper: Swapper, desk: Arc<Desk>, farewell: Arc<Farewell>) -> Self {
        Self { answers, swapper: Arc::new(swapper), desk, farewell }
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
            Ok(Request::UseModel { old, new }) => {
                let swapper = self.swapper.clone();
                self.in_turn(stream, move |desk, say| swapper.swap(&old, &new, desk, say))
            }
            Ok(Request::Scale { processes }) => {
                self.in_turn(stream, move |desk, say| desk.order(What::Processes(processes), say))
            }
            Ok(Request::Restart { what }) => {
                self.in_turn(stream, move |desk, say| desk.order(What::Restart(what), say))
            }
            Ok(Request::Reload) => self.in_turn(stream, |desk, say| desk.reload(say)),
            Ok(Request::Drain) => {
                self.desk.drain();
                self.farewell.wait(stream)
            }
            Ok(Request::Logs(wanted)) => logs::answer(stream, wanted),
            Err(error) => say(&stream, &Answer::Failed(format!("no request of this version: {error}"))),
        }
    }

    /// Does what takes time on a thread of its own, in its turn, and answers meanwhile.
    fn in_turn(
        &self,
        stream: UnixStream,
        act: impl FnOnce(&Desk, &mut dyn FnMut(Answer)) + Send + 'static,
    ) -> std::io::Result<()> {
        let answers = stream.try_clone()?;
        let has_turn = self.desk.in_turn(move |desk| {
            act(desk, &mut |answer| {
                let _ = say(&answers, &answer); // who asked may have gone: it is done all the same
            });
        })?;
        match has_turn {
            true => Ok(()),
            false => say(
                &stream,
                &Answer::Failed(format!("{WAITING_MAX} changes wait for their turn already: try again later")),
            ),
        }
    }
}

/// Says an answer.
pub fn say(mut stream: &UnixStream, answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Asks the launcher whose run folder this is, and returns its last answer; `progress` hears those before.
pub fn ask(run: &Path, request: &Request, mut progress: impl FnMut(String)) -> anyhow::Result<Answer> {
    let mut answers = send(run, request)?;
    while let Some(answer) = answers.next() {
        match answer? {
            Answer::Progress(words) => progress(words),
            last => {
                if let Request::Drain = request {
                    answers.for_each(drop); // until the launcher's end ends them
                }
                return Ok(last);
            }
        }
    }
    anyhow::bail!("the launcher ended meanwhile")
}

/// Asks the launcher whose run folder this is; its answers, as they come.
pub fn send(run: &Path, request: &Request) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Answer>> + use<>> {
    let path = run.join(CONTROL_SOCKET);
    let mut stream =
        UnixStream::connect(&path).with_context(|| format!("no pipeline answers at {}: is it up?", path.display()))?;
    if let Request::Status = request {
        stream.set_read_timeout(Some(STATUS_TIMEOUT))?;
    }
    stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    Ok(BufReader::new(stream).lines().map(|line| {
        let line = line.context("the launcher does not answer")?;
        serde_json::from_str(&line).context("the launcher's answer is of another version")
    }))
}
