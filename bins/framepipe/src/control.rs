//! The control socket: one request a connection, a line of JSON; the launcher's answers are lines of JSON too. Each client is heard and
//! answered on a thread of its own, within a time: one who is slow holds up nobody else.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use framepipe_model::ModelRef;
use framepipe_pipeline::Instance;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{self, SendFlags},
};
use serde::{Deserialize, Serialize};

use crate::{
    drain::Farewell,
    house::CONTROL_SOCKET,
    log::harmless_lines,
    logs::{self, Wanted},
    orders::{Desk, RestartWhat, WAITING_MAX, What},
    status::{Answers, Status},
    swap::Swapper,
};

/// For a client to say what it wants, all of it; and to take an answer.
pub const CLIENT_PATIENCE: Duration = Duration::from_secs(1);
/// Clients that are heard or answered at once. Further ones are told so; those whose answer takes time do not count meanwhile.
const CLIENTS_MAX: usize = 32;
/// Before a connection is accepted again, where one could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For a launcher to answer at once.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest request.
const REQUEST_BYTES_MAX: usize = 4096;

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

impl Answer {
    /// As it may be shown: its words may be a process's, or of a model's file.
    fn harmless(self) -> Self {
        match self {
            Self::Status(status) => Self::Status(status),
            Self::Progress(words) => Self::Progress(harmless_lines(&words)),
            Self::Done(words) => Self::Done(harmless_lines(&words)),
            Self::Failed(words) => Self::Failed(harmless_lines(&words)),
        }
    }
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
    pub fn serve(self, listener: &UnixListener) {
        admit(listener, CLIENT_PATIENCE, move |request, stream| self.answer(request, stream));
    }

    fn answer(&self, request: serde_json::Result<Request>, stream: UnixStream) -> io::Result<()> {
        match request {
            Ok(Request::Status) => say(&stream, &Answer::Status(Box::new(self.answers.status())), CLIENT_PATIENCE),
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
            Err(error) => {
                say(&stream, &Answer::Failed(format!("no request of this version: {error}")), CLIENT_PATIENCE)
            }
        }
    }

    /// Does what takes time on a thread of its own, in its turn, and answers meanwhile.
    fn in_turn(
        &self,
        stream: UnixStream,
        act: impl FnOnce(&Desk, &mut dyn FnMut(Answer)) + Send + 'static,
    ) -> io::Result<()> {
        let answers = stream.try_clone()?;
        let has_turn = self.desk.in_turn(move |desk| {
            let mut hears = true; // who asked may go, or take nothing: it is done all the same, and he is waited for once
            act(desk, &mut |answer| hears = hears && say(&answers, &answer, CLIENT_PATIENCE).is_ok());
        })?;
        match has_turn {
            true => Ok(()),
            false => say(
                &stream,
                &Answer::Failed(format!("{WAITING_MAX} changes wait for their turn already: try again later")),
                CLIENT_PATIENCE,
            ),
        }
    }
}

/// Hears whoever connects, for ever, each on a thread of its own, and has what it asks answered there. Who does not say it all within
/// the patience, goes away or takes nothing is let go.
fn admit(
    listener: &UnixListener,
    patience: Duration,
    answer: impl Fn(serde_json::Result<Request>, UnixStream) -> io::Result<()> + Send + Sync + 'static,
) {
    let (answer, clients) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            thread::sleep(ACCEPT_PAUSE); // the client still waits to be accepted: there may be a descriptor for it then
            continue;
        };
        let place = Place::take(&clients);
        let answer = answer.clone();
        let Some(place) = place else {
            let words = format!("{CLIENTS_MAX} ask something already: try again");
            let _ = say(&stream, &Answer::Failed(words), Duration::ZERO); // an empty socket has room for it
            continue;
        };
        let hear = move || {
            let _place = place;
            let _ = request(&stream, patience).and_then(|said| answer(serde_json::from_slice(&said), stream));
        };
        let _ = thread::Builder::new().name("client".into()).spawn(hear); // an error: it is let go
    }
}

