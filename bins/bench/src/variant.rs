//! A pipeline's configuration with one key of `[pipeline]` said otherwise.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use framepipe_pipeline::{Config, Overrides};
use toml::{Table, Value};

/// Writes it as a file into `folder`.
pub fn with(path: &Path, key: &str, value: Value, folder: &Path) -> anyhow::Result<PathBuf> {
    let config = Config::load(path, &Overrides::default())?;
    let mut table: Table = fs::read_to_string(path)?.parse()?;
    let pipeline =
        table.get_mut("pipeline").and_then(Value::as_table_mut).context("it was loaded, and has [pipeline]")?;
    pipeline.insert(key.into(), value);
    let paths = table.entry("paths").or_insert_with(|| Table::new().into());
    let paths = paths.as_table_mut().context("it was loaded, and [paths] is a table")?;
    for (key, path) in [("models", &config.models), ("onnxruntime", &config.onnxruntime)] {
        paths.insert(key.into(), path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))?.into());
    }
    let copy = folder.join(format!("{key}.toml"));
    fs::write(&copy, table.to_string())?;
    Ok(copy)
}
