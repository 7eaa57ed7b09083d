//! The configuration as it is typed, in one layer or in all of them together. Every key may be left out here, so that a layer can be
//! read alone; `pipeline.detector` alone must have been said in one of them. `config/framepipe.toml` shows each key with its default.

use std::path::{Component, Path, PathBuf};

use bytesize::ByteSize;
use framepipe_model::ModelRef;
use framepipe_vision::Limits;
use serde::{Deserialize, Serialize, Serializer};

use super::{
    AutoConfig, CacheConfig, Config, JournalConfig, LogConfig, PoolConfig, QuarantineConfig, ServerConfig, StageConfig,
    TracesConfig, bytes,
};
use crate::{CpuList, Device, JpegDecoding, Layout, Mps, Pinning, Pool, Profile, STAGES};

/// Where the gateway listens, unless it is said.
pub(super) const TCP: &str = "127.0.0.1:50051";
pub(super) const HTTP: &str = "127.0.0.1:9464";

#[derive(Clone, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    name: Option<String>,
    profile: Profile,
    pipeline: RawPipeline,
    paths: RawPaths,
    server: RawServer,
    journal: RawJournal,
    quarantine: RawQuarantine,
    cache: RawCache,
    log: LogConfig,
    traces: RawTraces,
    limits: Limits,
    auto: RawAuto,
    stages: RawStages,
    pools: RawPools,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPipeline {
    detector: Option<ModelRef>,
    attributes: Vec<ModelRef>,
    device: Device,
    mps: Mps,
    jpeg: JpegDecoding,
    score_threshold: Option<f64>,
    crops_max: u32,
    crop_batch_max: u32,
    attempts_max: u8,
}

impl Default for RawPipeline {
    fn default() -> Self {
        Self {
            detector: None,
            attributes: Vec::new(),
            device: Device::default(),
            mps: Mps::default(),
            jpeg: JpegDecoding::default(),
            score_threshold: None,
            crops_max: 32,
            crop_batch_max: 32,
            attempts_max: 2,
        }
    }
}

#[derive(Clone, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawPaths {
    models: Option<PathBuf>,
    onnxruntime: Option<PathBuf>,
    run: Option<PathBuf>,
    state: Option<PathBuf>,
    shm: Option<PathBuf>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawServer {
    tcp: String,
    http: String,
    unix: Option<PathBuf>,
    inbox: Vec<PathBuf>,
    connections_max: u32,
    frames_max: u32,
    #[serde(serialize_with = "exact")]
    bytes_max: ByteSize,
    idempotency_window_s: u64,
    idempotency_keys_max: u32,
    hang_ms_max: u64,
    cpus: Option<CpuList>,
    numa_node: Option<u32>,
    canary_idle_ms: u64,
    canary_ms_max: u64,
}

