//! What makes a pipeline of processes: the stage table, the one loop that every stage runs, the configuration, and the
//! start of a process under its launcher.
//!
//! | file | what it holds |
//! |---|---|
//! | `stages.rs` | **the table**: stages, their binaries, queues and pools |
//! | `table.rs` | the process table's entries: which is whose |
//! | `stage_loop.rs` | **the loop**: claim up to B, acquire, process, publish, free, heartbeat |
//! | `command_line.rs` | a program's command line, described for completions and man pages |
//! | `config.rs`, `config/` | the configuration: in layers, as typed, then checked |
//! | `plan.rs` | from the configuration and the manifests to the segment's geometry |
//! | `memory.rs` | what a pipeline takes of the host's memory |
//! | `device.rs` | where images and tensors lie on their way: `pipeline.device` |
//! | `pinning.rs` | the CPUs that processes are bound to, as they are asked for |
//! | `slab.rs` | the memory of handed pools, inherited as descriptors |
//! | `turners.rs` | which attribute model turns the crops of which |
//! | `generation.rs` | the models that frames are accepted for, which change while the pipeline serves |
//! | `control.rs` | what launcher and processes say to each other |
//! | `observe.rs`, `cache_stats.rs` | how a pipeline is, read from its memory: for `status` and `/metrics` |
//! | `discarded.rs` | frames that an operator discarded, from the launcher to the gateway |
//! | `source.rs` | a client's file: opened without trust, read once, compared with what was accepted |
//! | `quarantine.rs` | frames that killed their stage, kept on disk |
//! | `kept.rs` | frames' bytes that lie in the cache, and what is found there |
//! | `canary.rs` | the gateway's own frame, which shows that frames get through |
//! | `faults.rs` | faults on demand, for tests; in no release build |
//! | `process.rs` | a process's start: its order from the launcher, its segment, its end |
//! | `log.rs`, `log/` | what processes say: events, each a line |

mod cache_stats;
pub mod canary;
pub mod command_line;
mod config;
mod config_file;
mod control;
mod device;
pub mod discarded;
pub mod faults;
mod generation;
mod kept;
pub mod log;
mod memory;
pub mod observe;
mod pinning;
mod plan;
mod process;
mod profile;
pub mod quarantine;
mod slab;
pub mod source;
mod stage_loop;
mod stages;
mod table;
mod turners;

pub use cache_stats::{CacheStats, ImageStats, KindStats, Upkeep};
pub use config::{
    AutoConfig, CacheConfig, Config, ConfigError, Explained, JournalConfig, LogConfig, LogFormat, NO_KEYS, Origin,
    Overrides, PROCESSES_MAX, PoolConfig, QuarantineConfig, ServerConfig, Setting, StageConfig, TracesConfig,
};
pub use config_file::{ConfigFile, Instance};
pub use control::{Command, InheritedListener, Protocol, Report, StartOrder};
pub use device::{Device, DeviceError, JpegDecoding, Mps};
pub use framepipe_shm::Place;
pub use generation::{Generation, Generations};
pub use kept::{Bytes, KeptAt, Leased, TENSOR_FACTS_BYTES, offer_made};
pub use memory::MemoryNeed;
pub use pinning::{CpuList, CpuListError, Pinning};
pub use plan::{Plan, PlanError};
pub use process::{Exit, Process, run_stage};
pub use profile::{Layout, Profile};
pub use slab::{InheritedSlab, Slab};
pub use stage_loop::{Frame, Item, Needs, Stage};
pub use stages::{
    GATEWAY, GATEWAY_BINARY, KEEPER, KEEPER_BINARY, KEEPER_NICE, NO_TELEMETRY, Pool, QUEUES, STAGES, StageRow,
    cache_folder, gateway_access, gateway_cache_use, keeper_access, process_name, queue_before, queues_of,
    stage_before, stage_index, start_again,
};
pub use table::{ENTRIES, ENTRIES_EACH, GATEWAY_ENTRY, KEEPER_ENTRY, entries_of, worker_entries};
