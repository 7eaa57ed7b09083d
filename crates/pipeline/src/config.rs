//! The configuration: what is typed (`config/raw.rs`, unknown keys are errors), in layers, parsed once into what is meant.
//!
//! | file | what it holds |
//! |---|---|
//! | `raw.rs` | every key as it is typed, its default, and what follows from other keys |
//! | `layers.rs` | **the layers**: file, drop-ins, environment, command line |
//! | `environment.rs`, `overrides.rs` | the last two of them |
//! | `origin.rs`, `explained.rs` | who said which value |
//! | `unknown.rs` | keys that there are not, and what was meant by them |
//! | `error.rs` | what can be wrong |

mod environment;
mod error;
mod explained;
mod layers;
mod origin;
mod overrides;
mod raw;
#[cfg(test)]
mod tests;
mod unknown;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use bytesize::ByteSize;
use framepipe_model::ModelRef;
use framepipe_vision::Limits;
use serde::{Deserialize, Serialize};

use self::{environment::Environment, layers::Layers, origin::Origins};
pub use self::{
    environment::NO_KEYS,
    error::ConfigError,
    explained::{Explained, Setting},
    origin::Origin,
    overrides::Overrides,
};
use crate::{Device, JpegDecoding, Mps, Pinning, STAGES, log::Level, profile};

/// Most processes of one stage.
pub const PROCESSES_MAX: u32 = 64;
/// Most threads of the inference engine in one process.
pub(crate) const THREADS_MAX: u32 = 256;
/// Most frames of one batch.
const BATCH_MAX: u32 = 256;

/// The checked configuration. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The instance's name, which names its folders.
    pub name: String,
    /// The cores that stages and pools are laid out for, as far as nothing else is said.
    pub cores: u32,
    /// The detector, a model of the repository.
    pub detector: ModelRef,
    /// The attribute models.
    pub attributes: Vec<ModelRef>,
    /// Where images and tensors lie on their way from stage to stage.
    pub device: Device,
    /// Whether the processes on a GPU share it by MPS.
    pub mps: Mps,
    /// Who decodes JPEGs, where there is a GPU.
    pub jpeg: JpegDecoding,
    /// A detection's score is above this; `None`: as the detector's manifest says.
    pub score_threshold: Option<f32>,
    /// Most crops of one frame, highest scores first.
    pub crops_max: u32,
    /// Most crops in one run of an attribute model.
    pub crop_batch_max: u32,
    /// Deaths of a process working on one frame alone, after which the frame is given up.
    pub attempts_max: u8,
    /// Most frames in flight: the jobs of the segment.
    pub frames_max: u32,
    /// What images are accepted.
    pub limits: Limits,
    /// The model repository.
    pub models: PathBuf,
    /// ONNX Runtime's library.
    pub onnxruntime: PathBuf,
    /// Where the sockets and the lock lie.
    pub run: PathBuf,
    /// Where the journals lie.
    pub state: PathBuf,
    /// The tmpfs that holds the segment.
    pub shm: PathBuf,
    /// Listeners and roots.
    pub server: ServerConfig,
    /// Bounds of the journals.
    pub journal: JournalConfig,
    /// Bounds of the quarantine.
    pub quarantine: QuarantineConfig,
    /// What is kept beside the frames in flight.
    pub cache: CacheConfig,
    /// Processes that go where they are needed.
    pub auto: AutoConfig,
    /// What is said, and how.
    pub log: LogConfig,
    /// Frames' spans.
    pub traces: TracesConfig,
    /// By stage, in the table's order.
    pub stages: Vec<StageConfig>,
    /// By pool, in the order of [`crate::Pool::ALL`].
    pub pools: Vec<PoolConfig>,
}

