//! `framepipe-bench`: how much of the bare engine's throughput is left when frames go through the whole system.
//!
//! | file | what it does |
//! |---|---|
//! | `rounds.rs` | the run: system, engine, system, engine, …, and what each round gave |
//! | `cascade.rs` | the same of detector and attribute models, at several numbers of crops a frame |
//! | `running.rs` | the system under load, and what it used |
//! | `system.rs` | the system alone, as it is configured: for what measures it elsewhere |
//! | `server.rs` | what is asked of the system: its crops, the bytes that it copied, how nice its processes are |
//! | `counts.rs` | what a frame costs in system calls, allocations and copies: for what compares counts (`scripts/bench-counts`) |
//! | `plumbing.rs` | a pipeline without a model against calls, wake-ups and reads that cannot be avoided (`scripts/bench-plumbing`) |
//! | `variant.rs` | a configuration with one key said otherwise |
//! | `load.rs` | the client: pushes raw frames with a bounded number in flight, and checks every result |
//! | `engine.rs` | the bare engine: this program again, as a child that runs the models and nothing else |
//! | `images.rs` | the other run (`scripts/bench-images`): from an image's bytes to a tensor |
//! | `int8_limit.rs` | what the cores could do at most |
//! | `statistics.rs` | medians, percentiles |
//! | `report.rs` | the table for people, the JSON object for programs |

mod cascade;
mod counts;
mod engine;
mod images;
mod int8_limit;
mod load;
mod plumbing;
mod report;
mod rounds;
mod running;
mod server;
mod statistics;
mod system;
mod variant;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};
use framepipe_model::ModelRef;

/// Compare the whole system with the bare engine, in one run, interleaved.
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "scripts/bench builds what this needs, runs it, and adds the figures that come from elsewhere.

Exit status: 0 measured, whatever came out; 1 could not measure; 2 wrong usage."
)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    measure: Measure,
}

#[derive(Subcommand)]
enum Role {
    /// The bare engine: runs a model when told on standard input.
    #[command(hide = true)]
    Engine(engine::Work),
    /// Images to tensors, when told on standard input: for scripts/bench-images.
    #[command(hide = true)]
    Images,
    /// The system alone, under load: prints one JSON object. For `framepipe gpu-accept`.
    #[command(hide = true)]
    System(system::Arguments),
    /// A pipeline without a model, against what cannot be avoided: for scripts/bench-plumbing.
    #[command(hide = true)]
    Plumbing(plumbing::Arguments),
    /// What a frame costs in counts: prints one JSON object. For `scripts/bench-counts`.
    #[command(hide = true)]
    Counts(counts::Arguments),
}

#[derive(Args)]
struct Measure {
    /// The pipeline's configuration.
    #[arg(long, value_name = "FILE", default_value = "config/bench.toml")]
    config: PathBuf,
    /// The configuration of the pipeline whose cascade is measured.
    #[arg(long, value_name = "FILE", default_value = "config/paper.toml")]
    cascade: PathBuf,
    /// Also write the figures, as one flat JSON object.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Length of each measured window.
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    seconds: f64,
    /// How often everything is measured.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Frames in one push.
    #[arg(long, value_name = "N", default_value_t = 4)]
    batch: usize,
    /// Most frames in flight.
    #[arg(long, value_name = "N", default_value_t = 16)]
    in_flight: usize,
    /// The detector's float twin, for INT8 over FP32.
    #[arg(long, value_name = "MODEL", default_value = "resnet18-4class-416-random-fp32")]
    float: ModelRef,
    /// Multiply-accumulates of one inference in 10^9 (scripts/bench_macs.py), for the share of the INT8 limit.
    #[arg(long, value_name = "N", requires = "int8_limit")]
    gmac: Option<f64>,
    /// The program that measures the INT8 limit of one core (scripts/peak_int8.c).
    #[arg(long, value_name = "PROGRAM", requires = "gmac")]
    int8_limit: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.role {
        Some(Role::Engine(work)) => engine::serve(&work),
        Some(Role::Images) => images::serve(),
        Some(Role::System(arguments)) => system::measure(&arguments),
        Some(Role::Plumbing(arguments)) => plumbing::measure(&arguments),
        Some(Role::Counts(arguments)) => counts::measure(&arguments),
        None => measure(&cli.measure),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("framepipe-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Measure) -> anyhow::Result<()> {
    ensure!(
        arguments.seconds >= 0.5 && arguments.seconds <= 3600.0,
        "--seconds {}: give 0.5 to 3600",
        arguments.seconds
    );
    ensure!((1..=1000).contains(&arguments.rounds), "--rounds {}: give 1 to 1000", arguments.rounds);
    ensure!(
        (1..=arguments.in_flight).contains(&arguments.batch),
        "--batch {}: give 1 to the frames in flight, {}",
        arguments.batch,
        arguments.in_flight
    );
    let plan = rounds::Plan {
        config: &arguments.config,
        cascade: &arguments.cascade,
        window: Duration::from_secs_f64(arguments.seconds),
        rounds: arguments.rounds,
        batch: arguments.batch,
        in_flight: arguments.in_flight,
        float: &arguments.float,
        int8_limit: arguments.gmac.zip(arguments.int8_limit.as_deref()),
    };
    let figures = report::report(&rounds::run(&plan)?);
    if let Some(path) = &arguments.json {
        fs::write(path, format!("{figures:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
