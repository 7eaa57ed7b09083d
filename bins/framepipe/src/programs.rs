//! Verbs that are programs of their own: demo, eval, plan, push and pull are clients, with a client's dependencies; inspect, model and the GPU's have
//! those of stages. `framepipe` becomes them, and knows their command lines for completions and man pages.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command, time::Duration};

use anyhow::Context as _;
use framepipe_pipeline::{
    NO_TELEMETRY,
    command_line::{DESCRIBE, Described},
};

use crate::{child::sibling, gpu, run_out};

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
const PROGRAMS: [Program; 9] = [
    Program { verb: "push", binary: "framepipe-client", own_verb: Some("push") },
    Program { verb: "pull", binary: "framepipe-client", own_verb: Some("pull") },
    Program { verb: "demo", binary: "framepipe-demo", own_verb: None },
    Program { verb: "eval", binary: "framepipe-eval", own_verb: None },
    Program { verb: "plan", binary: "framepipe-plan", own_verb: None },
    Program { verb: "inspect", binary: "framepipe-inspect", own_verb: None },
    Program { verb: "model", binary: "framepipe-model", own_verb: None },
    Program { verb: "gpu-list", binary: gpu::PROGRAM, own_verb: Some("list") },
    Program { verb: "gpu-accept", binary: gpu::PROGRAM, own_verb: Some("accept") },
];

/// Becomes the program of a verb. Returns why it could not.
pub fn become_program(verb: &str, arguments: &[OsString]) -> anyhow::Error {
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
pub fn whole(own: clap::Command, mut of_own_model_verbs: Vec<clap::Command>) -> anyhow::Result<clap::Command> {
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
            described = described.subcommands(of_own_model_verbs.drain(..));
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
