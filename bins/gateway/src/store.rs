//! The images that framepipe keeps itself (HOLD_COPY, uploads), while they come: written piece by piece into blocks of the
//! cache's memory, or, where memory has no room, into a file. What comes last is needed last, so it is what lies on disk.
//!
//! An image is [`Writing`] until its last byte is there, then [`Keeping`], until a frame's request names it and
//! [`Keeping::hold`] gives it to that frame. Dropped before, it leaves nothing: no block, no file. Killed before, the gateway
//! leaves blocks that are TAKEN by a dead owner, and files under its owner id that no frame names: the keeper's sweep finds both.

use std::{
    collections::HashSet,
    io::{self, ErrorKind},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use framepipe_cache::{Area, ArenaKind, BlockRef, Count, Digest, Record, Running, Taken, spill};
use framepipe_frame::Kept;
use framepipe_shm::Owner;

/// Below an image's owner in its id: what tells the owner's images apart.
const NUMBER_BITS: u32 = 48;
/// Between two looks into the folder, to find room for an image that the book has none for.
const RECOUNT: Duration = Duration::from_secs(1);
/// By then the keeper has counted what was written: it looks once a second.
const COUNTED: Duration = Duration::from_secs(2);

/// Why an image is not kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Neither memory nor disk has room now.
    #[error(
        "there is no room to keep {bytes} bytes: they take whole chunks (cache.chunk_bytes) in memory, where {memory} of \
         {memory_max} bytes are in use (cache.hard of cache.memory_bytes_max), and a file on disk, where {disk} of {disk_max} are \
         (cache.disk_bytes_max{full}); try again once results came"
    )]
    Full {
        /// What was to be kept.
        bytes: u64,
        /// Bytes in use in memory.
        memory: u64,
        /// How many those may be.
        memory_max: u64,
        /// Bytes of spilled images.
        disk: u64,
        /// How many those may be.
        disk_max: u64,
        /// Said where the disk itself is full.
        full: &'static str,
    },
    /// The disk failed.
    #[error("an image could not be written to {folder} (paths.state): {error}")]
    Disk {
        /// The folder of spilled images.
        folder: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// Memory failed.
    #[error("an image could not be written to the cache's memory in {folder} (paths.shm): {error}")]
    Memory {
        /// The folder of the cache's memory.
        folder: String,
        /// What the operating system said.
        error: io::Error,
    },
}

/// What the configuration says, until the keeper says more.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of memory from which on images go to disk.
    pub hard_bytes: u64,
    /// Bytes of images on disk.
    pub disk_bytes_max: u64,
}

/// Where images are kept.
pub struct Store {
    area: &'static Area,
    owner: Owner,
    folder: PathBuf,
    bounds: Bounds,
    next: AtomicU64,
    disk: Mutex<Disk>,
}

/// How much lies on disk: what the keeper last said, and what this process wrote and removed since that number changed. The
/// keeper counts the folder once a second, and says a new number as well when it has moved an image itself: what this process
/// wrote shortly before may not be in it, and counts on for [`COUNTED`]. The keeper may not see a change (one image came, and
/// another process removed one), so that room is looked for in the folder before an image is refused, once a second at most.
struct Disk {
    said: u64,
    since: i64,
    /// Bytes of files that were finished lately, by the time at which they were: of the last [`COUNTED`], and before it.
    lately: [u64; 2],
    turned: Instant,
    /// Of `lately` when the keeper's number changed, and when it did.
    missed: u64,
    changed: Instant,
    /// Of the files that are being written, for which the folder tells too little.
    writing: u64,
    recounted: Option<Instant>,
}

impl Disk {
    fn new(said: u64, since: i64, now: Instant) -> Self {
        Self { said, since, lately: [0; 2], turned: now, missed: 0, changed: now, writing: 0, recounted: None }
    }

    fn used(&mut self, said: u64, now: Instant) -> u64 {
        if said != self.said {
            self.turn(now);
            (self.said, self.since) = (said, 0);
            (self.missed, self.changed) = (self.lately.iter().sum(), now);
        }
        let missed = if now.duration_since(self.changed) < COUNTED { self.missed } else { 0 };
        said.saturating_add_signed(self.since).saturating_add(missed) + self.writing
    }

