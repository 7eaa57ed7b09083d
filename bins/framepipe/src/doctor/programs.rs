//! What other programs say: the one that loads the inference engine, the one that knows GPUs, and the pipeline, if it runs.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use framepipe_pipeline::{Config, NO_TELEMETRY};

use crate::{
    child::sibling,
    control::{self, Answer, Request},
    run_out,
};

/// The program that loads the engine.
const ENGINE_PROGRAM: &str = "framepipe-model";
/// For the engine's library to be loaded.
const PATIENCE: Duration = Duration::from_secs(60);

/// Loads the engine's library in a process of its own, and returns what it says of itself: a library that is broken may end who
/// loads it.
pub fn engine(library: &Path) -> anyhow::Result<String> {
    let mut command = Command::new(sibling(ENGINE_PROGRAM)?);
    command.arg("engine").arg(library).env(NO_TELEMETRY.0, NO_TELEMETRY.1);
    let (status, said) = run_out::run(&command, b"", PATIENCE)?;
    ensure!(status.success(), "{}", said.text_or(status));
    Ok(String::from_utf8(said.stdout).context("what the engine says")?.trim().to_owned())
}

/// The launcher of this very pipeline, where it runs.
pub fn launcher(config: &Config) -> Option<u32> {
    match control::ask(&config.run, &Request::Status, drop) {
        Ok(Answer::Status(status)) => Some(status.pid),
        _ => None,
    }
}
