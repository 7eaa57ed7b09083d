//! A program that the launcher asks something: run to its end, which is not waited for long.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    process::{PidfdFlags, pidfd_open},
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

/// Runs a program that is given `words`, until it ends; where it does not in time, it is killed. Files, not pipes, hear it: a
/// daemon of its making may keep its standard output and error for ever.
pub fn run(mut command: Command, words: &[u8], patience: Duration) -> anyhow::Result<(ExitStatus, Said)> {
    let name = command.get_program().to_owned();
    let deadline = Instant::now() + patience;
    // In memory: at the end the folder of temporary files is gone.
    let file = || anyhow::Ok(File::from(memfd_create("words", MemfdFlags::CLOEXEC).context("memfd_create")?));
    let (mut input, output, error) = (file()?, file()?, file()?);
    input.write_all(words)?;
    input.seek(SeekFrom::Start(0))?;
    command.stdin(input).stdout(Stdio::from(output.try_clone()?)).stderr(error.try_clone()?);
    let mut program = command.spawn().with_context(|| format!("cannot start {}", name.display()))?;
    let pidfd = pidfd_open(rustix::process::Pid::from_child(&program), PidfdFlags::empty());
    let has_ended =
        pidfd.map_err(io::Error::from).and_then(|pidfd| is_ready(PollFd::new(&pidfd, PollFlags::IN), deadline));
    if !matches!(has_ended, Ok(true)) {
        let _ = program.kill(); // an error: it has just ended
    }
    let status = program.wait()?;
    anyhow::ensure!(has_ended?, "{} had not ended after {patience:?}, and was killed", name.display());
    Ok((status, Said { stdout: words_of(output)?, stderr: words_of(error)? }))
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
        let (status, said) = run(shell("cat; echo oops >&2; exit 3"), b"words", SOON).expect("it runs");
        assert_eq!((status.code(), said.stdout.as_slice()), (Some(3), &b"words"[..]));
        assert_eq!(said.text_or(status), "oops");
        let began = Instant::now();
        let (status, said) = run(shell("sleep 60 & echo done"), b"", SOON).expect("what it left holds nobody up");
        assert_eq!((said.text_or(status).as_str(), began.elapsed() < SOON), ("done", true));
        let error = run(shell("exec sleep 600"), b"", Duration::from_millis(50)).err().expect("it is killed");
        assert_eq!(error.to_string(), "sh had not ended after 50ms, and was killed");
    }
}
