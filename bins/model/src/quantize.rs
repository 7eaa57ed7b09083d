//! `framepipe model quantize`: the inputs are made here, by the model's own graph of operators; scripts/models/quantise_model.py
//! searches, in the private Python environment, and puts what comes of it into the repository.
//!
//! The inputs are a file without a name, which Python gets as its standard input: it goes with the processes, whatever ends them.

mod images;
mod inputs;

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum as _};
use framepipe_model::{Manifest, ModelRef, Task};
use framepipe_pipeline::Config;
use serde::Serialize;

use crate::Place;

/// Least inputs of the gate without `--force`: fewer cannot tell 0.97.
const GATE_MIN: usize = 200;
/// Least inputs of the calibration without `--force`.
const CALIBRATION_MIN: usize = 20;
/// The search.
const SCRIPT: &str = "scripts/models/quantise_model.py";

/// What is quantized, on which images, for which device.
#[derive(Args)]
pub struct Arguments {
    /// A float model of the repository: NAME, for its highest version, or NAME@VERSION.
    model: ModelRef,
    /// Folder of images (JPEG, PNG, WebP, BMP) of what the model is for: 250 or more that differ.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Of an attribute model: the detector whose detections are cropped [default: each image is one crop, whole].
    #[arg(long, value_name = "DETECTOR")]
    boxes: Option<ModelRef>,
    /// What will run it: weights and activations differ.
    #[arg(long, default_value = "cpu")]
    target: Target,
    /// The version's number of NAME-int8 [default: the highest and one].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    out_version: Option<u32>,
    /// Keep this model even where it is too far from the float one, no faster, or measured on few images; the manifest says so.
    #[arg(long, value_name = "NAME")]
    force: Option<String>,
    /// Write what the search came to, with every trial, here too, whether or not a model comes of it.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The Python environment that scripts/setup makes.
    #[arg(long, value_name = "FILE", default_value = "build/venv/bin/python")]
    python: PathBuf,
    #[command(flatten)]
    pub place: Place,
}

/// A kind of device.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Target {
    /// u8 activations, weights of 7 bits.
    Cpu,
    /// Symmetric s8 activations and weights; not served on the CPU.
    Tensorrt,
}

/// What the search is told; the inputs are its standard input, the calibration's before the gate's.
#[derive(Serialize)]
struct Job<'a> {
    /// The version's folder.
    folder: &'a Path,
    /// The graph in it.
    file: &'a str,
    models: &'a Path,
    target: String,
    out_version: Option<u32>,
    is_forced: bool,
    /// True where the inputs are as many as the gate wants.
    is_enough: bool,
    report: Option<&'a Path>,
    shape: [usize; 3],
    dtype: framepipe_vision::DataType,
    width: u32,
    height: u32,
    calibration: usize,
    gate: usize,
    images: usize,
}

/// Makes the inputs and becomes the search, so that a return is an error.
pub fn quantize(config: &Config, arguments: &Arguments) -> anyhow::Result<std::convert::Infallible> {
    let Arguments { model, python, .. } = arguments;
    ensure!(
        python.is_file(),
        "no Python at {}: run scripts/setup, or name one with scripts/requirements.txt installed: --python FILE",
        python.display()
    );
    ensure!(Path::new(SCRIPT).is_file(), "{SCRIPT} is not here: run it in framepipe's own folder");
    let manifest = Manifest::find(&config.models, model)?;
    manifest.check_servable()?;
    manifest.verify()?;
    ensure!(manifest.quantized.is_none(), "{} is an INT8 model already: name a float one", manifest.reference());
    if let Some(name) = &arguments.force {
        ensure!(*name == manifest.name, "--force {name} is not the model {}: name it again", manifest.name);
    }
    if let Some(report) = &arguments.report {
        let is_place = report.file_name().is_some() && std::path::absolute(report)?.parent().is_some_and(Path::is_dir);
        ensure!(is_place && !report.is_dir(), "--report {}: name a file in a folder that is there", report.display());
    }
    let finder = finder(config, &manifest, arguments.boxes.as_ref())?;
    let images = images::chosen(&arguments.images)?;
    let is_forced = arguments.force.is_some();
    if finder.is_none() && !is_forced {
        check_count(arguments, images.calibration.len(), images.gate.len())?; // before the work
    }
    let inputs = inputs::make(config, &manifest, finder, &images)?;
    let is_enough = check_count(arguments, inputs.calibration, inputs.gate)?;
    let plan = &manifest.input.plan;
    let job = Job {
        folder: &manifest.dir,
        file: &manifest.file,
        models: &config.models,
        target: arguments.target.to_possible_value().expect("no target is hidden").get_name().to_owned(),
        out_version: arguments.out_version,
        is_forced,
        is_enough,
        report: arguments.report.as_deref(),
        shape: plan.shape(),
        dtype: plan.dtype(),
        width: plan.width(),
        height: plan.height(),
        calibration: inputs.calibration,
        gate: inputs.gate,
        images: inputs.images,
    };
    let mut command = Command::new(python);
    command.arg(SCRIPT).arg(serde_json::to_string(&job)?).stdin(Stdio::from(inputs.file));
    let error = command.exec();
    bail!("cannot run {}: {error}", python.display())
}

/// True where there are inputs enough; refused where there are not, unless they are to do by `--force`.
fn check_count(arguments: &Arguments, calibration: usize, gate: usize) -> anyhow::Result<bool> {
    let folder = arguments.images.display();
    ensure!(calibration > 0 && gate > 0, "{folder} gives too few inputs: give 250 or more images that differ");
    let is_enough = calibration >= CALIBRATION_MIN && gate >= GATE_MIN;
    ensure!(
        is_enough || arguments.force.is_some(),
        "{folder} gives {calibration} inputs to calibrate on and {gate} for the gate, which need {CALIBRATION_MIN} and {GATE_MIN}: \
         give 250 or more images that differ, or --force {} to go by so few",
        arguments.model.name
    );
    if !is_enough {
        eprintln!("quantize: {gate} inputs for the gate, which wants {GATE_MIN}: what it finds is not to be relied on");
    }
    Ok(is_enough)
}

/// The detector that finds what an attribute model is to see.
fn finder(config: &Config, manifest: &Manifest, boxes: Option<&ModelRef>) -> anyhow::Result<Option<Manifest>> {
    let Some(boxes) = boxes else { return Ok(None) };
    let Task::Attributes(attributes) = &manifest.task else {
        bail!("{} is a detector, which sees whole images: leave out --boxes", manifest.name)
    };
    let finder = Manifest::find(&config.models, boxes)?;
    finder.check_servable()?;
    finder.verify()?;
    let labels = &finder.detector()?.labels;
    ensure!(
        attributes.applies_to.iter().any(|label| labels.contains(label)),
        "{} describes {}, and {} finds {}: name a detector that finds one of them",
        manifest.name,
        attributes.applies_to.join(", "),
        finder.name,
        labels.join(", ")
    );
    Ok(Some(finder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_and_the_gate_go_by_the_same_numbers() {
        let gate = include_str!("../../../scripts/models/gate.py");
        let agreement = format!("\nAGREEMENT_MIN = {}\n", framepipe_model::AGREEMENT_MIN);
        assert!(gate.contains(&agreement), "{agreement}");
        assert!(gate.contains(&format!("\nINPUTS_MIN = {GATE_MIN}\n")), "{GATE_MIN}");
    }
}
