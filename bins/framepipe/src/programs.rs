//! Verbs that are programs of their own: demo, eval, push and pull are clients, with a client's dependencies; inspect, model and the GPU's have
//! those of stages. `framepipe` becomes them, and knows their command lines for completions and man pages.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _, Subcommand};
use framepipe_pipeline::{
    NO_TELEMETRY,
    command_line::{DESCRIBE, Described},
};

use crate::{
    child::sibling,
    gpu, run_out,
    verbs::{self, UseModel},
};

/// For a program to describe its command line.
const PATIENCE: Duration = Duration::from_secs(20);

/// A verb that is a program of its own.
struct Program {
    /// The verb.
    verb: &'static str,
    /// The program's file, beside this one.
    binary: &'static str,
    /// The program's own verb for it, where it has several.
    own_verb: Option<&'static str>,
}

/// Every one.
const PROGRAMS: [Program; 8] = [
    Program { verb: "push", binary: "framepipe-client", own_verb: Some("push") },
    Program { verb: "pull", binary: "framepipe-client", own_verb: Some("pull") },
    Program { verb: "demo", binary: "framepipe-demo", own_verb: None },
    Program { verb: "eval", binary: "framepipe-eval", own_verb: None },
    Program { verb: "inspect", binary: "framepipe-inspect", own_verb: None },
    Program { verb: "model", binary: "framepipe-model", own_verb: None },
    Program { verb: "gpu-list", binary: gpu::PROGRAM, own_verb: Some("list") },
    Program { verb: "gpu-accept", binary: gpu::PROGRAM, own_verb: Some("accept") },
];

/// The verbs of `PROGRAMS`, as they are typed.
#[derive(Subcommand)]
pub enum ProgramVerb {
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

/// Becomes the program of a verb, unless it is asked for the one that the launcher knows.
pub fn run(verb: ProgramVerb) -> anyhow::Result<ExitCode> {
    let (verb, arguments) = match verb {
        ProgramVerb::Push { arguments } => ("push", arguments),
        ProgramVerb::Pull { arguments } => ("pull", arguments),
        ProgramVerb::Demo { arguments } => ("demo", arguments),
        ProgramVerb::Eval { arguments } => ("eval", arguments),
        ProgramVerb::Inspect { arguments } => ("inspect", arguments),
        ProgramVerb::GpuList { arguments } => ("gpu-list", arguments),
        ProgramVerb::GpuAccept { arguments } => ("gpu-accept", arguments),
        // The launcher is asked for one verb; all others are of the repository.
        ProgramVerb::Model { arguments } if arguments.first().is_some_and(|verb| verb == "use") => {
            return verbs::use_model(UseModel::parse_from(arguments));
        }
        ProgramVerb::Model { arguments } => ("model", arguments),
    };
    Err(become_program(verb, &arguments))
}

/// Becomes the program of a verb. Returns why it could not.
fn become_program(verb: &str, arguments: &[OsString]) -> anyhow::Error {
    let Some(Program { binary, own_verb, .. }) = PROGRAMS.iter().find(|program| program.verb == verb) else {
        return anyhow::anyhow!("{verb:?} is no program of its own");
    };
    let program = match sibling(binary) {
        Ok(program) => program,
        Err(error) => return error,
    };
    let error = Command::new(&program).args(*own_verb).args(arguments).env(NO_TELEMETRY.0, NO_TELEMETRY.1).exec();
    Err::<(), _>(error).with_context(|| format!("cannot run {}", program.display())).expect_err("it is an error")
}

/// The whole command line: `own`, with what the programs say of theirs in place of what it knows of them.
pub fn whole(own: clap::Command) -> anyhow::Result<clap::Command> {
    let mut whole = own;
    for Program { verb, binary, own_verb } in &PROGRAMS {
        let described = described(binary)?;
        let described = match own_verb {
            Some(own_verb) => {
                described.subcommand(own_verb).with_context(|| format!("{binary} has no verb {own_verb}"))?
            }
            None => described,
        };
        let mut described = described.command(verb);
        if *verb == "model" {
            described = described.subcommand(UseModel::command().name("use"));
        }
        whole = whole.mut_subcommand(verb, |_| described);
    }
    Ok(whole)
}

fn described(binary: &str) -> anyhow::Result<Described> {
    let mut command = Command::new(sibling(binary)?);
    command.arg(DESCRIBE).env(NO_TELEMETRY.0, NO_TELEMETRY.1);
    let (status, said) = run_out::run(&command, b"", PATIENCE)?;
    anyhow::ensure!(status.success(), "{binary} {DESCRIBE}: {}", said.text_or(status));
    serde_json::from_slice(&said.stdout)
        .with_context(|| format!("what {binary} says of its command line: is it of this build?"))
}
