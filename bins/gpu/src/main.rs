//! `framepipe-gpu`: what framepipe does with a GPU outside a pipeline's stages.
//!
//! | file | what it does |
//! |---|---|
//! | `slab.rs` | makes a slab in a GPU's memory and sends its descriptor to the launcher |
//! | `accept.rs`, `accept/` | `framepipe gpu-accept`: tests and measures this machine's GPU, and writes a report |

mod accept;
mod slab;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use framepipe_gpu::{Choice, Gpu, Unavailable, gpus};
use framepipe_pipeline::command_line;

/// Show GPUs, make slabs in their memory, and accept a machine's GPU.
#[derive(Parser)]
#[command(
    name = "framepipe-gpu",
    version,
    after_help = "Examples:
  framepipe gpu-list
  framepipe gpu-accept --out gpu-report"
)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the GPUs of this machine, or why there is none.
    #[command(
        bin_name = "framepipe gpu-list",
        after_help = "Examples:
  framepipe gpu-list
  framepipe gpu-list --json | jq -r '.[].uuid'

Exit status: 0 there is one; 1 there is none, as the message says; 2 wrong usage."
    )]
    List(ListArguments),
    /// Make a slab for the launcher: its descriptor goes out over the socket at descriptor 3.
    #[command(hide = true)]
    Slab(slab::Arguments),
    /// Run the tests and measurements of a GPU on this machine's, and write a report (JSON and Markdown).
    #[command(override_usage = "framepipe gpu-accept [OPTIONS]")]
    Accept(accept::Arguments),
    /// One side of a test of `accept`.
    #[command(hide = true)]
    Side(accept::slabs::Side),
}

#[derive(Args)]
struct ListArguments {
    /// Print JSON: of each GPU `uuid`, `name`, `pci_bus_id`, `compute_capability`, `multiprocessors` and `memory_bytes`.
    #[arg(long)]
    json: bool,
}

/// Reads the name of a GPU: `first`, `gpu`, or its UUID.
fn choice(text: &str) -> Result<Choice, String> {
    match text {
        "first" | "gpu" => Ok(Choice::First),
        uuid if uuid.starts_with("GPU-") || uuid.starts_with("MIG-") => Ok(Choice::Uuid(uuid.to_owned())),
        other => Err(format!("{other:?} is no GPU: give \"first\" or a UUID, as `framepipe-gpu list` shows it")),
    }
}

fn main() -> ExitCode {
    let done = match command_line::parse::<Cli>().command {
        Verb::List(arguments) => list(arguments.json).map_err(anyhow::Error::from),
        Verb::Slab(arguments) => slab::send(&arguments),
        Verb::Accept(arguments) => accept::accept(&arguments),
        Verb::Side(side) => accept::slabs::take_side(&side),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("framepipe-gpu: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn list(as_json: bool) -> Result<(), Unavailable> {
    let gpus = gpus()?;
    if as_json {
        println!("{}", serde_json::Value::from_iter(gpus.iter().map(json)));
        return Ok(());
    }
    for gpu in gpus {
        let (major, minor) = gpu.compute_capability;
        println!(
            "{}  {}  compute capability {major}.{minor}, {} multiprocessors, {} MiB",
            gpu.uuid,
            gpu.name,
            gpu.multiprocessors,
            gpu.memory_bytes >> 20
        );
    }
    Ok(())
}

fn json(gpu: &Gpu) -> serde_json::Value {
    let (major, minor) = gpu.compute_capability;
    serde_json::json!({
        "uuid": gpu.uuid,
        "name": gpu.name,
        "pci_bus_id": gpu.pci_bus_id,
        "compute_capability": format!("{major}.{minor}"),
        "multiprocessors": gpu.multiprocessors,
        "memory_bytes": gpu.memory_bytes,
    })
}