/// Listeners and roots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerConfig {
    /// TCP address; `None`: no TCP listener.
    pub tcp: Option<String>,
    /// TCP address of the HTTP listener for metrics and readiness; `None`: none.
    pub http: Option<String>,
    /// Milliseconds without a result after which the gateway sends a frame of its own through the pipeline; 0: never.
    pub canary_idle_ms: u64,
    /// Milliseconds after which such a frame that has not come back means that frames do not get through.
    pub canary_ms_max: u64,
    /// Unix socket.
    pub unix: PathBuf,
    /// Folders in which clients may store images, in which alone framepipe reads.
    pub inbox: Vec<PathBuf>,
    /// For how long an idempotency key is remembered.
    pub idempotency_window_s: u64,
    /// How many idempotency keys are remembered.
    pub idempotency_keys_max: u32,
    /// Connections at a time.
    pub connections_max: u32,
    /// Most bytes of the images in flight.
    pub bytes_max: u64,
    /// Milliseconds without a heartbeat after which the gateway is held for hung and killed.
    pub hang_ms_max: u64,
    /// The CPUs that the gateway is bound to.
    pub pinning: Pinning,
}

/// Bounds of the journals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JournalConfig {
    /// Bytes of results that a stream may keep unread.
    pub stream_bytes_max: u64,
    /// Streams at a time.
    pub streams_max: u32,
    /// Bytes of one result; 0: from the pipeline's other bounds.
    pub result_bytes_max: u64,
    /// Bytes of unread results of all streams that lie in tmpfs; what exceeds them goes to the state folder.
    pub memory_bytes_max: u64,
    /// Seconds after which unread results are dropped; 0: never.
    pub retention_s: u64,
}

/// Bounds of the quarantine: the frames that killed their stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuarantineConfig {
    /// Frames kept; beyond, the oldest is dropped.
    pub entries_max: u32,
    /// Bytes of all of them.
    pub bytes_max: u64,
}

/// What is kept beside the frames in flight: images that clients gave away, and what may be asked for again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CacheConfig {
    /// Bytes of memory, of all kinds together.
    pub memory_bytes_max: u64,
    /// Part of them above which a kept image is copied out on its turn, so that its memory is free at once.
    pub soft: f64,
    /// Part of them above which kept images go to disk.
    pub hard: f64,
    /// Bytes of kept images on disk.
    pub disk_bytes_max: u64,
    /// Bytes of the pieces in which kept images lie in memory.
    pub chunk_bytes: u64,
    /// Bytes of tensors; 0: none is kept.
    pub tensor_bytes_max: u64,
    /// Bytes of results; 0: none is kept.
    pub result_bytes_max: u64,
    /// Facts about images (format, size, orientation); none are kept where neither tensors nor results are.
    pub metadata_entries_max: u32,
    /// Of LRU-K: the reference that counts.
    pub k: u32,
    /// References of one entry that lie no farther apart are one.
    pub correlated_ms: u64,
    /// True where raw frames, too, are looked up.
    pub raw_frames: bool,
    /// Uploads at once.
    pub uploads_max: u32,
    /// Seconds after which a file in an inbox that lies in tmpfs is removed, if nobody changed, opened or pushed it; 0: never.
    pub inbox_ttl_s: u64,
    /// The CPUs that the keeper is bound to.
    pub pinning: Pinning,
}

impl CacheConfig {
    /// True where what was made of an image may be asked for again, so that images are hashed.
    pub fn looks_up(&self) -> bool {
        self.tensor_bytes_max > 0 || self.result_bytes_max > 0
    }
}

/// Processes that go where they are needed, while the pipeline serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutoConfig {
    /// True where they do.
    pub enabled: bool,
    /// Cores that the stages' processes may use together; `None`: as many as the configuration lays them out for.
    pub cores: Option<u32>,
}

/// What launcher and processes say, and the form in which it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// The least level that is said.
    pub level: Level,
    /// The form.
    pub format: LogFormat,
}

/// In which form lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// The journal's, where standard error is the journal; else for people, with colours on a terminal.
    #[default]
    Auto,
    /// For people.
    Human,
    /// A line of JSON each.
    Json,
    /// The journal's own, with priorities and fields.
    Journald,
}

impl LogFormat {
    /// Each, under the name that it has in the configuration and on the command line.
    pub const ALL: [(&str, Self); 4] =
        [("auto", Self::Auto), ("human", Self::Human), ("json", Self::Json), ("journald", Self::Journald)];
}

/// Frames' spans, for a collector of traces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TracesConfig {
    /// Where the collector listens (OTLP over gRPC); `None`: no spans are made.
    pub endpoint: Option<String>,
    /// So many parts of the frames whose caller says nothing of a trace.
    pub sample: f64,
}

