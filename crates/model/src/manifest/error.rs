//! What can be wrong with a manifest: the file, the key, the value, and what to change.

use std::fmt::{Debug, Display};
use std::path::{Path, PathBuf};

use crate::ModelRef;

/// Why a model cannot be used. Each says all there is to say; none has a source, which would be said twice.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file that cannot be read.
    #[error("cannot read {path}: {error}. Check the path and its permissions; run scripts/setup to make the models")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A manifest that is no TOML, or has a key too many, too few, or of another type.
    #[error("{path}: {}", error.to_string().trim_end())]
    Toml {
        /// The manifest.
        path: PathBuf,
        /// Line, key and reason.
        error: Box<toml::de::Error>,
    },
    /// A value that cannot be right.
    #[error("{path}: {key} = {value}: {advice}")]
    Value {
        /// The manifest.
        path: PathBuf,
        /// The key's full name.
        key: String,
        /// What it says.
        value: String,
        /// What to change.
        advice: String,
    },
    /// A preprocess graph that cannot be.
    #[error("{path}: input.{error}")]
    Input {
        /// The manifest.
        path: PathBuf,
        /// The operator, what is wrong and what to change.
        error: framepipe_vision::GraphError,
    },
    /// No folder of that name holds a model.
    #[error(
        "no model {name:?} in {models_dir}; there {}. Correct the name, run scripts/setup to make the models, or \
         say where they lie (paths.models; a relative path is relative to the configuration's folder)",
        listed(found)
    )]
    MissingModel {
        /// The name asked for.
        name: String,
        /// Where it was looked for.
        models_dir: PathBuf,
        /// The names there are.
        found: Vec<String>,
    },
    /// No such version of a model.
    #[error("no version {model} in {models_dir}; there {}", listed(found))]
    MissingVersion {
        /// The model asked for.
        model: ModelRef,
        /// Where it was looked for.
        models_dir: PathBuf,
        /// Its versions.
        found: Vec<String>,
    },
    /// A manifest whose model file is not there.
    #[error("{manifest} names the file {path}, which does not exist: run scripts/setup")]
    MissingFile {
        /// The manifest.
        manifest: PathBuf,
        /// The model file.
        path: PathBuf,
    },
    /// A model file that is not the one the manifest describes.
    #[error(
        "{path} has the sha256 {actual}, its manifest says {expected}: run scripts/setup to fetch it again, or, where \
         the file was changed on purpose, write its sum into {manifest}"
    )]
    Checksum {
        /// The manifest.
        manifest: PathBuf,
        /// The model file.
        path: PathBuf,
        /// The manifest's sum.
        expected: String,
        /// The file's sum.
        actual: String,
    },
    /// A detector where attributes are wanted, or the reverse.
    #[error("{path}: the model has no [{wanted}] section: name a model that has one")]
    WrongTask {
        /// The manifest.
        path: PathBuf,
        /// The section that is wanted.
        wanted: &'static str,
    },
    /// A manifest whose writer did not know all.
    #[error("{path} is unfinished: look at {}; correct each, and take it out of `unfinished`", what.join("; "))]
    Unfinished {
        /// The manifest.
        path: PathBuf,
        /// What is to be looked at.
        what: Vec<String>,
    },
    /// An INT8 model that is too far from its float twin.
    #[error(
        "{path}: quantized.agreement = {found} is below {}: serve the float model, quantize it again with other images \
         (framepipe model quantize, with its --force to accept what comes of it)",
        super::AGREEMENT_MIN
    )]
    Agreement {
        /// The manifest.
        path: PathBuf,
        /// Its agreement with the float twin.
        found: f64,
    },
    /// An INT8 model for another device.
    #[error(
        "{path}: quantized.target = \"tensorrt\": symmetric numbers saturate in a CPU's kernels, and models are served on \
         the CPU: quantize the float model with --target cpu"
    )]
    Target {
        /// The manifest.
        path: PathBuf,
    },
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "are none".into() } else { format!("are {}", names.join(", ")) }
}

/// Makes the errors of one manifest's values.
#[derive(Clone, Copy)]
pub(crate) struct Checker<'a> {
    manifest: &'a Path,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(manifest: &'a Path) -> Self {
        Self { manifest }
    }

    pub(crate) fn error(&self, key: impl Display, value: impl Debug, advice: impl Display) -> ManifestError {
        ManifestError::Value {
            path: self.manifest.to_owned(),
            key: key.to_string(),
            value: format!("{value:?}"),
            advice: advice.to_string(),
        }
    }

    /// `Ok` where the value `holds`.
    pub(crate) fn require(
        &self,
        holds: bool,
        key: impl Display,
        value: impl Debug,
        advice: impl Display,
    ) -> Result<(), ManifestError> {
        if holds { Ok(()) } else { Err(self.error(key, value, advice)) }
    }

    /// Names that results or tensors bear: at least `count_min`, none empty, none twice.
    pub(crate) fn require_names<'n>(
        &self,
        key: impl Display,
        names: impl IntoIterator<Item = &'n str>,
        count_min: usize,
        count_max: usize,
    ) -> Result<(), ManifestError> {
        let names: Vec<&str> = names.into_iter().collect();
        let repeated = names.iter().enumerate().find(|(index, name)| names[..*index].contains(name));
        self.require(
            (count_min..=count_max).contains(&names.len()),
            &key,
            &names,
            format_args!("give {count_min} to {count_max} names"),
        )?;
        self.require(!names.iter().any(|name| name.trim().is_empty()), &key, &names, "give every name a letter")?;
        match repeated {
            None => Ok(()),
            Some((_, name)) => Err(self.error(&key, &names, format_args!("{name:?} stands there twice: drop one"))),
        }
    }
}
