//! `framepipe config`: whether a configuration is good, what it comes to and where each value comes from, and what the defaults are.

use std::{fmt::Write as _, path::Path, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use framepipe_pipeline::{Config, Explained, Instance, MemoryNeed, Origin, Overrides, Plan, Setting};
use serde_json::{Map, Value, json};

use crate::{
    print,
    room::{Room, mib},
};

/// Every key with its default, and what it is for.
const DOCUMENTED: &str = include_str!("../../../config/framepipe.toml");

/// What to do with the configuration.
#[derive(Subcommand)]
pub enum ConfigVerb {
    /// Say whether a pipeline could be started with it: its keys, its models' manifests, and the memory that it reserves.
    #[command(after_help = "Examples:
  framepipe config check --config config/street.toml
  FRAMEPIPE_STAGES__DETECT__PROCESSES=4 framepipe config check --config /etc/framepipe/street.toml

Models are not compared with their checksums: framepipe doctor does that.

Exit status: 0 it is good; 1 it is not, as the message says; 2 wrong usage.")]
    Check,
    /// Print the effective configuration, each key with where it comes from: default, file, drop-in, variable or option.
    #[command(after_help = "Examples:
  framepipe config show --config config/street.toml
  framepipe config show --json | jq '.settings[\"stages.detect.processes\"]'

What is printed is a configuration itself, which says the same without any drop-in, variable or option.

Exit status: 0 done; 1 the configuration is not good, as the message says; 2 wrong usage.")]
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the documented default file: every key with its default, and what it is for.
    #[command(after_help = "Example:
  framepipe config default > /etc/framepipe/street.toml

Exit status: 0 done; 2 wrong usage.")]
    Default,
}

/// Of which pipeline, and what to do.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe config check --config config/street.toml
  framepipe config show --config config/street.toml
  framepipe config default

A pipeline's configuration comes in layers, each overriding those before it key by key. Of DIR/street.toml:
  1. the file;
  2. drop-ins: DIR/framepipe.d/*.toml (for every pipeline in DIR), then DIR/street.d/*.toml, in the order of their names;
  3. variables: FRAMEPIPE_STAGES__DETECT__PROCESSES=3 is stages.detect.processes = 3;
  4. options of the command line.
Relative paths in 1 to 3 are relative to DIR; those of options to where you are.

Exit status: 0 done; 1 the configuration is not good, as the message says; 2 wrong usage.")]
pub struct ConfigArgs {
    #[command(flatten)]
    instance: Instance,
    #[command(subcommand)]
    verb: ConfigVerb,
}

/// `framepipe config`.
pub fn run(arguments: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let ConfigArgs { instance, verb } = arguments;
    print(&answer(&instance.file.config, &instance.over(Overrides::default()), verb)?)
}

/// Does it; what is to be printed.
fn answer(path: &Path, overrides: &Overrides, verb: &ConfigVerb) -> anyhow::Result<String> {
    match verb {
        ConfigVerb::Check => check(path, &Config::load(path, overrides)?),
        ConfigVerb::Show { json: false } => show(path, &Config::explain(path, overrides)?),
        ConfigVerb::Show { json: true } => show_json(path, &Config::explain(path, overrides)?),
        ConfigVerb::Default => Ok(DOCUMENTED.to_owned()),
    }
}

fn check(path: &Path, config: &Config) -> anyhow::Result<String> {
    let plan = Plan::of(config).with_context(|| path.display().to_string())?;
    let need = MemoryNeed::of(config, &plan).with_context(|| path.display().to_string())?;
    let room = Room::of(config).with_context(|| format!("paths.shm = {}", config.shm.display()))?;
    if let Some(lack) = room.lacks(&need) {
        bail!("{}: {lack}: lower [pools] and server.frames_max, or make that file system larger", path.display());
    }
    let models: Vec<String> = plan.models().map(|model| model.reference().to_string()).collect();
    Ok(format!(
        "{}: good: pipeline {}, models {}; {} of {} are reserved at the start, {} at most with the cache and unread results\n",
        path.display(),
        config.name,
        models.join(", "),
        mib(need.segment),
        config.shm.display(),
        mib(need.shm())
    ))
}

fn show(path: &Path, explained: &Explained) -> anyhow::Result<String> {
    let settings = explained.settings().context("a path of the configuration is no UTF-8")?;
    let mut text =
        format!("# The effective configuration of {}. Later layers override earlier ones:\n", plain(path.display()));
    for layer in &explained.layers {
        writeln!(text, "#   {:<9} {}", layer.kind(), plain(layer))?;
    }
    let mut section = "";
    for Setting { key, value, origin } in &settings {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        if table != section {
            section = table;
            writeln!(text, "\n[{table}]")?;
        }
        match value {
            Some(value) => writeln!(text, "{:<40} # {}", format!("{name} = {value}"), plain(origin))?,
            None => writeln!(text, "{:<40} # {}", format!("# {name}: not said"), plain(origin))?,
        }
    }
    Ok(text)
}

fn show_json(path: &Path, explained: &Explained) -> anyhow::Result<String> {
    let settings = explained.settings().context("a path of the configuration is no UTF-8")?;
    let origin = |origin: &Origin| json!({ "kind": origin.kind(), "name": origin.to_string() });
    let settings: Map<String, Value> = settings
        .iter()
        .map(|Setting { key, value, origin: said }| (key.clone(), json!({ "value": value, "from": origin(said) })))
        .collect();
    let layers: Vec<Value> = explained.layers.iter().map(origin).collect();
    let shown = json!({ "file": path.display().to_string(), "layers": layers, "settings": settings });
    Ok(format!("{}\n", serde_json::to_string_pretty(&shown)?))
}

/// Words that stay within their line.
fn plain(words: impl ToString) -> String {
    words.to_string().chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn what_is_shown_is_the_same_configuration() {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("street.toml");
        fs::write(&path, "name = \"x\\ny\"\n[pipeline]\ndetector = \"finder\"\nscore_threshold = 0.3\n")
            .expect("a file");
        let name = Overrides { name: Some("line".into()), ..Overrides::default() };
        let explained = Config::explain(&path, &name).expect("it is good");
        let shown = show(&path, &explained).expect("it can be written down");
        let again = Config::parse(&shown, Path::new("/elsewhere/x.toml"), &Overrides::default()).expect(&shown);
        assert_eq!(again, explained.config);
        let line = |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
        assert!(line("name").ends_with("# --name"), "{shown}");
        assert!(line("score_threshold").ends_with(&format!("# {}", path.display())), "{shown}");
        assert!(line("crops_max").ends_with("# default"), "{shown}");
    }

    #[test]
    fn the_default_file_is_a_good_configuration() {
        Config::parse(DOCUMENTED, Path::new("/x.toml"), &Overrides::default()).expect("it is good");
    }
}
