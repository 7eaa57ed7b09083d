//! `models/<name>/<version>/`: the folders that there are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use framepipe_model::{MANIFEST_FILE, ModelRef};

/// Folders of all versions that have a manifest, by name and version.
pub fn folders(models: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let names = std::fs::read_dir(models)
        .with_context(|| format!("cannot read {}: correct paths.models, or run scripts/setup", models.display()))?;
    let mut found = Vec::new();
    for name in names.flatten().filter(|name| !name.file_name().to_string_lossy().starts_with('.')) {
        found.extend(versions(&name.path()).into_iter().map(|(version, path)| (name.file_name(), version, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, _, path)| path).collect())
}

/// The folders of a model: all its versions, where none is named; at least one, the highest version last.
pub fn named(models: &Path, model: &ModelRef) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = versions(&models.join(&model.name));
    found.retain(|(number, _)| model.version.is_none_or(|version| version == *number));
    if found.is_empty() {
        bail!("no model {model} in {}: framepipe model list shows what there is", models.display());
    }
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn versions(name: &Path) -> Vec<(u32, PathBuf)> {
    let folders = std::fs::read_dir(name).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = folders
        .filter_map(|folder| Some((folder.file_name().to_str()?.parse().ok()?, folder.path())))
        .filter(|(_, path)| path.join(MANIFEST_FILE).is_file())
        .collect();
    found.sort();
    found
}
