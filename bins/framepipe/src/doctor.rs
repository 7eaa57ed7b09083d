//! `framepipe doctor`: whether this machine has what a pipeline needs.
//!
//! | file | what it holds |
//! |---|---|
//! | `checks.rs` | **the table**: one check a row, each a pure function of what was read |
//! | `machine.rs` | what is read of the machine, once, before any check |
//! | `kernel.rs` | mounts, control groups and features, in the kernel's words |
//! | `programs.rs` | what other programs of framepipe say: the engine, the GPUs, the pipeline itself |

mod checks;
mod kernel;
mod machine;
mod programs;
#[cfg(test)]
mod tests;

use std::{fmt, path::Path, process::ExitCode};

use clap::Args;
use framepipe_pipeline::Config;
use serde::Serialize;

use self::{
    checks::{CHECKS, kind_of},
    kernel::Mount,
    machine::Machine,
};
use crate::{print, up::StartArgs};

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Good,
    /// The pipeline runs, but slower or less safely than it could.
    Warning,
    /// The pipeline does not run.
    Failed,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub state: State,
    /// What was seen.
    pub seen: String,
    /// What to do about it; nothing where it is good.
    pub advice: Option<String>,
}

impl Finding {
    fn good(seen: impl Into<String>) -> Self {
        Self { state: State::Good, seen: seen.into(), advice: None }
    }

    fn warning(seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Warning, seen: seen.into(), advice: Some(advice.into()) }
    }

    fn failed(seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Failed, seen: seen.into(), advice: Some(advice.into()) }
    }
}

/// One row of the report.
#[derive(Serialize)]
struct Row {
    check: &'static str,
    #[serde(flatten)]
    finding: Finding,
}

/// What all checks found.
#[derive(Serialize)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    fn of(machine: &Machine) -> Self {
        let rows = CHECKS.iter().filter_map(|check| Some(Row { check: check.name, finding: (check.look)(machine)? }));
        Self { rows: rows.collect() }
    }

    /// True where nothing failed.
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.finding.state != State::Failed)
    }

    /// For programs.
    pub fn json(&self) -> anyhow::Result<String> {
        Ok(format!("{}\n", serde_json::to_string_pretty(self)?))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Row { check, finding: Finding { state, seen, advice } } in &self.rows {
            let state = match state {
                State::Good => "good",
                State::Warning => "warning",
                State::Failed => "FAILED",
            };
            writeln!(f, "{state:<8}{check:<15}{seen}")?;
            if let Some(advice) = advice {
                writeln!(f, "{:<23}-> {advice}", "")?;
            }
        }
        let count = |state| self.rows.iter().filter(|row| row.finding.state == state).count();
        let (good, warnings, failed) = (count(State::Good), count(State::Warning), count(State::Failed));
        let warnings = format!("{warnings} warning{}", if warnings == 1 { "" } else { "s" });
        writeln!(f, "{good} good, {warnings}, {failed} failed")
    }
}

/// Of which pipeline, and in what form.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe doctor --config config/street.toml
  framepipe doctor --config config/street.toml --inbox /dev/shm/cameras --tcp 0.0.0.0:50051
  framepipe doctor --json | jq '.rows[] | select(.state != \"good\")'

Say what framepipe up is told, and it is looked whether that start can be. Nothing is changed. Of each row: good; warning, the pipeline runs, but slower or less safely than it could; or FAILED, it does not.

Exit status: 0 nothing failed; 1 something did; 2 wrong usage.")]
pub struct DoctorArgs {
    #[command(flatten)]
    start: StartArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `framepipe doctor`.
pub fn run(arguments: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let DoctorArgs { start, json } = arguments;
    let report = Report::of(&Machine::read(start));
    let printed = print(&if *json { report.json()? } else { report.to_string() })?;
    Ok(if report.is_good() { printed } else { ExitCode::FAILURE })
}

/// What a start says of the inboxes that do not lie in memory.
pub fn inboxes_on_disk(config: &Config) -> Vec<String> {
    let mountinfo = kernel::mountinfo();
    let inboxes = config.server.inbox.iter();
    inboxes.filter_map(|inbox| on_disk(inbox, kernel::mount_under(&mountinfo, inbox).as_ref())).collect()
}

fn on_disk(inbox: &Path, mount: Option<&Mount>) -> Option<String> {
    (!mount.is_some_and(Mount::is_memory)).then(|| {
        format!(
            "the inbox {} lies on a disk ({}): images that wait there cost disk writes; give a folder in tmpfs, such as \
             /dev/shm/framepipe-inbox (server.inbox, --inbox)",
            inbox.display(),
            kind_of(mount)
        )
    })
}
