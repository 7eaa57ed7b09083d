//! What the launcher and its processes say to each other, over ipc-channel. Frames never pass here: the channel has no
//! back-pressure, and needs none for a handful of messages in a process's life.

use std::path::PathBuf;

use ipc_channel::ipc::IpcSender;
use serde::{Deserialize, Serialize};

use crate::Config;

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
}

/// From the launcher to a process.
#[derive(Debug, Serialize, Deserialize)]
pub enum Command {
    /// What to be.
    Start(Box<StartOrder>),
    /// The gateway: refuse new frames, finish the accepted ones, then report.
    Drain,
    /// Finish what is claimed and end.
    Stop,
}

/// What a process is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StartOrder {
    /// The checked configuration.
    pub config: Config,
    /// Where the segment lies.
    pub segment: PathBuf,
    /// The process's owner id.
    pub owner: u16,
    /// Its place in the process table.
    pub entry: usize,
    /// Its stage; [`crate::GATEWAY`] for the gateway.
    pub stage: usize,
    /// File descriptors that it inherits: listeners, for the gateway.
    pub listeners: Vec<i32>,
}
