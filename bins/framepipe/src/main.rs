//! `framepipe`: starts a pipeline's processes, supervises them, and shows how they are.
//!
//! | file | what it does |
//! |---|---|
//! | `up.rs` | `framepipe up`: everything made in order, then supervised, then taken down |
//! | `house.rs` | folders, lock, listeners and the segment: made, or taken over from a launcher that died |
//! | `open_files.rs` | the limit of open files, raised |
//! | `supervisor.rs` | the loop: starts, restarts, hung processes, drain and stop |
//! | `place.rs` | a place in the pipeline, and when its next process starts |
//! | `deaths.rs` | the dead waited for, and what they had put back |
//! | `isolate.rs` | a frame that killed its stage goes into quarantine |
//! | `last_words.rs` | what processes say, passed on and remembered |
//! | `log.rs` | what all of them say, written to standard error by a thread that may block |
//! | `child.rs` | one process: spawned, heard, commanded |
//! | `proc_stat.rs` | who a pid is, against its reuse |
//! | `quarantine.rs` | `framepipe quarantine`: frames that killed their stage |
//! | `status.rs` | `framepipe status`, and the socket that answers it |

mod child;
mod deaths;
mod house;
mod isolate;
mod last_words;
mod log;
mod open_files;
mod place;
mod proc_stat;
mod quarantine;
mod status;
mod supervisor;
mod up;

