//! `framepipe`: starts a pipeline's processes, supervises them, and shows how they are.
//!
//! | file | what it does |
//! |---|---|
//! | `up.rs` | `framepipe up`: everything made in order, then supervised, then taken down |
//! | `start_up.rs` | what a start takes, step by step |
//! | `house.rs` | folders, lock, listeners and the segment: made, or taken over from a launcher that died |
//! | `slabs.rs` | the memory of handed pools, made |
//! | `gpu.rs` | the pipeline's GPU: found once, and what processes' environments say of it |
//! | `gpu_slab.rs` | slabs in its memory, received from the program that makes them |
//! | `mps.rs` | the daemon by which processes share it, started and quit |
//! | `cpus.rs` | the CPUs near to it, and processes bound to them |
//! | `run_out.rs` | a program run to its end, which is not waited for long |
//! | `open_files.rs` | the limit of open files, raised |
//! | `supervisor.rs` | the loop: starts, restarts, hung processes, drain and stop |
//! | `swap.rs` | other models while the pipeline serves |
//! | `place.rs` | a place in the pipeline, and when its next process starts |
//! | `deaths.rs` | the dead waited for, and what they had put back |
//! | `isolate.rs` | a frame that killed its stage goes into quarantine |
//! | `last_words.rs` | what processes say, passed on and remembered |
//! | `log.rs` | what all of them say, written to standard error by a thread that may block |
//! | `child.rs` | one process: spawned, heard, commanded |
//! | `proc_stat.rs` | who a pid is, against its reuse |
//! | `quarantine.rs` | `framepipe quarantine`: frames that killed their stage |
//! | `status.rs` | `framepipe status` |
//! | `control.rs` | the socket by which a launcher is asked |
//! | `cache.rs` | `framepipe cache` |

mod cache;
mod child;
mod control;
mod cpus;
mod deaths;
mod gpu;
mod gpu_slab;
mod house;
mod isolate;
mod last_words;
mod log;
mod mps;
mod open_files;
mod place;
mod proc_stat;
mod quarantine;
mod run_out;
mod slabs;
mod start_up;
mod status;
mod supervisor;
mod swap;
mod up;

