//! `framepipe model check`: whether a model would be served, found out by doing once what serving does.

use std::{fmt::Write as _, path::Path};

use anyhow::ensure;
use framepipe_infer::{CpuModel, ModelFile, Options, Runtime};
use framepipe_model::{AttributeHead, Detector, Manifest, ModelRef, Task};
use framepipe_pipeline::Config;

use crate::repository;

/// Checks the model that is named, or all; returns a line for each, and whether all hold.
pub fn check(config: &Config, model: Option<&ModelRef>) -> anyhow::Result<(String, bool)> {
    let folders = match model {
        Some(model) => vec![repository::named(&config.models, model)?.pop().expect("at least one is found")],
        None => repository::folders(&config.models)?,
    };
    let runtime = Runtime::load(&config.onnxruntime)?;
    let (mut text, mut holds) = (String::new(), true);
    for folder in folders {
        match one(&runtime, &folder) {
            Ok(manifest) => writeln!(text, "{}@{}: good", manifest.name, manifest.version)?,
            Err(error) => {
                holds = false;
                writeln!(text, "{}: {error:#}", folder.display())?;
            }
        }
    }
    Ok((text, holds))
}

fn one(runtime: &Runtime, folder: &Path) -> anyhow::Result<Manifest> {
    let manifest = Manifest::load(folder)?;
    manifest.verify()?;
    manifest.check_servable()?;
    let path = manifest.model_path();
    let file = ModelFile { path: &path, sha256: &manifest.sha256 };
    let open = |outputs: &[&str]| -> anyhow::Result<CpuModel> {
        let options = Options { threads: 1, batch_max: 1 };
        let mut model = CpuModel::open(runtime, file, &manifest.input, outputs, options)?;
        model.warm_up(&[])?;
        Ok(model)
    };
    match &manifest.task {
        Task::Detector(_) => {
            let head = Detector::new(&manifest)?;
            let model = open(&head.outputs())?;
            ensure!(
                head.raw_shapes() == model.output_shapes(),
                "the model puts out {:?}, and its head reads {:?}: correct [detector.head] and the labels in {}",
                model.output_shapes(),
                head.raw_shapes(),
                manifest.path().display()
            );
        }
        Task::Attributes(_) => {
            let head = AttributeHead::new(&manifest)?;
            let model = open(&head.outputs())?;
            for (output, shape) in model.output_shapes().iter().enumerate() {
                head.value_count(output, shape.iter().product())?;
            }
        }
    }
    Ok(manifest)
}
