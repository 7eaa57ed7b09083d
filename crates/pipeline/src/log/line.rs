//! One line of a log: what it says, and who said it, when.

use std::{str::FromStr, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::level_filters::LevelFilter;

/// How grave a line is, the gravest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something failed that somebody must look at.
    Error,
    /// Something is not as it should be, and was mended or is put up with.
    Warn,
    /// What happens.
    #[default]
    Info,
    /// What helps to find out why.
    Debug,
    /// Still more of that.
    Trace,
}

impl Level {
    /// Each, under the name that it has in the configuration and on the command line.
    pub const ALL: [(&str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    pub(super) fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known
            .map(|(_, level)| level)
            .ok_or_else(|| format!("{name:?} is no level: give error, warn, info, debug or trace"))
    }
}

impl From<&tracing::Level> for Level {
    fn from(level: &tracing::Level) -> Self {
        match *level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::INFO => Self::Info,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::TRACE => Self::Trace,
        }
    }
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// When it was said, to the microsecond.
    #[serde(with = "rfc3339")]
    pub timestamp: SystemTime,
    /// How grave it is.
    pub level: Level,
    /// Which process said it: `launcher`, `gateway`, `detect[0]`. The launcher knows, and fills it in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub process: String,
    /// Its pid, filled in likewise.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pid: u32,
    /// Where in the program, as `tracing` names it; empty where it is no event, but what a library said by itself.
    pub target: String,
    /// The words.
    pub message: String,
    /// What the words are about, for programs to look for: `frame`, `stream`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

impl Line {
    /// Words of this moment, without a place in the program.
    pub fn now(level: Level, message: impl Into<String>) -> Self {
        Self {
            timestamp: SystemTime::now(),
            level,
            process: String::new(),
            pid: 0,
            target: String::new(),
            message: message.into(),
            fields: Map::new(),
        }
    }

    /// A line of JSON, with its end.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).expect("strings, numbers, and a map with names for keys");
        json.push(b'\n');
        json
    }

    /// The line that a process wrote, if this is one.
    pub fn from_json(json: &[u8]) -> Option<Self> {
        // Whatever else a library may say begins otherwise.
        let line: Self = json.starts_with(b"{\"timestamp\":").then(|| serde_json::from_slice(json).ok())??;
        // Nor does a process nest values, which would pass by what bounds and cleans a line.
        let is_plain = |(name, value): (&String, &Value)| {
            let is_named = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
            is_named && !value.is_array() && !value.is_object()
        };
        line.fields.iter().all(is_plain).then_some(line)
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_micros(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        humantime::parse_rfc3339(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_line_comes_back_from_its_json_and_nothing_else_is_one() {
        let mut line = Line::now(Level::Warn, "two\nrows \u{1b}[31m \"said\"");
        line.timestamp = UNIX_EPOCH + Duration::from_micros(1_753_000_000_123_456);
        line.fields.insert("frame".into(), 7.into());
        let json = line.to_json();
        assert_eq!(json.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
        assert_eq!(Line::from_json(&json), Some(line));
        let broken: [&[u8]; 5] = [
            b"",
            b"a library's words",
            b"{\"timestamp\":\"today\",\"level\":\"info\",\"target\":\"\",\"message\":\"\"}",
            b"{\"timestamp\":\"2026-01-01T00:00:00Z\",\"level\":\"loud\",\"target\":\"\",\"message\":\"\"}",
            &json[..json.len() / 2],
        ];
        broken.iter().for_each(|broken| assert_eq!(Line::from_json(broken), None, "{broken:?}"));
    }

    #[test]
    fn levels_have_their_names() {
        for (name, level) in Level::ALL {
            assert_eq!((name.parse(), name.to_uppercase().parse(), level.name()), (Ok(level), Ok(level), name));
        }
        assert!("loud".parse::<Level>().is_err_and(|words| words.contains("\"loud\"")));
        assert!(Level::Error < Level::Warn && Level::Debug < Level::Trace);
    }
}
