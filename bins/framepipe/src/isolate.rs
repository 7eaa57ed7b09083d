//! What goes into quarantine: the frame's bytes, as far as they can be had, and the story of the deaths.

use std::{
    os::fd::AsFd as _,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use framepipe_frame::Request;
use framepipe_pipeline::{
    Config, Pool,
    quarantine::{Entry, Quarantine},
    source::{Source, open_root},
};
use framepipe_shm::Casualty;

/// For a client's file system to give the bytes of a frame that was never copied.
const SOURCE_PATIENCE: Duration = Duration::from_secs(2);

/// How it came that a frame is given up.
pub struct Story {
    /// The stage that died.
    pub stage: &'static str,
    /// The last process that did.
    pub pid: u32,
    /// How.
    pub death: String,
    /// How often one died, working on the frame alone.
    pub attempts: u32,
    /// The last lines that the process said.
    pub last_words: Vec<String>,
}

/// Enters a frame. That it cannot be kept is said, and hinders nothing.
pub fn enter(config: &Config, casualty: &Casualty<'_>, request: Request, story: Story) {
    let copied = casualty.input(Pool::Encoded as usize);
    let fetched = if copied.is_none() { fetch(config, request) } else { None };
    let bytes = copied.or(fetched.as_deref());
    let Story { stage, pid, death, attempts, last_words } = story;
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let stage = stage.to_owned();
    let entry = Entry { stage, pid, death, attempts, last_words, unix_s, ..Entry::of(&request) };
    let frame = request.frame;
    match Quarantine::new(&config.state).enter(entry, bytes, &config.quarantine) {
        Ok(dropped) => {
            framepipe_pipeline::say!("launcher: frame {frame} killed its stage and is in quarantine");
            for dropped in dropped {
                framepipe_pipeline::say!("launcher: the quarantine is full: frame {dropped}, the oldest, was dropped");
            }
        }
        Err(error) => framepipe_pipeline::say!("launcher: frame {frame} cannot be put into quarantine: {error}"),
    }
}

/// Reads a frame that died before it was copied from the client's file: on a thread of its own, since that may be on a file
/// system that never answers.
fn fetch(config: &Config, request: Request) -> Option<Vec<u8>> {
    let root = config.server.inbox.get(request.root as usize)?.clone();
    if request.bytes > config.quarantine.bytes_max {
        return None;
    }
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let read = move || {
        let mut bytes = vec![0; request.bytes as usize];
        let root = open_root(&root).ok()?;
        Source::open(root.as_fd(), &request).and_then(|source| source.read(&mut bytes)).ok()?;
        sender.send(bytes).ok() // nobody waits any more: too late
    };
    thread::Builder::new().name("quarantine".into()).spawn(read).ok()?;
    receiver.recv_timeout(SOURCE_PATIENCE).ok()
}
