//! `framepipe logs`: the last lines of a running pipeline, and those that come. The launcher keeps them in memory (`log/kept.rs`) and
//! gives them out by its control socket: `Progress`, each a line of JSON, then `Done`.

use std::{
    io::{self, ErrorKind, Write as _},
    os::unix::net::UnixStream,
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use framepipe_pipeline::{
    Instance, Overrides,
    command_line::Offering,
    log::{Level, Line},
    observe::Process,
    stage_index,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::{
    control::{self, Answer, CLIENT_PATIENCE, Request},
    log::{self, Form, KEPT, LAUNCHER, News},
    restart,
    status::Status,
};

/// Lines that are shown, where nobody says how many.
const LINES: u32 = 100;
/// Readers at a time, those included that do not follow.
const READERS_MAX: usize = 16;
/// For a reader to take a line. One that takes longer is dropped; meanwhile it holds up nobody but itself.
const READER_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at whether a follower is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Which lines.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe logs --config config/street.toml
  framepipe logs -f --level warn
  framepipe logs -n 20 --process detect
  framepipe logs -n 1000 --json | jq 'select(.fields.frame)'

Workers say little while all is well: a line on standard error says so where there is nothing to show. The launcher keeps the last 4 MiB of lines in memory; they are gone when it ends. Under systemd the journal has them all:
`journalctl -t framepipe FRAMEPIPE_PROCESS=gateway`. One who follows and reads too slowly is dropped, and told so: nobody waits
for him.

Exit status: 0 shown, or the pipeline ended; 1 it does not run, has no such process, was killed, or lines were read too slowly; 2
wrong usage.")]
pub struct LogsArgs {
    #[command(flatten)]
    instance: Instance,
    /// So many of the last lines.
    #[arg(short = 'n', long, value_name = "N", default_value_t = LINES, allow_negative_numbers = true)]
    lines: u32,
    /// Go on with those that come, until the pipeline ends.
    #[arg(short, long)]
    follow: bool,
    /// Only lines of this level, or graver: error, warn, info, debug or trace. What is below log.level is not said at all.
    #[arg(long, value_name = "LEVEL", value_parser = level(), default_value = "trace")]
    level: Level,
    /// Only lines of this process: launcher, gateway, keeper, a stage's name (all its processes), one of them (`detect[0]`), or a
    /// pid.
    #[arg(long, value_name = "NAME", value_parser = Offering { names: names().collect(), parse: process })]
    process: Option<String>,
    /// Print JSON, a line each.
    #[arg(long)]
    json: bool,
}

/// Reads the name of a level.
pub fn level() -> impl TypedValueParser<Value = Level> {
    let names = PossibleValuesParser::new(Level::ALL.map(|(name, _)| name));
    names.map(|said| said.parse().expect("one of the names"))
}

/// The names of those who say lines.
fn names() -> impl Iterator<Item = &'static str> {
    [LAUNCHER].into_iter().chain(restart::names())
}

/// Reads whose lines are wanted.
fn process(text: &str) -> Result<String, String> {
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    let one_of_several = text.strip_suffix(']').and_then(|text| text.split_once('['));
    let is_worker = one_of_several.is_some_and(|(stage, number)| stage_index(stage).is_some() && is_number(number));
    match is_worker || is_number(text) || names().any(|name| name == text) {
        true => Ok(text.to_owned()),
        false => {
            let names = names().collect::<Vec<_>>().join(", ");
            Err(format!("there is no such process: give {names}, one of a stage's (detect[0]), or a pid"))
        }
    }
}

/// Which lines a client wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// Of the last ones so many.
    pub lines: u32,
    /// And those that come.
    pub follow: bool,
    /// The least level.
    #[serde(default = "everything")]
    pub level: Level,
    /// Of this process, stage or pid; all, where none is named.
    #[serde(default)]
    pub process: Option<String>,
}

fn everything() -> Level {
    Level::Trace
}

impl Wanted {
    fn has(&self, line: &Line) -> bool {
        let is_of = |name: &String| {
            let stage = line.process.split('[').next().unwrap_or_default();
            *name == line.process || name == stage || *name == line.pid.to_string()
        };
        line.level <= self.level && self.process.as_ref().is_none_or(is_of)
    }
}