    fn wrote(&mut self, bytes: u64, now: Instant) {
        self.turn(now);
        self.lately[0] += bytes;
        self.since = self.since.saturating_add_unsigned(bytes);
    }

    fn turn(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.turned);
        if elapsed >= COUNTED {
            self.lately = [0, if elapsed < 2 * COUNTED { self.lately[0] } else { 0 }];
            self.turned = now;
        }
    }

    /// The files were counted: so many bytes.
    fn counted(&mut self, bytes: u64) {
        self.since = bytes.cast_signed().saturating_sub(self.said.cast_signed());
        self.missed = 0;
    }
}

impl Store {
    /// A store of this owner's images, while no other process bears its id. Its folder is there. `in_flight` are the ids of
    /// images that frames in flight name.
    pub fn open(
        area: &'static Area,
        owner: Owner,
        folder: PathBuf,
        bounds: Bounds,
        in_flight: &HashSet<u64>,
    ) -> io::Result<Arc<Self>> {
        let is_own = |id: u64| id >> NUMBER_BITS == u64::from(owner);
        let mut files = spill::list(&folder)?;
        // Of a former gateway that bore this id, in this segment or one that is gone: what the living gateway has written, the
        // keeper leaves alone.
        files.retain(|file| {
            let is_nobodys = is_own(file.id) && !in_flight.contains(&file.id);
            !(is_nobodys && spill::clear(&folder, file))
        });
        // Images of that one may be in flight. The clock leaves them behind, at up to 128,000 images a second, and where it
        // was set back, they are looked at. (That alone would not do: the keeper may be moving one that no frame names any more.)
        let now_ms = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64);
        let number = 1 << NUMBER_BITS;
        let behind = in_flight.iter().filter(|id| is_own(**id)).map(|id| id % number + 1).max().unwrap_or(1);
        let next = behind.max((now_ms << 7) % number);
        let said = area.limits().1;
        let since = files.iter().map(|file| file.bytes).sum::<u64>().cast_signed().saturating_sub(said.cast_signed());
        let disk = Mutex::new(Disk::new(said, since, Instant::now()));
        Ok(Arc::new(Self { area, owner, folder, bounds, next: AtomicU64::new(next), disk }))
    }

    /// True where images of these sizes may have room at once, by the configuration.
    pub fn can_fit(&self, sizes: impl Iterator<Item = u64>) -> bool {
        self.beyond_memory(sizes, self.bounds.hard_bytes).1 <= self.bounds.disk_bytes_max
    }

    /// Looks whether there is room for images of these sizes, in memory and on disk: before the first of them is taken.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub fn check_room(&self, sizes: impl Iterator<Item = u64>) -> Result<(), StoreError> {
        let (hard, said, most) = self.limits();
        let (bytes, on_disk) = self.beyond_memory(sizes, hard.saturating_sub(self.area.memory_bytes()));
        let mut disk = self.disk();
        if on_disk == 0 || self.has_room(&mut disk, on_disk, said, most) {
            return Ok(());
        }
        Err(self.full(bytes, disk.used(said, Instant::now()), ""))
    }

    /// How many bytes images of these sizes have, and how many of them go to disk where so many bytes of memory are left.
    fn beyond_memory(&self, sizes: impl Iterator<Item = u64>, mut left: u64) -> (u64, u64) {
        sizes.fold((0, 0), |(bytes, on_disk): (u64, u64), size| {
            let bytes = bytes.saturating_add(size);
            let blocks = self.block_bytes_of(size);
            if blocks <= left {
                left -= blocks;
                return (bytes, on_disk);
            }
            (bytes, on_disk.saturating_add(file_bytes_of(size)))
        })
    }

    /// What an image takes of the memory.
    fn block_bytes_of(&self, bytes: u64) -> u64 {
        let block_bytes = self.area.arena(ArenaKind::Images).block_bytes().max(1) as u64;
        bytes.div_ceil(block_bytes).max(1).saturating_mul(block_bytes)
    }

    /// Begins to keep an image.
    ///
    /// # Errors
    /// [`StoreError`]: there is no room.
    pub fn begin(self: &Arc<Self>, bytes: u64) -> Result<Writing, StoreError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % (1 << NUMBER_BITS);
        let id = u64::from(self.owner) << NUMBER_BITS | number;
        let (hard, said, most) = self.limits();
        let taken = (self.area.memory_bytes().saturating_add(self.block_bytes_of(bytes)) <= hard)
            .then(|| self.area.arena(ArenaKind::Images).take(self.owner, bytes as usize).ok()) // short of blocks, or of memory
            .flatten();
        let place = match taken {
            Some(taken) => Place::Memory(taken),
            None => Place::Disk(self.begin_file(id, bytes, said, most)?),
        };
        Ok(Writing { store: self.clone(), id, bytes, written: 0, running: self.area.hasher().begin(), place })
    }

    fn begin_file(self: &Arc<Self>, id: u64, bytes: u64, said: u64, most: u64) -> Result<SpillWriting, StoreError> {
        let file_bytes = file_bytes_of(bytes);
        let mut disk = self.disk();
        if !self.has_room(&mut disk, file_bytes, said, most) {
            return Err(self.full(bytes, disk.used(said, Instant::now()), ""));
        }
        disk.writing += file_bytes;
        drop(disk);
        let reserved = Reserved { store: self.clone(), bytes: file_bytes };
        let writer = spill::Writer::begin(&self.folder, id).map_err(|error| self.failed(bytes, error))?;
        Ok(SpillWriting { writer, reserved })
    }

    /// An image's frame has its result: its bytes are free, unless they were freed before.
    pub fn release(&self, kept: &Kept) {
        if !kept.is_kept() {
            return;
        }
        let images = self.area.arena(ArenaKind::Images);
        let first = BlockRef::unpack(kept.block).filter(|first| first.arena() == ArenaKind::Images);
        // Where it is not in memory (any more), it lies on disk, or was let go on its turn.
        if !first.is_some_and(|first| images.free(self.owner, first)) {
            self.remove(kept.id);
        }
    }

    fn remove(&self, id: u64) {
        if let Some(bytes) = spill::remove(&self.folder, id) {
            let mut disk = self.disk();
            disk.since = disk.since.saturating_sub_unsigned(bytes);
        }
    }

    /// Bytes of memory from which on images go to disk, bytes on disk, and how many those may be.
    pub fn limits(&self) -> (u64, u64, u64) {
        match self.area.limits() {
            (0, 0, 0) => (self.bounds.hard_bytes, 0, self.bounds.disk_bytes_max), // the keeper has said nothing yet
            said => said,
        }
    }

    fn has_room(&self, disk: &mut Disk, bytes: u64, said: u64, most: u64) -> bool {
        let fits = |disk: &mut Disk| disk.used(said, Instant::now()).saturating_add(bytes) <= most;
        if fits(disk) {
            return true;
        }
        if disk.recounted.is_some_and(|last| last.elapsed() < RECOUNT) {
            return false;
        }
        disk.recounted = Some(Instant::now());
        let Ok(files) = spill::list(&self.folder) else { return false };
        let whole: u64 = files.iter().filter(|file| file.is_whole).map(|file| file.bytes).sum();
        disk.counted(whole);
        fits(disk)
    }

    fn full(&self, bytes: u64, disk: u64, full: &'static str) -> StoreError {
        let (memory_max, _, disk_max) = self.limits();
        StoreError::Full { bytes, memory: self.area.memory_bytes(), memory_max, disk, disk_max, full }
    }

    fn failed(&self, bytes: u64, error: io::Error) -> StoreError {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                self.full(bytes, self.area.limits().1, "; the disk itself is full")
            }
            _ => StoreError::Disk { folder: self.folder.display().to_string(), error },
        }
    }

    /// Blocks that were taken have their memory: that it cannot be written is no want of room.
    fn memory_failed(&self, error: io::Error) -> StoreError {
        StoreError::Memory { folder: self.area.folder().display().to_string(), error }
    }

    /// Counts a call that was refused for want of room.
    pub fn count_refused(&self) {
        self.area.count(Count::Refused, 1);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no step under it panics")
    }
}

