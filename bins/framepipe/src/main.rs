//! `framepipe`: starts a pipeline's processes, supervises them, and shows how they are.
//!
//! | file | what it does |
//! |---|---|
//! | `up.rs` | `framepipe up`: everything made in order, then supervised, then taken down |
//! | `start_up.rs` | what a start takes, step by step |
//! | `first.rs` | what the first process of a container has to do beside |
//! | `house.rs` | folders, lock, listeners and the segment: made, or taken over from a launcher that died |
//! | `slabs.rs` | the memory of handed pools, made |
//! | `gpu.rs` | the pipeline's GPU: found once, and what processes' environments say of it |
//! | `gpu_slab.rs` | slabs in its memory, received from the program that makes them |
//! | `mps.rs` | the daemon by which processes share it, started and quit |
//! | `cpus.rs` | the CPUs near to it, and processes bound to them |
//! | `run_out.rs` | a program run to its end, which is not waited for long |
//! | `open_files.rs` | the limit of open files, raised |
//! | `activation.rs` | listeners that a service manager has opened |
//! | `cgroup.rs` | control groups that it has delegated: one a stage |
//! | `notify.rs` | what it is told: ready, stopping, a status, and that the pipeline works |
//! | `supervisor.rs` | the loop: starts, restarts, hung processes, drain and stop |
//! | `orders.rs` | what takes time and is done by the loop, one at a time |
//! | `work.rs` | changes of the processes while they serve, one after the other |
//! | `scale.rs` | other numbers of processes |
//! | `reload.rs` | the configuration read again |
//! | `auto.rs`, `auto/policy.rs` | processes that go to the bottleneck by themselves |
//! | `restart.rs` | new processes in place of those that run |
//! | `swap.rs` | other models while the pipeline serves |
//! | `place.rs` | a place in the pipeline, and when its next process starts |
//! | `deaths.rs` | the dead waited for, and what they had put back |
//! | `isolate.rs` | a frame that killed its stage goes into quarantine |
//! | `last_words.rs` | what processes say, passed on and remembered |
//! | `log.rs`, `log/` | what all of them say, written by a thread that may block, and kept for a while |
//! | `logs.rs` | `framepipe logs` |
//! | `child.rs` | one process: spawned, heard, commanded |
//! | `proc_stat.rs` | who a pid is, against its reuse |
//! | `quarantine.rs` | `framepipe quarantine`: frames that killed their stage |
//! | `status.rs` | `framepipe status` |
//! | `memory_use.rs` | what a pipeline has of the machine's memory |
//! | `top.rs`, `top/` | `framepipe top` |
//! | `drain.rs` | who waits for the pipeline's end |
//! | `verbs.rs` | what a running pipeline is told to do |
//! | `ready.rs` | `framepipe status --ready` |
//! | `control.rs` | the socket by which a launcher is asked |
//! | `configuration.rs` | `framepipe config`: checked, shown with origins, documented |
//! | `room.rs` | room in memory: what a pipeline needs, and what there is |
//! | `doctor.rs`, `doctor/` | `framepipe doctor`: whether this machine has what a pipeline needs |
//! | `programs.rs` | verbs that are programs of their own |
//! | `pages.rs` | `framepipe man` and `framepipe completions` |
//! | `cache.rs` | `framepipe cache` |

mod activation;
mod auto;
mod cache;
mod cgroup;
mod child;
mod configuration;
mod control;
mod cpus;
mod deaths;
mod doctor;
mod drain;
mod first;
mod gpu;
mod gpu_slab;
mod house;
mod isolate;
mod last_words;
mod log;
mod logs;
mod memory_use;
mod mps;
mod notify;
mod open_files;
mod orders;
mod pages;
mod place;
mod proc_stat;
mod programs;
mod quarantine;
mod ready;
mod reload;
mod restart;
mod room;
mod run_out;
mod scale;
mod slabs;
mod start_up;
mod status;
mod supervisor;
mod swap;
mod top;
mod up;
mod verbs;
mod work;

