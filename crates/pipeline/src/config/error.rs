//! What can be wrong with a configuration.

use std::path::PathBuf;

use super::Origin;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The pipeline's file is not there, or a folder.
    #[error("{path}: {error}: {advice}")]
    Absent {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
        /// Which pipelines there are, and how one is named.
        advice: String,
    },
    /// There is more of something than is read.
    #[error("{path}: {what}")]
    TooMuch {
        /// Which file or folder.
        path: PathBuf,
        /// Of what, how much is read, and what to do.
        what: String,
    },
    /// It is no TOML, or has a value of another type.
    #[error("{origin}: {error}")]
    Toml {
        /// Which file, variable or option.
        origin: Origin,
        /// Line, key and reason.
        error: Box<toml::de::Error>,
    },
    /// A file has a key that framepipe does not know.
    #[error("{origin}: {error}{advice}")]
    UnknownKey {
        /// Which file.
        origin: Origin,
        /// Line, name, and the names that there are.
        error: Box<toml::de::Error>,
        /// Which key, with all its levels, and what was meant.
        advice: String,
    },
    /// A variable that names no key, or whose value is none of its key's.
    #[error("{name}: {reason}")]
    Variable {
        /// Which variable.
        name: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A value that cannot be.
    #[error("{origin}: {key} = {value}: {advice}")]
    Value {
        /// Which file, variable or option.
        origin: Origin,
        /// Which key.
        key: String,
        /// Its value.
        value: String,
        /// What to write instead.
        advice: String,
    },
    /// A key without a default that nobody has said.
    #[error("{path}: {key} is missing: {advice}")]
    Missing {
        /// The pipeline's file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What to write.
        advice: &'static str,
    },
    /// A path that no configuration can hold.
    #[error("{option} {path:?}: it is no UTF-8: name another path")]
    NotUtf8 {
        /// The option, or the key.
        option: String,
        /// The path.
        path: PathBuf,
    },
}