/// What an image takes of the disk.
fn file_bytes_of(bytes: u64) -> u64 {
    bytes.saturating_add(spill::HEAD_BYTES as u64)
}

/// An image whose bytes are coming.
#[must_use = "dropped, it leaves nothing"]
pub struct Writing {
    store: Arc<Store>,
    id: u64,
    bytes: u64,
    written: u64,
    running: Running,
    place: Place<SpillWriting>,
}

enum Place<F> {
    Memory(Taken<'static>),
    Disk(F),
}

struct SpillWriting {
    writer: spill::Writer,
    reserved: Reserved,
}

/// A file's part of the disk's book while it is being written.
struct Reserved {
    store: Arc<Store>,
    bytes: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.store.disk().writing -= self.bytes;
    }
}

impl Writing {
    /// How many bytes are still to come.
    pub fn missing(&self) -> u64 {
        self.bytes - self.written
    }

    /// The next bytes: no more than are missing.
    ///
    /// # Errors
    /// [`StoreError`]: the disk is full, or fails; memory fails.
    pub fn add(&mut self, piece: &[u8]) -> Result<(), StoreError> {
        assert!(piece.len() as u64 <= self.missing(), "who adds bytes has counted them");
        match &mut self.place {
            Place::Memory(taken) => {
                let written = taken.write_at(self.written as usize, piece);
                written.map_err(|error| self.store.memory_failed(error))?;
            }
            Place::Disk(file) => file.writer.add(piece).map_err(|error| self.store.failed(self.bytes, error))?,
        }
        self.running.add(piece);
        self.written += piece.len() as u64;
        Ok(())
    }

