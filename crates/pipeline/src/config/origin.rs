//! Where a value of the configuration comes from.

use std::{collections::BTreeMap, fmt, path::PathBuf};

/// One layer of the configuration; a later one overrides those before it, key by key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The pipeline's file.
    File(PathBuf),
    /// A drop-in.
    DropIn(PathBuf),
    /// A variable of the environment.
    Variable(String),
    /// An option of the command line.
    Option(String),
}

impl Origin {
    /// What kind of layer it is, in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File(_) => "file",
            Self::DropIn(_) => "drop-in",
            Self::Variable(_) => "variable",
            Self::Option(_) => "option",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) | Self::DropIn(path) => path.display().fmt(f),
            Self::Variable(name) | Self::Option(name) => f.write_str(name),
        }
    }
}

/// By key (`stages.detect.processes`): who said it last.
#[derive(Clone, Debug)]
pub(super) struct Origins {
    file: Origin,
    said: BTreeMap<String, Origin>,
}

impl Origins {
    /// Of a pipeline of this file.
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file: Origin::File(file), said: BTreeMap::new() }
    }

    /// Notes that `origin` said the value of `key`.
    pub(super) fn note(&mut self, key: String, origin: &Origin) {
        self.said.insert(key, origin.clone());
    }

    /// Who said it last; the default where nobody has.
    pub(super) fn of(&self, key: &str) -> Origin {
        self.said.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Who is to be named where the value of `key` is wrong: the file where nobody has said it, as that is the place to do so.
    pub(super) fn blamed(&self, key: &str) -> Origin {
        self.said.get(key).unwrap_or(&self.file).clone()
    }
}