use std::{
    ffi::OsString,
    io::{ErrorKind, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::Context as _;
use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use framepipe_model::ModelRef;
use framepipe_pipeline::{Config, ConfigFile, Device, Mps, NO_TELEMETRY, Overrides, Profile};
use nix::unistd::Pid;

use crate::{cache::CacheVerb, control::Answer, quarantine::QuarantineVerb, start_up::StartUp};

/// Vision inference on one host: images in tmpfs become streamed detections and attributes.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Examples:
  framepipe up --config config/street.toml --detect 2
  framepipe status --config config/street.toml
  framepipe demo --config config/faces.toml photos/*.jpg
  framepipe eval --pipeline street --labels labels.json --images photos
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
  framepipe up --config config/street.toml --profile latency
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
    /// Look at what a pipeline keeps beside its frames, and drop what is remembered of images.
    #[command(after_help = "Examples:
  framepipe cache stats --config config/street.toml
  framepipe cache list results --limit 20 --json
  framepipe cache drop tensors
  framepipe cache drop --all
  framepipe cache verify

`list` and `drop` are about what is remembered in case an image comes again: its metadata (format, size, orientation), its tensor
(as the detector takes it in) and its results. What is dropped is made again when it is asked for. Images that framepipe keeps for
frames in flight (HOLD_COPY, Upload) are neither listed nor dropped; `stats` counts them, and `verify` looks at those on disk.

Exit status: 0 done, and nothing is damaged; 1 not done, as the message says, or verify found damage; 2 wrong usage.")]
    Cache(CacheArgs),
    /// Bring a pipeline up, push photos, print the results, write annotated PNGs, shut down.
    #[command(disable_help_flag = true)]
    Demo {
        /// See `framepipe demo --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Measure how well a pipeline's detections agree with labels (AP50, AP50:95), through the whole system.
    #[command(disable_help_flag = true)]
    Eval {
        /// See `framepipe eval --help`.
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
    /// Show the GPUs of this machine, or why there is none.
    #[command(disable_help_flag = true)]
    GpuList {
        /// See `framepipe gpu-list --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run the tests and measurements that need a GPU on this machine's, and write a report.
    #[command(disable_help_flag = true)]
    GpuAccept {
        /// See `framepipe gpu-accept --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Let another model serve; list, show, check and remove the models of the repository, and quantize them to INT8.
    #[command(disable_help_flag = true)]
    Model {
        /// See `framepipe model --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Reads a word of `--mps`.
fn sharing() -> impl TypedValueParser<Value = Mps> {
    let names = PossibleValuesParser::new(Mps::ALL.map(|(name, _)| name));
    names.map(|said| Mps::ALL.into_iter().find(|(name, _)| *name == said).expect("one of the names").1)
}

/// Reads the name of a profile.
fn aims() -> impl TypedValueParser<Value = Profile> {
    let names = PossibleValuesParser::new(Profile::ALL.map(|(name, _)| name));
    names.map(|said| Profile::ALL.into_iter().find(|(name, _)| *name == said).expect("one of the names").1)
}

#[derive(Args)]
struct Instance {
    #[command(flatten)]
    file: ConfigFile,
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
    /// TCP address (IP:PORT) of the HTTP listener for /metrics, /readyz and /livez, instead of the configuration's; "" for none.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// What the processes and threads of the stages are laid out for, where no number is given: throughput (as many
    /// detect processes as cores, of one thread each) or latency (one, whose engine uses all cores)
    /// [default: the configuration's, or throughput].
    #[arg(long, value_name = "AIM", value_parser = aims())]
    profile: Option<Profile>,
    /// The cores that they are laid out for [default: those that it may use].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cores: Option<u32>,
    /// Processes of the ingest stage, 1 to 64 [default: the configuration's, or 1].
    #[arg(long, value_name = "N")]
    ingest: Option<u32>,
    /// Processes of the preprocess stage, 1 to 64 [default: the configuration's, or by --profile].
    #[arg(long, value_name = "N")]
    preprocess: Option<u32>,
    /// Processes of the detect stage, 1 to 64 [default: the configuration's, or by --profile].
    #[arg(long, value_name = "N")]
    detect: Option<u32>,
    /// Processes of the postprocess stage, 1 to 64 [default: the configuration's, or 1].
    #[arg(long, value_name = "N")]
    postprocess: Option<u32>,
    /// Processes of the attribute stage, 1 to 64 [default: the configuration's, or by --profile].
    #[arg(long, value_name = "N")]
    attribute: Option<u32>,
    /// Where images and tensors lie on their way from stage to stage: cpu, memfd (a GPU's way of passing them, without a
    /// GPU: for tests), gpu (the first NVIDIA GPU) or a GPU's UUID [default: the configuration's, or cpu]. A GPU runs INT8
    /// models (QDQ) alone: another is refused at the start, with the name of the operator.
    #[arg(long, value_name = "DEVICE")]
    device: Option<Device>,
    /// Whether the processes on a GPU share it by NVIDIA's MPS, whose daemon is then started and quit with the pipeline:
    /// auto (where it can be started), off, or require. It is faster, but a fault of one process on the GPU ends all of them
    /// [default: the configuration's, or off].
    #[arg(long, value_name = "WHETHER", value_parser = sharing())]
    mps: Option<Mps>,
    /// A detection's score is above this, instead of the configuration's or the detector's manifest's.
    #[arg(long, value_name = "SCORE")]
    score_threshold: Option<f32>,
    /// Most crops of one frame, instead of the configuration's.
    #[arg(long, value_name = "N")]
    crops_max: Option<u32>,
    /// Drain and stop, as on SIGTERM, when the process of this pid ends, which must be the one that starts this one.
    #[arg(long, value_name = "PID")]
    end_with: Option<i32>,
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
struct CacheArgs {
    #[command(flatten)]
    instance: Instance,
    /// Folder of unread results and of images on disk, instead of the configuration's.
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: CacheVerb,
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

/// Let a model serve in a running pipeline, in place of another version of it, or of another model. No frame is lost, and none
/// waits: the new model gets warm beside the old one, which finishes the frames that were accepted for it.
#[derive(Parser)]
#[command(
    bin_name = "framepipe model use",
    after_help = "Examples:
  framepipe model use nanodet416-4c-int8@2 --config config/street.toml
  framepipe model use nanodet416-4c-fp32 --replace nanodet416-4c-int8

A model that does not get warm is given up, and nothing has changed. What is chosen so serves after a restart too.

Exit status: 0 it serves; 1 it does not, as the message says; 2 wrong usage."
)]
struct UseModel {
    #[command(flatten)]
    instance: Instance,
    /// The model: NAME@VERSION, or NAME for its newest version.
    model: ModelRef,
    /// The model that it replaces, where that has another name.
    #[arg(long, value_name = "NAME")]
    replace: Option<String>,
}

impl Instance {
    fn load(&self, overrides: Overrides) -> anyhow::Result<Config> {
        let overrides = Overrides { name: self.name.clone(), run: self.run_dir.clone(), ..overrides };
        Ok(Config::load(&self.file.config, &overrides)?)
    }
}

impl UpArgs {
    fn load(self) -> anyhow::Result<Config> {
        let mut overrides = Overrides {
            profile: self.profile,
            cores: self.cores,
            tcp: self.tcp,
            http: self.http,
            state: self.state_dir,
            device: self.device,
            mps: self.mps,
            score_threshold: self.score_threshold,
            crops_max: self.crops_max,
            ..Overrides::default()
        };
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
        let config = self.instance.load(overrides.clone())?;
        // What a dead launcher left is taken over as it is laid out, however many cores there are by now.
        match house::cores_of_left(&config) {
            Some(cores) if self.cores.is_none() && cores != config.cores => {
                log::say!(
                    "laid out for {cores} cores, like what the launcher before has left; there are {}",
                    config.cores
                );
                self.instance.load(Overrides { cores: Some(cores), ..overrides })
            }
            _ => Ok(config),
        }
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Verb::Up(arguments) => up(arguments),
        Verb::Status(arguments) => status(arguments),
        Verb::Quarantine(arguments) => quarantine(arguments),
        Verb::Cache(arguments) => cache(arguments),
        Verb::Demo { arguments } => Err(become_sibling("framepipe-demo", &arguments)),
        Verb::Eval { arguments } => Err(become_sibling("framepipe-eval", &arguments)),
        Verb::Inspect { arguments } => Err(become_sibling("framepipe-inspect", &arguments)),
        Verb::GpuList { arguments } => Err(become_gpu_tool("list", arguments)),
        Verb::GpuAccept { arguments } => Err(become_gpu_tool("accept", arguments)),
        // The launcher is asked for one verb; all others are of the repository.
        Verb::Model { arguments } if arguments.first().is_some_and(|verb| verb == "use") => {
            use_model(UseModel::parse_from(arguments))
        }
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
    let start_up = StartUp::begin();
    let (discard, starter) = (arguments.discard, arguments.end_with.map(Pid::from_raw));
    up::up(arguments.load()?, discard, starter, start_up)
}

fn status(arguments: StatusArgs) -> anyhow::Result<ExitCode> {
    let config = arguments.instance.load(Overrides::default())?;
    let status = match control::ask(&config.run, &control::Request::Status, drop)? {
        Answer::Status(status) => status,
        Answer::Progress(words) | Answer::Done(words) | Answer::Failed(words) => anyhow::bail!("{words}"),
    };
    let text =
        if arguments.json { format!("{}\n", serde_json::to_string_pretty(&status)?) } else { status.to_string() };
    print(&text)
}

fn use_model(arguments: UseModel) -> anyhow::Result<ExitCode> {
    let UseModel { instance, model: new, replace } = arguments;
    let config = instance.load(Overrides::default())?;
    let request = control::Request::UseModel { old: replace.unwrap_or_else(|| new.name.clone()), new };
    match control::ask(&config.run, &request, |words| log::say!("{words}"))? {
        Answer::Done(words) | Answer::Progress(words) => print(&format!("{words}\n")),
        Answer::Failed(words) => anyhow::bail!("{words}"),
        Answer::Status(_) => anyhow::bail!("the launcher's answer is of another version"),
    }
}

fn quarantine(arguments: QuarantineArgs) -> anyhow::Result<ExitCode> {
    let config = arguments.instance.load(Overrides { state: arguments.state_dir, ..Overrides::default() })?;
    print(&quarantine::run(&config, &arguments.verb)?)
}

fn cache(arguments: CacheArgs) -> anyhow::Result<ExitCode> {
    let config = arguments.instance.load(Overrides { state: arguments.state_dir, ..Overrides::default() })?;
    let said = cache::run(&config, &arguments.verb)?;
    let printed = print(&said.text)?;
    Ok(if said.is_good { printed } else { ExitCode::FAILURE })
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(ExitCode::SUCCESS), // whoever closed the pipe has read enough
    }
}

/// Becomes the program that knows GPUs, with one of its verbs.
fn become_gpu_tool(verb: &str, arguments: Vec<OsString>) -> anyhow::Error {
    let arguments: Vec<OsString> = [verb.into()].into_iter().chain(arguments).collect();
    become_sibling(gpu::PROGRAM, &arguments)
}

/// Demo and eval are clients, with a client's dependencies, and inspect and model have those of stages: programs of their own. Returns why it
/// could not.
fn become_sibling(binary: &str, arguments: &[OsString]) -> anyhow::Error {
    let program = match child::sibling(binary) {
        Ok(program) => program,
        Err(error) => return error,
    };
    let error = Command::new(&program).args(arguments).env(NO_TELEMETRY.0, NO_TELEMETRY.1).exec();
    Err::<(), _>(error).with_context(|| format!("cannot run {}", program.display())).expect_err("it is an error")
}
