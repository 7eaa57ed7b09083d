//! A pipe, whose end for reading is the consumer's standard input.

use std::{
    io::{PipeReader, PipeWriter, Read as _, Write as _, pipe, stdin},
    os::fd::AsFd as _,
    process::Stdio,
};

use anyhow::Result;

use super::{Offer, Receiver, Sender};
use crate::message::Message;

/// Both ends.
pub struct Offered {
    reader: Option<PipeReader>,
    writer: PipeWriter,
}

impl Offered {
    /// Makes the pipe.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn new() -> Result<Self> {
        let (reader, writer) = pipe()?;
        Ok(Self { reader: Some(reader), writer })
    }
}

impl Offer for Offered {
    type Sender<'o> = Sending<'o>;

    fn address(&self) -> String {
        "-".into()
    }

    fn stdin(&mut self) -> Stdio {
        self.reader.take().map_or_else(Stdio::null, Stdio::from)
    }

    fn sender(&mut self) -> Result<Sending<'_>> {
        Ok(Sending(&self.writer))
    }
}

/// The producer's end.
pub struct Sending<'o>(&'o PipeWriter);

impl Sender for Sending<'_> {
    fn has_room(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn send(&mut self, message: &Message) -> Result<()> {
        Ok(self.0.write_all(bytemuck::bytes_of(message))?)
    }
}

/// The consumer's end.
pub struct Receiving(PipeReader);

impl Receiving {
    /// Takes standard input, past its buffer: each message is a read of its own.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open() -> Result<Self> {
        Ok(Self(stdin().as_fd().try_clone_to_owned()?.into()))
    }
}

impl Receiver for Receiving {
    fn receive<T>(&mut self, read: impl FnOnce(&Message) -> Result<T>) -> Result<T> {
        let mut message = Message::default();
        self.0.read_exact(bytemuck::bytes_of_mut(&mut message))?;
        read(&message)
    }
}
