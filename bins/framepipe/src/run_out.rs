//! A program that the launcher asks something: run to its end, which is not waited for long.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsString},
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd},
        unix::{ffi::OsStringExt as _, process::ExitStatusExt as _},
    },
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp},
    sys::signal::{SigSet, Signal},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    process::{Pid, PidfdFlags, WaitOptions, kill_process, pidfd_open, waitpid},
};

/// Most bytes that are read of what a program says.
const WORDS_BYTES_MAX: u64 = 1 << 16;

/// What a program said.
pub struct Said {
    /// On standard output.
    pub stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Said {
    /// Its words for people, or, where there are none, how it ended.
    pub fn text_or(&self, status: ExitStatus) -> String {
        let said = [&self.stderr, &self.stdout].map(|said| String::from_utf8_lossy(said).trim().to_owned());
        said.into_iter().find(|said| !said.is_empty()).unwrap_or_else(|| format!("it ended with {status}"))
    }
}

/// Runs a program that is given `words`, until it ends; where it does not in time, it is killed.
pub fn run(command: &Command, words: &[u8], patience: Duration) -> anyhow::Result<(ExitStatus, Said)> {
    Running::start(command, words, None, patience)?.end()
}

/// A program that runs. It must be waited for ([`Running::end`]).
#[must_use]
pub struct Running {
    name: OsString,
    pid: Pid,
    output: File,
    error: File,
    patience: Duration,
    /// When it must have ended.
    pub deadline: Instant,
}

impl Running {
    /// Starts a program, by its path, arguments and variables alone. It is given `words`, and a descriptor under a number above
    /// those of the standard ones. Files, not pipes, hear it: a daemon of its making may keep its standard output and error for
    /// ever. It blocks no signal, as the launcher does: it, or such a daemon, would hear none for ever.
    pub fn start(
        command: &Command,
        words: &[u8],
        inherited: Option<(BorrowedFd<'_>, i32)>,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let name = command.get_program().to_owned();
        let deadline = Instant::now() + patience;
        // In memory: at the end the folder of temporary files is gone.
        let file = || anyhow::Ok(File::from(memfd_create("words", MemfdFlags::CLOEXEC).context("memfd_create")?));
        let (mut input, output, error) = (file()?, file()?, file()?);
        input.write_all(words)?;
        input.seek(SeekFrom::Start(0))?;
        let mut actions = PosixSpawnFileActions::init()?;
        for (descriptor, number) in
            [(input.as_fd(), 0), (output.as_fd(), 1), (error.as_fd(), 2)].into_iter().chain(inherited)
        {
            actions.add_dup2(descriptor.as_raw_fd(), number)?;
        }
        let mut attributes = PosixSpawnAttr::init()?;
        attributes.set_sigmask(&SigSet::empty())?;
        attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?; // which this program ignores
        attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
        let arguments = [name.as_os_str()].into_iter().chain(command.get_args()).map(|it| c_string(it.to_owned()));
        let arguments = arguments.collect::<anyhow::Result<Vec<_>>>()?;
        let pid = posix_spawnp(&arguments[0], &actions, &attributes, &arguments, &environment(command)?)
            .with_context(|| format!("cannot start {}", name.display()))?;
        let pid = Pid::from_raw(pid.as_raw()).context("a process without a pid")?;
        Ok(Self { name, pid, output, error, patience, deadline })
    }

    /// Waits for its end, or ends it.
    pub fn end(self) -> anyhow::Result<(ExitStatus, Said)> {
        let pidfd = pidfd_open(self.pid, PidfdFlags::empty());
        let has_ended = pidfd
            .map_err(io::Error::from)
            .and_then(|pidfd| is_ready(PollFd::new(&pidfd, PollFlags::IN), self.deadline));
        if !matches!(has_ended, Ok(true)) {
            let _ = kill_process(self.pid, rustix::process::Signal::KILL); // an error: it has just ended
        }
        let status = loop {
            match waitpid(Some(self.pid), WaitOptions::empty()) {
                Ok(ended) => break ended.context("nobody has ended")?.1,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot wait for {}", self.name.display())),
            }
        };
        let status = ExitStatus::from_raw(status.as_raw());
        let said = Said { stdout: words_of(self.output)?, stderr: words_of(self.error)? };
        let name = self.name.display();
        anyhow::ensure!(
            has_ended?,
            "{name} had not ended after {:?}, and was killed: {}",
            self.patience,
            said.text_or(status)
        );
        Ok((status, said))
    }
}

fn c_string(text: OsString) -> anyhow::Result<CString> {
    CString::new(text.into_vec()).context("a name with a zero in it")
}

/// The launcher's own environment, with a command's changes.
fn environment(command: &Command) -> anyhow::Result<Vec<CString>> {
    let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => variables.insert(name.to_owned(), value.to_owned()),
            None => variables.remove(name),
        };
    }
    let lines = variables.into_iter().map(|(mut line, value)| {
        line.push("=");
        line.push(value);
        c_string(line)
    });
    lines.collect()
}

fn words_of(mut file: File) -> io::Result<Vec<u8>> {
    let mut words = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(WORDS_BYTES_MAX).read_to_end(&mut words)?;
    Ok(words)
}

/// True once there is something; false: not before the deadline.
pub fn is_ready(what: PollFd<'_>, deadline: Instant) -> io::Result<bool> {
    let mut what = [what];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut what, Some(&timeout)) {
            Ok(found) => return Ok(found > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_is_heard_and_one_that_does_not_end_is_killed() {
        const SOON: Duration = Duration::from_secs(20);
        let (status, said) = run(&shell("cat; echo oops >&2; exit 3"), b"words", SOON).expect("it runs");
        assert_eq!((status.code(), said.stdout.as_slice()), (Some(3), &b"words"[..]));
        assert_eq!(said.text_or(status), "oops");
        let began = Instant::now();
        let (status, said) = run(&shell("sleep 60 & echo done"), b"", SOON).expect("what it left holds nobody up");
        assert_eq!((said.text_or(status).as_str(), began.elapsed() < SOON), ("done", true));
        let error = run(&shell("exec sleep 600"), b"", Duration::from_millis(50)).err().expect("it is killed");
        assert_eq!(error.to_string(), "sh had not ended after 50ms, and was killed: it ended with signal: 9 (SIGKILL)");
    }
    #[test]
    fn a_program_blocks_no_signal_that_the_launcher_blocks_and_has_the_variables_that_are_meant() {
        const SOON: Duration = Duration::from_secs(20);
        SigSet::all().thread_block().expect("this thread is the test's own");
        let mut command = Command::new("grep"); // a shell blocks none, whatever it inherits
        command.args(["-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
        let mut variables = shell("echo $HOME-$A-$B");
        variables.env_remove("HOME").env("A", "a b").env("B", "=");
        let (_, said) = run(&variables, b"", SOON).expect("it runs");
        assert_eq!(said.stdout, b"-a b-=\n");
        let (_, said) = run(&command, b"", SOON).expect("it runs");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], "SigBlk:\t0000000000000000");
        let ignored = u64::from_str_radix(lines[1].trim_start_matches("SigIgn:\t"), 16).expect("a mask");
        assert_eq!(ignored & 1 << (Signal::SIGPIPE as u32 - 1), 0);
        let error = run(&Command::new("/nowhere/x"), b"", SOON).err().expect("it is not there");
        assert!(format!("{error:#}").starts_with("cannot start /nowhere/x: "), "{error:#}");
    }
}
