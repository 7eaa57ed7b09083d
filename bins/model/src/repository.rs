//! `models/<name>/<version>/`: the folders that there are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use framepipe_model::MANIFEST_FILE;

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

/// The folders that `NAME` (all its versions) or `NAME@VERSION` names; at least one, the highest version last.
pub fn named(models: &Path, model: &str) -> anyhow::Result<Vec<PathBuf>> {
    let (name, version) = match model.split_once('@') {
        Some((name, version)) => {
            (name, Some(version.parse::<u32>().with_context(|| format!("{model}: write NAME@NUMBER"))?))
        }
        None => (model, None),
    };
    ensure!(
        !name.is_empty() && !name.starts_with('.') && !name.contains('/'),
        "{model:?} is no model's name: framepipe model list shows them"
    );
    let mut found = versions(&models.join(name));
    found.retain(|(number, _)| version.is_none_or(|version| version == *number));
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
