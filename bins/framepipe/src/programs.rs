//! Verbs that are programs of their own: demo, eval, plan, push and pull are clients, with a client's dependencies; inspect, model and the GPU's have
//! those of stages. `framepipe` becomes them, and knows their command lines for completions and man pages.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Arg, ArgMatches, CommandFactory as _, FromArgMatches, Subcommand, error::ErrorKind, value_parser};
use framepipe_pipeline::{
    NO_TELEMETRY,
    command_line::{self, DESCRIBE, Described},
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
    /// What it does, in a line.
    about: &'static str,
    /// The program's file, beside this one.
    binary: &'static str,
    /// The program's own verb for it, where it has several.
    own_verb: Option<&'static str>,
}

/// Every one.
static PROGRAMS: [Program; 9] = [
    Program {
        verb: "push",
        about: "Push images into a running pipeline, and print their results as they come",
        binary: "framepipe-client",
        own_verb: Some("push"),
    },
    Program {
        verb: "pull",
        about: "Print the results of a stream as they come",
        binary: "framepipe-client",
        own_verb: Some("pull"),
    },
    Program {
        verb: "demo",
        about: "Bring a pipeline up, push photos, print the results, write annotated PNGs, shut down",
        binary: "framepipe-demo",
        own_verb: None,
    },
    Program {
        verb: "eval",
        about: "Measure how well a pipeline's detections agree with labels (AP50, AP50:95), through the whole system",
        binary: "framepipe-eval",
        own_verb: None,
    },
    Program {
        verb: "plan",
        about: "Say how many frames a second a pipeline will serve on so many cores, with how many processes, and what binds: by a model",
        binary: "framepipe-plan",
        own_verb: None,
    },
    Program {
        verb: "inspect",
        about: "Show what a pipeline's preprocess graphs make of an image, operator by operator, with pictures",
        binary: "framepipe-inspect",
        own_verb: None,
    },
    Program {
        verb: MODEL,
        about: "Let another model serve; list, show, check and remove the models of the repository, and quantize them to INT8",
        binary: "framepipe-model",
        own_verb: None,
    },
    Program {
        verb: "gpu-list",
        about: "Show the GPUs of this machine, or why there is none",
        binary: gpu::PROGRAM,
        own_verb: Some("list"),
    },
    Program {
        verb: "gpu-accept",
        about: "Run the tests and measurements that need a GPU on this machine's, and write a report",
        binary: gpu::PROGRAM,
        own_verb: Some("accept"),
    },
];

/// One whose own verbs have one more, of the launcher: `use`.
const MODEL: &str = "model";
const USE: &str = "use";

/// A verb of `PROGRAMS`, and what is typed behind it.
pub struct ProgramVerb {
    program: &'static Program,
    arguments: Vec<OsString>,
}

impl Subcommand for ProgramVerb {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        let arguments = Arg::new("arguments").num_args(0..).value_parser(value_parser!(OsString));
        let arguments = arguments.trailing_var_arg(true).allow_hyphen_values(true);
        command.subcommands(PROGRAMS.iter().map(|Program { verb, about, .. }| {
            let arguments = arguments.clone().help(format!("See `framepipe {verb} --help`"));
            clap::Command::new(*verb).about(*about).disable_help_flag(true).arg(arguments)
        }))
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        PROGRAMS.iter().any(|program| program.verb == name)
    }
}

impl FromArgMatches for ProgramVerb {
    fn from_arg_matches(matches: &ArgMatches) -> clap::error::Result<Self> {
        let typed = matches.subcommand().and_then(|(verb, matches)| {
            let program = PROGRAMS.iter().find(|program| program.verb == verb)?;
            let arguments = matches.get_many("arguments").into_iter().flatten().cloned().collect();
            Some(Self { program, arguments })
        });
        typed.ok_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> clap::error::Result<()> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Becomes the program of a verb, unless it is asked for the one that the launcher knows.
pub fn run(ProgramVerb { program, arguments }: ProgramVerb) -> anyhow::Result<ExitCode> {
    if program.verb == MODEL && arguments.first().is_some_and(|verb| verb == USE) {
        return verbs::use_model(command_line::read_from(arguments));
    }
    Err(become_program(program, &arguments))
}

/// Becomes the program of a verb. Returns why it could not.
fn become_program(Program { binary, own_verb, .. }: &Program, arguments: &[OsString]) -> anyhow::Error {
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
    for Program { verb, binary, own_verb, .. } in &PROGRAMS {
        let described = described(binary)?;
        let described = match own_verb {
            Some(own_verb) => {
                described.subcommand(own_verb).with_context(|| format!("{binary} has no verb {own_verb}"))?
            }
            None => described,
        };
        let mut described = described.command(verb);
        if *verb == MODEL {
            described = described.subcommand(UseModel::command().name(USE));
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
