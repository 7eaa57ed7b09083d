//! `framepipe model list` and `show`.

use std::{fmt::Write as _, path::Path};

use anyhow::Context as _;
use framepipe_model::{Manifest, ModelRef, Task};
use serde::Serialize;

use crate::repository;

/// One version of a model.
#[derive(Serialize)]
struct Row {
    name: String,
    version: u32,
    task: &'static str,
    labels: Vec<String>,
    precision: &'static str,
    agreement: Option<f64>,
    servable: bool,
    input: Vec<usize>,
    bytes: u64,
    licence: String,
    source: String,
    description: String,
}

impl Row {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let manifest = Manifest::load(folder)?;
        let file = manifest.model_path();
        let bytes = std::fs::metadata(&file).with_context(|| format!("{}: run scripts/setup", file.display()))?.len();
        let servable = manifest.check_servable().is_ok();
        let (task, labels) = match &manifest.task {
            Task::Detector(spec) => ("detector", spec.labels.clone()),
            Task::Attributes(spec) => ("attributes", spec.outputs.iter().map(|output| output.name.clone()).collect()),
        };
        Ok(Self {
            task,
            labels,
            precision: if manifest.quantized.is_some() { "int8" } else { "float" },
            agreement: manifest.quantized.as_ref().map(|quantized| quantized.agreement),
            servable,
            input: manifest.input.plan.shape().to_vec(),
            bytes,
            name: manifest.name,
            version: manifest.version,
            licence: manifest.licence,
            source: manifest.source,
            description: manifest.description,
        })
    }

    fn size(&self) -> String {
        self.input.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
    }
}

/// All models, as a table or JSON.
pub fn list(models: &Path, json: bool) -> anyhow::Result<String> {
    let rows =
        repository::folders(models)?.iter().map(|folder| Row::read(folder)).collect::<anyhow::Result<Vec<_>>>()?;
    if json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(&rows)?));
    }
    let mut text = format!(
        "{:<34} {:>7} {:<10} {:<9} {:<10} {:>8} {}\n",
        "NAME", "VERSION", "TASK", "PRECISION", "INPUT", "MB", "LICENCE"
    );
    for row in &rows {
        let megabytes = row.bytes as f64 / 1e6;
        writeln!(
            text,
            "{:<34} {:>7} {:<10} {:<9} {:<10} {megabytes:>8.1} {}",
            row.name,
            row.version,
            row.task,
            row.precision,
            row.size(),
            row.licence
        )?;
    }
    Ok(text)
}

/// One model, as lines or JSON.
pub fn show(models: &Path, model: &ModelRef, json: bool) -> anyhow::Result<String> {
    let folder = repository::named(models, model)?.pop().expect("at least one is found");
    let row = Row::read(&folder)?;
    if json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(&row)?));
    }
    let precision = match row.agreement {
        Some(agreement) => {
            format!("int8, agreement {agreement} with its float twin{}", if row.servable { "" } else { ": not served" })
        }
        None => row.precision.to_owned(),
    };
    let lines = [
        ("model", format!("{} version {}", row.name, row.version)),
        ("is", row.description.clone()),
        ("task", row.task.to_owned()),
        ("finds", row.labels.join(", ")),
        ("precision", precision),
        ("input", row.size()),
        ("size", format!("{:.1} MB", row.bytes as f64 / 1e6)),
        ("licence", row.licence.clone()),
        ("source", row.source.clone()),
        ("folder", folder.display().to_string()),
    ];
    Ok(lines.iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect())
}