use std::{
    ffi::OsString,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{
    Args, CommandFactory as _, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use clap_complete::Shell;
use framepipe_model::ModelRef;
use framepipe_pipeline::{
    Config, ConfigFile, Device, LogFormat, Mps, Overrides, Profile,
    command_line::{self, Described},
    log::Level,
};
use nix::unistd::Pid;

use crate::{
    cache::CacheVerb,
    configuration::ConfigVerb,
    control::Answer,
    logs::LogsArgs,
    programs::become_program,
    quarantine::QuarantineVerb,
    start_up::StartUp,
    top::TopArgs,
    verbs::{PlainArgs, RestartArgs, ScaleArgs},
};

/// Vision inference on one host: images in tmpfs become streamed detections and attributes.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Examples:
  framepipe up --config config/street.toml --detect 2
  framepipe status --config config/street.toml
  framepipe push photos/*.jpg --config config/street.toml
  framepipe demo --config config/faces.toml photos/*.jpg
  framepipe eval --pipeline street --labels labels.json --images photos
  framepipe inspect photos/zidane.jpg --config config/faces.toml
  framepipe plan --pipeline street --cores 16
  framepipe model list

A pipeline's file says what it does; drop-ins beside it, variables (FRAMEPIPE_STAGES__DETECT__PROCESSES=3) and options override it:
framepipe config --help.

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage; others as the command's own help says."
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
  framepipe status --config config/street.toml --ready

Exit status: 0 it runs (--ready: and frames get through); 1 it does not; 2 wrong usage.")]
    Status(StatusArgs),
    /// Change how many processes stages have, while they serve. No frame is lost, and none waits for it.
    #[command(after_help = "Examples:
  framepipe scale detect=3 --config config/street.toml
  framepipe scale detect=1 attribute=2

It answers when all new processes are warm and all surplus ones have ended, which finish what they have claimed first. The numbers
stay in force until the pipeline is stopped; a launcher that follows a killed one has them too. Slots in shared memory stay as
they were laid out ([pools]): with many more processes than the pipeline was started with, they may become the bottleneck.

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage.")]
    Scale(ScaleArgs),
    /// Replace running processes by new ones, one after the other, while frames flow.
    #[command(after_help = "Examples:
  framepipe restart --config config/street.toml
  framepipe restart detect
  framepipe restart gateway
  framepipe restart 12345

A worker's replacement gets warm first, and the old process finishes what it has claimed then. A replacement that does not get
warm leaves the old one serving. Gateway and keeper are one each: they are told to stop, and the next one starts at once; clients
connect anew.

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage.")]
    Restart(RestartArgs),
    /// Read the configuration again, as SIGHUP does, and do what it says of the stages, while frames flow.
    #[command(after_help = "Examples:
  framepipe reload --config config/street.toml
  systemctl reload framepipe

Done at once is what is under [stages]: processes as by `framepipe scale`, the rest by a rolling restart of the stages that it is
about. Whatever else has changed is named, with its old and its new value, and waits for the next start. Numbers of processes that
`framepipe scale` or --auto has put in force stay where the configuration says what it said before. A configuration that is wrong
changes nothing.

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage.")]
    Reload(PlainArgs),
    /// Refuse new frames, finish the accepted ones, and end the pipeline, as SIGTERM does; return when it has ended.
    #[command(after_help = "Examples:
  framepipe drain --config config/street.toml

Exit status: 0 it has ended, and every accepted frame has its result; 1 not so, as the message says; 2 wrong usage.")]
    Drain(PlainArgs),
    /// Show what a running pipeline's processes have said lately, and what they say.
    #[command(after_help = "Examples:
  framepipe logs --config config/street.toml
  framepipe logs -f --level warn
  framepipe logs -n 20 --process detect
  framepipe logs -n 1000 --json | jq 'select(.fields.frame)'

The launcher keeps the last 4 MiB of lines in memory; they are gone when it ends. Under systemd the journal has them all:
`journalctl -t framepipe FRAMEPIPE_PROCESS=gateway`. One who follows and reads too slowly is dropped, and told so: nobody waits
for him.

Exit status: 0 shown, or the pipeline ended; 1 it does not run, was killed, or lines were read too slowly; 2 wrong usage.")]
    Logs {
        #[command(flatten)]
        instance: Instance,
        #[command(flatten)]
        arguments: LogsArgs,
    },
    /// Watch a running pipeline on the terminal; scale its stages and restart them.
    #[command(after_help = "Examples:
  framepipe top --config config/street.toml
  framepipe top --once
  framepipe top --interval 0.5

Keys: q quits; ↑ and ↓ select a stage; + and - change how many processes it has; r replaces them, one after the other; p pauses;
s orders by busy, queue or memory; ? explains keys and columns. A pipeline that ends, and one that starts, are seen.

Exit status: 0 ended by q, Ctrl-C or SIGTERM, or printed; 1 no pipeline answers to --once, or there is no terminal; 2 wrong usage.")]
    Top(TopArgs),
    /// Look at frames that killed their stage, try them again, or drop them.
    #[command(after_help = "Examples:
  framepipe quarantine list --config config/street.toml
  framepipe quarantine show 1881234567890
  framepipe quarantine retry 1881234567890
  framepipe quarantine drop --all

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage; 3 the frame killed its stage again.")]
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
    /// Say whether a configuration is good, show what it comes to and where each value comes from, or print the documented defaults.
    #[command(after_help = "Examples:
  framepipe config check --config config/street.toml
  framepipe config show --config config/street.toml
  framepipe config default

A pipeline's configuration comes in layers, each overriding those before it key by key. Of DIR/street.toml:
  1. the file;
  2. drop-ins: DIR/framepipe.d/*.toml (for every pipeline in DIR), then DIR/street.d/*.toml, in the order of their names;
  3. variables: FRAMEPIPE_STAGES__DETECT__PROCESSES=3 is stages.detect.processes = 3;
  4. options of the command line.
Relative paths in 1 to 3 are relative to DIR; those of options to where you are.

Exit status: 0 done; 1 the configuration is not good, as the message says; 2 wrong usage.")]
    Config(ConfigArgs),
    /// Look whether this machine has what a pipeline needs, and say what to do where it has not.
    #[command(after_help = "Examples:
  framepipe doctor --config config/street.toml
  framepipe doctor --json | jq '.rows[] | select(.state != \"good\")'

Nothing is changed. Of each row: good; warning, the pipeline runs, but slower or less safely than it could; or FAILED, it does not.

Exit status: 0 nothing failed; 1 something did; 2 wrong usage.")]
    Doctor(DoctorArgs),
    /// Print completions of all commands for a shell.
    #[command(after_help = "Examples:
  framepipe completions bash > /etc/bash_completion.d/framepipe
  framepipe completions zsh > ~/.zfunc/_framepipe
  framepipe completions fish > ~/.config/fish/completions/framepipe.fish

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage.")]
    Completions {
        /// The shell.
        #[arg(value_parser = shells())]
        shell: Shell,
    },
    /// Write a man page of each command into a folder.
    #[command(after_help = "Examples:
  framepipe man /usr/local/share/man/man1
  framepipe man pages && man -l pages/framepipe-up.1

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage.")]
    Man {
        /// The folder, which is made where it is not there.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Push images into a running pipeline, and print their results as they come.
    #[command(disable_help_flag = true)]
    Push {
        /// See `framepipe push --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Print the results of a stream as they come.
    #[command(disable_help_flag = true)]
    Pull {
        /// See `framepipe pull --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
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
    /// Say how many frames a second a pipeline will serve on so many cores, with how many processes, and what binds: by a model.
    #[command(disable_help_flag = true)]
    Plan {
        /// See `framepipe plan --help`.
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

/// Reads the name of a shell.
fn shells() -> impl TypedValueParser<Value = Shell> {
    const SHELLS: [(&str, Shell); 3] = [("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)];
    let names = PossibleValuesParser::new(SHELLS.map(|(name, _)| name));
    names.map(|said| SHELLS.into_iter().find(|(name, _)| *name == said).expect("one of the names").1)
}

/// Reads the name of a form of the log.
fn forms() -> impl TypedValueParser<Value = LogFormat> {
    let names = PossibleValuesParser::new(LogFormat::ALL.map(|(name, _)| name));
    names.map(|said| LogFormat::ALL.into_iter().find(|(name, _)| *name == said).expect("one of the names").1)
}

/// Reads the name of a profile.
fn aims() -> impl TypedValueParser<Value = Profile> {
    let names = PossibleValuesParser::new(Profile::ALL.map(|(name, _)| name));
    names.map(|said| Profile::ALL.into_iter().find(|(name, _)| *name == said).expect("one of the names").1)
}

#[derive(Args, Clone)]
struct Instance {
    #[command(flatten)]
    file: ConfigFile,
    /// The instance's name, instead of the configuration's.
    #[arg(long, global = true)]
    name: Option<String>,
    /// Folder of the sockets and the lock, instead of the configuration's.
    #[arg(long, value_name = "DIR", global = true)]
    run_dir: Option<PathBuf>,
    /// Folder of unread results, of the quarantine and of images on disk, instead of the configuration's.
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
}

#[derive(Args, Clone)]
struct UpArgs {
    #[command(flatten)]
    instance: Instance,
    /// TCP address (IP:PORT) of the gRPC listener, instead of the configuration's; "" for none.
    #[arg(long, value_name = "ADDRESS")]
    tcp: Option<String>,
    /// Folder in which clients store images, instead of the configuration's; may be repeated.
    #[arg(long, value_name = "DIR")]
    inbox: Vec<PathBuf>,
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
    /// Let processes go to the stage that holds the others up, while the pipeline serves.
    #[arg(long)]
    auto: bool,
    /// The cores that the stages' processes may use together then [default: the configuration's, or as many as they have at
    /// the start].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    auto_cores: Option<u32>,
    /// The form of the log: human, json (a line each), journald, or auto (the journal's, where standard error is the journal;
    /// else human, with colours on a terminal) [default: the configuration's, or auto].
    #[arg(long, value_name = "FORMAT", value_parser = forms())]
    log: Option<LogFormat>,
    /// The least level that any process says: error, warn, info, debug or trace [default: $FRAMEPIPE_LOG, the configuration's,
    /// or info].
    #[arg(long, value_name = "LEVEL", value_parser = logs::level())]
    log_level: Option<Level>,
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
    /// Ask only whether a frame that is pushed now gets through, as /readyz says (server.http).
    #[arg(long, conflicts_with = "json")]
    ready: bool,
}

#[derive(Args)]
struct CacheArgs {
    #[command(flatten)]
    instance: Instance,
    #[command(subcommand)]
    verb: CacheVerb,
}

#[derive(Args)]
struct ConfigArgs {
    #[command(flatten)]
    instance: Instance,
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Args)]
struct DoctorArgs {
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
        Ok(Config::load(&self.file.config, &self.over(overrides))?)
    }

    /// What it says, beside what `overrides` do.
    fn over(&self, overrides: Overrides) -> Overrides {
        let (name, run, state) = (self.name.clone(), self.run_dir.clone(), self.state_dir.clone());
        Overrides { name, run, state, ..overrides }
    }
}

impl UpArgs {
    /// Loads the configuration, for so many cores, where it is loaded again.
    fn load(&self, cores: Option<u32>) -> anyhow::Result<Config> {
        let cores = cores.or(self.cores);
        let mut overrides = Overrides {
            profile: self.profile,
            cores,
            tcp: self.tcp.clone(),
            http: self.http.clone(),
            inbox: self.inbox.clone(),
            device: self.device.clone(),
            auto: self.auto,
            auto_cores: self.auto_cores,
            mps: self.mps,
            score_threshold: self.score_threshold,
            crops_max: self.crops_max,
            log_level: self.log_level,
            log_format: self.log,
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
        log::choose(config.log);
        // What a dead launcher left is taken over as it is laid out, however many cores there are by now.
        match house::cores_of_left(&config) {
            Some(left) if cores.is_none() && left != config.cores => {
                let there_are = config.cores;
                tracing::info!(
                    "laid out for {left} cores, like what the launcher before has left; there are {there_are}"
                );
                self.instance.load(Overrides { cores: Some(left), ..overrides })
            }
            _ => Ok(config),
        }
    }
}

fn main() -> ExitCode {
    let done = match command_line::is_description_wanted() {
        true => whole().and_then(|whole| print(&format!("{}\n", Described::of(&whole).json()))),
        false => run(Cli::parse().command),
    };
    let ended = done.unwrap_or_else(|error| {
        log::say_end(&format!("{error:#}"));
        ExitCode::FAILURE
    });
    log::flush();
    ended
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Up(arguments) => up(arguments),
        Verb::Status(arguments) => status(arguments),
        Verb::Scale(arguments) => verbs::scale(&arguments),
        Verb::Restart(arguments) => verbs::restart(&arguments),
        Verb::Reload(arguments) => verbs::reload(&arguments),
        Verb::Drain(arguments) => verbs::drain(&arguments),
        Verb::Logs { instance, arguments } => show_logs(&instance, arguments),
        Verb::Top(arguments) => top::top(&arguments),
        Verb::Quarantine(arguments) => quarantine(arguments),
        Verb::Cache(arguments) => cache(arguments),
        Verb::Config(arguments) => config(&arguments),
        Verb::Doctor(arguments) => doctor(&arguments),
        Verb::Completions { shell } => whole().and_then(|whole| print(&pages::completions(whole, shell))),
        Verb::Man { folder } => man(&folder),
        Verb::Push { arguments } => Err(become_program("push", &arguments)),
        Verb::Pull { arguments } => Err(become_program("pull", &arguments)),
        Verb::Demo { arguments } => Err(become_program("demo", &arguments)),
        Verb::Eval { arguments } => Err(become_program("eval", &arguments)),
        Verb::Plan { arguments } => Err(become_program("plan", &arguments)),
        Verb::Inspect { arguments } => Err(become_program("inspect", &arguments)),
        Verb::GpuList { arguments } => Err(become_program("gpu-list", &arguments)),
        Verb::GpuAccept { arguments } => Err(become_program("gpu-accept", &arguments)),
        // The launcher is asked for one verb; all others are of the repository.
        Verb::Model { arguments } if arguments.first().is_some_and(|verb| verb == "use") => {
            use_model(UseModel::parse_from(arguments))
        }
        Verb::Model { arguments } => Err(become_program("model", &arguments)),
    }
}

fn up(arguments: UpArgs) -> anyhow::Result<ExitCode> {
    if first::is_first() {
        return first::stand_by();
    }
    let start_up = StartUp::begin();
    let (discard, starter) = (arguments.discard, arguments.end_with.map(Pid::from_raw));
    up::up(Box::new(move |cores| arguments.load(cores)), discard, starter, start_up)
}

fn status(arguments: StatusArgs) -> anyhow::Result<ExitCode> {
    let config = arguments.instance.load(Overrides::default())?;
    if arguments.ready {
        let said = ready::ask(config.server.http.as_deref())?;
        print(&format!("{}\n", said.words))?;
        return Ok(if said.is_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let status = match control::ask(&config.run, &control::Request::Status, drop)? {
        Answer::Status(status) => status,
        Answer::Progress(words) | Answer::Done(words) | Answer::Failed(words) => anyhow::bail!("{words}"),
    };
    let text =
        if arguments.json { format!("{}\n", serde_json::to_string_pretty(&status)?) } else { status.to_string() };
    print(&text)
}

fn show_logs(instance: &Instance, arguments: LogsArgs) -> anyhow::Result<ExitCode> {
    logs::run(&instance.load(Overrides::default())?.run, arguments)
}

fn use_model(arguments: UseModel) -> anyhow::Result<ExitCode> {
    let UseModel { instance, model: new, replace } = arguments;
    let request = control::Request::UseModel { old: replace.unwrap_or_else(|| new.name.clone()), new };
    verbs::tell(&instance, &request)
}

fn quarantine(arguments: QuarantineArgs) -> anyhow::Result<ExitCode> {
    let config = arguments.instance.load(Overrides::default())?;
    print(&quarantine::run(&config, &arguments.verb)?)
}

fn cache(arguments: CacheArgs) -> anyhow::Result<ExitCode> {
    let config = arguments.instance.load(Overrides::default())?;
    let said = cache::run(&config, &arguments.verb)?;
    let printed = print(&said.text)?;
    Ok(if said.is_good { printed } else { ExitCode::FAILURE })
}

fn config(arguments: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let ConfigArgs { instance, verb } = arguments;
    print(&configuration::run(&instance.file.config, &instance.over(Overrides::default()), verb)?)
}

fn doctor(arguments: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let DoctorArgs { instance, json } = arguments;
    let report = doctor::examine(&instance.file.config, &instance.over(Overrides::default()));
    let printed = print(&if *json { report.json()? } else { report.to_string() })?;
    Ok(if report.is_good() { printed } else { ExitCode::FAILURE })
}

fn man(folder: &Path) -> anyhow::Result<ExitCode> {
    let count = pages::write(whole()?, folder)?;
    print(&format!("{count} pages in {}\n", folder.display()))
}

/// The command line, with those of all programs.
fn whole() -> anyhow::Result<clap::Command> {
    programs::whole(Cli::command(), vec![UseModel::command().name("use")])
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(ExitCode::SUCCESS), // whoever closed the pipe has read enough
    }
}
