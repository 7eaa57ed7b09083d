//! As the first process of a container. It is the parent of every process there whose own one has ended, and nobody but it can
//! wait for those: without that they stay in the table of processes for ever. So the launcher runs as its child, and this one
//! waits for whoever ends, passes signals on, and ends as the launcher does, and with it the container.
//!
//! (An init that the container engine gives, `docker run --init`, does the same: then this is not the first process.)

use std::{
    env,
    ffi::{CString, OsString},
    os::unix::ffi::OsStringExt as _,
    process::ExitCode,
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn},
    sys::{
        signal::{SigSet, Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// What is passed on to the launcher.
const PASSED_ON: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
/// A shell's exit status for a process that a signal has killed: this, and the signal's number.
const KILLED: u8 = 128;

/// True of the first process.
pub fn is_first() -> bool {
    std::process::id() == 1
}

/// Starts this program with the same arguments once more, and stands by it to its end. To be called before any thread is started.
pub fn stand_by() -> anyhow::Result<ExitCode> {
    let waited_for: SigSet = PASSED_ON.into_iter().chain([Signal::SIGCHLD]).collect();
    // Before it is started: the first process has no signal that it does not ask for, and one in between would be lost.
    waited_for.thread_block()?;
    let launcher = start_again().context("cannot start the launcher")?;
    loop {
        match waited_for.wait()? {
            Signal::SIGCHLD => {
                if let Some(status) = bury(launcher)? {
                    return Ok(status.into());
                }
            }
            signal => match kill(launcher, signal) {
                Ok(()) | Err(Errno::ESRCH) => {} // it has just ended: SIGCHLD says so
                Err(error) => return Err(error).context("cannot pass a signal on to the launcher"),
            },
        }
    }
}

fn start_again() -> anyhow::Result<Pid> {
    let program = env::current_exe()?;
    let arguments = env::args_os().map(c_string).collect::<anyhow::Result<Vec<_>>>()?;
    let variable = |(name, value): (OsString, OsString)| c_string([name, value].join("=".as_ref()));
    let environment = env::vars_os().map(variable).collect::<anyhow::Result<Vec<_>>>()?;
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_sigmask(&SigSet::empty())?; // this one's would else be the launcher's, too
    attributes.set_pgroup(Pid::from_raw(0))?; // a group of its own: what a terminal sends to all of this one's reaches it once, from here
    attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETPGROUP)?;
    Ok(posix_spawn(program.as_path(), &PosixSpawnFileActions::init()?, &attributes, &arguments, &environment)?)
}

fn c_string(text: OsString) -> anyhow::Result<CString> {
    CString::new(text.into_vec()).context("a word with a zero in it")
}

/// Waits for all who have ended. The launcher's exit status, where it is among them.
fn bury(launcher: Pid) -> anyhow::Result<Option<u8>> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == launcher => ended = Some(code as u8),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == launcher => ended = Some(KILLED + signal as u8),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(ended),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for processes"),
        }
    }
}
