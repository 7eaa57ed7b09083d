//! Which pipeline is meant: what every verb that is about one takes.

use std::path::PathBuf;

use clap::Args;
use framepipe_pipeline::{Config, ConfigFile, Overrides};

/// Which pipeline is meant.
#[derive(Args, Clone)]
pub struct Instance {
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
    pub fn load(&self, overrides: Overrides) -> anyhow::Result<Config> {
        Ok(Config::load(&self.file.config, &self.over(overrides))?)
    }

    /// What it says of it, beside what `overrides` do.
    pub fn over(&self, overrides: Overrides) -> Overrides {
        let (name, run, state) = (self.name.clone(), self.run_dir.clone(), self.state_dir.clone());
        Overrides { name, run, state, ..overrides }
    }
}
