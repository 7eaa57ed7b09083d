//! The options by which every program is told which pipeline is meant.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
};

use clap::Args;

use crate::{Config, ConfigError, Overrides};

/// `--config`, or `--pipeline`. Global: a program with verbs takes it before and behind them.
#[derive(Args, Clone, Debug)]
pub struct ConfigFile {
    /// The pipeline's configuration, or NAME for config/NAME.toml; config/framepipe.toml documents every key.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "config/street.toml",
        visible_alias = "pipeline",
        value_parser = file,
        global = true
    )]
    pub config: PathBuf,
}

/// Which running pipeline is meant: by its configuration, and what it was started with instead of that.
#[derive(Args, Clone, Debug)]
pub struct Instance {
    /// Its configuration.
    #[command(flatten)]
    pub file: ConfigFile,
    /// The instance's name, instead of the configuration's.
    #[arg(long, global = true)]
    name: Option<String>,
    /// Folder of the sockets and the lock, instead of the configuration's.
    #[arg(long, value_name = "DIR", global = true)]
    run_dir: Option<PathBuf>,
    /// Folder of unread results, of the quarantine and of images on disk, instead of the configuration's.
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
}

impl Instance {
    /// Its configuration.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self, overrides: Overrides) -> Result<Config, ConfigError> {
        Config::load(&self.file.config, &self.over(overrides))
    }

    /// What it says of it, beside what `overrides` do.
    pub fn over(&self, overrides: Overrides) -> Overrides {
        let (name, run, state) = (self.name.clone(), self.run_dir.clone(), self.state_dir.clone());
        Overrides { name, run, state, ..overrides }
    }

    /// The name that was said.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// True where it is told from others of the same configuration, by what has its sockets.
    pub fn is_named(&self) -> bool {
        self.name.is_some() || self.run_dir.is_some()
    }

    /// The same options again, for another command.
    pub fn options(&self) -> String {
        let name = self.name.iter().map(|name| format!(" --name {name}"));
        let folders = [("--run-dir", &self.run_dir), ("--state-dir", &self.state_dir)];
        let folders =
            folders.into_iter().filter_map(|(key, folder)| Some(format!(" {key} {}", folder.as_ref()?.display())));
        name.chain(folders).fold(format!("--config {}", self.file.config.display()), |all, one| all + &one)
    }
}

/// NAME is short for `config/NAME.toml`; everything with a dot or a slash is a path.
fn file(text: &str) -> Result<PathBuf, Infallible> {
    let is_name = !text.is_empty() && !text.contains(['.', '/']);
    Ok(if is_name { Path::new("config").join(text).with_extension("toml") } else { text.into() })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        file: ConfigFile,
    }

    #[derive(Parser)]
    struct Verb {
        #[command(flatten)]
        instance: Instance,
    }

    #[test]
    fn an_instances_options_name_it_again() {
        for said in ["--config x.toml", "--config x.toml --name a --state-dir /s", "--config x.toml --run-dir /r"] {
            let instance = Verb::parse_from(["x"].into_iter().chain(said.split(' '))).instance;
            assert_eq!(instance.options(), said);
        }
    }

    #[test]
    fn a_name_is_short_for_a_file_and_a_path_stays() {
        let file = |arguments: &[&str]| Program::parse_from([&["x"], arguments].concat()).file.config;
        assert_eq!(file(&[]), Path::new("config/street.toml"));
        for (said, wanted) in [
            ("people", "config/people.toml"),
            ("people.toml", "people.toml"),
            ("./people", "./people"),
            ("/etc/people", "/etc/people"),
        ] {
            assert_eq!(file(&["--pipeline", said]), Path::new(wanted));
            assert_eq!(file(&["--config", said]), Path::new(wanted));
        }
    }
}
