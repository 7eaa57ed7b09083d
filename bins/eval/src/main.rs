//! `framepipe eval`: how well a pipeline's detections agree with labels, through the whole system.
//!
//! | file | what it holds |
//! |---|---|
//! | `task.rs` | labels and images, matched with the detector's classes and the files that there are |
//! | `run.rs` | the images pushed, and what was found in each |
//! | `report.rs` | what is said, as a table and as JSON |

mod report;
mod run;
mod task;

use std::{
    io::{ErrorKind, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser;
use framepipe_accuracy::{Labels, accuracy};
use framepipe_client::Client;
use framepipe_pipeline::{Config, ConfigFile, Overrides, Plan, command_line};
use framepipe_temporary::Server;

use crate::{report::Report, task::Task};

/// Measure how well a pipeline's detections agree with labels: bring it up, push the images, compare what it finds.
#[derive(Parser)]
#[command(
    name = "framepipe eval",
    bin_name = "framepipe eval",
    version,
    after_help = "Examples:
  framepipe eval --pipeline street --labels instances_val2017.json --images val2017
  framepipe eval --config config/people.toml --labels VOC2012/Annotations --images VOC2012/JPEGImages
  framepipe eval --pipeline street --labels labels.json --images photos --json | jq .ap50

Labels are COCO's JSON (images, annotations, categories) or a folder of Pascal VOC's XML. Classes
are matched with the detector's by name; labels of others, and images that are not there, are
named and left out. Detections of classes that the labels do not have are not judged.

AP is COCO's: 101 recalls, 100 detections of an image and class, crowds neither right nor wrong,
objects of all sizes; AP50 at an overlap of 0.5, AP50:95 the mean of ten overlaps. VOC's
difficult objects are neither right nor wrong.

AP counts unsure detections, which a pipeline does not serve: this one is started with
--score for its score threshold. detections_max of the detector's manifest stays (the shipped
detectors' is 100 of an image, all classes together). Of attribute models at most one crop of
an image is run.

Exit status: 0 measured; 1 not, or an image could not be processed, as the message says; 2 wrong
usage."
)]
struct Cli {
    #[command(flatten)]
    file: ConfigFile,
    /// COCO's JSON, or a folder of Pascal VOC's XML.
    #[arg(long, value_name = "LABELS")]
    labels: PathBuf,
    /// Folder of the images [default: the folder in which the labels lie].
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Detections above this score count: from 0, which takes long, to below 1.
    #[arg(long, value_name = "SCORE", default_value_t = 0.01)]
    score: f32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match eval(command_line::parse::<Cli>()).await {
        Ok(status) => status,
        Err(error) => {
            eprintln!("framepipe eval: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn eval(cli: Cli) -> anyhow::Result<ExitCode> {
    let overrides = Overrides { score_threshold: Some(cli.score), crops_max: Some(1), ..Overrides::default() };
    let config = Config::load(&cli.file.config, &overrides)?;
    let plan = Plan::of(&config)?;
    let task = Task::new(Labels::read(&cli.labels)?, &plan.detector.detector()?.labels, &folder(&cli)?)?;
    task.warn();

    let arguments = ["--score-threshold", &cli.score.to_string(), "--crops-max", "1"].map(str::to_owned);
    let mut server = Server::start("eval", &cli.file.config, &arguments)?;
    let client = Client::connect_lazy(&server.address())?.with_inbox(&config.server.inbox[0]);
    server.wait_ready(&client).await?;
    let found = run::run(&client, &task).await?;
    server.stop()?;

    let pairs: Vec<_> =
        task.images.iter().zip(&found.images).map(|(image, found)| (&image.objects[..], &found[..])).collect();
    let accuracy = accuracy(&pairs, task.classes.len());
    let report = Report::new(&config, cli.score, &task, &found, accuracy);
    let text = match cli.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => report.to_string(),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(error).context("cannot write to standard output");
        }
        _ => {} // whoever closed the pipe has read enough
    }
    Ok(if found.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the images lie.
fn folder(cli: &Cli) -> anyhow::Result<PathBuf> {
    let beside = || match cli.labels.is_dir() {
        true => cli.labels.clone(),
        false => cli.labels.parent().map(PathBuf::from).unwrap_or_default(),
    };
    let folder = std::path::absolute(cli.images.clone().unwrap_or_else(beside))?;
    anyhow::ensure!(folder.is_dir(), "{} is no folder: name the one of the images (--images)", folder.display());
    Ok(folder)
}
