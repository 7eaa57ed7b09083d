//! `framepipe model quantize`: scripts/models/quantise_search.py, run in the private Python environment.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use clap::{Args, ValueEnum as _};

/// What is quantized, on which images, for which device.
#[derive(Args)]
pub struct Arguments {
    /// A shipped model that has a float graph.
    name: String,
    /// Folder of photos (JPEG, PNG, WebP, BMP) of what the model is for.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// What will run it: weights and activations differ.
    #[arg(long, default_value = "cpu")]
    target: Target,
    /// The new version's number [default: the highest and one].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    out_version: Option<u32>,
    /// Keep this model even where it is too far from the float one, or no faster; the manifest says so.
    #[arg(long, value_name = "NAME")]
    force: Option<String>,
    /// The Python environment that scripts/setup makes.
    #[arg(long, value_name = "FILE", default_value = "build/venv/bin/python")]
    python: PathBuf,
}

/// A kind of device.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Target {
    /// u8 activations, weights of 7 bits.
    Cpu,
    /// Symmetric s8 activations and weights.
    Tensorrt,
}

/// Becomes the search; returns why it could not.
pub fn quantize(arguments: &Arguments) -> anyhow::Error {
    let script = Path::new("scripts/models/quantise_search.py");
    if !arguments.python.is_file() {
        return anyhow::anyhow!(
            "no Python at {}: run scripts/setup, or name one with scripts/requirements.txt installed: --python FILE",
            arguments.python.display()
        );
    }
    if !script.is_file() {
        return anyhow::anyhow!("{} is not here: run it in framepipe's own folder", script.display());
    }
    if !arguments.images.is_dir() {
        return anyhow::anyhow!("--images {}: there is no such folder", arguments.images.display());
    }
    let target = arguments.target.to_possible_value().expect("no target is hidden");
    let mut command = Command::new(&arguments.python);
    command.arg(script).arg(&arguments.name).arg("--images").arg(&arguments.images);
    command.args(["--target", target.get_name()]);
    if let Some(version) = arguments.out_version {
        command.args(["--out-version", &version.to_string()]);
    }
    if let Some(name) = &arguments.force {
        command.args(["--force", name]);
    }
    let error = command.exec();
    anyhow::anyhow!("cannot run {}: {error}", arguments.python.display())
}
