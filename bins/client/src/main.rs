//! `framepipe push` and `framepipe pull`: images into a running pipeline from the command line, and results out of it.
//!
//! | file | what it holds |
//! |---|---|
//! | `push.rs` | `framepipe push`: pushes and reads at once |
//! | `pull.rs` | `framepipe pull` |
//! | `target.rs` | which pipeline is meant, and whether it is on this host |
//! | `sources.rs` | which files are to be pushed: found in folders, or read from standard input |
//! | `batches.rs` | files read into bounded batches |
//! | `pusher.rs` | batches sent, in parts where one is refused |
//! | `tally.rs` | which frames are this push's, and which of them have their results |
//! | `reader.rs` | a stream's results, acknowledged once they are printed |
//! | `output.rs`, `table.rs`, `json.rs` | results on standard output |
//! | `progress.rs` | how far it is, on a terminal |
//! | `signals.rs` | Ctrl-C and SIGTERM |

mod batches;
mod json;
mod output;
mod progress;
mod pull;
mod push;
mod pusher;
mod reader;
mod signals;
mod sources;
mod table;
mod tally;
mod target;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use framepipe_pipeline::command_line;

/// A command ended with some frames' errors.
const SOME_ERRORS: u8 = 3;
/// A command was interrupted: 128 and the number of SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// Push images into a running pipeline, and pull results out of it.
#[derive(Parser)]
#[command(name = "framepipe", bin_name = "framepipe", version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Push(push::PushArgs),
    Pull(pull::PullArgs),
}

/// How a command ended, where it did not fail as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Everything has its result.
    Good,
    /// Some frames have errors instead.
    SomeErrors,
    /// Somebody wanted it to end before that.
    Interrupted,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Good => Self::SUCCESS,
            Ending::SomeErrors => Self::from(SOME_ERRORS),
            Ending::Interrupted => Self::from(INTERRUPTED),
        }
    }
}

fn main() -> ExitCode {
    let arguments = command_line::parse::<Cli>();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("framepipe: no threads to run on: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(arguments.command));
    runtime.shutdown_background(); // whoever waits for standard input would wait for ever
    ended
}

async fn run(verb: Verb) -> ExitCode {
    let (name, done) = match verb {
        Verb::Push(arguments) => ("push", push::push(arguments).await),
        Verb::Pull(arguments) => ("pull", pull::pull(arguments).await),
    };
    match done {
        Ok(ending) => ending.into(),
        Err(error) => {
            eprintln!("framepipe {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
