//! How much memory and disk there is. What cannot be read limits nothing: the budgets of the configuration do.

use std::{
    fs::File,
    io::Read as _,
    path::{Component, Path, PathBuf},
};

use framepipe_cache::{Area, Pressure};
use rustix::fs::statvfs;

/// Where the one hierarchy of cgroups may be mounted: alone, or beside those of version 1.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Bytes that are read of one file: a limit's, or `memory.stat`.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// What is looked at.
pub struct Gauges {
    shm: PathBuf,
    disk: PathBuf,
    /// The process's cgroup, and those above it, as far as they limit memory.
    cgroups: Vec<PathBuf>,
}

impl Gauges {
    /// Of an area, and of the folder of spilled images.
    pub fn new(area: &Area, spill: &Path) -> Self {
        let own = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
        let cgroups = ROOTS.iter().flat_map(|root| cgroups(Path::new(root), &own)).collect();
        Self { shm: area.folder().to_owned(), disk: spill.to_owned(), cgroups }
    }

    /// How it is at this moment.
    pub fn read(&self, area: &Area, evictable_bytes: u64, disk_bytes: u64) -> Pressure {
        Pressure {
            memory_bytes: area.memory_bytes(),
            evictable_bytes,
            disk_bytes,
            tmpfs_free_bytes: free_bytes(&self.shm),
            cgroup_free_bytes: self.cgroups.iter().filter_map(|group| free_of(group)).min().unwrap_or(u64::MAX),
            disk_free_bytes: free_bytes(&self.disk),
        }
    }
}

fn free_bytes(folder: &Path) -> u64 {
    match statvfs(folder) {
        Ok(found) if found.f_blocks > 0 => found.f_bavail.saturating_mul(found.f_frsize),
        _ => u64::MAX, // a tmpfs without a limit has no blocks
    }
}

/// A group of this name and those above it that have a limit of memory, by what `/proc/self/cgroup` says.
fn cgroups(root: &Path, own: &str) -> Vec<PathBuf> {
    let name = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    // Outside the namespace's root ("/../x") there is nothing to be seen.
    let is_below = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let lowest = if is_below { root.join(name) } else { root.to_owned() };
    let groups = lowest.ancestors().take_while(|group| group.starts_with(root));
    groups.filter(|group| group.join("memory.max").is_file()).map(Path::to_owned).collect()
}

/// What a group may take before its limit; `None`: it has none. Pages of files that were not used of late are given back
/// before anybody is killed; those of a tmpfs are not among them.
fn free_of(group: &Path) -> Option<u64> {
    let max: u64 = read(&group.join("memory.max"))?.trim().parse().ok()?; // "max": no number
    let current: u64 = read(&group.join("memory.current"))?.trim().parse().ok()?;
    let stat = read(&group.join("memory.stat")).unwrap_or_default();
    let idle = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")).and_then(|bytes| bytes.parse().ok());
    Some(max.saturating_sub(current.saturating_sub(idle.unwrap_or(0))))
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn limited(group: &Path, max: &str, current: &str) {
        fs::create_dir_all(group).expect("a folder of the test's own");
        fs::write(group.join("memory.max"), max).expect("written");
        fs::write(group.join("memory.current"), current).expect("written");
    }

    #[test]
    fn the_tightest_limit_counts_of_the_own_group_and_those_above_it() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        limited(&root.join("a"), "1000\n", "400\n");
        limited(&root.join("a/b"), "max\n", "100\n");
        limited(&root.join("a/b/c"), "5000\n", "100\n");
        limited(&root.join("other"), "1\n", "1\n");
        let found = cgroups(root, "4:memory:/x\n0::/a/b/c\n");
        assert_eq!(found, ["a/b/c", "a/b", "a"].map(|name| root.join(name)));
        let free: Vec<Option<u64>> = found.iter().map(|group| free_of(group)).collect();
        assert_eq!(free, [Some(4900), None, Some(600)]);
        fs::write(root.join("a/memory.stat"), "file 300\ninactive_file 250\nactive_file 9\n").expect("written");
        assert_eq!(free_of(&root.join("a")), Some(850));
    }

    #[test]
    fn what_is_no_cgroup_of_version_2_limits_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        limited(&root.join("a"), "1000\n", "400\n");
        for own in ["", "4:memory:/a\n", "0::/b\n", "0::/../a\n", "0::a\n"] {
            assert_eq!(cgroups(root, own), Vec::<PathBuf>::new(), "{own:?}");
        }
        for (max, current) in [("", "1"), ("-1", "1"), ("1000", "x"), ("99999999999999999999999", "1")] {
            limited(&root.join("a"), max, current);
            assert_eq!(free_of(&root.join("a")), None, "{max:?}");
        }
        limited(&root.join("a"), "1000", "2000");
        assert_eq!(free_of(&root.join("a")), Some(0));
    }

    #[test]
    fn a_file_system_says_what_it_has_left() {
        let free = free_bytes(Path::new("/dev/shm"));
        assert!(free > 0 && free < u64::MAX, "{free}");
        assert_eq!(free_bytes(Path::new("/nowhere")), u64::MAX);
    }
}
