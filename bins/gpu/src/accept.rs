//! `framepipe gpu-accept`: every test and measurement that needs a GPU, on this machine's, in one report.

mod models;
mod photo;
mod pipeline;
mod preprocess;
mod report;
pub mod slabs;

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use framepipe_gpu::{Ceilings, Choice, Device};
use framepipe_pipeline::{Config, Overrides};

use report::Report;

#[derive(Args)]
#[command(after_help = "Examples:
  framepipe gpu-accept
  framepipe gpu-accept --device GPU-155d4096-286a-33ad-450b-20779a858f20 --out gpu-report
  framepipe gpu-accept --only slabs,models --batches 1,8,32
  framepipe gpu-accept --only pipeline --seconds 10

It writes report.json and report.md, after each part what there is by then.

On a T4 it also judges the rates that docs/gpu.md wants of one.

Exit status: 0 all tests passed; 1 one did not, a model does not run on the GPU, a T4 is too slow, or there is no GPU, as the
message says; 2 wrong usage.")]
pub struct Arguments {
    /// The pipeline's configuration, whose device is a GPU.
    #[arg(long, value_name = "FILE", default_value = "config/paper-gpu.toml")]
    config: PathBuf,
    /// The GPU: `first`, or its UUID.
    #[arg(long, value_parser = crate::choice, default_value = "first")]
    device: Choice,
    /// Folder of the report; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "gpu-report")]
    out: PathBuf,
    /// Parts to run, instead of all.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Length of each measured window of the pipeline.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Sizes of batches to measure models in.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64", value_parser = clap::value_parser!(u16).range(1..=256))]
    batches: Vec<u16>,
}

/// A part of the acceptance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Part {
    /// Memory that processes share.
    Slabs,
    /// Models against the CPU, and their rates.
    Models,
    /// Decoding, resizing and crops: kernels against the CPU, and rates.
    Preprocess,
    /// The whole pipeline at 0, 1, 2 and 4 crops a frame: raw frames of the detector's size, with MPS and without, and JPEGs.
    Pipeline,
}

/// Runs the parts and writes the report.
pub fn accept(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config, &Overrides::default())?;
    let device = Device::open(&arguments.device)?;
    ensure!(
        matches!(config.device, framepipe_pipeline::Device::Gpu(_)),
        "{} has pipeline.device = \"{}\": give one whose device is a GPU, such as config/paper-gpu.toml",
        arguments.config.display(),
        config.device
    );
    let parts: BTreeSet<Part> = match arguments.only[..] {
        [] => Part::value_variants().iter().copied().collect(),
        _ => arguments.only.iter().copied().collect(),
    };
    fs::create_dir_all(&arguments.out).with_context(|| arguments.out.display().to_string())?;
    eprintln!("gpu-accept: {}: what it can do at most ...", device.gpu().name);
    let ceilings = Ceilings::measure(&device)?;
    let mut report = Report::new(device.gpu(), &ceilings);
    if parts.contains(&Part::Slabs) {
        eprintln!("gpu-accept: slabs between processes ...");
        report.slabs = Some(slabs::test(&arguments.device, &device).context("slabs between processes")?);
        report.write(&arguments.out)?;
    }
    if parts.contains(&Part::Models) {
        eprintln!("gpu-accept: the models of {} ...", arguments.config.display());
        let mut batches: Vec<usize> = arguments.batches.iter().map(|batch| usize::from(*batch)).collect();
        batches.sort_unstable();
        batches.dedup();
        report.models = models::measure(&config, &device, &ceilings, &batches)?;
        report.write(&arguments.out)?;
    }
    if parts.contains(&Part::Preprocess) {
        eprintln!("gpu-accept: from images to tensors ...");
        report.preprocess = Some(preprocess::measure(&arguments.device, &device).context("preprocess")?);
        report.write(&arguments.out)?;
    }
    if parts.contains(&Part::Pipeline) {
        let uuid = device.gpu().uuid.clone();
        // Its processes have the GPU to themselves.
        drop(device);
        pipeline::measure(&arguments.config, &uuid, arguments.seconds, |run| {
            report.pipeline.push(run);
            report.write(&arguments.out)
        })?;
    }
    report.write(&arguments.out)?;
    print!("{report}");
    let refused: Vec<&str> =
        report.models.iter().filter(|model| model.refused.is_some()).map(|model| &model.name[..]).collect();
    ensure!(refused.is_empty(), "models that do not run on the GPU: {}", refused.join(", "));
    let unmeasured = report.pipeline.iter().filter(|run| run.refused.is_some()).count();
    ensure!(unmeasured == 0, "{unmeasured} runs of the pipeline could not be measured: see the report");
    let wrong: Vec<String> = report.preprocess.iter().flat_map(preprocess::Preprocess::wrong).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    let missed: Vec<String> =
        report.targets().filter(|target| !target.is_met()).map(|target| target.to_string()).collect();
    ensure!(missed.is_empty() || !report.is_t4(), "slower than a T4 has to be: {}", missed.join("; "));
    Ok(())
}
