//! ipc-channel: its channel of bytes, which spares it the serialisation.

use anyhow::{Context, Result, ensure};
use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, bytes_channel};

use super::{Offer, Receiver, Sender};
use crate::message::{MESSAGE_BYTES, Message};

/// A server to which the consumer sends the channel's sender, before it says that it is open.
pub struct Offered {
    name: String,
    server: Option<IpcOneShotServer<IpcBytesSender>>,
}

impl Offered {
    /// Makes the server.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn new() -> Result<Self> {
        let (server, name) = IpcOneShotServer::new()?;
        Ok(Self { name, server: Some(server) })
    }
}

impl Offer for Offered {
    type Sender<'o> = Sending;

    fn address(&self) -> String {
        self.name.clone()
    }

    fn sender(&mut self) -> Result<Sending> {
        let (_, sender) = self.server.take().context("there is one sender")?.accept()?;
        Ok(Sending(sender))
    }
}

/// The producer's end.
pub struct Sending(IpcBytesSender);

impl Sender for Sending {
    fn has_room(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn send(&mut self, message: &Message) -> Result<()> {
        Ok(self.0.send(bytemuck::bytes_of(message))?)
    }
}

/// The consumer's end.
pub struct Receiving(IpcBytesReceiver);

impl Receiving {
    /// Makes the channel, and sends its sender to the producer.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(address: &str) -> Result<Self> {
        let (sender, receiver) = bytes_channel()?;
        IpcSender::connect(address.to_owned())?.send(sender)?;
        Ok(Self(receiver))
    }
}

impl Receiver for Receiving {
    fn receive<T>(&mut self, read: impl FnOnce(&Message) -> Result<T>) -> Result<T> {
        let bytes = self.0.recv()?;
        ensure!(bytes.len() == MESSAGE_BYTES, "a message of {} bytes came", bytes.len());
        read(&bytemuck::pod_read_unaligned(&bytes))
    }
}
