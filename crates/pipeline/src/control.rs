//! What the launcher and its processes say to each other, over ipc-channel. Frames never pass here: the channel has no
//! back-pressure, and needs none for a handful of messages in a process's life.

use std::path::PathBuf;

use ipc_channel::ipc::IpcSender;
use serde::{Deserialize, Serialize};

use crate::{Config, Generation, InheritedSlab};

/// From a process to the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The first word: where to send commands. The launcher answers with [`Command::Start`].
    Hello(IpcSender<Command>),
    /// Warmed up; takes frames.
    Ready {
        /// Milliseconds from the process's start.
        ms: u64,
    },
    /// Cannot go on; the process ends with a failure.
    Failed {
        /// What was wrong and what to do about it.
        message: String,
    },
    /// The gateway, after [`Command::Drain`]: every accepted frame has its result in the journal.
    Drained,
    /// The gateway, after [`Command::Encode`]: it can encode the results of this generation.
    Encodes {
        /// Its number.
        generation: u64,
    },
}

/// From the launcher to a process.
#[derive(Debug, Serialize, Deserialize)]
pub enum Command {
    /// What to be.
    Start(Box<StartOrder>),
    /// The gateway: refuse new frames, finish the accepted ones, then report.
    Drain,
    /// The gateway: be ready for results of another generation, then report.
    Encode(Box<Generation>),
    /// Finish what is claimed and end.
    Stop,
}

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// The gRPC service, by TCP or a Unix socket.
    Grpc,
    /// `/metrics`, `/readyz` and `/livez`, by TCP.
    Http,
}

/// A listener that the gateway inherits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InheritedListener {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Its file descriptor.
    pub number: i32,
}

/// What a process is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StartOrder {
    /// The checked configuration: a stage's with the models of its generation, the gateway's with those that made the segment.
    pub config: Config,
    /// A stage: its generation. The gateway: all that may have frames in flight.
    pub generations: Vec<Generation>,
    /// Where the segment lies.
    pub segment: PathBuf,
    /// The process's owner id.
    pub owner: u16,
    /// Its place in the process table.
    pub entry: usize,
    /// Its stage; [`crate::GATEWAY`] for the gateway, [`crate::KEEPER`] for the cache's keeper.
    pub stage: usize,
    /// The listeners that it inherits: the gateway's.
    pub listeners: Vec<InheritedListener>,
    /// Slabs that it inherits: those of the handed pools that a stage reads or writes.
    pub slabs: Vec<InheritedSlab>,
}
