//! `models/<name>/<version>/manifest.toml`: what a model file is, where it came from, what goes in and comes out.
//!
//! Format: the top keys of [`Manifest`], `[input]` (an [`InputSpec`], which lists the preprocess graph), and exactly one of `[detector]`
//! ([`DetectorSpec`]) and `[attributes]` ([`AttributesSpec`]); of an INT8 model `[quantized]` ([`Quantized`]). Unknown keys are errors. A loaded manifest is a checked
//! one: the head it describes can be built.

mod error;
mod quantized;
#[cfg(test)]
pub(crate) mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};

use framepipe_vision::{Input, InputSpec};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{AttributeHead, AttributesSpec, Detector, DetectorSpec, ModelRef, OutputKind};

pub(crate) use error::Checker;
pub use error::ManifestError;
pub use quantized::{AGREEMENT_MIN, Measure, Quantized, Target};

/// Name of a manifest in its folder.
pub const MANIFEST_FILE: &str = "manifest.toml";

/// A model, described and checked.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The folder that it lies in.
    pub dir: PathBuf,
    /// The model's name, which is its folder's.
    pub name: String,
    /// The model's version, which is its inner folder's name.
    pub version: u32,
    /// The model file, in the same folder.
    pub file: String,
    /// The model file's sha256, 64 hex digits in lower case.
    pub sha256: String,
    /// Where the model came from.
    pub source: String,
    /// Its licence.
    pub licence: String,
    /// One line about it.
    pub description: String,
    /// What its writer did not know: somebody must look at each before it is served.
    pub unfinished: Vec<String>,
    /// What goes in.
    pub input: Input,
    /// What comes out.
    pub task: Task,
    /// How near it comes to its float twin, where it is an INT8 model.
    pub quantized: Option<Quantized>,
}

/// What a model does.
#[derive(Clone, Debug)]
pub enum Task {
    /// It finds objects.
    Detector(DetectorSpec),
    /// It describes a crop of an object.
    Attributes(AttributesSpec),
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    version: u32,
    file: String,
    sha256: String,
    source: String,
    licence: String,
    description: String,
    #[serde(default)]
    unfinished: Vec<String>,
    input: InputSpec,
    detector: Option<DetectorSpec>,
    attributes: Option<AttributesSpec>,
    quantized: Option<Quantized>,
}

impl Manifest {
    /// Reads and checks `<dir>/manifest.toml`; the model file itself is left to [`Manifest::verify`].
    ///
    /// # Errors
    /// Names the file, the key, the value and what to change.
    pub fn load(dir: &Path) -> Result<Self, ManifestError> {
        let path = dir.join(MANIFEST_FILE);
        let text = std::fs::read_to_string(&path).map_err(|error| ManifestError::Read { path: path.clone(), error })?;
        let written: Written = toml::from_str(&text)
            .map_err(|error| ManifestError::Toml { path: path.clone(), error: Box::new(error) })?;
        let task = match (written.detector, written.attributes) {
            (Some(detector), None) => Task::Detector(detector),
            (None, Some(attributes)) => Task::Attributes(attributes),
            (detector, _) => {
                let there = if detector.is_some() { "both" } else { "neither" };
                let advice = "write exactly one of [detector] and [attributes]";
                return Err(Checker::new(&path).error("detector, attributes", there, advice));
            }
        };
        let input = written.input.compile();
        let input = input.map_err(|error| ManifestError::Input { path: path.clone(), error })?;
        let manifest = Self {
            dir: dir.to_owned(),
            name: written.name,
            version: written.version,
            file: written.file,
            sha256: written.sha256,
            source: written.source,
            licence: written.licence,
            description: written.description,
            unfinished: written.unfinished,
            input,
            task,
            quantized: written.quantized,
        };
        manifest.check()?;
        Ok(manifest)
    }

    /// Loads a model below `models_dir`, its newest version where none is named: `<models_dir>/<name>/<number>/manifest.toml`.
    ///
    /// # Errors
    /// As [`Manifest::load`]; where there is no such model, the names that there are, or the versions.
    pub fn find(models_dir: &Path, model: &ModelRef) -> Result<Self, ManifestError> {
        let (name, models_dir) = (&model.name, models_dir.to_owned());
        let versions = versions(&models_dir.join(name));
        let wanted = versions.iter().rfind(|(version, _)| model.version.is_none_or(|wanted| wanted == *version));
        let Some((version, dir)) = wanted else {
            return Err(if versions.is_empty() {
                let found = model_names(&models_dir);
                ManifestError::MissingModel { name: name.clone(), models_dir, found }
            } else {
                let found = versions.iter().map(|(version, _)| version.to_string()).collect();
                ManifestError::MissingVersion { model: model.clone(), models_dir, found }
            });
        };
        let manifest = Self::load(dir)?;
        let path = manifest.path();
        let check = Checker::new(&path);
        check.require(manifest.name == *name, "name", &manifest.name, "write the name of its folder, or move it")?;
        check.require(
            manifest.version == *version,
            "version",
            manifest.version,
            "write the number of its folder, or move it",
        )?;
        Ok(manifest)
    }