/// Prints a pipeline's lines.
pub fn run(arguments: LogsArgs) -> anyhow::Result<ExitCode> {
    let LogsArgs { instance, lines, follow, level, process, json } = arguments;
    let run = instance.load(Overrides::default())?.run;
    let form = if json { Form::Json } else { Form::human(&io::stdout()) };
    let (nothing, is_filtered) = (nothing_of(process.as_deref(), level), lines == 0 || level != Level::Trace);
    control::check_name(&run, &instance)?;
    let absent = match &process {
        Some(name) if !names().any(|known| known == name) && !is_of(&*control::status(&run)?, name) => {
            Some(name.clone())
        }
        _ => None,
    };
    let mut answers = control::send(&run, &Request::Logs(Wanted { lines, follow, level, process }))?;
    let mut has_lines = false;
    loop {
        match answers.next().transpose()? {
            Some(Answer::Progress(line)) => {
                let line = Line::from_json(line.as_bytes()).context("the launcher's answer is of another version")?;
                has_lines = true;
                match io::stdout().write_all(&form.of(&line)) {
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS), // it has read enough
                    written => written.context("cannot write to standard output")?,
                }
            }
            Some(Answer::Done(_)) => {
                if let Some(name) = absent.filter(|_| !(has_lines || follow)) {
                    anyhow::bail!("{}", absence_of(&name, is_filtered));
                }
                // Programs count for themselves, and who follows, or wants none, knows that there may be none.
                if !(has_lines || follow || json || lines == 0) {
                    log::plain(&nothing);
                }
                return Ok(ExitCode::SUCCESS);
            }
            Some(Answer::Failed(words)) => anyhow::bail!("{words}"),
            Some(Answer::Status(_)) => anyhow::bail!("the launcher's answer is of another version"),
            None => anyhow::bail!("the launcher was killed, or lines were read too slowly: it waits for nobody"),
        }
    }
}

/// Whether a pipeline has a process of this name or pid.
fn is_of(status: &Status, name: &str) -> bool {
    let has_name = |one: &Process| one.title() == name || one.pid.to_string() == name;
    status.pid.to_string() == name || status.processes.iter().any(has_name)
}

/// What is said of a process that is not there, and of which no line is shown, or none is wanted.
fn absence_of(name: &str, is_filtered: bool) -> String {
    let nor_was = if is_filtered { "" } else { ", and no line of it is kept" };
    format!("{name} is no process of this pipeline{nor_was}: framepipe status has those that run")
}

/// What is said where there are no lines.
fn nothing_of(process: Option<&str>, level: Level) -> String {
    let whose = process.map(|process| format!(" of {process}")).unwrap_or_default();
    let level = match level {
        Level::Trace => String::new(),
        level => format!(" at level {} or graver", level.name()),
    };
    format!("framepipe logs: no lines{whose}{level} among those kept")
}

/// Answers a client, on a thread of its own: thousands of lines take their time, and others ask for the status.
pub fn answer(stream: UnixStream, wanted: Wanted) -> io::Result<()> {
    let Some(reader) = KEPT.read(READERS_MAX) else {
        let words = format!("{READERS_MAX} read the log already: end one of them, or try again");
        return control::say(&stream, &Answer::Failed(words), CLIENT_PATIENCE);
    };
    let (last, mut place) = KEPT.last(wanted.lines as usize, |line| wanted.has(line));
    let serve = move || {
        let mut give_all = || -> io::Result<()> {
            last.iter().try_for_each(|line| give(&stream, line))?;
            if !wanted.follow {
                return say(&stream, &Answer::Done(String::new()));
            }
            while !is_gone(&stream)? {
                match reader.next(&mut place, LOOK) {
                    News::Lines(lines) => {
                        lines.iter().filter(|line| wanted.has(line)).try_for_each(|line| give(&stream, line))?;
                    }
                    News::Missed(count) => {
                        let words = format!("{count} lines were not read in time: the launcher waits for nobody");
                        return say(&stream, &Answer::Failed(words));
                    }
                    News::End => return say(&stream, &Answer::Done(String::new())),
                }
            }
            Ok(())
        };
        let _ = give_all(); // who went away, or takes nothing, is dropped
    };
    thread::Builder::new().name("logs".into()).spawn(serve).map(drop)
}

