//! A model by name: `NAME` or `NAME@VERSION`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::manifest::is_plain_name;

/// Longest name of a model.
const NAME_BYTES_MAX: usize = 64;

/// A model of the repository: a version of it, or the newest one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelRef {
    /// Its name.
    pub name: String,
    /// Its version; `None`: the newest.
    pub version: Option<u32>,
}

/// A text that names no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no model: write NAME, or NAME@VERSION, a name of up to {NAME_BYTES_MAX} letters, digits, '-', '_' and '.', and \
     a version of 1 or more"
)]
pub struct ModelRefError(String);

impl FromStr for ModelRef {
    type Err = ModelRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ModelRefError(text.to_owned());
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?)),
            None => (text, None),
        };
        if name.len() > NAME_BYTES_MAX || !is_plain_name(name) {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), version })
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl TryFrom<String> for ModelRef {
    type Error = ModelRefError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ModelRef> for String {
    fn from(model: ModelRef) -> Self {
        model.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_a_version() {
        for (text, name, version) in [("finder", "finder", None), ("finder-2.1@13", "finder-2.1", Some(13))] {
            let model: ModelRef = text.parse().expect(text);
            assert_eq!((model.name.as_str(), model.version, model.to_string().as_str()), (name, version, text));
        }
        for text in
            ["", "@1", "finder@", "finder@0", "finder@-1", "finder@1@2", "../x", ".hidden", "a b", &"x".repeat(65)]
        {
            assert!(text.parse::<ModelRef>().is_err(), "{text}");
        }
    }
}