use std::{
    ffi::OsString,
    io::{ErrorKind, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use framepipe_pipeline::{Config, Overrides};

use crate::quarantine::QuarantineVerb;

/// Vision inference on one host: images in tmpfs become streamed detections and attributes.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Examples:
  framepipe up --config config/street.toml --detect 2
  framepipe status --config config/street.toml
  framepipe demo --config config/faces.toml photos/*.jpg
  framepipe inspect photos/zidane.jpg --config config/faces.toml
  framepipe model list"
)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start a pipeline and supervise it until SIGTERM or Ctrl-C, which finish what was accepted first.
    #[command(after_help = "Examples:
  framepipe up --config config/street.toml
  framepipe up --config config/faces.toml --detect 1 --attribute 2 --tcp 0.0.0.0:50051

Exit status: 0 drained and stopped; 1 could not start or was forced to stop; 2 wrong usage.")]
    Up(UpArgs),
    /// Show each process and each queue of a running pipeline.
    #[command(after_help = "Examples:
  framepipe status --config config/street.toml
  framepipe status --config config/street.toml --json | jq .queues

Exit status: 0 it runs; 1 it does not.")]
    Status(StatusArgs),
    /// Look at frames that killed their stage, try them again, or drop them.
    #[command(after_help = "Examples:
  framepipe quarantine list --config config/street.toml
  framepipe quarantine show 1881234567890
  framepipe quarantine retry 1881234567890
  framepipe quarantine drop --all

Exit status: 0 done; 1 not done, as the message says; 3 the frame killed its stage again.")]
    Quarantine(QuarantineArgs),
    /// Bring a pipeline up, push photos, print the results, write annotated PNGs, shut down.
    #[command(disable_help_flag = true)]
    Demo {
        /// See `framepipe demo --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Show what a pipeline's preprocess graphs make of an image, operator by operator, with pictures.
    #[command(disable_help_flag = true)]
    Inspect {
        /// See `framepipe inspect --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// List, show, check and remove the models of the repository, and quantize them to INT8.
    #[command(disable_help_flag = true)]
    Model {
        /// See `framepipe model --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Args)]
struct Instance {
    /// The pipeline's configuration; config/framepipe.toml documents every key.
    #[arg(long, value_name = "FILE", default_value = "config/street.toml", global = true)]
    config: PathBuf,
    /// The instance's name, instead of the configuration's.
    #[arg(long, global = true)]
    name: Option<String>,
    /// Folder of the sockets and the lock, instead of the configuration's.
    #[arg(long, value_name = "DIR", global = true)]
    run_dir: Option<PathBuf>,
}

#[derive(Args)]
struct UpArgs {
    #[command(flatten)]
    instance: Instance,
    /// Folder of unread results, instead of the configuration's.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// TCP address (IP:PORT) of the gRPC listener, instead of the configuration's; "" for none.
    #[arg(long, value_name = "ADDRESS")]
    tcp: Option<String>,
    /// Processes of the ingest stage, 1 to 64 [default: the configuration's, or 1].
    #[arg(long, value_name = "N")]
    ingest: Option<u32>,
    /// Processes of the preprocess stage, 1 to 64 [default: the configuration's, or 1].
    #[arg(long, value_name = "N")]
    preprocess: Option<u32>,
    /// Processes of the detect stage, 1 to 64 [default: the configuration's, or 2].
    #[arg(long, value_name = "N")]
    detect: Option<u32>,
    /// Processes of the postprocess stage, 1 to 64 [default: the configuration's, or 1].
    #[arg(long, value_name = "N")]
    postprocess: Option<u32>,
    /// Processes of the attribute stage, 1 to 64 [default: the configuration's, or 1].
    #[arg(long, value_name = "N")]
    attribute: Option<u32>,
    /// Throw away a segment that a dead launcher left and that cannot be taken over; its frames get an error as result.
    #[arg(long)]
    discard: bool,
}

#[derive(Args)]
struct StatusArgs {
    #[command(flatten)]
    instance: Instance,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct QuarantineArgs {
    #[command(flatten)]
    instance: Instance,
    /// Folder of unread results and of the quarantine, instead of the configuration's.
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: QuarantineVerb,
}

impl Instance {
    fn load(self, overrides: Overrides) -> anyhow::Result<Config> {
        let overrides = Overrides { name: self.name, run: self.run_dir, ..overrides };
        Ok(Config::load(&self.config, &overrides)?)
    }
}

impl UpArgs {
    fn load(self) -> anyhow::Result<Config> {
        let mut overrides = Overrides { tcp: self.tcp, state: self.state_dir, ..Overrides::default() };
        let counts = [
            ("ingest", self.ingest),
            ("preprocess", self.preprocess),
            ("detect", self.detect),
            ("postprocess", self.postprocess),
            ("attribute", self.attribute),
        ];
        for (stage, count) in counts {
            count.into_iter().for_each(|count| overrides.set_processes(stage, count));
        }
        self.instance.load(overrides)
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Verb::Up(arguments) => up(arguments),
        Verb::Status(arguments) => status(arguments),
        Verb::Quarantine(arguments) => quarantine(arguments),
        Verb::Demo { arguments } => Err(become_sibling("framepipe-demo", &arguments)),
        Verb::Inspect { arguments } => Err(become_sibling("framepipe-inspect", &arguments)),
        Verb::Model { arguments } => Err(become_sibling("framepipe-model", &arguments)),
    };
    let ended = done.unwrap_or_else(|error| {
        log::say!("framepipe: {error:#}");
        ExitCode::FAILURE
    });
    log::flush();
    ended
}

fn up(arguments: UpArgs) -> anyhow::Result<ExitCode> {
    let discard = arguments.discard;
    up::up(arguments.load()?, discard)
}

fn status(arguments: StatusArgs) -> anyhow::Result<ExitCode> {
    let config = arguments.instance.load(Overrides::default())?;
    let status = status::ask(&config.run)?;
    let text =
        if arguments.json { format!("{}\n", serde_json::to_string_pretty(&status)?) } else { status.to_string() };
    print(&text)
}

fn quarantine(arguments: QuarantineArgs) -> anyhow::Result<ExitCode> {
    let config = arguments.instance.load(Overrides { state: arguments.state_dir, ..Overrides::default() })?;
    print(&quarantine::run(&config, &arguments.verb)?)
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(ExitCode::SUCCESS), // whoever closed the pipe has read enough
    }
}

/// The demo is a client, with a client's dependencies, and inspect and model have those of stages: programs of their own. Returns why it
/// could not.
fn become_sibling(binary: &str, arguments: &[OsString]) -> anyhow::Error {
    let program = match child::sibling(binary) {
        Ok(program) => program,
        Err(error) => return error,
    };
    let error = Command::new(&program).args(arguments).exec();
    Err::<(), _>(error).with_context(|| format!("cannot run {}", program.display())).expect_err("it is an error")
}
