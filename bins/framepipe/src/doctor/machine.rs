//! What is read of the machine, once, before any check; nothing is changed.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{TcpListener, ToSocketAddrs as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use framepipe_model::Manifest;
use framepipe_pipeline::{Config, Device, Explained, MemoryNeed, Origin, Plan};
use rustix::{
    fs::{Access, access},
    io::Errno,
    process::{Resource, geteuid, getrlimit},
};

use super::{
    kernel::{self, Limits, Mount},
    programs,
};
use crate::{
    gpu::{self, Listed},
    open_files,
    room::{Room, existing},
    up::StartArgs,
};

/// What hinders a user where something else lies in a folder's place.
pub const NO_FOLDER: &str = "it is no folder";

/// All that the checks look at.
pub struct Machine {
    /// The kernel's release.
    pub release: String,
    /// Features that framepipe needs.
    pub features: Vec<(&'static str, Result<(), Errno>)>,
    /// Swap devices.
    pub swaps: Vec<String>,
    /// Of the control groups.
    pub limits: Limits,
    /// Bytes of memory that the kernel thinks can be had.
    pub available: Option<u64>,
    /// Soft and hard limits of a process, by name; none: unlimited.
    pub ulimits: Ulimits,
    /// What the kernel does with huge pages in shared memory, as it says it.
    pub shmem_enabled: Option<String>,
    /// Features of the CPU, and whether it has them.
    pub cpu: Vec<(&'static str, bool)>,
    /// The GPUs, or why there is none.
    pub gpus: Result<Vec<Listed>, String>,
    /// The options that say of which pipeline all this is.
    pub options: String,
    /// What needs a configuration, or what is wrong with it.
    pub pipeline: Result<Pipeline, String>,
}

/// Limits of a process that matter; none: unlimited.
#[derive(Clone, Debug, Default)]
pub struct Ulimits {
    /// Open files.
    pub open_files: Option<u64>,
    /// Bytes of locked memory.
    pub locked: Option<u64>,
    /// Bytes of a file.
    pub file: Option<u64>,
    /// Bytes of mapped memory.
    pub mapped: Option<u64>,
}

/// What is read for one pipeline.
pub struct Pipeline {
    /// Its configuration.
    pub config: Config,
    /// The kinds of layers of it, in their order.
    pub layers: Vec<&'static str>,
    /// What it takes of the memory, or what is wrong with its models.
    pub need: Result<MemoryNeed, String>,
    /// Its models, and what is wrong with one.
    pub models: Vec<(String, Result<(), String>)>,
    /// What there is in `paths.shm`.
    pub room: Result<Room, String>,
    /// Where that lies.
    pub shm: Option<Mount>,
    /// Folder by folder of its inboxes: where it lies.
    pub inboxes: Vec<(PathBuf, Option<Mount>)>,
    /// What the engine's library says of itself.
    pub engine: Result<String, String>,
    /// Its open files.
    pub open_files: u64,
    /// Folders, and what hinders this user there.
    pub folders: Vec<(PathBuf, Result<(), String>)>,
    /// Its TCP addresses.
    pub ports: Vec<Port>,
    /// Its launcher, where it runs.
    pub launcher: Option<u32>,
}

/// An address to listen at.
#[derive(Clone, Debug)]
pub struct Port {
    /// The key that says it.
    pub key: &'static str,
    /// What it says.
    pub address: String,
    /// Whether one can listen there now.
    pub bound: Result<(), Unbound>,
    /// True where this very pipeline does.
    pub is_own: bool,
}

/// Why one cannot listen at an address.
#[derive(Clone, Debug)]
pub struct Unbound {
    /// What the operating system said.
    pub why: String,
    /// And what kind of error that is.
    pub kind: ErrorKind,
}

impl Machine {
    /// Reads it.
    pub fn read(start: &StartArgs) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mountinfo = kernel::mountinfo();
        let limits = kernel::limits(&text("/proc/self/cgroup"), &mountinfo, |file| fs::read_to_string(file).ok());
        let explained =
            Config::explain(&start.instance().file.config, &start.overrides()).map_err(|error| error.to_string());
        let uuid = match explained.as_ref().map(|explained| &explained.config.device) {
            Ok(Device::Gpu(uuid)) => uuid.clone(),
            _ => None,
        };
        let pipeline = explained.map(|explained| Pipeline::read(explained, &mountinfo));
        let limit = |resource| getrlimit(resource).maximum;
        Self {
            release: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            features: kernel::features(),
            swaps: kernel::swaps(&text("/proc/swaps")),
            limits,
            available: crate::slabs::available_bytes().ok(),
            ulimits: Ulimits {
                open_files: limit(Resource::Nofile),
                locked: limit(Resource::Memlock),
                file: getrlimit(Resource::Fsize).current,
                mapped: getrlimit(Resource::As).current,
            },
            shmem_enabled: fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled").ok(),
            cpu: cpu_features(),
            gpus: gpu::listed(uuid.as_deref()).map_err(|error| format!("{error:#}")),
            options: start.instance().options(),
            pipeline,
        }
    }
}

impl Pipeline {
    fn read(Explained { config, layers, .. }: Explained, mountinfo: &str) -> Self {
        let plan = Plan::of(&config).map_err(|error| error.to_string());
        let need = plan.as_ref().map_err(Clone::clone);
        let need = need.and_then(|plan| MemoryNeed::of(&config, plan).map_err(|error| error.to_string()));
        let verified =
            |model: &Manifest| (model.reference().to_string(), model.verify().map_err(|error| error.to_string()));
        let mount = |folder: &Path| kernel::mount_under(mountinfo, folder);
        let launcher = programs::launcher(&config);
        let mut folders = vec![config.run.clone(), config.state.clone(), config.shm.clone()];
        folders.extend(config.server.inbox.iter().cloned());
        let mut folders: Vec<_> = folders.into_iter().map(|folder| (folder.clone(), may_write(&folder))).collect();
        folders.push((config.models.clone(), may_read(&config.models)));
        Self {
            need,
            models: plan.iter().flat_map(Plan::models).map(verified).collect(),
            room: Room::of(&config).map_err(|error| format!("{}: {error}", config.shm.display())),
            shm: mount(&config.shm),
            inboxes: config.server.inbox.iter().map(|inbox| (inbox.clone(), mount(inbox))).collect(),
            engine: programs::engine(&config.onnxruntime).map_err(|error| format!("{error:#}")),
            open_files: open_files::needed(&config),
            ports: [("server.tcp", &config.server.tcp), ("server.http", &config.server.http)]
                .into_iter()
                .filter_map(|(key, address)| Some(port(key, address.as_deref()?, launcher)))
                .collect(),
            folders,
            launcher,
            layers: kinds(&layers),
            config,
        }
    }
}

/// The kinds of layers: all options are one layer, and so on.
fn kinds(layers: &[Origin]) -> Vec<&'static str> {
    let mut kinds: Vec<_> = layers.iter().map(Origin::kind).collect();
    kinds.dedup();
    kinds
}

