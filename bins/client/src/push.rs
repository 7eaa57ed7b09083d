//! `framepipe push`: pushes images and prints their results as they come. Both go on at once: a stream whose results nobody reads
//! is refused new frames.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, CommandFactory as _, ValueEnum, error::ErrorKind};
use framepipe_client::{Error, FrameResult, Outcome, ResultsOptions};
use tokio::{
    sync::{
        mpsc::{Receiver, channel},
        watch,
    },
    time::{Instant, sleep_until, timeout, timeout_at},
};

use crate::{
    Cli, Ending,
    batches::Batches,
    output::{Output, OutputArgs},
    progress::counted,
    pusher::{Event, Keep, Pusher},
    reader::{Reader, is_error},
    signals::Signals,
    sources::{self, Sources},
    tally::Tally,
    target::{Target, TargetArgs, stream_name},
};

/// What the pusher has told and nobody has heard yet.
const EVENTS_MAX: usize = 16;
/// For the answer to come to a call that is under way when somebody interrupts.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// For results to come that are on their way by then, and for the acknowledgement of those that were printed.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Push images into a running pipeline, and print their results as they come.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe push photos/*.jpg
  framepipe push photos --recursive --pipeline people --json > results.jsonl
  find /data -name '*.jpg' -newer last | framepipe push - --stream nightly
  framepipe push photos --address inference-host:50051
  framepipe push photos --stream door --no-wait && framepipe pull --stream door --until-drained

Of a folder the files are taken that end in .jpg, .jpeg, .png, .webp or .bmp; what else lies there is named and counted. A file that
is named itself is pushed whatever its name.

The pipeline's address is its configuration's: its Unix socket, where that is there, else its TCP address; or --address. Where it was
started with --name or --run-dir, give them here, too: its Unix socket is meant then, and no other. Who keeps the images until their results come (--hold): copy: the server, which copies them out of its inbox; upload: the server, to which
they are sent; reference: this command, in the inbox. Without it: copy where the server is on this host (a Unix socket, or an address
such as localhost), upload where it is not.

Where the server has no room, it is waited for, up to --wait. A stream has one reader: what an earlier push to it left unread is
printed, too. Results that were printed are acknowledged. Ctrl-C stops pushing, waits up to 5 s for the answer to what is being sent,
prints what has come, and says how to get the rest, and what may have been accepted; a second one waits for no more.

Exit status: 0 every image has a result without an error; 1 could not, as the message says; 2 wrong usage; 3 some images have errors
(of a file that cannot be read, too), which are printed; 130 interrupted.")]
pub struct PushArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Images, or folders of them; -: a list of files on standard input, one path a line.
    #[arg(required = true, value_name = "FILE|DIR|-")]
    paths: Vec<PathBuf>,
    /// Take the images of folders in folders, too.
    #[arg(short, long)]
    recursive: bool,
    /// The stream that takes the results [default: one that the server makes].
    #[arg(long, value_name = "NAME", value_parser = stream_name)]
    stream: Option<String>,
    /// Who keeps the images until their results come [default: copy or upload, by where the server is].
    #[arg(long, value_name = "HOW")]
    hold: Option<Hold>,
    /// The server's inbox, a folder in tmpfs, for copy and reference [default: the configuration's; with --address
    /// $FRAMEPIPE_INBOX, or /dev/shm/framepipe-inbox].
    #[arg(long, value_name = "DIR")]
    inbox: Option<PathBuf>,
    /// Push alone: print no results, but which stream has them.
    #[arg(long)]
    no_wait: bool,
    /// Longest wait for room, and for the next result, before this command gives up.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait: u64,
    /// Images that are sent together, at most.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Hold {
    Reference,
    Copy,
    Upload,
}

impl PushArgs {
    fn keep(&self, target: &Target) -> Keep {
        match self.hold {
            Some(Hold::Reference) => Keep::Reference,
            Some(Hold::Copy) => Keep::Copy,
            Some(Hold::Upload) => Keep::Upload,
            None if target.is_local() => Keep::Copy,
            None => Keep::Upload,
        }
    }

