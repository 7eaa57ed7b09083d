//! The command line as the last layer of the configuration.

use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::{Table, Value};

use super::{ConfigError, LogFormat};
use crate::{Device, Mps, Profile, log::Level, stage_index};

/// What the command line says over the files and the environment. Relative paths are relative to where it is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// What the stages are laid out for.
    pub profile: Option<Profile>,
    /// The cores that they are laid out for; none: those that this process may use. It is no key.
    pub cores: Option<u32>,
    /// Processes by stage name.
    pub processes: Vec<(String, u32)>,
    /// Where images and tensors lie.
    pub device: Option<Device>,
    /// Whether the processes on a GPU share it by MPS.
    pub mps: Option<Mps>,
    /// Processes go where they are needed.
    pub auto: bool,
    /// The cores that they may use together.
    pub auto_cores: Option<u32>,
    /// TCP address.
    pub tcp: Option<String>,
    /// TCP address of the HTTP listener.
    pub http: Option<String>,
    /// Folders in which clients may store images; none: those that the configuration says.
    pub inbox: Vec<PathBuf>,
    /// The instance's name.
    pub name: Option<String>,
    /// The folder of sockets and lock.
    pub run: Option<PathBuf>,
    /// The folder of the journals.
    pub state: Option<PathBuf>,
    /// What a detection's score is above.
    pub score_threshold: Option<f32>,
    /// Most crops of one frame.
    pub crops_max: Option<u32>,
    /// The least level that is said.
    pub log_level: Option<Level>,
    /// The form of the log.
    pub log_format: Option<LogFormat>,
}

impl Overrides {
    /// Sets the processes of a stage, which exists.
    pub fn set_processes(&mut self, stage: &str, processes: u32) {
        debug_assert!(stage_index(stage).is_some());
        self.processes.push((stage.to_owned(), processes));
    }

    /// What each option says.
    pub(super) fn layers(&self) -> Result<Vec<(String, Table)>, ConfigError> {
        let path = |option: &str, path: &Path| {
            let absolute = std::path::absolute(path).map_err(|error| ConfigError::Read { path: path.into(), error })?;
            let not_utf8 = |path: PathBuf| ConfigError::NotUtf8 { option: option.into(), path };
            absolute.into_os_string().into_string().map(Value::String).map_err(|path| not_utf8(path.into()))
        };
        let paths = |option: &str, of: &Option<PathBuf>| of.as_deref().map(|of| path(option, of)).transpose();
        let inboxes: Vec<_> = self.inbox.iter().map(|inbox| path("--inbox", inbox)).collect::<Result<_, _>>()?;
        // By the shortest decimals: 0.3 is said as 0.3, and not as what an f32 makes of it.
        let threshold = self.score_threshold.and_then(|threshold| threshold.to_string().parse().ok());
        let said = [
            ("--name", ["", "name"], self.name.clone().map(Value::String)),
            ("--profile", ["", "profile"], words(self.profile)),
            ("--device", ["pipeline", "device"], words(self.device.clone())),
            ("--mps", ["pipeline", "mps"], words(self.mps)),
            ("--score-threshold", ["pipeline", "score_threshold"], threshold.map(Value::Float)),
            ("--crops-max", ["pipeline", "crops_max"], self.crops_max.map(|most| Value::Integer(most.into()))),
            ("--auto", ["auto", "enabled"], self.auto.then_some(Value::Boolean(true))),
            ("--auto-cores", ["auto", "cores"], self.auto_cores.map(|cores| Value::Integer(cores.into()))),
            ("--log", ["log", "format"], words(self.log_format)),
            ("--log-level", ["log", "level"], words(self.log_level)),
            ("--tcp", ["server", "tcp"], self.tcp.clone().map(Value::String)),
            ("--http", ["server", "http"], self.http.clone().map(Value::String)),
            ("--inbox", ["server", "inbox"], Some(inboxes).filter(|all| !all.is_empty()).map(Value::Array)),
            ("--run-dir", ["paths", "run"], paths("--run-dir", &self.run)?),
            ("--state-dir", ["paths", "state"], paths("--state-dir", &self.state)?),
        ];
        let said = said.into_iter().filter_map(|(option, [section, key], value)| {
            let table = Table::from_iter([(key.to_owned(), value?)]);
            Some((option.to_owned(), if section.is_empty() { table } else { within(section, table) }))
        });
        let processes = self.processes.iter().map(|(stage, count)| {
            let count = Table::from_iter([("processes".to_owned(), Value::Integer((*count).into()))]);
            (format!("--{stage}"), within("stages", within(stage, count)))
        });
        Ok(said.chain(processes).collect())
    }
}

fn within(section: &str, table: Table) -> Table {
    Table::from_iter([(section.to_owned(), Value::Table(table))])
}

/// A word of the configuration.
fn words(value: Option<impl Serialize>) -> Option<Value> {
    value.map(|value| Value::try_from(value).expect("it is written as a word"))
}
