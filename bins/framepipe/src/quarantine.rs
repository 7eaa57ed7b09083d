//! `framepipe quarantine`: the frames that killed their stage.

use std::{
    io::ErrorKind,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use framepipe_pipeline::{
    Config, Instance, Overrides,
    quarantine::{Entry, Quarantine},
};

use crate::{child::sibling, control, log::harmless_lines, print};

/// What to do with the quarantine.
#[derive(Subcommand)]
pub enum QuarantineVerb {
    /// List the frames, the oldest first.
    #[command(after_help = "Examples:
  framepipe quarantine list --config config/street.toml
  framepipe quarantine list --json | jq '.[].frame'

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage.")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one frame's story: how its stage died, and its last words.
    #[command(after_help = "Example:
  framepipe quarantine show 1881234567890 --config config/street.toml

Exit status: 0 done; 1 there is no such frame, or it cannot be read, as the message says; 2 wrong usage.")]
    Show {
        /// The frame's number.
        frame: u64,
    },
    /// Push a frame once more, on a stream of its own; if it kills no stage, it leaves the quarantine.
    #[command(after_help = "Example:
  framepipe quarantine retry 1881234567890 --config config/street.toml

Exit status: 0 it killed no stage; 1 not done, as the message says; 2 wrong usage; 3 it killed its stage again.")]
    Retry {
        /// The frame's number.
        frame: u64,
    },
    /// Drop frames from the quarantine.
    #[command(after_help = "Examples:
  framepipe quarantine drop 1881234567890 --config config/street.toml
  framepipe quarantine drop --all

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage.")]
    Drop {
        /// The frames' numbers.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        frames: Vec<u64>,
        /// All of them.
        #[arg(long)]
        all: bool,
    },
}

/// Of which pipeline, and what to do.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe quarantine list --config config/street.toml
  framepipe quarantine show 1881234567890
  framepipe quarantine retry 1881234567890
  framepipe quarantine drop --all

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage; 3 the frame killed its stage again.")]
pub struct QuarantineArgs {
    #[command(flatten)]
    instance: Instance,
    #[command(subcommand)]
    verb: QuarantineVerb,
}

/// `framepipe quarantine`.
pub fn run(arguments: &QuarantineArgs) -> anyhow::Result<ExitCode> {
    let config = arguments.instance.load(Overrides::default())?;
    print(&answer(&config, &arguments.verb)?)
}

/// Does it, and returns what is to be printed.
fn answer(config: &Config, verb: &QuarantineVerb) -> anyhow::Result<String> {
    let state = config.state.display();
    match config.state.metadata() {
        Ok(found) => ensure!(found.is_dir(), "the state folder {state} is no folder"),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "there is no state folder {state}: was the pipeline started with another --state-dir, or was it never started?"
        ),
        Err(error) => bail!("cannot look into the state folder {state}: {error}"),
    }
    let quarantine = Quarantine::new(&config.state);
    let entries = || quarantine.entries().with_context(|| format!("the quarantine in {state}"));
    let known = |frame: u64| {
        quarantine
            .entry(frame)
            .with_context(|| format!("frame {frame} is not in quarantine: `framepipe quarantine list` shows which are"))
    };
    match verb {
        QuarantineVerb::List { json: true } => Ok(format!("{}\n", serde_json::to_string_pretty(&entries()?)?)),
        QuarantineVerb::List { json: false } => Ok(table(&entries()?)),
        QuarantineVerb::Show { frame } => Ok(story(&known(*frame)?, &quarantine)),
        QuarantineVerb::Retry { frame } => {
            known(*frame)?;
            retry(config, *frame)
        }
        QuarantineVerb::Drop { frames, all } => {
            let frames = if *all { entries()?.iter().map(|entry| entry.frame).collect() } else { frames.clone() };
            for frame in &frames {
                known(*frame)?;
                quarantine.drop_entry(*frame)?;
            }
            Ok(format!("{} dropped\n", frames.len()))
        }
    }
}

fn table(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "no frame is in quarantine\n".into();
    }
    let mut text =
        format!("{:<20}  {:<20}  {:<12}  {:>10}  {:<16}  name\n", "frame", "when", "stage", "bytes", "stream");
    for Entry { frame, unix_s, stage, bytes, stream, name, .. } in entries {
        let when = utc(*unix_s).to_string();
        text += &format!("{frame:<20}  {when:<20}  {stage:<12}  {bytes:>10}  {stream:<16}  {}\n", name.escape_debug());
    }
    text
}

fn story(entry: &Entry, quarantine: &Quarantine) -> String {
    let place = quarantine.bytes_place(entry.frame);
    let bytes = match entry.is_kept {
        true => format!("{} ({} bytes)", place.display(), entry.bytes),
        false => format!("not kept ({} bytes)", entry.bytes),
    };
    let raw = entry.raw.map_or(String::new(), |raw| {
        format!("raw        format {}, {}x{}, rows of {} bytes\n", raw.format, raw.width, raw.height, raw.stride)
    });
    let words: String = entry.last_words.iter().map(|line| format!("  {}\n", line.escape_debug())).collect();
    format!(
        "frame      {} ({}), number {} of its batch, stream {}\nwhen       {}\nstage      {} (pid {}): {}; {} deaths \
         with it alone\nbytes      {bytes}\npushed as  {} in the inbox, at byte {}\n{raw}last words\n{words}",
        entry.frame,
        entry.name.escape_debug(),
        entry.batch_index,
        entry.stream,
        utc(entry.unix_s),
        entry.stage,
        entry.pid,
        harmless_lines(&entry.death),
        entry.attempts,
        entry.path.escape_debug(),
        entry.offset,
    )
}

/// The retry is a client, with a client's dependencies: a program of its own.
fn retry(config: &Config, frame: u64) -> anyhow::Result<String> {
    let inbox = config.server.inbox.first().context("there is no inbox")?;
    let unix = &config.server.unix;
    unix.metadata().map_err(|error| control::no_answer(unix, &error))?;
    let mut command = Command::new(sibling("framepipe-retry")?);
    command.arg("--address").arg(format!("unix:{}", unix.display())).arg("--inbox").arg(inbox);
    let error = command.arg("--state").arg(&config.state).arg(frame.to_string()).exec();
    bail!("cannot run framepipe-retry: {error}")
}

fn utc(unix_s: u64) -> impl std::fmt::Display {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(unix_s))
}