    /// Ends the program where options contradict each other.
    fn refuse_contradictions(&self) {
        let contradiction = match (self.hold, &self.inbox) {
            (Some(Hold::Upload), Some(inbox)) => {
                format!("--hold upload with --inbox {}: an upload makes no file; leave one out", inbox.display())
            }
            _ if self.paths.len() > 1 && self.paths.iter().any(|path| path.as_os_str() == "-") => {
                "- stands alone: the list on standard input may hold the other files".into()
            }
            _ => return,
        };
        let mut command = Cli::command();
        command.build();
        let push = command.find_subcommand_mut("push").expect("it is a command");
        push.error(ErrorKind::ArgumentConflict, contradiction).exit()
    }

    fn sources(&self, output: &Output) -> anyhow::Result<Sources> {
        if self.paths[0].as_os_str() == "-" {
            return Ok(Sources::standard_input());
        }
        let (found, passed) = sources::find(&self.paths, self.recursive)?;
        let passed = passed.words();
        if found.is_empty() {
            let more = passed.map_or(String::new(), |words| format!("; {words}"));
            let names: Vec<String> = self.paths.iter().map(|path| path.display().to_string()).collect();
            bail!("no image (.jpg, .jpeg, .png, .webp, .bmp) in {}{more}", names.join(", "));
        }
        passed.into_iter().for_each(|words| output.progress.say(&words));
        Ok(Sources::Found(found.into_iter()))
    }
}

/// Does it.
pub async fn push(arguments: PushArgs) -> anyhow::Result<Ending> {
    arguments.refuse_contradictions();
    let mut signals = Signals::take()?;
    let output = Output::new(arguments.output);
    let sources = arguments.sources(&output)?;
    let wait = Duration::from_secs(arguments.wait);
    let target = arguments.target.clone().resolve()?;
    let keep = arguments.keep(&target);
    let client = tokio::select! {
        client = target.connect(arguments.inbox, wait) => client?,
        () = signals.wanted() => {
            eprintln!("framepipe push: interrupted: no image was pushed");
            return Ok(Ending::Interrupted);
        }
    };
    let (events, mut heard) = channel(EVENTS_MAX);
    let (stop, stopping) = watch::channel(false);
    let pusher = Pusher {
        client: client.clone(),
        stream: arguments.stream.clone().unwrap_or_default(),
        keep,
        wait,
        images_max: arguments.batch as usize,
        events,
        stopping,
    };
    let pushing = tokio::spawn(pusher.run(Batches::new(sources)));
    let mut run = Run {
        output,
        reads: !arguments.no_wait,
        new_reader: Box::new(move |stream| Reader::new(&client, stream, ResultsOptions::default())),
        reader: None,
        stream: arguments.stream,
        tally: Tally::default(),
        files: 0,
        under_way: 0,
        wait,
    };
    let mut ended = run.hear(&mut heard, &mut signals).await;
    if let Ok(Stop::Interrupted) = ended {
        let _ = stop.send(true); // an error: it has ended
        ended = run.wind_up(&mut heard, &mut signals).await.map(|()| Stop::Interrupted);
    }
    if !matches!(ended, Ok(Stop::Done)) {
        pushing.abort();
    }
    let pushed = match pushing.await {
        Err(error) if error.is_cancelled() => Ok(()),
        joined => joined.context("pushing")?,
    };
    while let Ok(event) = heard.try_recv() {
        let heard = run.hear_event(event); // it was told, and the end came first
        ended = ended.and_then(|stop| heard.map(|()| stop));
    }
    run.output.progress.end();
    let hint = run.hint(&target.option);
    // Whoever interrupts is told what became of the images, and not what else there was.
    let ended = if let Ok(Stop::Interrupted) = ended { ended } else { ended.and_then(|stop| pushed.map(|()| stop)) };
    let ended = ended.with_context(|| hint.clone());
    run.close(if let Ok(Stop::Interrupted) = ended { LAST_WAIT } else { wait }, &mut signals).await;
    run.sum_up(ended?, keep, &hint)
}