/// One of `CLIENTS_MAX`.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(clients: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(clients.clone());
        (clients.fetch_add(1, Ordering::Relaxed) < CLIENTS_MAX).then_some(place) // or it is given back at once
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a client says, as far as the end of its line.
fn request(mut stream: &UnixStream, patience: Duration) -> io::Result<Vec<u8>> {
    let end = Instant::now() + patience;
    let (mut said, mut chunk) = (Vec::new(), [0; REQUEST_BYTES_MAX]);
    while !said.contains(&b'\n') && said.len() < REQUEST_BYTES_MAX {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(bytes) => said.extend(&chunk[..bytes]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    said.truncate(said.iter().position(|byte| *byte == b'\n').unwrap_or(said.len()));
    Ok(said)
}

/// Says an answer, within the patience.
///
/// # Errors
/// The client has gone, or has not taken all of it by then.
pub fn say(stream: &UnixStream, answer: &Answer, patience: Duration) -> io::Result<()> {
    let end = Instant::now() + patience;
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let mut left = line.as_slice();
    while !left.is_empty() {
        // One call that blocks may take as long as the client likes: its time is over where nothing has room for so long.
        match net::send(stream, left, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(bytes) => left = &left[bytes..],
            Err(Errno::AGAIN) => wait_for_room(stream, end)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn wait_for_room(stream: &UnixStream, end: Instant) -> io::Result<()> {
    let left = end.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    match poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&timeout)) {
        Ok(0) => Err(ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes sure that the launcher whose run folder this is has the name that was said, if one was.
pub fn check_name(run: &Path, instance: &Instance) -> anyhow::Result<()> {
    let Some(name) = instance.name() else { return Ok(()) };
    let is = status(run)?.name;
    anyhow::ensure!(
        is == name,
        "the pipeline at {} is {is}, and not {name}: say its own --run-dir, or no --name",
        run.display()
    );
    Ok(())
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

/// What is said where nobody listens at a pipeline's socket.
pub fn no_answer(socket: &Path, why: &io::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "no pipeline answers at {} ({why}): is it up? framepipe up --config FILE; one that was started with --name or --run-dir \
         wants them here, too",
        socket.display()
    )
}

/// Asks how the pipeline is.
pub fn status(run: &Path) -> anyhow::Result<Box<Status>> {
    match ask(run, &Request::Status, drop)? {
        Answer::Status(status) => Ok(status),
        Answer::Progress(words) | Answer::Done(words) | Answer::Failed(words) => anyhow::bail!("{words}"),
    }
}

/// Asks the launcher whose run folder this is; its answers, as they come.
pub fn send(run: &Path, request: &Request) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Answer>> + use<>> {
    let path = run.join(CONTROL_SOCKET);
    let stream = UnixStream::connect(&path).map_err(|error| no_answer(&path, &error))?;
    if let Request::Status = request {
        stream.set_read_timeout(Some(STATUS_TIMEOUT))?;
    }
    ask_for(&stream, request)?;
    Ok(BufReader::new(stream).lines().map(|line| {
        let line = line.context("the launcher does not answer")?;
        let answer = serde_json::from_str::<Answer>(&line).context("the launcher's answer is of another version")?;
        Ok(answer.harmless())
    }))
}

fn ask_for(mut stream: &UnixStream, request: &Request) -> io::Result<()> {
    let line = format!("{}\n", serde_json::to_string(request)?);
    match stream.write_all(line.as_bytes()).and_then(|()| stream.shutdown(Shutdown::Write)) {
        // Answered before it has asked, as who finds no place is, and let go: there is the answer to read.
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::NotConnected) => Ok(()),
        said => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than any test may take.
    const FOR_EVER: Duration = Duration::from_secs(3600);
    const LIMIT: Duration = Duration::from_secs(60);

    /// A socket's folder; what is asked there is answered with so many bytes.
    fn serving(patience: Duration, bytes: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join(CONTROL_SOCKET)).expect("a socket");
        let answer = move |request: serde_json::Result<Request>, stream: UnixStream| match request {
            Ok(Request::Drain) => say(&stream, &Answer::Done("x".repeat(bytes)), FOR_EVER),
            said => say(&stream, &Answer::Done(if said.is_ok() { "asked" } else { "strange" }.into()), FOR_EVER),
        };
        thread::spawn(move || admit(&listener, patience, answer));
        folder
    }

    fn connect(folder: &tempfile::TempDir) -> UnixStream {
        let stream = UnixStream::connect(folder.path().join(CONTROL_SOCKET)).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("it can be set");
        stream
    }

    fn answer_of(mut stream: UnixStream, request: &[u8]) -> String {
        let _ = stream.write_all(request); // who is not heard may have been told so already
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said); // nor taken what it says

        said
    }

    #[test]
    fn one_who_says_nothing_and_one_who_does_not_read_hold_up_nobody() {
        let folder = serving(FOR_EVER, 4 << 20);
        let silent = connect(&folder);
        let mut deaf = connect(&folder);
        deaf.write_all(b"\"drain\"\n").expect("it is heard");
        deaf.read_exact(&mut [0]).expect("it is being answered");
        assert_eq!(answer_of(connect(&folder), b"\"status\"\n"), "{\"done\":\"asked\"}\n");
        assert_eq!(answer_of(silent, b"\"status\"\n"), "{\"done\":\"asked\"}\n", "it has its time");
    }

    #[test]
    fn so_many_are_heard_at_once_and_a_place_is_free_when_one_has_gone() {
        let folder = serving(FOR_EVER, 0);
        let mut silent: Vec<_> = (0..CLIENTS_MAX).map(|_| connect(&folder)).collect();
        let late = connect(&folder);
        poll(&mut [PollFd::new(&late, PollFlags::RDHUP)], None).expect("it is told so, and let go");
        ask_for(&late, &Request::Status).expect("who asks then has the answer all the same");
        assert!(answer_of(late, b"").contains("ask something already"));
        silent.pop();
        let end = Instant::now() + LIMIT;
        while answer_of(connect(&folder), b"\"status\"\n") != "{\"done\":\"asked\"}\n" {
            assert!(Instant::now() < end, "its place is taken for ever");
        }
    }

    #[test]
    fn who_says_it_byte_by_byte_has_no_more_time_than_others() {
        let folder = serving(Duration::from_secs(1), 0);
        let mut slow = connect(&folder);
        let mut said = 0;
        while said < REQUEST_BYTES_MAX && slow.write_all(b" ").is_ok() {
            said += 1;
            thread::sleep(Duration::from_millis(5)); // the client's slowness itself
        }
        assert!(said < REQUEST_BYTES_MAX / 4, "it was let say {said} bytes");
    }

    #[test]
    fn an_answer_that_is_not_taken_in_time_is_given_up_however_slowly_it_is_taken() {
        let (mut client, server) = UnixStream::pair().expect("a socket");
        let long = Answer::Done("x".repeat(4 << 20));
        let saying = thread::spawn(move || say(&server, &long, Duration::from_secs(1)));
        let mut taken = 0;
        while client.read(&mut [0; 4096]).is_ok_and(|bytes| bytes > 0) {
            taken += 1;
            thread::sleep(Duration::from_millis(5)); // the client's slowness itself
        }
        assert!(saying.join().expect("no panic").is_err(), "{taken} reads of 4 KiB");
    }

    #[test]
    fn no_terminal_obeys_what_an_answer_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join(CONTROL_SOCKET)).expect("a socket");
        let hostile = |words: &str| format!("{words} \x1b]0;title\x07\nand more");
        let shown = |words: &str| format!("{words} \\u{{1b}}]0;title\\u{{7}}\nand more");
        for end in [Answer::Done, Answer::Failed] {
            let said = [Answer::Progress(hostile("goes on")), end(hostile("over"))];
            thread::scope(|scope| {
                scope.spawn(|| {
                    let (stream, _) = listener.accept().expect("one comes");
                    said.iter().try_for_each(|answer| say(&stream, answer, LIMIT)).expect("it listens");
                });
                let mut heard = Vec::new();
                let last = ask(folder.path(), &Request::Reload, |words| heard.push(words)).expect("an answer");
                assert_eq!(heard, [shown("goes on")]);
                match last {
                    Answer::Done(words) | Answer::Failed(words) => assert_eq!(words, shown("over")),
                    other => panic!("{other:?}"),
                }
            });
        }
    }

    #[test]
    fn what_is_no_request_is_told_so() {
        let folder = serving(FOR_EVER, 0);
        for strange in [b"status\n".as_slice(), &[b' '; REQUEST_BYTES_MAX], b"\xff\n"] {
            assert_eq!(answer_of(connect(&folder), strange), "{\"done\":\"strange\"}\n");
        }
    }
}
