//! The option by which every program is told which pipeline is meant.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
};

use clap::Args;

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