/// One stage's tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageConfig {
    /// Processes.
    pub processes: u32,
    /// Threads of the inference engine in each.
    pub threads: u32,
    /// Most frames in one batch.
    pub batch_max: u32,
    /// Longest wait for a batch to fill, microseconds.
    pub batch_wait_us_max: u64,
    /// The processes' nice value.
    pub nice: i32,
    /// Milliseconds without a heartbeat after which a process is held for hung and killed.
    pub hang_ms_max: u64,
    /// The CPUs that the processes are bound to.
    pub pinning: Pinning,
}

/// One pool's slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolConfig {
    /// (Bytes of a slot, slots) of each class; 0 bytes: as many as the models need.
    pub classes: Vec<(u64, u64)>,
}

impl Config {
    /// Reads, checks and completes the configuration of a pipeline: its file, drop-ins, the environment, and what the command line
    /// says (`config/layers.rs`). Relative paths in the first three are relative to the file's folder.
    ///
    /// # Errors
    /// Names the file, variable or option, the key, the value and what to do about it.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        Ok(Self::explain(path, overrides)?.config)
    }

    /// Like [`Config::load`], with the origin of each value.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn explain(path: &Path, overrides: &Overrides) -> Result<Explained, ConfigError> {
        Self::explain_in(path, overrides, environment::of_this_process())
    }

    /// Like [`Config::load`], of a text that lies at `path`, without drop-ins and environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut layers = Layers::of_text(text, path)?;
        layers.add_overrides(overrides)?;
        Ok(Self::of(layers, path, &folder_of(path)?, overrides.cores)?.config)
    }

    fn explain_in(path: &Path, overrides: &Overrides, environment: Environment) -> Result<Explained, ConfigError> {
        let folder = folder_of(path)?;
        let mut layers = Layers::of_files(path, &folder)?;
        layers.add_environment(environment)?;
        layers.add_overrides(overrides)?;
        Self::of(layers, path, &folder, overrides.cores)
    }

    fn of(layers: Layers, path: &Path, folder: &Path, cores: Option<u32>) -> Result<Explained, ConfigError> {
        let cores = cores.unwrap_or_else(profile::cores);
        let mut raw = layers.typed(path)?;
        raw.fill(folder, cores);
        let config = raw.clone().complete(cores);
        config.check(&layers.origins)?;
        Ok(Explained { config, layers: layers.said, raw, origins: layers.origins })
    }

    /// Where optimised graphs of models lie.
    pub fn graphs(&self) -> PathBuf {
        self.state.join("graphs")
    }

    /// Where kept images lie on disk.
    pub fn spill(&self) -> PathBuf {
        self.state.join("spill")
    }

    /// The segment.
    pub fn segment(&self) -> PathBuf {
        self.shm.join(format!("framepipe-{}", self.name))
    }

    /// Where the journals lie on disk.
    pub fn journals(&self) -> PathBuf {
        self.state.join("journal")
    }

    /// Where they lie in memory.
    pub fn journals_in_memory(&self) -> PathBuf {
        self.shm.join(format!("framepipe-{}.journal", self.name))
    }

    /// The folders that are framepipe's own: no file there is a client's, whatever inbox lies above it.
    pub fn own_folders(&self) -> [PathBuf; 8] {
        [
            self.segment(),
            self.journals_in_memory(),
            self.journals(),
            self.spill(),
            crate::quarantine::folder(&self.state),
            self.graphs(),
            self.run.clone(),
            self.models.clone(),
        ]
    }

    fn check(&self, origins: &Origins) -> Result<(), ConfigError> {
        let check = Check(origins);
        check.name("name", &self.name)?;
        if let Some(threshold) = self.score_threshold.filter(|threshold| !(0.0..1.0).contains(threshold)) {
            return Err(check.wrong("pipeline.score_threshold", threshold, "give a number from 0 to below 1"));
        }
        if self.mps == Mps::Require && !matches!(self.device, Device::Gpu(_)) {
            let device = format!("pipeline.device is \"{}\", no GPU: name one there, or say \"off\" here", self.device);
            return Err(check.wrong("pipeline.mps", "\"require\"", &device));
        }
        if self.jpeg == JpegDecoding::Gpu && !matches!(self.device, Device::Gpu(_)) {
            let device = format!("pipeline.device is \"{}\", no GPU: name one there, or say \"cpu\" here", self.device);
            return Err(check.wrong("pipeline.jpeg", "\"gpu\"", &device));
        }
        check.range("pipeline.crops_max", self.crops_max.into(), 1, 1024)?;
        check.range("pipeline.crop_batch_max", self.crop_batch_max.into(), 1, 1024)?;
        check.range("pipeline.attempts_max", self.attempts_max.into(), 1, 15)?;
        check.range("limits.side_max", self.limits.side_max.into(), 1, 1 << 20)?;
        check.address("server.tcp", self.server.tcp.as_deref(), raw::TCP)?;
        check.address("server.http", self.server.http.as_deref(), raw::HTTP)?;
        check.range("server.connections_max", self.server.connections_max.into(), 4, 65_536)?;
        check.range("server.frames_max", self.frames_max.into(), 1, 65_535)?; // one job more is the gateway's own
        check.range("server.idempotency_keys_max", self.server.idempotency_keys_max.into(), 1, 1 << 20)?;
        check.range("server.bytes_max", self.server.bytes_max, 1 << 20, 1 << 44)?;
        check.range("server.hang_ms_max", self.server.hang_ms_max, 1_000, 3_600_000)?;
        check.pinning("server", &self.server.pinning)?;
        check.pinning("cache", &self.cache.pinning)?;
        check.range("server.canary_ms_max", self.server.canary_ms_max, 100, 3_600_000)?;
        if self.server.canary_idle_ms != 0 {
            check.range("server.canary_idle_ms, unless it is 0,", self.server.canary_idle_ms, 50, 3_600_000)?;
        }
        check.range("quarantine.entries_max", self.quarantine.entries_max.into(), 0, 1 << 16)?;
        check.range("journal.streams_max", self.journal.streams_max.into(), 1, 1 << 16)?;
        check.range("journal.memory_bytes_max", self.journal.memory_bytes_max, 0, 1 << 40)?;
        check.range("journal.stream_bytes_max", self.journal.stream_bytes_max, 1 << 20, 1 << 40)?;
        if self.journal.result_bytes_max != 0 {
            check.range("journal.result_bytes_max, unless it is 0,", self.journal.result_bytes_max, 4096, 64 << 20)?;
        }
        if self.server.inbox.is_empty() {
            return Err(check.wrong("server.inbox", "[]", "name one folder at least, in which clients store images"));
        }
        self.cache.check(&check)?;
        check.range("auto.cores", self.auto.cores.unwrap_or(1).into(), 1, 1 << 16)?;
        self.traces.check(&check)?;
        for (stage, row) in self.stages.iter().zip(&STAGES) {
            let key = |name: &str| format!("stages.{}.{name}", row.name);
            check.range(&key("processes"), stage.processes.into(), 1, PROCESSES_MAX.into())?;
            check.range(&key("threads"), stage.threads.into(), 1, THREADS_MAX.into())?;
            check.range(&key("batch_max"), stage.batch_max.into(), 1, BATCH_MAX.into())?;
            check.range(&key("batch_wait_us_max"), stage.batch_wait_us_max, 0, 1_000_000)?;
            check.range(&key("hang_ms_max"), stage.hang_ms_max, 1_000, 3_600_000)?;
            check.pinning(&format!("stages.{}", row.name), &stage.pinning)?;
            if !(-20..=19).contains(&stage.nice) {
                return Err(check.wrong(&key("nice"), stage.nice, "give -20 to 19"));
            }
        }
        for (pool, config) in crate::Pool::ALL.iter().zip(&self.pools) {
            let key = format!("pools.{}", pool.name());
            check.range(&format!("{key}, the number of classes"), config.classes.len() as u64, 1, 4)?;
            let grows = config.classes.windows(2).all(|pair| pair[0].0 < pair[1].0);
            if !grows || config.classes.iter().any(|(_, slots)| *slots == 0) {
                let value = format!("{:?}", config.classes);
                return Err(check.wrong(&key, value, "give classes of growing size, each with one slot at least"));
            }
        }
        Ok(())
    }
}

