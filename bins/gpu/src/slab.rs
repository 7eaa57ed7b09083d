//! Makes a slab, and hands it over: one message with the descriptor and the bytes that the slab has. The memory lives on with
//! the descriptor when this process has ended.

use std::{
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use framepipe_gpu::{Choice, Device, Slab};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// The socket that the launcher gave this process.
const SOCKET: i32 = 3;

#[derive(Args)]
pub struct Arguments {
    /// The GPU: `first`, or its UUID.
    #[arg(long, value_parser = crate::choice)]
    device: Choice,
    /// Bytes of the slab.
    #[arg(long)]
    bytes: usize,
}

/// Makes a slab and sends it.
pub fn send(arguments: &Arguments) -> anyhow::Result<()> {
    let device = Device::open(&arguments.device)?;
    let (slab, descriptor) = Slab::make(&device, arguments.bytes)?;
    device.synchronize()?;
    let bytes = (slab.bytes() as u64).to_le_bytes();
    // SAFETY: only borrowed; that it is a socket, `sendmsg` sees.
    #[allow(unsafe_code, reason = "a file descriptor passed by number")]
    let socket = unsafe { BorrowedFd::borrow_raw(SOCKET) };
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "one descriptor does not fit a message");
    let sent = sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
        .context("cannot send the slab: descriptor 3 is no socket of the launcher's")?;
    ensure!(sent == bytes.len(), "the slab was sent in part");
    Ok(())
}
