//! The configuration file as it is typed. Every key is optional but those of `[pipeline]` without a default;
//! `config/framepipe.toml` shows each with its default.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use framepipe_model::ModelRef;
use framepipe_vision::Limits;
use serde::Deserialize;

use super::{
    CacheConfig, Config, JournalConfig, Overrides, PoolConfig, QuarantineConfig, ServerConfig, StageConfig, bytes,
};
use crate::{Device, Layout, Mps, Pool, Profile, STAGES, profile, stage_index};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    name: Option<String>,
    #[serde(default)]
    profile: Profile,
    pipeline: RawPipeline,
    #[serde(default)]
    paths: RawPaths,
    #[serde(default)]
    server: RawServer,
    #[serde(default)]
    journal: RawJournal,
    #[serde(default)]
    quarantine: RawQuarantine,
    #[serde(default)]
    cache: RawCache,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    stages: RawStages,
    #[serde(default)]
    pools: RawPools,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPipeline {
    detector: ModelRef,
    #[serde(default)]
    attributes: Vec<ModelRef>,
    #[serde(default)]
    device: Device,
    #[serde(default)]
    mps: Mps,
    score_threshold: Option<f32>,
    #[serde(default = "defaults::crops_max")]
    crops_max: u32,
    #[serde(default = "defaults::crop_batch_max")]
    crop_batch_max: u32,
    #[serde(default = "defaults::attempts_max")]
    attempts_max: u8,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawPaths {
    models: Option<PathBuf>,
    onnxruntime: Option<PathBuf>,
    run: Option<PathBuf>,
    state: Option<PathBuf>,
    shm: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawServer {
    tcp: String,
    http: String,
    unix: Option<PathBuf>,
    inbox: Vec<PathBuf>,
    connections_max: u32,
    frames_max: u32,
    bytes_max: ByteSize,
    idempotency_window_s: u64,
    idempotency_keys_max: u32,
    hang_ms_max: u64,
    canary_idle_ms: u64,
    canary_ms_max: u64,
}

impl Default for RawServer {
    fn default() -> Self {
        Self {
            tcp: "127.0.0.1:50051".into(),
            http: "127.0.0.1:9464".into(),
            unix: None,
            inbox: vec!["/dev/shm/framepipe-inbox".into()],
            connections_max: 256,
            frames_max: 4096,
            bytes_max: ByteSize::gib(4),
            idempotency_window_s: 600,
            idempotency_keys_max: 65_536,
            hang_ms_max: defaults::hang_ms_max(),
            canary_idle_ms: 1000,
            canary_ms_max: 5000,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawJournal {
    memory_bytes_max: ByteSize,
    stream_bytes_max: ByteSize,
    streams_max: u32,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawQuarantine {
    entries_max: u32,
    bytes_max: ByteSize,
}

impl Default for RawQuarantine {
    fn default() -> Self {
        Self { entries_max: 100, bytes_max: ByteSize::mib(256) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawCache {
    memory_bytes_max: ByteSize,
    soft: f64,
    hard: f64,
    disk_bytes_max: ByteSize,
    chunk_bytes: ByteSize,
    tensor_bytes_max: ByteSize,
    result_bytes_max: ByteSize,
    metadata_entries_max: u32,
    k: u32,
    correlated_ms: u64,
    raw_frames: bool,
    uploads_max: u32,
    inbox_ttl_s: u64,
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
        }
    }
}

/// One entry a row of the stage table.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawStages {
    ingest: RawStage,
    preprocess: RawStage,
    detect: RawStage,
    postprocess: RawStage,
    attribute: RawStage,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawStage {
    processes: Option<u32>,
    threads: Option<u32>,
    batch_max: Option<u32>,
    batch_wait_us_max: Option<u64>,
    nice: Option<i32>,
    hang_ms_max: Option<u64>,
}

/// One entry a pool.
#[derive(Deserialize, Default)]
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClass {
    #[serde(default)]
    bytes: ByteSize,
    slots: u64,
}

mod defaults {
    pub fn crops_max() -> u32 {
        32
    }
    pub fn crop_batch_max() -> u32 {
        32
    }
    pub fn attempts_max() -> u8 {
        2
    }
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

impl Raw {
    pub(super) fn complete(self, folder: &Path, overrides: &Overrides) -> Config {
        let name = overrides.name.clone().or(self.name).unwrap_or_else(|| "framepipe".into());
        let place = |path: PathBuf| folder.join(path);
        let tcp = overrides.tcp.clone().unwrap_or(self.server.tcp);
        let http = overrides.http.clone().unwrap_or(self.server.http);
        let run = overrides.run.clone().or(self.paths.run.map(place)).unwrap_or_else(|| run_folder().join(&name));
        let state = overrides.state.clone().or(self.paths.state.map(place));
        let cores = overrides.cores.unwrap_or_else(profile::cores);
        let stages = self.stages.complete(self.profile, cores, overrides);
        let detectors = stages[stage_index("detect").expect("the stage table has this stage")].processes;
        Config {
            detector: self.pipeline.detector,
            attributes: self.pipeline.attributes,
            device: overrides.device.clone().unwrap_or(self.pipeline.device),
            mps: overrides.mps.unwrap_or(self.pipeline.mps),
            score_threshold: overrides.score_threshold.or(self.pipeline.score_threshold),
            crops_max: overrides.crops_max.unwrap_or(self.pipeline.crops_max),
            crop_batch_max: self.pipeline.crop_batch_max,
            attempts_max: self.pipeline.attempts_max,
            frames_max: self.server.frames_max,
            limits: self.limits,
            models: place(self.paths.models.unwrap_or_else(|| "../models".into())),
            onnxruntime: place(self.paths.onnxruntime.unwrap_or_else(|| "../build/lib/libonnxruntime.so".into())),
            state: state.unwrap_or_else(|| state_folder().join(&name)),
            shm: place(self.paths.shm.unwrap_or_else(|| "/dev/shm".into())),
            server: ServerConfig {
                tcp: Some(tcp).filter(|address| !address.is_empty()),
                http: Some(http).filter(|address| !address.is_empty()),
                unix: self.server.unix.map_or_else(|| run.join("grpc.sock"), place),
                inbox: self.server.inbox.into_iter().map(place).collect(),
                connections_max: self.server.connections_max,
                idempotency_window_s: self.server.idempotency_window_s,
                idempotency_keys_max: self.server.idempotency_keys_max,
                bytes_max: bytes(self.server.bytes_max),
                hang_ms_max: self.server.hang_ms_max,
                canary_idle_ms: self.server.canary_idle_ms,
                canary_ms_max: self.server.canary_ms_max,
            },
            run,
            name,
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
                chunk_bytes: bytes(self.cache.chunk_bytes).next_multiple_of(4096),
                tensor_bytes_max: bytes(self.cache.tensor_bytes_max),
                result_bytes_max: bytes(self.cache.result_bytes_max),
                metadata_entries_max: self.cache.metadata_entries_max,
                k: self.cache.k,
                correlated_ms: self.cache.correlated_ms,
                raw_frames: self.cache.raw_frames,
                uploads_max: self.cache.uploads_max,
                inbox_ttl_s: self.cache.inbox_ttl_s,
            },
            cores,
            pools: self.pools.complete(detectors),
            stages,
        }
    }
}

impl RawStages {
    fn complete(self, profile: Profile, cores: u32, overrides: &Overrides) -> Vec<StageConfig> {
        let profile = overrides.profile.unwrap_or(profile);
        let raw = [self.ingest, self.preprocess, self.detect, self.postprocess, self.attribute];
        let complete = |(raw, row): (RawStage, &crate::StageRow)| {
            let said = overrides.processes.iter().rev().find(|(name, _)| name == row.name);
            let said = said.map(|(_, count)| *count).or(raw.processes);
            let Layout { processes, threads } = profile.layout(row, cores, said, raw.threads);
            StageConfig {
                processes,
                threads,
                batch_max: raw.batch_max.unwrap_or(1),
                batch_wait_us_max: raw.batch_wait_us_max.unwrap_or(2000),
                nice: raw.nice.unwrap_or(10),
                hang_ms_max: raw.hang_ms_max.unwrap_or_else(defaults::hang_ms_max),
            }
        };
        raw.into_iter().zip(&STAGES).map(complete).collect()
    }
}

impl RawPools {
    fn complete(self, detectors: u32) -> Vec<PoolConfig> {
        let raw =
            [self.encoded, self.image, self.tensor, self.raw, self.detections, self.attributes, self.held, self.cached];
        let complete = |(raw, pool): (Option<Vec<RawClass>>, Pool)| {
            let typed = raw.map(|classes| classes.iter().map(|class| (bytes(class.bytes), class.slots)).collect());
            PoolConfig { classes: typed.unwrap_or_else(|| defaults::pool(pool, detectors.into())) }
        };
        raw.into_iter().zip(Pool::ALL).map(complete).collect()
    }
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