    /// All bytes are there.
    ///
    /// # Errors
    /// [`StoreError`]: the disk is full, or fails.
    pub fn finish(self) -> Result<Keeping, StoreError> {
        assert_eq!(self.missing(), 0, "who finishes an image has counted its bytes");
        let Self { store, id, bytes, running, place, .. } = self;
        let sum = running.end();
        let place = match place {
            Place::Memory(taken) => {
                taken.describe(&Record { key: 0, sum, bytes });
                Place::Memory(taken)
            }
            Place::Disk(SpillWriting { writer, reserved }) => {
                writer.finish(sum).map_err(|error| store.failed(bytes, error))?;
                store.disk().wrote(reserved.bytes, Instant::now());
                Place::Disk(Spilled { store: store.clone(), id: Some(id) })
            }
        };
        Ok(Keeping { store, id, sum, place })
    }
}

/// A whole image that no frame has yet.
#[must_use = "dropped, it leaves nothing"]
pub struct Keeping {
    store: Arc<Store>,
    id: u64,
    sum: Digest,
    place: Place<Spilled>,
}

/// A file that is removed with it.
struct Spilled {
    store: Arc<Store>,
    id: Option<u64>,
}

impl Drop for Spilled {
    fn drop(&mut self) {
        self.id.into_iter().for_each(|id| self.store.remove(id));
    }
}

impl Keeping {
    /// What the frame's request says of it, before it is held.
    pub fn kept(&self) -> Kept {
        let block = match &self.place {
            Place::Memory(taken) => taken.first().pack(),
            Place::Disk(_) => 0,
        };
        Kept { id: self.id, block, sum: [self.sum as u64, (self.sum >> 64) as u64] }
    }

    /// Gives it to the frame whose request names it by now.
    pub fn hold(self) {
        let count = match self.place {
            Place::Memory(taken) => {
                taken.hold();
                Count::Held
            }
            Place::Disk(mut spilled) => {
                spilled.id = None; // the file is the frame's
                Count::Spilled
            }
        };
        self.store.area.count(count, 1);
    }
}

#[cfg(test)]
pub(crate) mod tests;