/// Whether this user may make files there, or the folder itself where it is not there yet.
fn may_write(folder: &Path) -> Result<(), String> {
    let found = existing(folder);
    let metadata = fs::symlink_metadata(&found).map_err(|error| error.to_string())?;
    let is_there = found == folder;
    if is_there && !metadata.is_dir() {
        return Err(NO_FOLDER.into());
    }
    // As `up` will have it: another user's folder may hold, or become, anything. Those above and those of all users are no such.
    let is_trusted = [0, geteuid().as_raw()].contains(&metadata.uid());
    if is_there && !is_trusted {
        return Err(format!("it belongs to user {}, and neither to this one nor to root", metadata.uid()));
    }
    access(&found, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| match is_there {
        true => io::Error::from(error).to_string(),
        false => format!("it is not there, and cannot be made in {}: {}", found.display(), io::Error::from(error)),
    })
}

fn may_read(folder: &Path) -> Result<(), String> {
    access(folder, Access::READ_OK | Access::EXEC_OK).map_err(|error| io::Error::from(error).to_string())
}

fn port(key: &'static str, address: &str, launcher: Option<u32>) -> Port {
    let bound =
        TcpListener::bind(address).map(drop).map_err(|error| Unbound { why: error.to_string(), kind: error.kind() });
    let number = address.to_socket_addrs().ok().and_then(|mut all| all.next()).map(|address| address.port());
    let is_own = bound.is_err()
        && launcher.zip(number).is_some_and(|(launcher, number)| {
            let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
            let mut sockets = tables.iter().flat_map(|table| kernel::listeners(table, number));
            sockets.any(|socket| kernel::has_socket(launcher, socket))
        });
    Port { key, address: address.to_owned(), bound, is_own }
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<(&'static str, bool)> {
    [("AVX2", is_x86_feature_detected!("avx2")), ("AVX-512 VNNI", is_x86_feature_detected!("avx512vnni"))].into()
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> Vec<(&'static str, bool)> {
    Vec::new()
}
