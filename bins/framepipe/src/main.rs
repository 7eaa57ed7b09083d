//! `framepipe`: starts a pipeline's processes, supervises them, and shows how they are.
//!
//! | file | what it does |
//! |---|---|
//! | `up.rs` | `framepipe up`: everything made in order, then supervised, then taken down |
//! | `start_up.rs` | what a start takes, step by step |
//! | `first.rs` | what the first process of a container has to do beside |
//! | `instance.rs` | which pipeline is meant |
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
//! | `hung.rs` | processes that give no sign of life, killed |
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
//! | `http.rs` | what the gateway tells over HTTP, asked |
//! | `ready.rs` | `framepipe status --ready` |
//! | `control.rs` | the socket by which a launcher is asked |
//! | `configuration.rs` | `framepipe config`: checked, shown with origins, documented |
//! | `mounts.rs` | what is mounted, as the kernel says it |
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
mod http;
mod hung;
mod isolate;
mod last_words;
mod log;
mod logs;
mod memory_use;
mod mounts;
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
    io::{ErrorKind, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use framepipe_pipeline::command_line::{self, Described};

use crate::{
    cache::CacheArgs,
    configuration::ConfigArgs,
    doctor::DoctorArgs,
    logs::LogsArgs,
    pages::{CompletionsArgs, ManArgs},
    programs::ProgramVerb,
    quarantine::QuarantineArgs,
    status::StatusArgs,
    top::TopArgs,
    up::UpArgs,
    verbs::{DrainArgs, ReloadArgs, RestartArgs, ScaleArgs},
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
  framepipe model list
  framepipe plan --pipeline street --cores 16

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
    Up(UpArgs),
    /// Show each process and each queue of a running pipeline.
    Status(StatusArgs),
    /// Change how many processes stages have, while they serve. No frame is lost, and none waits for it.
    Scale(ScaleArgs),
    /// Replace running processes by new ones, one after the other, while frames flow.
    Restart(RestartArgs),
    /// Read the configuration again, as SIGHUP does, and do what it says of the stages, while frames flow.
    Reload(ReloadArgs),
    /// Refuse new frames, finish the accepted ones, and end the pipeline, as SIGTERM does; return when it has ended.
    Drain(DrainArgs),
    /// Show what a running pipeline's processes have said lately, and what they say.
    Logs(LogsArgs),
    /// Watch a running pipeline on the terminal; scale its stages and restart them.
    Top(TopArgs),
    /// Look at frames that killed their stage, try them again, or drop them.
    Quarantine(QuarantineArgs),
    /// Look at what a pipeline keeps beside its frames, and drop what is remembered of images.
    Cache(CacheArgs),
    /// Say whether a configuration is good, show what it comes to and where each value comes from, or print the documented defaults.
    Config(ConfigArgs),
    /// Look whether this machine has what a pipeline needs, and say what to do where it has not.
    Doctor(DoctorArgs),
    /// Print completions of all commands for a shell.
    Completions(CompletionsArgs),
    /// Write a man page of each command into a folder.
    Man(ManArgs),
    #[command(flatten)]
    Program(ProgramVerb),
}

fn main() -> ExitCode {
    let done = match command_line::is_description_wanted() {
        true => whole().and_then(|whole| print(&format!("{}\n", Described::of(&whole).json()))),
        false => run(command_line::read::<Cli>().command),
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
        Verb::Up(arguments) => up::run(arguments),
        Verb::Status(arguments) => status::run(&arguments),
        Verb::Scale(arguments) => verbs::scale(&arguments),
        Verb::Restart(arguments) => verbs::restart(&arguments),
        Verb::Reload(arguments) => verbs::reload(&arguments),
        Verb::Drain(arguments) => verbs::drain(&arguments),
        Verb::Logs(arguments) => logs::run(arguments),
        Verb::Top(arguments) => top::top(&arguments),
        Verb::Quarantine(arguments) => quarantine::run(&arguments),
        Verb::Cache(arguments) => cache::run(&arguments),
        Verb::Config(arguments) => configuration::run(&arguments),
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Completions(arguments) => pages::complete(&arguments, whole()?),
        Verb::Man(arguments) => pages::man(&arguments, whole()?),
        Verb::Program(verb) => programs::run(verb),
    }
}

/// The command line, with those of all programs.
fn whole() -> anyhow::Result<clap::Command> {
    programs::whole(Cli::command())
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(ExitCode::SUCCESS), // whoever closed the pipe has read enough
    }
}