/// Why it went no further.
enum Stop {
    Done,
    Interrupted,
}

/// A push, as far as it has come.
struct Run {
    output: Output,
    /// False where nobody wants the results.
    reads: bool,
    new_reader: Box<dyn Fn(&str) -> Reader>,
    reader: Option<Reader>,
    stream: Option<String>,
    tally: Tally,
    /// Files known by now.
    files: u64,
    /// Images of the call that has no answer yet.
    under_way: u64,
    wait: Duration,
}

impl Run {
    /// Hears the pusher, and reads results, until all is pushed and every frame has its result.
    async fn hear(&mut self, events: &mut Receiver<Event>, signals: &mut Signals) -> anyhow::Result<Stop> {
        let mut is_pushing = true;
        let mut patience = Instant::now() + self.wait;
        while is_pushing || (self.reads && self.tally.left() > 0) {
            tokio::select! {
                event = events.recv(), if is_pushing => match event {
                    Some(event) => self.hear_event(event)?,
                    None => {
                        is_pushing = false;
                        self.tally.answered();
                    }
                },
                result = next_of(&mut self.reader) => {
                    let result = result.context("the results have ended")?.context("cannot read the results")?;
                    self.hear_result(&result, is_pushing)?;
                }
                () = signals.wanted() => return Ok(Stop::Interrupted),
                () = sleep_until(patience), if !is_pushing => bail!("no result for {} s", self.wait.as_secs()),
            }
            patience = Instant::now() + self.wait;
            self.output.progress.at(self.tally.done, self.tally.errors());
        }
        Ok(Stop::Done)
    }

    /// Hears what becomes of the call that is under way, and reads what is on its way: neither for long, and no longer than until
    /// somebody interrupts again.
    async fn wind_up(&mut self, events: &mut Receiver<Event>, signals: &mut Signals) -> anyhow::Result<()> {
        let until = Instant::now() + ANSWER_WAIT;
        if self.under_way > 0 {
            let (sent, limit) = (counted(self.under_way, "image"), ANSWER_WAIT.as_secs());
            let words =
                format!("interrupted while {sent} went out; up to {limit} s for the answer, or interrupt again");
            self.output.progress.say(&words);
        }
        loop {
            tokio::select! {
                event = timeout_at(until, events.recv()) => match event {
                    Ok(Some(event)) => self.hear_event(event)?,
                    Ok(None) => break, // all is told
                    Err(_) => return Ok(()),
                },
                result = next_of(&mut self.reader) => match result {
                    Some(Ok(result)) => self.hear_result(&result, true)?,
                    _ => self.reader = None, // the pull that is advised says what is wrong
                },
                () = signals.wanted() => return Ok(()),
            }
        }
        self.hear_last(signals).await
    }

    /// Reads what is on its way.
    async fn hear_last(&mut self, signals: &mut Signals) -> anyhow::Result<()> {
        let until = Instant::now() + LAST_WAIT;
        while self.tally.left() > 0 && self.reader.is_some() {
            tokio::select! {
                result = timeout_at(until, next_of(&mut self.reader)) => match result {
                    Ok(Some(Ok(result))) => self.hear_result(&result, false)?,
                    _ => return Ok(()), // the pull that is advised says what is wrong
                },
                () = signals.wanted() => return Ok(()),
            }
        }
        Ok(())
    }