impl CacheConfig {
    fn check(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        check.range("cache.memory_bytes_max", self.memory_bytes_max, 0, 1 << 40)?;
        check.range("cache.disk_bytes_max", self.disk_bytes_max, 0, 1 << 44)?;
        check.range("cache.chunk_bytes", self.chunk_bytes, 4096, 64 << 20)?;
        check.range("cache.k", self.k.into(), 1, framepipe_cache::K_MAX as u64)?;
        check.range("cache.metadata_entries_max", self.metadata_entries_max.into(), 1, 1 << 22)?;
        check.range("cache.correlated_ms", self.correlated_ms, 0, 3_600_000)?;
        check.range("cache.uploads_max", self.uploads_max.into(), 1, 64)?;
        for (key, part) in [("cache.soft", self.soft), ("cache.hard", self.hard)] {
            if !(0.0..=1.0).contains(&part) {
                return Err(check.wrong(key, part, "give a part of cache.memory_bytes_max, 0 to 1"));
            }
        }
        if self.soft > self.hard {
            return Err(check.wrong("cache.soft", self.soft, format!("give at most cache.hard, {}", self.hard)));
        }
        for (key, bytes) in
            [("cache.tensor_bytes_max", self.tensor_bytes_max), ("cache.result_bytes_max", self.result_bytes_max)]
        {
            if bytes > self.memory_bytes_max {
                let most = format!("give at most cache.memory_bytes_max, {}, or raise that", self.memory_bytes_max);
                return Err(check.wrong(key, bytes, most));
            }
        }
        Ok(())
    }
}

