//! Control groups: where a service manager has delegated the launcher's own to it (`Delegate=yes`), each process goes into a
//! group below that is named after its stage, so that `systemctl status` and `systemd-cgls` show who is what. What is
//! limited for the service stays limited: its group lies above all of these.
//!
//! Nothing is delegated: nothing happens.

use std::{
    ffi::CString,
    fs,
    io::{self, ErrorKind},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};
use tracing::warn;

use crate::mounts::{Mount, mounts};

/// The launcher's own group.
const LAUNCHER: &str = "launcher";
/// How systemd marks a group that it has delegated; the second can be read by root alone.
const MARKS: [&str; 2] = ["user.delegate", "trusted.delegate"];

/// The groups that were delegated: one of each hierarchy.
pub struct Groups(Vec<PathBuf>);

impl Groups {
    /// None, as where nothing is delegated.
    #[cfg(test)]
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Finds them, and moves this process to a group of its own below each.
    pub fn take() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default(); // no /proc: nothing is delegated
        let of_this = of_process(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        let groups = Self(delegated(&of_this, is_marked, may_admit));
        groups.admit(LAUNCHER, std::process::id());
        groups
    }

    /// Moves a process to a group of this name. It shows, and limits nothing: a failure is said, and hinders nothing.
    pub fn admit(&self, name: &str, pid: u32) {
        for folder in &self.0 {
            if let Err(error) = admit(&folder.join(name), pid) {
                warn!("pid {pid} cannot go into the control group {}: {error}", folder.join(name).display());
            }
        }
    }
}

fn admit(group: &Path, pid: u32) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::write(group.join("cgroup.procs"), pid.to_string())
}

/// A group that this process is in.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Group {
    /// Within its hierarchy.
    name: PathBuf,
    /// Where the file system shows it.
    folder: PathBuf,
    /// True where the manager keeps its books in that hierarchy: version 2, or the one called `name=systemd`.
    is_managers: bool,
}

/// Those that the manager has delegated: the one in its own hierarchy is marked, and the others are of the same name, since
/// a hierarchy in which this service has no group of its own has it in its parent's.
fn delegated(groups: &[Group], is_marked: impl Fn(&Path) -> bool, may_admit: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let own = groups.iter().find(|group| group.is_managers && is_marked(&group.folder));
    let is_ours = |group: &&Group| own.is_some_and(|own| group.name == own.name) && may_admit(&group.folder);
    groups.iter().filter(is_ours).map(|group| group.folder.clone()).collect()
}

/// True where this process may make groups, and move processes.
fn may_admit(folder: &Path) -> bool {
    [folder.to_owned(), folder.join("cgroup.procs")].into_iter().all(|path| access(path, Access::WRITE_OK).is_ok())
}

fn is_marked(folder: &Path) -> bool {
    MARKS.iter().any(|mark| has_mark(folder, mark))
}

fn has_mark(folder: &Path, mark: &str) -> bool {
    let mut value = [0; 8];
    let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return false };
    rustix::fs::getxattr(path, mark, &mut value).is_ok_and(|bytes| value[..bytes] == *b"1")
}

