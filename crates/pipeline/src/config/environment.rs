//! The environment as a layer of the configuration: `FRAMEPIPE_STAGES__DETECT__PROCESSES=3` is `stages.detect.processes = 3`. Levels
//! stand apart by `__`, letters are lower-cased. A value is read as TOML; where that is none that the key takes, as a string. A
//! variable that names no key is an error: what is written wrongly would else be missed.

use std::ffi::OsString;

use toml::{Table, Value};

use super::{ConfigError, layers::typed, unknown};
use crate::log::LEVEL_VARIABLE;

/// Variables, by name.
pub(super) type Environment = Vec<(OsString, OsString)>;

/// How the variables begin that are keys.
const PREFIX: &str = "FRAMEPIPE_";
/// What stands between two levels.
const BETWEEN: &str = "__";
/// The key that has a short name: as a process is told it, too.
const LEVEL_KEY: &str = "log__level";
/// Longest value.
const VALUE_BYTES_MAX: usize = 1 << 16;

/// Variables that begin so and are no keys, and whose they are.
pub const NO_KEYS: [(&str, &str); 8] = [
    ("FRAMEPIPE_INBOX", "the clients', which store images there"),
    ("FRAMEPIPE_FAULT_CANARY", "the tests'"),
    ("FRAMEPIPE_GPU_TESTS", "the tests'"),
    ("FRAMEPIPE_MODELS", "the tests'"),
    ("FRAMEPIPE_ORT_LIB", "the tests'"),
    ("FRAMEPIPE_BINARIES", "the tests'"),
    ("FRAMEPIPE_PACKAGE", "the tests'"),
    ("FRAMEPIPE_TENSORRT", "the build's"),
];

/// The environment of this process: read here and nowhere else.
pub(super) fn of_this_process() -> Environment {
    std::env::vars_os().collect()
}

/// What the variables say, a table each, in the order of their names.
pub(super) fn layers(mut environment: Environment) -> Result<Vec<(String, Table)>, ConfigError> {
    environment.retain(|(name, _)| is_key(name));
    environment.sort();
    environment.into_iter().map(|(name, value)| layer(name, value)).collect()
}

fn is_key(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) && !NO_KEYS.iter().any(|(other, _)| name == other)
}

fn layer(name: OsString, value: OsString) -> Result<(String, Table), ConfigError> {
    let wrong = |name: &str, reason: String| ConfigError::Variable { name: name.to_owned(), reason };
    let name = name.into_string().map_err(|name| wrong(&name.to_string_lossy(), "it is no UTF-8: unset it".into()))?;
    let value = value.into_string().map_err(|_| wrong(&name, "its value is no UTF-8: give another".into()))?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(wrong(&name, format!("its value has more than {VALUE_BYTES_MAX} bytes: say it in a drop-in")));
    }
    let path = match name.as_str() {
        LEVEL_VARIABLE => LEVEL_KEY.to_owned(),
        _ => name[PREFIX.len()..].to_ascii_lowercase(),
    };
    let said = |value: Value| {
        let mut levels = path.rsplit(BETWEEN);
        let last = Table::from_iter([(levels.next().unwrap_or_default().to_owned(), value)]);
        levels.fold(last, |table, level| Table::from_iter([(level.to_owned(), Value::Table(table))]))
    };
    let as_string = said(Value::String(value.clone()));
    let parsed = format!("value = {value}").parse::<Table>().ok().filter(|table| table.len() == 1);
    let Some(parsed) = parsed.and_then(|mut table| table.remove("value")).map(said) else {
        typed(&as_string).map_err(|error| wrong(&name, reason(&path, &value, &error, &as_string)))?;
        return Ok((name, as_string));
    };
    match typed(&parsed) {
        Ok(_) => Ok((name, parsed)),
        Err(_) if typed(&as_string).is_ok() => Ok((name, as_string)),
        Err(error) => Err(wrong(&name, reason(&path, &value, &error, &parsed))),
    }
}

/// What is wrong, and what to do.
fn reason(path: &str, value: &str, error: &toml::de::Error, said: &Table) -> String {
    let key = path.replace(BETWEEN, ".");
    let advice = match unknown::unknown(error, said) {
        Some(key) => format!("{}; {BETWEEN} stands between the levels of a variable", unknown::advice(&key)),
        None => "give a value that the key takes (config/framepipe.toml)".into(),
    };
    format!("{key} = {value:?}: {}: {advice}", error.message().trim_end())
}