/// The folder to which relative paths in a pipeline's file are relative.
fn folder_of(path: &Path) -> Result<PathBuf, ConfigError> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::path::absolute(folder).map_err(|error| ConfigError::Read { path: path.into(), error })
}

impl TracesConfig {
    fn check(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        let is_plain = |endpoint: &String| endpoint.strip_prefix("http://").is_some_and(|host| !host.is_empty());
        if let Some(endpoint) = self.endpoint.as_ref().filter(|endpoint| !is_plain(endpoint)) {
            let advice = "give \"http://HOST:PORT\" (OTLP over gRPC, without TLS: send to a collector of this host), or \"\" for none";
            return Err(check.wrong("traces.endpoint", format!("{endpoint:?}"), advice));
        }
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(check.wrong("traces.sample", self.sample, "give a part of all frames, 0 to 1"));
        }
        Ok(())
    }
}

struct Check<'o>(&'o Origins);

impl Check<'_> {
    fn wrong(&self, key: &str, value: impl ToString, advice: impl ToString) -> ConfigError {
        // More may be said of it, behind a comma.
        let origin = self.0.blamed(key.split(',').next().unwrap_or(key));
        let (key, value, advice) = (key.to_owned(), value.to_string(), advice.to_string());
        ConfigError::Value { origin, key, value, advice }
    }

    fn range(&self, key: &str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        Err(self.wrong(key, value, format!("give {least} to {most}")))
    }

    /// An address to listen at. A name is none: it may stand for several.
    fn address(&self, key: &str, address: Option<&str>, example: &str) -> Result<(), ConfigError> {
        match address {
            Some(address) if address.parse::<SocketAddr>().is_err() => {
                let advice = format!("it is no address: give IP:PORT, such as {example}, or \"\" for none");
                Err(self.wrong(key, format!("{address:?}"), advice))
            }
            _ => Ok(()),
        }
    }

    fn pinning(&self, section: &str, pinning: &Pinning) -> Result<(), ConfigError> {
        match pinning {
            Pinning { cpus: Some(cpus), numa_node: Some(node) } => {
                let advice = format!("{section}.cpus = \"{cpus}\" is said too: take one of the two out");
                Err(self.wrong(&format!("{section}.numa_node"), node, advice))
            }
            _ => Ok(()),
        }
    }

    /// Letters, digits, `-`, `_`, `.`: what is safe as a folder's name.
    fn name(&self, key: &str, name: &str) -> Result<(), ConfigError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.bytes().all(plain) {
            return Ok(());
        }
        Err(self.wrong(key, format!("{name:?}"), "use up to 64 letters, digits, '-', '_' and '.'"))
    }
}

/// Bytes as people write them: a number, or "1 MiB".
fn bytes(size: ByteSize) -> u64 {
    size.as_u64()
}