    fn hear_event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Read(files) => {
                self.files += files as u64;
                self.output.progress.of(self.files);
            }
            Event::UnderWay(images) => self.under_way = images as u64,
            Event::Refused { name, code, message } => {
                self.tally.refused();
                self.output.refused(&name, code, &message).context("cannot write to standard output")?;
            }
            Event::Accepted(batch) => {
                self.under_way = 0;
                self.tally.accepted(&batch);
                if self.reads && self.reader.is_none() {
                    self.reader = Some((self.new_reader)(&batch.stream)); // a stream is there from its first frame on
                }
                self.stream = Some(batch.stream);
            }
        }
        Ok(())
    }

    fn hear_result(&mut self, result: &FrameResult, is_pushing: bool) -> anyhow::Result<()> {
        let written = self.output.result(result).context("cannot write to standard output");
        if let (Err(_), Some(reader)) = (&written, &mut self.reader) {
            reader.leave_last();
        }
        written?;
        if !matches!(result.outcome, Some(Outcome::Gap(_))) {
            self.tally.received(result.frame, is_error(result), is_pushing);
        }
        Ok(())
    }

    /// How to get what is not printed, and what is not known.
    fn hint(&self, option: &str) -> String {
        let Tally { pushed, done, .. } = self.tally;
        let pull = |stream: &str| format!("framepipe pull --stream {stream} --until-drained {option}");
        let known = match &self.stream {
            Some(stream) if pushed > 0 => {
                let (pushed, pull) = (counted(pushed, "image"), pull(stream));
                match self.reads {
                    true => format!("results of {done} of {pushed} pushed are printed; for the others: {pull}"),
                    false => format!("{pushed} pushed; for the results: {pull}"),
                }
            }
            _ if self.under_way > 0 => "no image is known to be pushed".into(),
            _ => "no image was pushed".into(),
        };
        if self.under_way == 0 {
            return known;
        }
        let unknown = format!("{known}; {} being sent may have been accepted", counted(self.under_way, "image"));
        match &self.stream {
            Some(stream) => format!("{unknown}: then {} prints the results, too", pull(stream)),
            None => {
                format!("{unknown}, into a stream of the server's making (push with --stream to know which)")
            }
        }
    }

    /// Acknowledges what was printed, unless that takes too long, or somebody interrupts.
    async fn close(&mut self, limit: Duration, signals: &mut Signals) {
        let Some(reader) = self.reader.take() else { return };
        let why = tokio::select! {
            closed = timeout(limit, reader.close()) => match closed {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer in {} s", limit.as_secs()),
            },
            () = signals.wanted() => "interrupted".into(),
        };
        eprintln!("framepipe push: what was printed may come again, it could not be acknowledged: {why}");
    }

    fn sum_up(&mut self, stop: Stop, keep: Keep, hint: &str) -> anyhow::Result<Ending> {
        if let Stop::Interrupted = stop {
            eprintln!("framepipe push: interrupted: {hint}");
            return Ok(Ending::Interrupted);
        }
        let Tally { pushed, done, failed, refused, .. } = self.tally;
        ensure!(pushed > 0 || refused > 0, "no image to push: the list on standard input is empty");
        if pushed == 0 {
            self.output.progress.say("no image could be pushed: why, is printed for each");
            return Ok(Ending::SomeErrors);
        }
        let stream = self.stream.as_deref().unwrap_or_default();
        if self.reads {
            let (pushed, done) = (counted(pushed, "image"), counted(done, "result"));
            let refused = if refused > 0 { format!("; {} not taken", counted(refused, "file")) } else { String::new() };
            let words = format!("{pushed} pushed to stream {stream}: {done}, {failed} of them errors{refused}");
            self.output.progress.say(&words);
        } else {
            let words = match self.output.is_json() {
                true => format!("{}\n", serde_json::json!({"stream": stream, "pushed": pushed, "refused": refused})),
                false if refused > 0 => format!("{} not taken; {hint}\n", counted(refused, "file")),
                false => format!("{hint}\n"),
            };
            self.output.words(&words).context("cannot write to standard output")?;
            if keep == Keep::Reference {
                self.output
                    .progress
                    .say("the images stay in the inbox until somebody removes them (cache.inbox_ttl_s)");
            }
        }
        Ok(if failed + refused > 0 { Ending::SomeErrors } else { Ending::Good })
    }
}

async fn next_of(reader: &mut Option<Reader>) -> Option<Result<FrameResult, Error>> {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}