fn give(stream: &UnixStream, line: &Line) -> io::Result<()> {
    let json = line.to_json();
    say(stream, &Answer::Progress(String::from_utf8_lossy(json.trim_ascii_end()).into_owned()))
}

fn say(stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    control::say(stream, answer, READER_PATIENCE)
}

/// True once the client has closed its end: lines may not come for long.
fn is_gone(stream: &UnixStream) -> io::Result<bool> {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        sync::Arc,
    };

    use super::*;

    fn line(process: &str, pid: u32, level: Level, words: &str) -> Line {
        Line { process: process.into(), pid, ..Line::now(level, words) }
    }

    #[test]
    fn lines_are_chosen_by_level_and_process() {
        let said = line("detect[1]", 70, Level::Warn, "");
        let wanted = |level, process: Option<&str>| {
            Wanted { lines: 1, follow: false, level, process: process.map(str::to_owned) }.has(&said)
        };
        assert!(wanted(Level::Trace, None) && wanted(Level::Warn, None) && !wanted(Level::Error, None));
        ["detect", "detect[1]", "70"].iter().for_each(|name| assert!(wanted(Level::Trace, Some(name)), "{name}"));
        ["det", "detect[0]", "7", "gateway"]
            .iter()
            .for_each(|name| assert!(!wanted(Level::Trace, Some(name)), "{name}"));
    }

    #[test]
    fn what_can_be_no_process_is_refused_and_what_may_be_said_is_named() {
        for name in ["launcher", "gateway", "keeper", "detect", "detect[0]", "detect[99]", "4711"] {
            assert_eq!(process(name).as_deref(), Ok(name));
        }
        for wrong in ["foo", "", "detect[", "detect[x]", "detect[-1]", "gateway[0]", "-1"] {
            let said = process(wrong).expect_err(wrong);
            assert!(said.contains("launcher, ingest,") && said.contains("detect[0]"), "{said}");
        }
    }

    #[test]
    fn that_there_are_no_lines_is_said_with_whose() {
        let said = nothing_of(Some("detect"), Level::Warn);
        assert_eq!(said, "framepipe logs: no lines of detect at level warn or graver among those kept");
        assert_eq!(nothing_of(None, Level::Trace), "framepipe logs: no lines among those kept");
    }

    #[test]
    fn that_no_line_is_kept_is_said_only_where_all_were_asked_for() {
        let said = "7 is no process of this pipeline, and no line of it is kept: framepipe status has those that run";
        assert_eq!(absence_of("7", false), said);
        assert_eq!(absence_of("7", true), said.replace(", and no line of it is kept", ""));
    }

    #[test]
    fn a_follower_gets_what_comes_and_his_place_is_free_when_he_leaves() {
        let wanted = Wanted { lines: 0, follow: true, level: Level::Trace, process: Some("test".into()) };
        let connect = || {
            let (client, server) = UnixStream::pair().expect("a socket");
            answer(server, wanted.clone()).expect("a thread");
            client.set_read_timeout(Some(Duration::from_secs(60))).expect("it can be set");
            BufReader::new(client)
        };
        let read = |client: &mut BufReader<UnixStream>| -> Answer {
            let mut json = String::new();
            client.read_line(&mut json).expect("an answer in time");
            serde_json::from_str(&json).expect("it is an answer")
        };
        let mut clients: Vec<_> = (0..READERS_MAX).map(|_| connect()).collect();
        assert!(matches!(read(&mut connect()), Answer::Failed(words) if words.contains("read the log already")));
        KEPT.add(Arc::new(line("another", 1, Level::Info, "not his")));
        KEPT.add(Arc::new(line("test", 1, Level::Info, "his")));
        for client in &mut clients {
            let Answer::Progress(json) = read(client) else { panic!("a line") };
            assert_eq!(Line::from_json(json.as_bytes()).map(|line| line.message), Some("his".into()));
        }
        clients.clear();
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while KEPT.read(1).is_none() {
            assert!(std::time::Instant::now() < end, "a place is taken for ever");
            thread::yield_now();
        }
    }
}
