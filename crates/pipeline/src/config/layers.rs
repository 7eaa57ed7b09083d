//! The layers of a pipeline's configuration, in this order, each overriding those before it key by key (tables merge, everything
//! else is replaced). Of DIR/street.toml:
//!
//! 1. the file;
//! 2. drop-ins: DIR/framepipe.d/*.toml (for every pipeline in DIR), then DIR/street.d/*.toml (for this one), each folder's in the
//!    lexical order of their names. Hidden files, and those whose names do not end in `.toml`, are none;
//! 3. the environment (`environment.rs`);
//! 4. the command line (`overrides.rs`).
//!
//! Each layer is checked alone when it comes, so that an error names the very file, variable or option. Relative paths in layers 1
//! to 3 are relative to DIR.

#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use serde::Deserialize as _;
use toml::{Table, Value};

use super::{ConfigError, Origin, Overrides, environment, origin::Origins, raw::Raw, unknown};

/// Folder of the drop-ins of every pipeline in a folder.
const FOR_ALL: &str = "framepipe.d";
/// The file that documents every key, and the folder where the pipelines' are looked for.
const DOCUMENTED: &str = "framepipe.toml";
const PIPELINES: &str = "config";
/// Most pipelines that are named where there is not the one that was meant.
const NAMED_MAX: usize = 16;
/// Most bytes of one file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most drop-ins of one folder.
const DROP_INS_MAX: usize = 256;

/// All that was said, and who said it.
#[derive(Debug)]
pub(super) struct Layers {
    merged: Table,
    /// Who said what.
    pub(super) origins: Origins,
    /// Each that said anything, in their order.
    pub(super) said: Vec<Origin>,
}

impl Layers {
    /// The first layer alone: this text, which lies at `path`.
    pub(super) fn of_text(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut layers = Self { merged: Table::new(), origins: Origins::new(path.into()), said: Vec::new() };
        layers.add_text(text, Origin::File(path.into()))?;
        Ok(layers)
    }

    /// The file and its drop-ins.
    pub(super) fn of_files(path: &Path, folder: &Path) -> Result<Self, ConfigError> {
        let text = read(path).map_err(|error| match error {
            ConfigError::Read { path, error }
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) =>
            {
                ConfigError::Absent { advice: others(&path), path, error }
            }
            error => error,
        })?;
        let mut layers = Self::of_text(&text, path)?;
        let own = path.file_stem().map(|stem| Path::new(stem).with_added_extension("d")).unwrap_or_default();
        let folders = [PathBuf::from(FOR_ALL), own];
        // framepipe.toml's own drop-ins are everybody's.
        let folders = if folders[0] == folders[1] { &folders[..1] } else { &folders[..] };
        for drop_in in folders.iter().map(|name| files(&folder.join(name))).collect::<Result<Vec<_>, _>>()?.concat() {
            layers.add_text(&read(&drop_in)?, Origin::DropIn(drop_in))?;
        }
        Ok(layers)
    }

    /// Adds what the environment says.
    pub(super) fn add_environment(&mut self, environment: environment::Environment) -> Result<(), ConfigError> {
        for (name, table) in environment::layers(environment)? {
            self.add(table, Origin::Variable(name));
        }
        Ok(())
    }

    /// Adds what the command line says.
    pub(super) fn add_overrides(&mut self, overrides: &Overrides) -> Result<(), ConfigError> {
        for (option, table) in overrides.layers()? {
            let origin = Origin::Option(option);
            typed(&table).map_err(|error| ConfigError::Toml { origin: origin.clone(), error: Box::new(error) })?;
            self.add(table, origin);
        }
        Ok(())
    }

    /// All of them together.
    pub(super) fn typed(&self, path: &Path) -> Result<Raw, ConfigError> {
        let origin = || Origin::File(path.into());
        let raw =
            typed(&self.merged).map_err(|error| ConfigError::Toml { origin: origin(), error: Box::new(error) })?;
        let advice = "name the detector, a model of the repository, in [pipeline] (framepipe model list)";
        match raw.has_detector() {
            true => Ok(raw),
            false => Err(ConfigError::Missing { path: path.into(), key: "pipeline.detector", advice }),
        }
    }

    fn add_text(&mut self, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let wrong = |error| ConfigError::Toml { origin: origin.clone(), error: Box::new(error) };
        let table = toml::from_str(text).map_err(wrong)?;
        // Read as what it shall be, too: the error then shows the line.
        toml::from_str::<Raw>(text).map_err(|error| match unknown::unknown(&error, &table) {
            Some(key) => {
                let advice = unknown::advice(&key);
                ConfigError::UnknownKey { origin: origin.clone(), error: Box::new(error), advice }
            }
            None => wrong(error),
        })?;
        self.add(table, origin);
        Ok(())
    }

    fn add(&mut self, table: Table, origin: Origin) {
        merge(&mut self.merged, table, "", &mut |key| self.origins.note(key, &origin));
        self.said.push(origin);
    }
}

/// What a table says, checked alone.
pub(super) fn typed(table: &Table) -> Result<Raw, toml::de::Error> {
    Raw::deserialize(table.clone())
}

/// Puts `from` over `into`, key by key, and names each key whose value it says.
fn merge(into: &mut Table, from: Table, prefix: &str, named: &mut impl FnMut(String)) {
    for (name, value) in from {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(from) => {
                let into = into.entry(name).or_insert_with(|| Value::Table(Table::new()));
                if let Value::Table(into) = into {
                    merge(into, from, &key, named);
                }
            }
            value => {
                into.insert(name, value);
                named(key);
            }
        }
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |error| ConfigError::Read { path: path.into(), error };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let what = format!("it has more than {FILE_BYTES_MAX} bytes, and is no configuration: name another file");
        return Err(ConfigError::TooMuch { path: path.into(), what });
    }
    Ok(text)
}

/// What to say instead of a pipeline's file that is not there: those beside it, or the usual ones.
fn others(path: &Path) -> String {
    let is_pipeline = |file: &PathBuf| {
        let text = file.is_file().then(|| read(file).ok()).flatten(); // a FIFO would be waited for
        let raw = text.and_then(|text| toml::from_str::<Raw>(&text).ok());
        file.file_name().is_some_and(|name| name != DOCUMENTED) && raw.is_some_and(|raw| raw.has_detector())
    };
    let pipelines = |folder: &Path| {
        let found = files(folder).unwrap_or_default().into_iter().filter(is_pipeline);
        found.take(NAMED_MAX).map(|file| file.display().to_string()).collect::<Vec<_>>()
    };
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    let beside = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folders = [beside, Path::new(PIPELINES)];
    match folders.into_iter().map(pipelines).find(|found| !found.is_empty()) {
        Some(found) => format!("there are {}: name one with --config FILE", found.join(", ")),
        None => "name the pipeline's file with --config FILE; framepipe config default prints one".into(),
    }
}

/// The files of a folder, which need not be there, that are named as drop-ins are, in their order.
fn files(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |error| ConfigError::Read { path: folder.into(), error };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b".") || !bytes.ends_with(b".toml") {
            continue;
        }
        if found.len() == DROP_INS_MAX {
            let what = format!("it holds more than {DROP_INS_MAX} drop-ins: put them together in fewer files");
            return Err(ConfigError::TooMuch { path: folder.into(), what });
        }
        found.push(folder.join(name));
    }
    found.sort();
    Ok(found)
}