/// The groups of a process by `/proc/PID/cgroup` and `/proc/PID/mountinfo`: of the manager's hierarchies, and of the one that
/// limits memory. A hierarchy of which no mount shows this group is left out.
fn of_process(cgroup: &str, mountinfo: &str) -> Vec<Group> {
    let mounts: Vec<Mount<'_>> = mounts(mountinfo).collect();
    let mut groups = Vec::new();
    for line in cgroup.lines() {
        let [_, controllers, name] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { continue };
        let is_managers = controllers.is_empty() || controllers == "name=systemd";
        if !is_managers && !controllers.split(',').any(|one| one == "memory") {
            continue;
        }
        let shows = |mount: &&Mount<'_>| match controllers {
            "" => mount.kind == "cgroup2",
            _ => {
                mount.kind == "cgroup"
                    && mount.kind_options.split(',').any(|option| controllers.split(',').any(|it| it == option))
            }
        };
        let name = Path::new(name);
        let folder = mounts
            .iter()
            .filter(shows)
            .find_map(|mount| Some(Path::new(mount.point).join(name.strip_prefix(mount.root).ok()?)));
        groups.extend(folder.map(|folder| Group { name: name.into(), folder, is_managers }));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "/system.slice/framepipe@street.service";

    #[test]
    fn groups_are_found_in_version_2_alone_in_hybrid_hierarchies_and_in_those_of_version_1() {
        let hybrid = "25 24 0:22 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      26 24 0:23 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      27 24 0:24 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,name=systemd\n\
                      28 24 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let groups = |cgroup: &str, mounts: &str| -> Vec<(PathBuf, bool)> {
            of_process(cgroup, mounts).into_iter().map(|group| (group.folder, group.is_managers)).collect()
        };
        let cgroup = format!("9:name=systemd:{SERVICE}\n4:memory:{SERVICE}\n1:cpu,cpuacct:{SERVICE}\n0::{SERVICE}\n");
        let folder = |hierarchy: &str| PathBuf::from(format!("/sys/fs/cgroup/{hierarchy}{SERVICE}"));
        let expected = vec![(folder("systemd"), true), (folder("memory"), false), (folder("unified"), true)];
        assert_eq!(groups(&cgroup, hybrid), expected);

        let unified = "28 24 0:25 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let folder = PathBuf::from(format!("/sys/fs/cgroup{SERVICE}"));
        assert_eq!(groups(&format!("0::{SERVICE}\n"), unified), vec![(folder, true)]);
    }

    #[test]
    fn a_mount_that_shows_another_part_of_the_hierarchy_is_none_of_ours() {
        let part = "28 24 0:25 /user.slice /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(of_process(&format!("0::{SERVICE}\n"), part), vec![]);
        let own = "28 24 0:25 /system.slice /cg rw - cgroup2 cgroup2 rw\n";
        assert_eq!(of_process(&format!("0::{SERVICE}\n"), own)[0].folder, Path::new("/cg/framepipe@street.service"));
        assert_eq!(of_process("", own), vec![]);
        assert_eq!(of_process("nothing\n0::/..\n", "nothing\n - \n"), vec![]);
    }

    #[test]
    fn what_is_delegated_is_the_marked_group_and_those_of_its_name_that_it_may_use() {
        let group = |hierarchy: &str, name: &str| Group {
            name: name.into(),
            folder: Path::new("/cg").join(hierarchy),
            is_managers: hierarchy != "memory" && hierarchy != "closed",
        };
        let groups =
            [group("memory", SERVICE), group("unified", "/"), group("closed", SERVICE), group("systemd", SERVICE)];
        let found = |marked: &[&str]| {
            let is_marked = |folder: &Path| marked.iter().any(|one| folder.ends_with(one));
            delegated(&groups, is_marked, |folder| !folder.ends_with("closed"))
        };
        assert_eq!(found(&["systemd"]), [Path::new("/cg/memory"), Path::new("/cg/systemd")]);
        assert_eq!(found(&["unified"]), [Path::new("/cg/unified")]);
        assert_eq!(found(&[]), Vec::<PathBuf>::new());
        assert_eq!(found(&["memory"]), Vec::<PathBuf>::new(), "the mark is the manager's in its own hierarchy alone");
    }

    #[test]
    fn the_mark_is_an_attribute_of_the_folder() {
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in tmpfs");
        let mark = |value: &[u8]| rustix::fs::setxattr(folder.path(), MARKS[0], value, rustix::fs::XattrFlags::empty());
        if mark(b"1").is_err() {
            return; // a kernel before 6.6: tmpfs has none
        }
        assert!(is_marked(folder.path()));
        mark(b"0").expect("it has them");
        assert!(!is_marked(folder.path()));
    }

    #[test]
    fn a_folder_without_the_managers_mark_is_not_delegated() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("cgroup.procs"), "").expect("written");
        let group = Group { name: SERVICE.into(), folder: folder.path().into(), is_managers: true };
        assert_eq!(delegated(&[group], is_marked, may_admit), Vec::<PathBuf>::new());
    }
}
