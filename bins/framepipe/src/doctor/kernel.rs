//! What the kernel says, in its words: mounts, swaps, control groups; and which of its features are there.

use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::atomic::AtomicU32,
};

use rustix::{
    fs::{
        CWD, MemfdFlags, Mode, OFlags, ResolveFlags, SealFlags, fcntl_add_seals, major, memfd_create, minor, openat2,
    },
    io::Errno,
    process::{PidfdFlags, getpid, pidfd_open},
    thread::futex,
};

use crate::{mounts::mounts, room::existing};

/// File systems that are memory.
const MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// Where a path lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The file system's type: `tmpfs`, `ext4`.
    pub kind: String,
    /// Options of the mount and of the file system.
    pub options: String,
}

impl Mount {
    /// True of memory, false of a disk.
    pub fn is_memory(&self) -> bool {
        MEMORY.contains(&self.kind.as_str())
    }

    /// True of memory that the kernel may write to a swap device.
    pub fn may_be_swapped(&self) -> bool {
        self.kind == "tmpfs" && !self.options.split(',').any(|option| option == "noswap")
    }
}

/// Where a folder lies, or will when it is made.
pub fn mount_under(mountinfo: &str, folder: &Path) -> Option<Mount> {
    mount_of(mountinfo, &device_of(&existing(folder))?)
}

/// The mounts that this process sees, as the kernel writes them down.
pub fn mountinfo() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

/// The mount of device MAJOR:MINOR, by `/proc/self/mountinfo`.
pub fn mount_of(mountinfo: &str, device: &str) -> Option<Mount> {
    let found = mounts(mountinfo).find(|mount| mount.device == device)?;
    Some(Mount { kind: found.kind.into(), options: format!("{},{}", found.options, found.kind_options) })
}

/// The device of a path that is there, as `/proc/self/mountinfo` names it.
fn device_of(path: &Path) -> Option<String> {
    let device = fs::metadata(path).ok()?.dev();
    Some(format!("{}:{}", major(device), minor(device)))
}

/// The swap devices in use, by `/proc/swaps`.
pub fn swaps(text: &str) -> Vec<String> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// What this process's control groups allow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// CPUs, by time.
    pub cpus: Option<f64>,
    /// Bytes of swap: none, where it may not swap.
    pub swap: Option<u64>,
}

/// The tightest limits of a process's groups and of all above them. `groups` is /proc/self/cgroup; `read` reads a file.
pub fn limits(groups: &str, mountinfo: &str, read: impl Fn(&Path) -> Option<String>) -> Limits {
    let mut limits = Limits::default();
    let mut tighten = |kind: &str, controller: Option<&str>, files: &[(&str, Reading)]| {
        let group = groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let is_it =
                controller.map_or(controllers.is_empty(), |one| controllers.split(',').any(|other| other == one));
            is_it.then_some(path)
        });
        let Some((group, root)) = group.zip(hierarchy(mountinfo, kind, controller)) else { return };
        let group = Path::new(group.trim_start_matches('/'));
        for folder in group.ancestors() {
            for (file, reading) in files {
                let text = |file: &str| read(&root.join(folder).join(file));
                reading(&text, file, &mut limits);
            }
        }
    };
    tighten("cgroup2", None, &[("memory.max", memory), ("memory.swap.max", swap), ("cpu.max", cpu_max)]);
    tighten("cgroup", Some("memory"), &[("memory.limit_in_bytes", memory)]);
    tighten("cgroup", Some("cpu"), &[("cpu.cfs_quota_us", cpu_quota)]);
    limits
}

type Reading = fn(&dyn Fn(&str) -> Option<String>, &str, &mut Limits);

/// A limit as good as none: version 1 says it in pages of an address space.
const UNLIMITED: u64 = 1 << 62;

fn bytes(text: &dyn Fn(&str) -> Option<String>, file: &str) -> Option<u64> {
    text(file)?.trim().parse().ok().filter(|bytes| *bytes < UNLIMITED)
}

fn tighter<T: PartialOrd>(before: &mut Option<T>, now: Option<T>) {
    if let Some(now) = now {
        *before = before.take().filter(|before| *before <= now).or(Some(now));
    }
}

fn memory(text: &dyn Fn(&str) -> Option<String>, file: &str, limits: &mut Limits) {
    tighter(&mut limits.memory, bytes(text, file));
}

fn swap(text: &dyn Fn(&str) -> Option<String>, file: &str, limits: &mut Limits) {
    tighter(&mut limits.swap, bytes(text, file));
}

fn cpu_max(text: &dyn Fn(&str) -> Option<String>, file: &str, limits: &mut Limits) {
    let text = text(file).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    if let (Some(Ok(quota)), Some(Ok(period))) = (numbers.next(), numbers.next()) {
        tighter(&mut limits.cpus, Some(quota / period));
    }
}

fn cpu_quota(text: &dyn Fn(&str) -> Option<String>, file: &str, limits: &mut Limits) {
    let number = |file: &str| text(file)?.trim().parse::<f64>().ok().filter(|number| *number > 0.0);
    tighter(&mut limits.cpus, number(file).zip(number("cpu.cfs_period_us")).map(|(quota, period)| quota / period));
}

/// Where a hierarchy of control groups is mounted.
fn hierarchy(mountinfo: &str, kind: &str, controller: Option<&str>) -> Option<PathBuf> {
    let has_it = |options: &str| controller.is_none_or(|one| options.split(',').any(|option| option == one));
    mounts(mountinfo).find(|mount| mount.kind == kind && has_it(mount.kind_options)).map(|mount| mount.point.into())
}

/// Features that framepipe needs, and the kernel's answer where one is missing.
pub fn features() -> Vec<(&'static str, Result<(), Errno>)> {
    let openat2 = openat2(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    let memfd = memfd_create("doctor", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .and_then(|memory| fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
    let futex = futex::wake(&AtomicU32::new(0), futex::Flags::empty(), 1);
    [
        ("openat2", openat2.map(drop)),
        ("pidfd_open", pidfd_open(getpid(), PidfdFlags::empty()).map(drop)),
        ("futex", futex.map(drop)),
        ("memfd_create with seals", memfd),
    ]
    .into()
}

/// The inodes of the sockets that listen at PORT, by /proc/net/tcp or tcp6.
pub fn listeners(table: &str, port: u16) -> impl Iterator<Item = u64> {
    const LISTENS: &str = "0A";
    table.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let is_it = state == LISTENS && u16::from_str_radix(local.rsplit(':').next()?, 16) == Ok(port);
        is_it.then(|| fields.nth(5)?.parse().ok())?
    })
}

/// True where a process has this socket open.
pub fn has_socket(pid: u32, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .any(|target| target.as_os_str().as_bytes() == wanted.as_bytes())
}
