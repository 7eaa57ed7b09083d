//! What goes into quarantine: the frame's bytes, as far as they can be had, and the story of the deaths.

use std::{
    os::fd::AsFd as _,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use framepipe_cache::{Area, ArenaKind, BlockRef, Hasher, spill};
use framepipe_frame::Request;
use framepipe_pipeline::{
    Config, Pool,
    quarantine::{Entry, Quarantine},
    source::{OpenFile, open_root},
};
use framepipe_shm::Casualty;
use tracing::{error, warn};

/// For the disk, and for a client's file system that holds the bytes of a frame that was never copied.
const PATIENCE: Duration = Duration::from_secs(2);

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

/// Threads that write at once: more of them than one wait for a disk that hangs.
const WRITERS_MAX: usize = 4;
static WRITERS: AtomicUsize = AtomicUsize::new(0);

/// Enters a frame: on a thread of its own, for the disk and the client's file system may be slow, and no repair waits long
/// for them. That a frame cannot be kept is said, and hinders nothing. True where it is known to be kept.
pub fn enter(config: &Config, area: &Area, casualty: &Casualty<'_>, request: Request, story: Story) -> bool {
    let frame = request.frame;
    if WRITERS.load(Ordering::Relaxed) >= WRITERS_MAX {
        error!(frame, "frame {frame} is not put into quarantine: the disk hangs");
        return false;
    }
    let copied = casualty.input(Pool::Encoded as usize).map(<[u8]>::to_vec).or_else(|| kept_in_memory(area, &request));
    let (ended, end) = crossbeam_channel::bounded(1);
    let (config, hasher) = (config.clone(), area.hasher());
    let write = move || {
        let bytes = copied.or_else(|| fetch(&config, hasher, &request));
        let Story { stage, pid, death, attempts, last_words } = story;
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let stage = stage.to_owned();
        let entry = Entry { stage, pid, death, attempts, last_words, unix_s, ..Entry::of(&request) };
        let entered = Quarantine::new(&config.state).enter(entry, bytes.as_deref(), &config.quarantine);
        WRITERS.fetch_sub(1, Ordering::Relaxed);
        let _ = ended.send(entered); // nobody waits any more: it took too long, and that was said
    };
    WRITERS.fetch_add(1, Ordering::Relaxed);
    let spawned = thread::Builder::new().name("quarantine".into()).spawn(write);
    if spawned.is_err() {
        WRITERS.fetch_sub(1, Ordering::Relaxed);
    }
    match spawned.map(|_| end.recv_timeout(PATIENCE)) {
        Ok(Ok(Ok(dropped))) => {
            error!(frame, "frame {frame} killed its stage and is in quarantine");
            for dropped in dropped {
                warn!("the quarantine is full: frame {dropped}, the oldest, was dropped");
            }
            return true;
        }
        Ok(Ok(Err(error))) | Err(error) => {
            error!(frame, "frame {frame} cannot be put into quarantine: {error}");
        }
        Ok(Err(_)) => {
            error!(frame, "frame {frame} is not in quarantine after {PATIENCE:?}: the disk is slow");
        }
    }
    false
}

/// Copies an image that framepipe keeps in memory, which the frame's job names still.
fn kept_in_memory(area: &Area, request: &Request) -> Option<Vec<u8>> {
    let first = BlockRef::unpack(request.kept.block).filter(|first| first.arena() == ArenaKind::Images)?;
    let view = area.arena(ArenaKind::Images).view(first, request.bytes as usize)?;
    Some(view.to_vec()).filter(|bytes| area.hasher().of(bytes) == request.kept.digest())
}

/// Reads a frame that died before it was copied from the client's file, or from the disk where framepipe keeps it.
fn fetch(config: &Config, hasher: Hasher, request: &Request) -> Option<Vec<u8>> {
    if request.bytes > config.quarantine.bytes_max {
        return None;
    }
    if request.kept.is_kept() {
        let mut bytes = vec![0; request.bytes as usize];
        let kept = request.kept;
        return spill::read(&config.spill(), kept.id, kept.digest(), &hasher, &mut bytes).ok().map(|()| bytes);
    }
    let root = open_root(config.server.inbox.get(request.root as usize)?).ok()?;
    let mut bytes = vec![0; request.bytes as usize];
    OpenFile::open(root.as_fd(), request).ok()?.source(request).read(&mut bytes).ok()?;
    Some(bytes)
}
