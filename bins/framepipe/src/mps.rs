//! NVIDIA's Multi-Process Service: a daemon by which the processes of a pipeline run on its GPU side by side, and not in
//! turns. The launcher starts one of its own, before any process opens the GPU, and quits it when all of them have ended. The
//! daemon leaves its parent (`nvidia-cuda-mps-control -d` returns once it serves), so that the launcher's death does not end
//! it: its folder, which is in the run folder, holds its pid, and the next launcher quits it.

use std::{
    ffi::OsString,
    fs,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{
    house::SOCKET_PATH_BYTES_MAX,
    log::say,
    run_out::{is_ready, run},
};

/// NVIDIA's program, which is daemon and command line.
const PROGRAM: &str = "nvidia-cuda-mps-control";
/// How the kernel names its processes: 15 bytes.
const COMM: &str = "nvidia-cuda-mps";
/// Where it is looked for behind $PATH.
const FOLDERS: [&str; 2] = ["/usr/bin", "/usr/local/nvidia/bin"];
/// Its sockets and its pid, in the run folder.
const PIPES: &str = "mps";
/// Its log, in the run folder.
const LOG: &str = "mps-log";
/// The daemon's file of its pid, among its sockets.
const PID_FILE: &str = "nvidia-cuda-mps-control.pid";
/// The longest name of its sockets.
const SOCKET_NAME_BYTES: usize = "/control_privileged".len();
/// For the daemon to start, and for it to end after it was told so.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks for its pid.
const LOOK: Duration = Duration::from_millis(5);
/// What ends it.
const QUIT: &[u8] = b"quit\n";

/// The running daemon. Dropped, it ends.
#[derive(Debug)]
pub struct Daemon {
    program: PathBuf,
    folders: Folders,
    pidfd: OwnedFd,
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
        let (status, said) = run(&command, b"", PATIENCE)?;
        ensure!(status.success(), "{} -d: {}", program.display(), said.text_or(status));
        let deadline = Instant::now() + PATIENCE;
        let pidfd = loop {
            match folders.daemon() {
                Some(pidfd) => break pidfd,
                None if Instant::now() < deadline => thread::sleep(LOOK), // it may leave its parent before it writes its pid
                None => {
                    let _ = run(&folders.command(&program), QUIT, PATIENCE); // the reason is the one to tell
                    bail!("{} -d has started none: see {}", program.display(), folders.log.display());
                }
            }
        };
        Ok(Self { program, folders, pidfd })
    }

    /// What the environment of the processes that share the GPU says.
    pub fn environment(&self) -> [(&'static str, OsString); 2] {
        self.folders.environment()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.folders.quit(Some(&self.program), &self.pidfd);
    }
}

/// Ends the daemon that a dead launcher has left in the run folder, which is this launcher's by now.
pub fn end_left(run_folder: &Path) {
    let folders = Folders::of(run_folder);
    if let Some(pidfd) = folders.daemon() {
        say!("launcher: a dead launcher's MPS daemon is ended");
        folders.quit(find(std::env::var_os("PATH")).as_deref(), &pidfd);
    }
    folders.remove();
}

/// The program, in `path` or where NVIDIA's packages put it.
fn find(path: Option<OsString>) -> Option<PathBuf> {
    let named: Vec<PathBuf> = path.iter().flat_map(std::env::split_paths).collect();
    let folders = named.into_iter().filter(|folder| folder.is_absolute()).chain(FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(PROGRAM)).find(|program| program.is_file())
}

impl Folders {
    fn of(run_folder: &Path) -> Self {
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
        for folder in [&self.pipes, &self.log] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        Ok(())
    }

    /// Removes the sockets; the log stays.
    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.pipes); // not there: as well
    }

    fn environment(&self) -> [(&'static str, OsString); 2] {
        [("CUDA_MPS_PIPE_DIRECTORY", (&self.pipes).into()), ("CUDA_MPS_LOG_DIRECTORY", (&self.log).into())]
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment());
        command
    }

    /// The daemon that these folders are of, if it lives. The pid's process is looked at once it is held, since the daemon may
    /// be dead, and its pid another's.
    fn daemon(&self) -> Option<OwnedFd> {
        let pid: i32 = fs::read_to_string(self.pipes.join(PID_FILE)).ok()?.trim().parse().ok()?;
        let pid = Pid::from_raw(pid.max(0))?; // 0 is none
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let comm = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).ok()?;
        (comm.trim_end() == COMM).then_some(pidfd)
    }

    /// Ends the daemon, whose clients have ended: asks it, and kills it where it does not.
    fn quit(&self, program: Option<&Path>, pidfd: &OwnedFd) {
        let asked = match program {
            Some(program) => run(&self.command(program), QUIT, PATIENCE).map(drop),
            None => Err(anyhow::anyhow!("there is no {PROGRAM}")),
        };
        let patience = if asked.is_ok() { PATIENCE } else { Duration::ZERO };
        let has_ended = || is_ready(PollFd::new(pidfd, PollFlags::IN), Instant::now() + patience);
        if !matches!(has_ended(), Ok(true)) {
            let reason =
                asked.err().map_or_else(|| format!("it lives {PATIENCE:?} later"), |error| format!("{error:#}"));
            say!("launcher: the MPS daemon does not quit, and is killed: {reason}");
            let _ = pidfd_send_signal(pidfd, Signal::KILL); // an error: it has just ended
            let _ = is_ready(PollFd::new(pidfd, PollFlags::IN), Instant::now() + PATIENCE);
        }
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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

    #[test]
    fn a_pid_that_is_no_daemons_is_none_whatever_its_file_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = Folders::of(folder.path());
        folders.make().expect("there is room");
        assert!(folders.daemon().is_none(), "no file");
        let own = std::process::id().to_string();
        for text in ["", "x", "0", "-1", "99999999999999999999", "2147483647", &own] {
            fs::write(folders.pipes.join(PID_FILE), text).expect("it can be written");
            assert!(folders.daemon().is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_run_folder_too_deep_for_sockets_is_an_error_that_says_so() {
        let error = Folders::of(Path::new(&format!("/{}", "x".repeat(90)))).make().expect_err("too deep").to_string();
        assert!(error.contains("7 bytes too long") && error.contains("--run-dir"), "{error}");
    }
}
