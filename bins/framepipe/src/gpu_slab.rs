//! A slab in a GPU's memory. The launcher knows no CUDA: the program `framepipe-gpu slab` makes it, sends its exported
//! descriptor over a socket that it inherits (its descriptor 3), with the bytes that it really has (u64, little-endian), and
//! ends. What it cannot do, it says on standard error.

use std::{
    io::{self, ErrorKind, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::Command,
    time::{Duration, Instant},
};

use anyhow::bail;
use framepipe_pipeline::{Pool, Slab};
use rustix::{
    event::{PollFd, PollFlags},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg},
};

use crate::{
    child::sibling,
    gpu::{Gpu, PROGRAM},
    run_out::{Running, is_ready},
};

/// The number of the socket that it inherits.
const SOCKET: i32 = 3;
/// For it to send the slab: a driver that nobody uses starts slowly.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a slab on a GPU.
pub fn make(gpu: &Gpu, pool: Pool, bytes: u64) -> anyhow::Result<Slab> {
    let mut command = Command::new(sibling(PROGRAM)?);
    command.args(["slab", "--device", gpu.uuid(), "--bytes", &bytes.to_string()]).envs(gpu.environment());
    let (memory, has) = ask(&command, PATIENCE)?;
    anyhow::ensure!(has >= bytes, "{PROGRAM} made {has} bytes, where {bytes} were asked for");
    Ok(Slab { pool, memory, bytes: has, is_on_device: true })
}

/// Runs a program that sends one slab, and waits for that.
fn ask(command: &Command, patience: Duration) -> anyhow::Result<(OwnedFd, u64)> {
    let (ours, theirs) = UnixStream::pair()?;
    let program = Running::start(command, b"", Some((theirs.as_fd(), SOCKET)), patience)?;
    drop(theirs); // what the program does not send, nobody will
    let received = receive(&ours, program.deadline);
    let (status, said) = program.end()?;
    match received {
        Ok(Some(slab)) => Ok(slab),
        Ok(None) => bail!("{PROGRAM} sent none: {}", said.text_or(status)),
        Err(error) => bail!("what {PROGRAM} sent cannot be used: {error}: {}", said.text_or(status)),
    }
}

/// Receives one descriptor with its size; `None`: the other end was closed first.
fn receive(socket: &UnixStream, deadline: Instant) -> io::Result<Option<(OwnedFd, u64)>> {
    if !is_ready(PollFd::new(socket, PollFlags::IN), deadline)? {
        return Err(ErrorKind::TimedOut.into());
    }
    let mut size = [0; size_of::<u64>()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut size)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let mut descriptors: Vec<OwnedFd> = rights.flatten().collect();
    let are_all = !message.flags.contains(ReturnFlags::CTRUNC);
    match (message.bytes, descriptors.pop()) {
        (0, None) => Ok(None),
        (8, Some(memory)) if descriptors.is_empty() && are_all => Ok(Some((memory, u64::from_le_bytes(size)))),
        (bytes, last) => {
            let count = descriptors.len() + usize::from(last.is_some());
            let or_more = if are_all { "" } else { " or more" };
            let found = format!("{bytes} bytes and {count}{or_more} descriptors, not 8 and one");
            Err(io::Error::new(ErrorKind::InvalidData, found))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use rustix::{
        fs::{MemfdFlags, fstat, memfd_create},
        net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// Sends so many descriptors of one memfd, as the program does.
    fn send(socket: &UnixStream, payload: &[u8], descriptors: usize) {
        let memory = memfd_create("stand-in", MemfdFlags::CLOEXEC).expect("a memfd");
        rustix::fs::ftruncate(&memory, 12_345).expect("it grows");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let memory = [memory.as_fd(); 3];
        if descriptors > 0 {
            assert!(control.push(SendAncillaryMessage::ScmRights(&memory[..descriptors])));
        }
        sendmsg(socket, &[IoSlice::new(payload)], &mut control, SendFlags::empty()).expect("it is heard");
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_slab_is_received_with_its_size_and_nothing_else_is_one() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let receive = || receive(&ours, Instant::now() + SOON);
        send(&theirs, &2_097_152u64.to_le_bytes(), 1);
        let (memory, bytes) = receive().expect("it was sent").expect("it was sent");
        assert_eq!((fstat(&memory).expect("it is open").st_size, bytes), (12_345, 2_097_152));
        for (payload, descriptors) in [(&[0; 8][..], 0), (&[0; 7], 1), (&[0; 8], 2), (&[0; 8], 3)] {
            send(&theirs, payload, descriptors);
            assert_eq!(receive().expect_err("it is no slab").kind(), ErrorKind::InvalidData, "{descriptors}");
        }
        drop(theirs);
        assert!(receive().expect("it was closed").is_none());
    }

    #[test]
    fn what_the_program_says_is_the_error_and_it_is_not_waited_for_long() {
        let error = |script: &str, patience| ask(&shell(script), patience).expect_err(script).to_string();
        assert_eq!(error("echo no driver here >&2; exit 1", SOON), "framepipe-gpu sent none: no driver here");
        assert_eq!(error("exit 3", SOON), "framepipe-gpu sent none: it ended with exit status: 3");
        let silent = error("exec sleep 600", Duration::from_millis(100));
        assert_eq!(silent, "sh had not ended after 100ms, and was killed: it ended with signal: 9 (SIGKILL)");
        let heir = error("sleep 60 >&2 3>&- & exit 1", SOON);
        assert_eq!(
            heir, "framepipe-gpu sent none: it ended with exit status: 1",
            "who keeps its standard error is not waited for"
        );
        let wrong = error("printf 12345678 >&3; echo oops >&2", SOON);
        assert_eq!(wrong, "what framepipe-gpu sent cannot be used: 8 bytes and 0 descriptors, not 8 and one: oops");
    }
}
