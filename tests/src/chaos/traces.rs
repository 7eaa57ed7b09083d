//! What a run leaves behind: files in memory, in its run folder and in its folder for temporary files, and processes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::{Home, home, is_alive, program};

const SHARED_MEMORY: &str = "/dev/shm";
/// Stays in the run folder: a lock that is removed can be taken twice.
const LOCK: &str = "lock";

/// ONNX Runtime keeps a session's id there, in one file of this name in the folder for temporary files.
const ENGINE_SESSION: &str = ".ses";

/// What lay in shared memory before the run.
pub struct Before(BTreeSet<PathBuf>);

impl Before {
    /// To be called before the run has made its folders.
    pub fn look() -> Self {
        Self(entries(Path::new(SHARED_MEMORY)).collect())
    }

    /// Files, sockets and folders that are left after the run.
    pub fn files_left(&self, home: &Home) -> Vec<PathBuf> {
        let in_memory = entries(Path::new(SHARED_MEMORY)).filter(|path| !self.0.contains(path));
        let new = in_memory.filter(|path| !home::is_a_test_folder(path) && !is_anothers(path));
        let in_run = entries(&home.run()).filter(|path| !path.ends_with(LOCK));
        let temporary = entries(&home.temporary()).filter(|path| !path.ends_with(ENGINE_SESSION));
        let (own, [_, memory]) = ([home.shm(), home.inbox()], home.roots());
        let beside = entries(memory).filter(|path| !own.contains(path));
        new.chain(beside).chain(in_run).chain(home.left_in_memory()).chain(temporary).collect()
    }
}

/// A folder's entries; none where it is not there.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// True for what a process has open or mapped. To be asked when none of the run is left: then it is another's.
fn is_anothers(path: &Path) -> bool {
    processes().any(|pid| {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let maps = fs::read_to_string(proc.join("maps")).unwrap_or_default();
        let is_below = |file: PathBuf| file.starts_with(path);
        let mapped = maps.lines().filter_map(|line| line.find('/').map(|start| PathBuf::from(&line[start..])));
        let open = entries(&proc.join("fd")).filter_map(|link| fs::read_link(link).ok());
        mapped.chain(open).any(is_below)
    })
}

/// The processes of this build's programs that are of this run: its folders are in their arguments, environment,
/// working folder or memory. Whether anybody has shown them is no matter.
pub fn processes_left(home: &Home) -> Vec<u32> {
    let programs = program();
    let programs = programs.parent().expect("a program lies in a folder");
    let is_program = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(programs));
    let own = std::process::id();
    processes().filter(|pid| *pid != own && is_alive(*pid) && is_program(pid) && is_of(home, *pid)).collect()
}

fn is_of(home: &Home, pid: u32) -> bool {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    let texts = [read("cmdline"), read("environ"), read("maps"), folder.into_os_string().into_encoded_bytes()];
    let texts = texts.map(|text| String::from_utf8_lossy(&text).into_owned());
    home.roots().iter().any(|root| texts.iter().any(|text| text.contains(&root.display().to_string())))
}

fn processes() -> impl Iterator<Item = u32> {
    entries(Path::new("/proc")).filter_map(|path| path.file_name()?.to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, process::Command, time::Duration};

    use super::*;
    use crate::wait_until;

    const LIMIT: Duration = Duration::from_secs(10);

    fn is_own(home: &Home, path: &Path) -> bool {
        home.roots().iter().any(|root| path.starts_with(root))
    }

    #[test]
    fn what_is_left_is_found_and_what_others_use_is_not() {
        let before = Before::look();
        let home = Home::new();
        // Others may make files in shared memory at the same time.
        let left_of_own = || before.files_left(&home).iter().filter(|path| is_own(&home, path)).count();
        assert_eq!(left_of_own(), 0);
        fs::create_dir(home.run()).expect("a folder");
        File::create(home.run().join(LOCK)).expect("a file");
        assert_eq!(left_of_own(), 0, "a lock stays");

        let stray = tempfile::Builder::new().prefix("stray-").tempdir_in(SHARED_MEMORY).expect("a folder in /dev/shm");
        let left =
            [home.run().join("a.sock"), home.temporary().join("t"), home.shm().join("s"), home.inbox().join("i")];
        for path in &left {
            File::create(path).expect("a file");
        }
        let found: BTreeSet<PathBuf> = before.files_left(&home).into_iter().collect();
        let wanted: BTreeSet<PathBuf> = left.into_iter().chain([stray.path().to_owned()]).collect();
        assert_eq!(found.intersection(&wanted).count(), wanted.len(), "{found:?}");

        let held = stray.path().join("held");
        let open = File::create(&held).expect("a file");
        assert!(!before.files_left(&home).contains(&stray.path().to_owned()), "somebody has {held:?} open");
        drop(open);
        // Another test's child has this process's files open from its fork to its exec.
        wait_until("the folder to be nobody's", LIMIT, || before.files_left(&home).contains(&stray.path().to_owned()));
    }

    #[test]
    fn a_process_of_the_run_is_found_that_no_status_has_shown() {
        let home = Home::new();
        let folder = tempfile::tempdir_in(program().parent().expect("a folder")).expect("a folder beside the programs");
        let sleeper = folder.path().join("sleeper");
        fs::copy("/bin/sleep", &sleeper).expect("a program to run");
        let mut others = Command::new(&sleeper).arg("60").spawn().expect("it runs");
        let mut own = Command::new(&sleeper).arg("60").env("TMPDIR", home.temporary()).spawn().expect("it runs");
        // A spawn may return a moment before the kernel shows the new program's environment.
        wait_until("the programs to run", LIMIT, || {
            [others.id(), own.id()]
                .iter()
                .all(|pid| fs::read(format!("/proc/{pid}/environ")).is_ok_and(|text| !text.is_empty()))
        });
        let found = processes_left(&home);
        for child in [&mut others, &mut own] {
            child.kill().and_then(|()| child.wait()).expect("it can be ended");
        }
        assert_eq!(found, [own.id()]);
        assert_eq!(processes_left(&home), [0; 0]);
    }
}
