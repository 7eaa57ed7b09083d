//! `framepipe model remove`: each version is renamed away first, so that none is ever half there.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use framepipe_model::ModelRef;
use framepipe_pipeline::Config;

use crate::repository;

/// Removes a model; says what it removed.
pub fn remove(config: &Config, model: &ModelRef, yes: bool) -> anyhow::Result<String> {
    let folders = repository::named(&config.models, model)?;
    let name = &model.name;
    let is_used = config.detector.name == *name || config.attributes.iter().any(|used| used.name == *name);
    ensure!(
        yes || !is_used,
        "the configuration {} uses {name}: name another model there, or give --yes to remove {model} all the same",
        config.name
    );
    let mut text = String::new();
    for folder in folders {
        remove_folder(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        text += &format!("removed {}\n", folder.display());
    }
    // The model's own folder goes with its last version; what else lies in it keeps it.
    let _ = fs::remove_dir(config.models.join(name));
    Ok(text)
}

fn remove_folder(folder: &Path) -> std::io::Result<()> {
    let version = folder.file_name().expect("a version's folder has a name").to_string_lossy();
    let leaving = folder.with_file_name(format!(".{version}.gone"));
    fs::rename(folder, &leaving)?;
    fs::remove_dir_all(leaving)
}