    /// `Ok` for a model that may be served: a finished one, and if it is INT8, one that is made for the CPU, and near
    /// enough to its float twin or forced.
    ///
    /// # Errors
    /// Says what is to be looked at, or how near it came, and what to do.
    pub fn check_servable(&self) -> Result<(), ManifestError> {
        if !self.unfinished.is_empty() {
            return Err(ManifestError::Unfinished { path: self.path(), what: self.unfinished.clone() });
        }
        match &self.quantized {
            Some(quantized) if quantized.target != Target::Cpu => Err(ManifestError::Target { path: self.path() }),
            Some(quantized) if !quantized.is_near() => {
                Err(ManifestError::Agreement { path: self.path(), found: quantized.agreement })
            }
            _ => Ok(()),
        }
    }

    /// Reads the model file and compares its sha256.
    ///
    /// # Errors
    /// When the file is missing, unreadable or another one.
    pub fn verify(&self) -> Result<(), ManifestError> {
        let path = self.model_path();
        let mut file = File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ManifestError::MissingFile { manifest: self.path(), path: path.clone() },
            _ => ManifestError::Read { path: path.clone(), error },
        })?;
        let mut sum = Sha256::new();
        std::io::copy(&mut file, &mut sum).map_err(|error| ManifestError::Read { path: path.clone(), error })?;
        let actual = hex(&sum.finalize());
        if actual == self.sha256 {
            return Ok(());
        }
        Err(ManifestError::Checksum { manifest: self.path(), path, expected: self.sha256.clone(), actual })
    }

    /// Sums of the files that the manifest names: what a frame in flight means hangs on them.
    pub fn sums(&self) -> impl Iterator<Item = &str> {
        let outputs = match &self.task {
            Task::Detector(_) => &[][..],
            Task::Attributes(spec) => &spec.outputs,
        };
        let charsets = outputs.iter().filter_map(|output| match &output.kind {
            OutputKind::CtcText(spec) => Some(spec.charset_sha256.as_str()),
            _ => None,
        });
        std::iter::once(self.sha256.as_str()).chain(charsets)
    }

    /// The model and its version.
    pub fn reference(&self) -> ModelRef {
        ModelRef { name: self.name.clone(), version: Some(self.version) }
    }

    /// The manifest's own path.
    pub fn path(&self) -> PathBuf {
        self.dir.join(MANIFEST_FILE)
    }

    /// The model file's path.
    pub fn model_path(&self) -> PathBuf {
        self.dir.join(&self.file)
    }

    /// The `[detector]` section.
    ///
    /// # Errors
    /// When the model is no detector.
    pub fn detector(&self) -> Result<&DetectorSpec, ManifestError> {
        match &self.task {
            Task::Detector(spec) => Ok(spec),
            Task::Attributes(_) => Err(ManifestError::WrongTask { path: self.path(), wanted: "detector" }),
        }
    }

    /// The `[attributes]` section.
    ///
    /// # Errors
    /// When the model is a detector.
    pub fn attributes(&self) -> Result<&AttributesSpec, ManifestError> {
        match &self.task {
            Task::Attributes(spec) => Ok(spec),
            Task::Detector(_) => Err(ManifestError::WrongTask { path: self.path(), wanted: "attributes" }),
        }
    }

    fn check(&self) -> Result<(), ManifestError> {
        let path = self.path();
        let check = Checker::new(&path);
        check.require(is_plain_name(&self.name), "name", &self.name, "use letters, digits, '-', '_' and '.' only")?;
        check.require(self.version > 0, "version", self.version, "give 1 or more")?;
        check.require(is_plain_name(&self.file), "file", &self.file, "name a file in the manifest's own folder")?;
        let is_sum = self.sha256.len() == 64 && self.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        check.require(is_sum, "sha256", &self.sha256, "give the 64 lower-case hex digits that sha256sum prints")?;
        check.require_names("input.tensor", [self.input.tensor.as_str()], 1, 1)?;
        let fits = match &self.task {
            Task::Detector(_) => self.input.plan.check_frame(),
            Task::Attributes(_) => self.input.plan.crop_spec().map(drop),
        };
        fits.map_err(|error| ManifestError::Input { path: path.clone(), error })?;
        self.quantized.as_ref().map_or(Ok(()), |quantized| quantized.check(check))?;
        match &self.task {
            Task::Detector(_) => Detector::new(self).map(drop),
            Task::Attributes(_) => AttributeHead::new(self).map(drop),
        }
    }
}

/// The sha256 of bytes, 64 hex digits in lower case.
pub(crate) fn sum_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// True for a name that is one folder or file, here and on every system.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(is_plain)
}

/// The numeric folders below `model` that have a manifest, in order.
fn versions(model: &Path) -> Vec<(u32, PathBuf)> {
    let folders = std::fs::read_dir(model).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = folders
        .filter_map(|folder| Some((folder.file_name().to_str()?.parse().ok()?, folder.path())))
        .filter(|(_, path): &(u32, PathBuf)| path.join(MANIFEST_FILE).is_file())
        .collect();
    versions.sort();
    versions
}

fn model_names(models_dir: &Path) -> Vec<String> {
    let folders = std::fs::read_dir(models_dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = folders
        .filter(|folder| !versions(&folder.path()).is_empty())
        .filter_map(|folder| folder.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
