//! The peers, one file each: what the producer makes before the consumer starts, its sender, and the consumer's receiver.

pub mod framepipe;
pub mod iceoryx2;
pub mod ipc_channel;
pub mod pipe;

use std::process::Stdio;

use anyhow::Result;

use crate::message::Message;

/// Messages that may be on their way, where the peer lets one choose: framepipe's jobs, iceoryx2's buffer.
pub const ON_THEIR_WAY_MAX: usize = 64;

/// What the producer has made for a consumer to come.
pub trait Offer {
    /// What sends.
    type Sender<'o>: Sender
    where
        Self: 'o;

    /// By which the consumer finds it: one argument of its command line.
    fn address(&self) -> String;

    /// The consumer's standard input.
    fn stdin(&mut self) -> Stdio {
        Stdio::null()
    }

    /// The sender, once the consumer is open.
    ///
    /// # Errors
    /// What the peer says.
    fn sender(&mut self) -> Result<Self::Sender<'_>>;
}

/// The producer's end.
pub trait Sender {
    /// Takes the room for a message, where it is to be had now.
    ///
    /// # Errors
    /// What the peer says.
    fn has_room(&mut self) -> Result<bool>;

    /// Sends a message into the room that was taken, and wakes a consumer that sleeps.
    ///
    /// # Errors
    /// What the peer says.
    fn send(&mut self, message: &Message) -> Result<()>;
}

/// The consumer's end.
pub trait Receiver {
    /// Waits for a message, lets `read` look at it, and gives its room back.
    ///
    /// # Errors
    /// What the peer says, and what `read` says.
    fn receive<T>(&mut self, read: impl FnOnce(&Message) -> Result<T>) -> Result<T>;
}
