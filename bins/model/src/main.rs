//! `framepipe model`: the models of the repository, looked at, checked, removed, and quantized to INT8.
//!
//! | file | what it does |
//! |---|---|
//! | `repository.rs` | the models and versions that there are, and one of them by name |
//! | `add.rs` | `add`: an ONNX file, and what it says of itself |
//! | `list.rs` | `list` and `show` |
//! | `check.rs` | `check`: the checksum, the engine, and what it puts out |
//! | `remove.rs` | `remove`: unless a configuration uses it |
//! | `quantize.rs` | `quantize`: a model's inputs, and the private Python environment's search, run |

mod add;
mod check;
mod list;
mod quantize;
mod remove;
mod repository;

use std::{
    io::{ErrorKind, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use framepipe_infer::Runtime;
use framepipe_model::ModelRef;
use framepipe_pipeline::{Config, ConfigFile, Overrides, command_line};

/// List, show, check, add and remove the models of the repository, and quantize them to INT8.
#[derive(Parser)]
#[command(
    name = "framepipe model",
    bin_name = "framepipe model",
    version,
    after_help = "Examples:
  framepipe model list
  framepipe model show nanodet416-4c-int8
  framepipe model check --all
  framepipe model add yolov8n.onnx --name yolov8n
  framepipe model quantize nanodet416-4c-fp32 --images recordings

To let a model serve in a running pipeline: framepipe model use --help

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage; 130 quantize was stopped by Ctrl-C."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Place {
    /// For the repository (paths.models) and the engine (paths.onnxruntime).
    #[command(flatten)]
    file: ConfigFile,
}

impl Place {
    fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(&self.file.config, &Overrides::default())?)
    }
}

#[derive(Subcommand)]
enum Verb {
    /// List the models: version, task, precision, input, size and licence.
    #[command(after_help = "Examples:
  framepipe model list
  framepipe model list --json | jq '.[] | select(.precision == \"int8\") | .name'

Exit status: 0 all can be read; 1 one cannot, as the message says; 2 wrong usage.")]
    List {
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what is known of one model.
    #[command(after_help = "Examples:
  framepipe model show faceres
  framepipe model show faceres@1 --json

Exit status: 0 done; 1 there is no such model, or it cannot be read; 2 wrong usage.")]
    Show {
        /// NAME, for the highest version, or NAME@VERSION.
        model: ModelRef,
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Compare models with their checksums, open them in the engine, run them once, and compare what comes out.
    #[command(after_help = "Examples:
  framepipe model check nanodet416-4c-int8
  framepipe model check faceres@1
  framepipe model check --all

Exit status: 0 all can be served; 1 one cannot, as its line says; 2 wrong usage.")]
    Check {
        /// NAME, for the highest version, or NAME@VERSION.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        model: Option<ModelRef>,
        /// Every version of every model.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Make a model of an ONNX file: family, input and labels are guessed where its shapes and notes tell them, and what it does not
    /// tell is listed in its manifest, which is not served until somebody has looked at it.
    #[command(after_help = "Examples:
  framepipe model add yolov8n.onnx --name yolov8n --licence AGPL-3.0 --source 'my own training'
  framepipe model add colours.onnx --name colours@3 --labels colours.txt

Exit status: 0 it lies in the repository, finished or not; 1 it does not, as the message says; 2 wrong usage.")]
    Add(add::Arguments),
    /// Remove one version of a model, or all; refused where the configuration uses it.
    #[command(after_help = "Examples:
  framepipe model remove faceres@2
  framepipe model remove faceres --config config/faces.toml --yes

Exit status: 0 removed; 1 refused, as the message says; 2 wrong usage.")]
    Remove {
        /// NAME, for all versions, or NAME@VERSION.
        model: ModelRef,
        #[command(flatten)]
        place: Place,
        /// Remove it even where the configuration uses it.
        #[arg(long)]
        yes: bool,
    },
    /// Make an INT8 model of a float one, if it comes near enough to it and is faster: NAME-int8.
    #[command(after_help = "Examples:
  framepipe model quantize nanodet416-4c-fp32 --images recordings
  framepipe model quantize face-expression --boxes tiny-face-416 --images portraits
  framepipe model quantize yolov8n --images recordings --target tensorrt --report report.json
  framepipe model quantize yolov8n --images recordings --force yolov8n

The images should be those that the model will see: 250 or more. Each fifth calibrates, the
others are the gate's. Searches for a calibration, and for layers to leave float, until the
agreement with the float model is 0.97 or more; docs/int8.md says how it is measured. The same
images give the same model. report.json in the new version's folder has every trial.

Exit status: 0 the new version lies in the repository; 1 it does not, as the message says;
2 wrong usage; 130 stopped by Ctrl-C: nothing was changed.")]
    Quantize(quantize::Arguments),
    /// Load the engine's library and say what it is: for `framepipe doctor`.
    #[command(hide = true)]
    Engine {
        /// ONNX Runtime's library.
        library: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(command_line::parse::<Cli>().verb) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("framepipe model: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::List { place, json } => print(&list::list(&place.load()?.models, json)?),
        Verb::Show { model, place, json } => print(&list::show(&place.load()?.models, &model, json)?),
        Verb::Check { model, place, all: _ } => {
            let (text, holds) = check::check(&place.load()?, model.as_ref())?;
            print(&text)?;
            Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Verb::Add(arguments) => print(&add::add(&arguments.place.load()?, &arguments)?),
        Verb::Remove { model, place, yes } => print(&remove::remove(&place.load()?, &model, yes)?),
        Verb::Engine { library } => {
            let runtime = Runtime::load(&library)?;
            print(&format!("{}: {}\n", runtime.library().display(), runtime.version()))
        }
        Verb::Quantize(arguments) => match quantize::quantize(&arguments.place.load()?, &arguments)? {},
    }
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(ExitCode::SUCCESS), // whoever closed the pipe has read enough
    }
}