impl Default for RawServer {
    fn default() -> Self {
        Self {
            tcp: TCP.into(),
            http: HTTP.into(),
            unix: None,
            inbox: vec!["/dev/shm/framepipe-inbox".into()],
            connections_max: 256,
            frames_max: 4096,
            bytes_max: ByteSize::gib(4),
            idempotency_window_s: 600,
            idempotency_keys_max: 65_536,
            hang_ms_max: defaults::hang_ms_max(),
            cpus: None,
            numa_node: None,
            canary_idle_ms: 1000,
            canary_ms_max: 5000,
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawJournal {
    #[serde(serialize_with = "exact")]
    memory_bytes_max: ByteSize,
    #[serde(serialize_with = "exact")]
    stream_bytes_max: ByteSize,
    streams_max: u32,
    #[serde(serialize_with = "exact")]
    result_bytes_max: ByteSize,
    retention_s: u64,
}

impl Default for RawJournal {
    fn default() -> Self {
        Self {
            memory_bytes_max: ByteSize::mib(64),
            stream_bytes_max: ByteSize::mib(256),
            streams_max: 256,
            result_bytes_max: ByteSize::b(0),
            retention_s: 0,
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawQuarantine {
    entries_max: u32,
    #[serde(serialize_with = "exact")]
    bytes_max: ByteSize,
}

impl Default for RawQuarantine {
    fn default() -> Self {
        Self { entries_max: 100, bytes_max: ByteSize::mib(256) }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawCache {
    #[serde(serialize_with = "exact")]
    memory_bytes_max: ByteSize,
    soft: f64,
    hard: f64,
    #[serde(serialize_with = "exact")]
    disk_bytes_max: ByteSize,
    #[serde(serialize_with = "exact")]
    chunk_bytes: ByteSize,
    #[serde(serialize_with = "exact")]
    tensor_bytes_max: ByteSize,
    #[serde(serialize_with = "exact")]
    result_bytes_max: ByteSize,
    metadata_entries_max: u32,
    k: u32,
    correlated_ms: u64,
    raw_frames: bool,
    uploads_max: u32,
    inbox_ttl_s: u64,
    cpus: Option<CpuList>,
    numa_node: Option<u32>,
}

impl Default for RawCache {
    fn default() -> Self {
        Self {
            memory_bytes_max: ByteSize::mib(256),
            soft: 0.5,
            hard: 0.9,
            disk_bytes_max: ByteSize::gib(4),
            chunk_bytes: ByteSize::kib(256),
            tensor_bytes_max: ByteSize::b(0),
            result_bytes_max: ByteSize::b(0),
            metadata_entries_max: 16_384,
            k: 2,
            correlated_ms: 1000,
            raw_frames: false,
            uploads_max: 8,
            inbox_ttl_s: 0,
            cpus: None,
            numa_node: None,
        }
    }
}

#[derive(Clone, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawAuto {
    enabled: bool,
    cores: Option<u32>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTraces {
    endpoint: String,
    sample: f64,
}

impl Default for RawTraces {
    fn default() -> Self {
        Self { endpoint: String::new(), sample: 0.01 }
    }
}

/// One entry a row of the stage table.
#[derive(Clone, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawStages {
    ingest: RawStage,
    preprocess: RawStage,
    detect: RawStage,
    postprocess: RawStage,
    attribute: RawStage,
}

#[derive(Clone, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawStage {
    processes: Option<u32>,
    threads: Option<u32>,
    batch_max: Option<u32>,
    batch_wait_us_max: Option<u64>,
    nice: Option<i32>,
    hang_ms_max: Option<u64>,
    cpus: Option<CpuList>,
    numa_node: Option<u32>,
}

/// One entry a pool.
#[derive(Clone, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawPools {
    encoded: Option<Vec<RawClass>>,
    image: Option<Vec<RawClass>>,
    tensor: Option<Vec<RawClass>>,
    raw: Option<Vec<RawClass>>,
    detections: Option<Vec<RawClass>>,
    attributes: Option<Vec<RawClass>>,
    held: Option<Vec<RawClass>>,
    cached: Option<Vec<RawClass>>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClass {
    #[serde(default, serialize_with = "exact")]
    bytes: ByteSize,
    slots: u64,
}

mod defaults {
    pub fn hang_ms_max() -> u64 {
        30_000
    }
    /// Slots of a pool. In flight behind ingest at once: what the stages hold in hand, and as much again waiting so
    /// that none runs dry; so they grow with the detect processes.
    pub fn pool(pool: super::Pool, detectors: u64) -> Vec<(u64, u64)> {
        const MIB: u64 = 1 << 20;
        match pool {
            super::Pool::Encoded => vec![(MIB, (6 * detectors).max(48)), (8 * MIB, detectors.max(6)), (64 * MIB, 1)],
            super::Pool::Image => {
                vec![(MIB, (4 * detectors).max(16)), (8 * MIB, (2 * detectors).max(8)), (48 * MIB, 1)]
            }
            super::Pool::Tensor | super::Pool::Raw => vec![(0, (4 * detectors).max(16))],
            super::Pool::Detections => vec![(0, (4 * detectors).max(64))],
            super::Pool::Attributes => vec![(256 << 10, (4 * detectors).max(64))],
            super::Pool::Held => vec![(0, (6 * detectors).max(48))],
            super::Pool::Cached => vec![(0, (4 * detectors).max(16))],
        }
    }
}

/// Bytes as they are read again: of units that lose none of them.
fn exact<S: Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
    let bytes = bytes(*size);
    let unit = [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(bits, _)| bytes > 0 && bytes.trailing_zeros() >= *bits);
    match unit {
        Some((bits, name)) => serializer.serialize_str(&format!("{} {name}", bytes >> bits)),
        None => serializer.serialize_u64(bytes),
    }
}

/// What [`Raw::fill`] has said where nobody else had.
fn filled<T>(value: Option<T>) -> T {
    value.expect("it was filled in")
}

impl Raw {
    /// True where somebody has said which detector.
    pub(super) fn has_detector(&self) -> bool {
        self.pipeline.detector.is_some()
    }

    /// Fills in what nobody has said and what follows from other keys; relative paths are relative to `folder`.
    pub(super) fn fill(&mut self, folder: &Path, cores: u32) {
        let name = self.name.get_or_insert_with(|| "framepipe".into()).clone();
        let place = |path: &mut PathBuf| *path = without_detours(&folder.join(&*path));
        let paths = &mut self.paths;
        place(paths.models.get_or_insert_with(|| "../models".into()));
        place(paths.onnxruntime.get_or_insert_with(|| "../build/lib/libonnxruntime.so".into()));
        place(paths.state.get_or_insert_with(|| state_folder().join(&name)));
        place(paths.shm.get_or_insert_with(|| "/dev/shm".into()));
        let run = paths.run.get_or_insert_with(|| run_folder().join(&name));
        place(run);
        place(self.server.unix.get_or_insert_with(|| run.join("grpc.sock")));
        self.server.inbox.iter_mut().for_each(place);
        let chunk_bytes = bytes(self.cache.chunk_bytes).checked_next_multiple_of(4096).unwrap_or(u64::MAX);
        self.cache.chunk_bytes = ByteSize(chunk_bytes);
        self.stages.fill(self.profile, cores);
        self.pools.fill(filled(self.stages.detect.processes));
    }

    /// What is meant by what was typed and filled in.
    pub(super) fn complete(self, cores: u32) -> Config {
        Config {
            detector: filled(self.pipeline.detector),
            attributes: self.pipeline.attributes,
            device: self.pipeline.device,
            mps: self.pipeline.mps,
            jpeg: self.pipeline.jpeg,
            score_threshold: self.pipeline.score_threshold.map(|threshold| threshold as f32),
            crops_max: self.pipeline.crops_max,
            crop_batch_max: self.pipeline.crop_batch_max,
            attempts_max: self.pipeline.attempts_max,
            frames_max: self.server.frames_max,
            limits: self.limits,
            models: filled(self.paths.models),
            onnxruntime: filled(self.paths.onnxruntime),
            run: filled(self.paths.run),
            state: filled(self.paths.state),
            shm: filled(self.paths.shm),
            server: ServerConfig {
                tcp: Some(self.server.tcp).filter(|address| !address.is_empty()),
                http: Some(self.server.http).filter(|address| !address.is_empty()),
                unix: filled(self.server.unix),
                inbox: self.server.inbox,
                connections_max: self.server.connections_max,
                idempotency_window_s: self.server.idempotency_window_s,
                idempotency_keys_max: self.server.idempotency_keys_max,
                bytes_max: bytes(self.server.bytes_max),
                hang_ms_max: self.server.hang_ms_max,
                pinning: Pinning { cpus: self.server.cpus, numa_node: self.server.numa_node },
                canary_idle_ms: self.server.canary_idle_ms,
                canary_ms_max: self.server.canary_ms_max,
            },
            name: filled(self.name),
            journal: JournalConfig {
                stream_bytes_max: bytes(self.journal.stream_bytes_max),
                streams_max: self.journal.streams_max,
                result_bytes_max: bytes(self.journal.result_bytes_max),
                memory_bytes_max: bytes(self.journal.memory_bytes_max),
                retention_s: self.journal.retention_s,
            },
            quarantine: QuarantineConfig {
                entries_max: self.quarantine.entries_max,
                bytes_max: bytes(self.quarantine.bytes_max),
            },
            cache: CacheConfig {
                memory_bytes_max: bytes(self.cache.memory_bytes_max),
                soft: self.cache.soft,
                hard: self.cache.hard,
                disk_bytes_max: bytes(self.cache.disk_bytes_max),
                chunk_bytes: bytes(self.cache.chunk_bytes),
                tensor_bytes_max: bytes(self.cache.tensor_bytes_max),
                result_bytes_max: bytes(self.cache.result_bytes_max),
                metadata_entries_max: self.cache.metadata_entries_max,
                k: self.cache.k,
                correlated_ms: self.cache.correlated_ms,
                raw_frames: self.cache.raw_frames,
                uploads_max: self.cache.uploads_max,
                inbox_ttl_s: self.cache.inbox_ttl_s,
                pinning: Pinning { cpus: self.cache.cpus, numa_node: self.cache.numa_node },
            },
            auto: AutoConfig { enabled: self.auto.enabled, cores: self.auto.cores },
            log: self.log,
            traces: TracesConfig {
                endpoint: Some(self.traces.endpoint).filter(|endpoint| !endpoint.is_empty()),
                sample: self.traces.sample,
            },
            cores,
            stages: self.stages.complete(),
            pools: self.pools.complete(),
        }
    }
}

impl RawStages {
    fn fill(&mut self, profile: Profile, cores: u32) {
        let stages =
            [&mut self.ingest, &mut self.preprocess, &mut self.detect, &mut self.postprocess, &mut self.attribute];
        for (raw, row) in stages.into_iter().zip(&STAGES) {
            let Layout { processes, threads } = profile.layout(row, cores, raw.processes, raw.threads);
            (raw.processes, raw.threads) = (Some(processes), Some(threads));
            raw.batch_max.get_or_insert(1);
            raw.batch_wait_us_max.get_or_insert(2000);
            raw.nice.get_or_insert(10);
            raw.hang_ms_max.get_or_insert_with(defaults::hang_ms_max);
        }
    }

    fn complete(self) -> Vec<StageConfig> {
        let complete = |raw: RawStage| StageConfig {
            processes: filled(raw.processes),
            threads: filled(raw.threads),
            batch_max: filled(raw.batch_max),
            batch_wait_us_max: filled(raw.batch_wait_us_max),
            nice: filled(raw.nice),
            hang_ms_max: filled(raw.hang_ms_max),
            pinning: Pinning { cpus: raw.cpus, numa_node: raw.numa_node },
        };
        [self.ingest, self.preprocess, self.detect, self.postprocess, self.attribute].map(complete).into()
    }
}

impl RawPools {
    fn fill(&mut self, detectors: u32) {
        let Self { encoded, image, tensor, raw, detections, attributes, held, cached } = self;
        let pools = [encoded, image, tensor, raw, detections, attributes, held, cached];
        for (raw, pool) in pools.into_iter().zip(Pool::ALL) {
            let class = |(bytes, slots)| RawClass { bytes: ByteSize(bytes), slots };
            raw.get_or_insert_with(|| defaults::pool(pool, detectors.into()).into_iter().map(class).collect());
        }
    }

    fn complete(self) -> Vec<PoolConfig> {
        let class = |class: RawClass| (bytes(class.bytes), class.slots);
        let complete = |raw| PoolConfig { classes: filled::<Vec<RawClass>>(raw).into_iter().map(class).collect() };
        [self.encoded, self.image, self.tensor, self.raw, self.detections, self.attributes, self.held, self.cached]
            .map(complete)
            .into()
    }
}

/// The same place, without `..` wherever that is no link's: `/etc/models` for `/etc/framepipe/../models`.
fn without_detours(path: &Path) -> PathBuf {
    let mut place = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if place.file_name().is_some() && !place.is_symlink() => {
                place.pop();
            }
            part => place.push(part),
        }
    }
    place
}

/// /run/framepipe for root, the session's run folder for others.
fn run_folder() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return "/run/framepipe".into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) => PathBuf::from(folder).join("framepipe"),
        None => std::env::temp_dir().join(format!("framepipe-{}", nix::unistd::geteuid())),
    }
}

/// /var/lib/framepipe for root, the user's state folder for others.
fn state_folder() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return "/var/lib/framepipe".into();
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(home);
    state.unwrap_or_else(run_folder).join("framepipe")
}
