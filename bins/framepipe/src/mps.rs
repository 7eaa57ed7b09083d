//! NVIDIA's Multi-Process Service: a daemon by which the processes of a pipeline run on its GPU side by side, and not in
//! turns. The launcher starts one of its own, before any process opens the GPU, and quits it when all of them have ended. The
//! daemon leaves its parent (`nvidia-cuda-mps-control -d` returns once it serves), so that the launcher's death does not end
//! it: the next launcher finds it in /proc, by its name and by the folder in its environment, which is in the run folder, and
//! quits it. That folder has a mark, without which nothing in it is touched.

use std::{
    ffi::OsString,
    fs,
    io::ErrorKind,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tracing::{info, warn};

use crate::{
    house::SOCKET_PATH_BYTES_MAX,
    run_out::{is_ready, run},
};

/// NVIDIA's program, which is daemon and command line.
const PROGRAM: &str = "nvidia-cuda-mps-control";
/// How the kernel names its processes, and those of its server: 15 bytes.
const COMM: &str = "nvidia-cuda-mps";
/// Where it is looked for behind $PATH.
const FOLDERS: [&str; 2] = ["/usr/bin", "/usr/local/nvidia/bin"];
/// Its sockets and its pid, in the run folder.
const PIPES: &str = "mps";
/// Says that the launcher made this folder: a file in it.
const MARK: &str = "made-by-framepipe";
/// The variable that names the folder of the sockets.
const PIPES_VARIABLE: &str = "CUDA_MPS_PIPE_DIRECTORY";
/// Its log, in the run folder.
const LOG: &str = "mps-log";
/// The longest name of its sockets.
const SOCKET_NAME_BYTES: usize = "/control_privileged".len();
/// For the daemon to start, and for it to end after it was told so.
const PATIENCE: Duration = Duration::from_secs(10);
/// What ends it.
const QUIT: &[u8] = b"quit\n";

/// The running daemon. Dropped, it ends.
#[derive(Debug)]
pub struct Daemon {
    program: PathBuf,
    folders: Folders,
}

#[derive(Clone, Debug)]
struct Folders {
    pipes: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts the daemon of a GPU, with its files in the run folder, where none is left of another launcher.
    pub fn start(run_folder: &Path, uuid: &str) -> anyhow::Result<Self> {
        let program = find(std::env::var_os("PATH")).with_context(|| {
            let folders = FOLDERS.join(", ");
            format!("there is no {PROGRAM} in $PATH, {folders}: install the driver's tools, or choose pipeline.mps = \"off\"")
        })?;
        let folders = Folders::of(run_folder);
        folders.make()?;
        let mut command = folders.command(&program);
        command.arg("-d").env("CUDA_VISIBLE_DEVICES", uuid).env("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
        let started = run(&command, b"", PATIENCE).and_then(|(status, said)| {
            ensure!(status.success(), "{} -d: {}", program.display(), said.text_or(status));
            let log = folders.log.display();
            ensure!(!folders.daemon().is_empty(), "{} -d has started none: see {log}", program.display());
            Ok(())
        });
        let daemon = Self { program, folders }; // on an error it is dropped, and what there is of it ends
        started.map(|()| daemon)
    }

    /// What the environment of the processes that share the GPU says.
    pub fn environment(&self) -> [(&'static str, OsString); 2] {
        self.folders.environment()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.folders.quit(Some(&self.program));
    }
}

/// Ends the daemon that a dead launcher has left in the run folder, which is this launcher's by now.
pub fn end_left(run_folder: &Path) {
    let folders = Folders::of(run_folder);
    if folders.are_ours() {
        if !folders.daemon().is_empty() {
            info!("a dead launcher's MPS daemon is ended");
        }
        folders.quit(find(std::env::var_os("PATH")).as_deref());
    }
}

/// The program, in `path` or where NVIDIA's packages put it.
fn find(path: Option<OsString>) -> Option<PathBuf> {
    let named: Vec<PathBuf> = path.iter().flat_map(std::env::split_paths).collect();
    let folders = named.into_iter().filter(|folder| folder.is_absolute()).chain(FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(PROGRAM)).find(|program| program.is_file())
}

impl Folders {
    fn of(run_folder: &Path) -> Self {
        // However it is called: the daemon of another launcher is known by this name.
        let run_folder = fs::canonicalize(run_folder).unwrap_or_else(|_| run_folder.to_owned());
        Self { pipes: run_folder.join(PIPES), log: run_folder.join(LOG) }
    }

    fn make(&self) -> anyhow::Result<()> {
        let bytes = self.pipes.as_os_str().len() + SOCKET_NAME_BYTES;
        ensure!(
            bytes <= SOCKET_PATH_BYTES_MAX,
            "{} is {} bytes too long a path for the daemon's sockets: name another run folder (paths.run, --run-dir)",
            self.pipes.display(),
            bytes - SOCKET_PATH_BYTES_MAX
        );
        let make = |folder: &Path| fs::DirBuilder::new().mode(0o700).create(folder);
        for folder in [&self.pipes, &self.log] {
            let _ = fs::remove_dir(folder); // an empty one, of a launcher that was killed before the next step
            match make(folder) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && *folder == self.log => {} // the last one's
                made => made.with_context(|| {
                    format!("cannot make the folder {} (one that is not framepipe's: move it away)", folder.display())
                })?,
            }
        }
        fs::write(self.pipes.join(MARK), "").with_context(|| format!("cannot write into {}", self.pipes.display()))
    }

    /// True where a launcher has made the folder of the sockets.
    fn are_ours(&self) -> bool {
        self.pipes.join(MARK).is_file()
    }

    /// Removes the sockets, and their folder where nothing else is in it; the log stays.
    fn remove(&self) {
        let entries = fs::read_dir(&self.pipes).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name() != MARK) {
            let _ = fs::remove_file(entry.path()); // a folder, which no daemon makes: it stays
        }
        let _ = fs::remove_file(self.pipes.join(MARK)).and_then(|()| fs::remove_dir(&self.pipes));
    }

    fn environment(&self) -> [(&'static str, OsString); 2] {
        [(PIPES_VARIABLE, (&self.pipes).into()), ("CUDA_MPS_LOG_DIRECTORY", (&self.log).into())]
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment());
        command
    }

    /// The processes of the daemon, and of its servers, that these folders are of. Each is looked at once it is held, since a
    /// pid may become another's.
    fn daemon(&self) -> Vec<OwnedFd> {
        let variable = [PIPES_VARIABLE.as_bytes(), b"=", self.pipes.as_os_str().as_bytes()].concat();
        let of = |entry: fs::DirEntry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok().filter(|pid: &i32| *pid > 0)?)?;
            let has_name = || fs::read(entry.path().join("comm")).is_ok_and(|comm| comm.starts_with(COMM.as_bytes()));
            if !has_name() {
                return None;
            }
            let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            let environment = fs::read(entry.path().join("environ")).ok()?;
            let is_its = environment.split(|byte| *byte == 0).any(|line| line == variable);
            (is_its && has_name()).then_some(pidfd)
        };
        fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(of).collect()
    }

    /// Ends the daemon, whose clients have ended, where it lives: asks it, and kills it where it does not. Then its sockets go.
    fn quit(&self, program: Option<&Path>) {
        let daemon = self.daemon();
        if !daemon.is_empty() {
            let asked = program.with_context(|| format!("there is no {PROGRAM}")).and_then(|program| {
                let (status, said) = run(&self.command(program), QUIT, PATIENCE)?;
                ensure!(status.success(), "quit: {}", said.text_or(status));
                Ok(())
            });
            let deadline = Instant::now() + if asked.is_ok() { PATIENCE } else { Duration::ZERO };
            let lives = |pidfd: &&OwnedFd| !matches!(is_ready(PollFd::new(*pidfd, PollFlags::IN), deadline), Ok(true));
            let deaf: Vec<&OwnedFd> = daemon.iter().filter(lives).collect();
            if !deaf.is_empty() {
                let late = || format!("it lives {PATIENCE:?} later");
                let reason = asked.err().map_or_else(late, |error| format!("{error:#}"));
                warn!("the MPS daemon does not quit, and is killed: {reason}");
            }
            for pidfd in deaf {
                let _ = pidfd_send_signal(pidfd, Signal::KILL); // an error: it has just ended
                let _ = is_ready(PollFd::new(pidfd, PollFlags::IN), Instant::now() + PATIENCE);
            }
        }
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::unix::fs::PermissionsExt as _,
        process::{Child, Stdio},
    };

    use super::*;

    #[test]
    fn the_program_is_found_in_the_path_and_a_relative_path_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join(PROGRAM);
        fs::write(&program, "").expect("it can be written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is the test's");
        let path = std::env::join_paths([Path::new("."), Path::new("/nowhere"), folder.path()]).expect("a path");
        assert_eq!(find(Some(path)), Some(program));
    }

    /// A process called so, with these folders in its environment. It ends when its input does.
    fn process(folders: &Folders, name: &str) -> Child {
        let program = folders.log.join(name);
        std::os::unix::fs::symlink("/bin/sh", &program).expect("there is room");
        let mut command = folders.command(&program);
        command.args(["-c", "echo; read line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it can be started");
        process.stdout.as_mut().expect("it was piped").read_exact(&mut [0]).expect("it has become that program");
        process
    }

    #[test]
    fn a_daemon_is_found_by_its_name_and_its_folder_and_another_pipelines_is_none() {
        let [one, other] = [(), ()].map(|()| tempfile::tempdir().expect("a folder"));
        let [folders, others] = [&one, &other].map(|folder| Folders::of(folder.path()));
        [&folders, &others].into_iter().for_each(|folders| folders.make().expect("there is room"));
        let mut processes =
            [process(&others, PROGRAM), process(&folders, "some-program"), process(&folders, "nvidia-cuda-mps-server")];
        assert_eq!(folders.daemon().len(), 1);
        folders.quit(None);
        assert!(processes[2].try_wait().expect("it is the test's").is_some(), "it is killed");
        assert!(processes[..2].iter_mut().all(|process| process.try_wait().expect("it is the test's").is_none()));
        assert_eq!((folders.daemon().len(), others.daemon().len()), (0, 1));
        assert!(!folders.pipes.exists());
        for process in &mut processes[..2] {
            process.kill().and_then(|()| process.wait()).expect("it is the test's");
        }
    }

    #[test]
    fn a_folder_that_is_not_the_launchers_is_neither_used_nor_emptied() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = Folders::of(folder.path());
        fs::create_dir(&folders.pipes).expect("there is room");
        let dear = folders.pipes.join("dear");
        fs::write(&dear, "").expect("there is room");
        end_left(folder.path());
        assert!(format!("{:#}", folders.make().expect_err("it is not empty")).contains("move it away"));
        assert!(dear.exists());
        fs::remove_file(&dear).expect("it is there");
        folders.make().expect("an empty one is nobody's");
        fs::write(folders.pipes.join("control"), "").expect("there is room");
        end_left(folder.path());
        assert!(!folders.pipes.exists(), "with the mark it is ours");
    }

    #[test]
    fn a_run_folder_too_deep_for_sockets_is_an_error_that_says_so() {
        let error = Folders::of(Path::new(&format!("/{}", "x".repeat(90)))).make().expect_err("too deep").to_string();
        assert!(error.contains("7 bytes too long") && error.contains("--run-dir"), "{error}");
    }
}
