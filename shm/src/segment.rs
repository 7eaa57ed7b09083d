//! The segment: a folder in /dev/shm with a control file (header, tables, rings) and one file a slot pool, but for handed
//! pools, whose slots lie in slabs. Made by the launcher, opened by every process, kept when a launcher dies, removed when
//! it ends.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use crate::{
    access::Access,
    event::{Event, EventWords},
    geometry::{Geometry, GeometryError, PAGE_BYTES, POOL_COUNT_MAX},
    job::{Job, JobState, NO_TICKET},
    layout::{Layout, RingPlace},
    lock::FileLock,
    memory::Mapping,
    process::ProcessEntry,
    ring::{HintRing, RingEnds},
    sync::{AtomicU32, AtomicU64, Ordering, fence},
    word::{JobWord, Owner},
};

const MAGIC: u64 = u64::from_le_bytes(*b"framepip");
/// Changes with every change of what the bytes of a segment mean.
const ABI: u32 = 6;
const CONTROL_FILE: &str = "control";
const REQUESTS_FILE: &str = "requests";
const KEYS_FILE: &str = "keys";

/// Head of the control file.
#[repr(C)]
pub(crate) struct Header {
    magic: AtomicU64,
    abi: AtomicU32,
    /// Stored last: 1 once the segment is whole.
    ready: AtomicU32,
    hash: AtomicU64,
    run: AtomicU64,
    last_owner: AtomicU32,
    /// The queue that new frames enter.
    entry_queue: AtomicU32,
    /// Number of the first frame.
    first_frame: AtomicU64,
    /// Number of the next frame: the store that raises it is what accepts frames.
    accepted: AtomicU64,
    geometry: [AtomicU64; size_of::<Geometry>() / 8],
}

/// Why a segment could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The geometry cannot be.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// /dev/shm has not the room.
    #[error(
        "the segment needs {needed} bytes ({} MiB) and {folder} has {free} bytes free ({} MiB): raise it \
         (`docker run --shm-size={}m …`, or `mount -o remount,size={}m /dev/shm`) or lower [pools] and `jobs` in the \
         configuration",
        .needed >> 20, .free >> 20, (.needed >> 20) + 64, (.needed >> 20) + 64
    )]
    NoRoom {
        /// Bytes that the segment takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Where.
        folder: String,
    },
    /// The segment is there already.
    #[error("{0} exists already: a server of this name runs, or one has died and left it")]
    Exists(String),
    /// There is no segment.
    #[error("there is no segment at {0}")]
    Absent(String),
    /// The files are no segment that this binary understands.
    #[error("{folder} is no segment that this binary can use: {why}")]
    Foreign {
        /// Where.
        folder: String,
        /// What differs.
        why: String,
    },
    /// What was handed as a pool's slab is none.
    #[error("the slab of pool {pool} cannot be used: {why}")]
    Slab {
        /// The pool.
        pool: usize,
        /// What is wrong.
        why: String,
    },
    /// The operating system refused.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: String,
        /// What it said.
        error: io::Error,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> SegmentError + '_ {
    |error| SegmentError::Io { path: path.display().to_string(), error }
}

/// The slab of a handed pool, in host memory: a memfd that was sealed against shrinking, as every process has it that maps
/// the pool.
#[derive(Clone, Copy, Debug)]
pub struct HostSlab<'f> {
    /// The pool.
    pub pool: usize,
    /// The memory, as large as all the pool's slots.
    pub memory: BorrowedFd<'f>,
}

/// A mapped segment.
pub struct Segment {
    folder: PathBuf,
    access: Access,
    geometry: Geometry,
    layout: Layout,
    control: Mapping,
    requests: Mapping,
    keys: Option<Mapping>,
    pools: [Option<Mapping>; POOL_COUNT_MAX],
}

impl Segment {
    /// Makes a segment: reserves all its memory, fills its tables, and stores `ready` last. It is made aside and moved
    /// into place whole, so that a launcher killed meanwhile leaves nothing that looks like a segment. Frames are numbered
    /// from `first_frame` on: a number that no former segment's frames bore, because results outlive segments.
    ///
    /// # Errors
    /// When the geometry cannot be, the folder exists, or there is no room (what was made is removed again).
    pub fn create(folder: &Path, geometry: Geometry, run: u64, first_frame: u64) -> Result<Self, SegmentError> {
        geometry.check()?;
        if folder.exists() {
            return Err(SegmentError::Exists(folder.display().to_string()));
        }
        for left in [aside(folder, "new"), aside(folder, "gone")] {
            clear(&left).map_err(io_error(&left))?; // of a launcher that was killed while it made or removed one
        }
        let layout = Layout::of(&geometry);
        Self::check_room(folder, &layout)?;
        let new = aside(folder, "new");
        fs::DirBuilder::new().mode(0o700).create(&new).map_err(io_error(&new))?;
        let made = Self::create_files(&new, geometry, layout, run, first_frame);
        let placed = made.and_then(|made| {
            fs::rename(&new, folder).map_err(io_error(folder))?;
            Ok(Self { folder: folder.to_owned(), ..made })
        });
        if placed.is_err() {
            let _ = clear(&new); // the reason is the one to tell
        }
        placed
    }

    fn check_room(folder: &Path, layout: &Layout) -> Result<(), SegmentError> {
        let parent = folder.parent().unwrap_or(Path::new("/"));
        let room = rustix::fs::statvfs(parent).map_err(|error| io_error(parent)(error.into()))?;
        let needed = layout.bytes_total();
        let free = room.f_bavail * room.f_frsize;
        if needed > free {
            return Err(SegmentError::NoRoom { needed, free, folder: parent.display().to_string() });
        }
        Ok(())
    }

    fn create_files(
        folder: &Path,
        geometry: Geometry,
        layout: Layout,
        run: u64,
        first_frame: u64,
    ) -> Result<Self, SegmentError> {
        let make = |name: &str, bytes: usize| {
            let path = folder.join(name);
            Mapping::create(&path, bytes).map_err(|error| match error.raw_os_error() {
                Some(code) if code == nix::errno::Errno::ENOSPC as i32 => {
                    let free = rustix::fs::statvfs(folder).map_or(0, |room| room.f_bavail * room.f_frsize);
                    SegmentError::NoRoom { needed: bytes as u64, free, folder: folder.display().to_string() }
                }
                _ => io_error(&path)(error),
            })
        };
        let mut pools: [Option<Mapping>; POOL_COUNT_MAX] = Default::default();
        let has_file = |number: usize| layout.pools[number].bytes > 0 && !layout.pools[number].is_handed;
        for (number, pool) in pools.iter_mut().enumerate().filter(|(number, _)| has_file(*number)) {
            *pool = Some(make(&pool_file(number), layout.pools[number].bytes)?);
        }
        let requests = make(REQUESTS_FILE, layout.requests_bytes.max(PAGE_BYTES as usize))?;
        let keys = (layout.keys_bytes > 0).then(|| make(KEYS_FILE, layout.keys_bytes)).transpose()?;
        let control = make(CONTROL_FILE, layout.bytes)?;
        let segment =
            Self { folder: folder.to_owned(), access: Access::All, geometry, layout, control, requests, keys, pools };
        segment.fill(run, first_frame);
        Ok(segment)
    }

    fn fill(&self, run: u64, first_frame: u64) {
        let header = self.header();
        for index in 0..self.geometry.jobs as u32 {
            let job = Job::new(self, index);
            job.head().word.store(JobWord::FREE.0, Ordering::Relaxed);
            job.head().ticket.store(NO_TICKET, Ordering::Relaxed);
        }
        self.repair_hints();
        let words: &[u64] = bytemuck::cast_slice(std::slice::from_ref(&self.geometry));
        for (to, from) in header.geometry.iter().zip(words) {
            to.store(*from, Ordering::Relaxed);
        }
        header.run.store(run, Ordering::Relaxed);
        header.first_frame.store(first_frame, Ordering::Relaxed);
        header.accepted.store(first_frame, Ordering::Relaxed);
        header.hash.store(self.geometry.hash(ABI), Ordering::Relaxed);
        header.abi.store(ABI, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Relaxed);
        header.ready.store(1, Ordering::Release);
    }

    /// Opens a segment that another process made.
    ///
    /// # Errors
    /// When there is none, or it is not whole, or of another ABI: it is left untouched.
    pub fn open(folder: &Path, access: Access) -> Result<Self, SegmentError> {
        let foreign = |why: String| SegmentError::Foreign { folder: folder.display().to_string(), why };
        check_owner(folder).map_err(foreign)?;
        let path = folder.join(CONTROL_FILE);
        let control = Mapping::open(&path, true).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SegmentError::Absent(folder.display().to_string()),
            io::ErrorKind::UnexpectedEof => foreign("its control file is empty".into()),
            _ => io_error(&path)(error),
        })?;
        if control.len() < size_of::<Header>() {
            return Err(foreign(format!("its control file has {} bytes", control.len())));
        }
        let header = header_of(&control);
        if header.magic.load(Ordering::Relaxed) != MAGIC || header.ready.load(Ordering::Acquire) != 1 {
            return Err(foreign("it was not finished, or is none".into()));
        }
        let abi = header.abi.load(Ordering::Relaxed);
        if abi != ABI {
            return Err(foreign(format!("its ABI is {abi}, this binary's is {ABI}")));
        }
        let words: Vec<u64> = header.geometry.iter().map(|word| word.load(Ordering::Relaxed)).collect();
        let geometry: Geometry = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words));
        geometry.check().map_err(|error| foreign(error.to_string()))?;
        if header.hash.load(Ordering::Relaxed) != geometry.hash(ABI) {
            return Err(foreign("its geometry does not match its hash".into()));
        }
        let layout = Layout::of(&geometry);
        if control.len() != layout.bytes {
            return Err(foreign(format!("its control file has {} bytes, not {}", control.len(), layout.bytes)));
        }
        let open = |name: &str, bytes: usize, writable: bool| {
            let path = folder.join(name);
            let mapping = Mapping::open(&path, writable).map_err(io_error(&path))?;
            if mapping.len() != bytes {
                return Err(foreign(format!("{} has {} bytes, not {bytes}", path.display(), mapping.len())));
            }
            Ok(mapping)
        };
        let mut pools: [Option<Mapping>; POOL_COUNT_MAX] = Default::default();
        for (number, pool) in pools.iter_mut().enumerate() {
            let bytes = layout.pools[number].bytes;
            if bytes > 0 && !layout.pools[number].is_handed && (access.reads(number) || access.writes(number)) {
                *pool = Some(open(&pool_file(number), bytes, access.writes(number))?);
            }
        }
        let requests = open(REQUESTS_FILE, layout.requests_bytes.max(PAGE_BYTES as usize), access.admits())?;
        let keys = (layout.keys_bytes > 0 && access.admits()).then(|| open(KEYS_FILE, layout.keys_bytes, true));
        let keys = keys.transpose()?;
        Ok(Self { folder: folder.to_owned(), access, geometry, layout, control, requests, keys, pools })
    }

    /// Maps the slabs of handed pools, as far as this process reads or writes them. One that lies on a device cannot be mapped:
    /// its slots are reached by their [`crate::Place`].
    ///
    /// # Errors
    /// When a slab is none of this segment's.
    pub fn map_slabs(&mut self, slabs: &[HostSlab<'_>]) -> Result<(), SegmentError> {
        let access = self.access;
        for slab in slabs.iter().filter(|slab| access.reads(slab.pool) || access.writes(slab.pool)) {
            self.pools[slab.pool] = Some(map_slab(slab, &self.layout, access)?);
        }
        Ok(())
    }

    /// Removes a segment's files. Processes that have it mapped keep their mappings. It is moved aside first, so that a
    /// launcher killed meanwhile leaves no half of one.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn remove(folder: &Path) -> io::Result<()> {
        let gone = aside(folder, "gone");
        clear(&gone)?;
        fs::rename(folder, &gone)?;
        clear(&gone)
    }

    /// Takes the lock of a segment, which is held while its launcher lives: two launchers never have one segment, even
    /// where they cannot see each other's processes. `None`: another one holds it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn lock(folder: &Path) -> io::Result<Option<FileLock>> {
        FileLock::take(File::open(folder.join(CONTROL_FILE))?)
    }

    /// Where the segment lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What all its processes agree on.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Bytes of /dev/shm that a segment of this geometry takes.
    ///
    /// # Errors
    /// When the geometry cannot be.
    pub fn bytes_needed(geometry: &Geometry) -> Result<u64, GeometryError> {
        geometry.check()?;
        Ok(Layout::of(geometry).bytes_total())
    }

    /// The run's id: frame numbers are unique within it.
    pub fn run(&self) -> u64 {
        self.header().run.load(Ordering::Relaxed)
    }

    /// Number of the next frame: all below it that this segment numbered were accepted.
    pub fn next_frame(&self) -> u64 {
        self.header().accepted.load(Ordering::Acquire)
    }

    /// Frames accepted since the segment was made.
    pub fn accepted(&self) -> u64 {
        self.next_frame() - self.header().first_frame.load(Ordering::Relaxed)
    }

    pub(crate) fn accept(&self, accepted: u64) {
        self.header().accepted.store(accepted, Ordering::Release);
    }

    /// The queue that new frames enter: 0, unless [`Self::lead_to`] said otherwise.
    pub fn entry_queue(&self) -> usize {
        self.header().entry_queue.load(Ordering::SeqCst) as usize % self.geometry.queues as usize
    }

    /// Leads new frames to another queue. Once [`Self::jobs_at`] finds none at a queue that it was led away from, or at those
    /// behind it, none will ever wait there.
    pub fn lead_to(&self, queue: usize) {
        debug_assert!((queue as u64) < self.geometry.queues);
        self.header().entry_queue.store(queue as u32, Ordering::SeqCst);
    }

    /// How many jobs accepted frames may have: the first ones of the table.
    pub fn frame_jobs(&self) -> u32 {
        (self.geometry.jobs - self.geometry.reserved) as u32
    }

    /// True of a job that no accepted frame ever has: what it bears is the gateway's own, and counts nowhere as a frame.
    pub fn is_reserved(&self, job: u32) -> bool {
        job >= self.frame_jobs()
    }

    /// How many jobs are written for these queues, wait in them, or were claimed from them.
    pub fn jobs_at(&self, queues: Range<usize>) -> usize {
        // Pairs with the one of `Draft::follow`: either it finds the new entry, or its jobs are found here.
        fence(Ordering::SeqCst);
        let jobs = (0..self.geometry.jobs as u32).map(|job| Job::new(self, job).word());
        jobs.filter(|word| word.state() != JobState::Free && queues.contains(&word.queue())).count()
    }

    /// The process table.
    pub fn processes(&self) -> &[ProcessEntry] {
        // SAFETY: the layout places the entries, atomics alone, there.
        unsafe { self.control.table(self.layout.processes, self.geometry.processes as usize) }
    }

    /// A new owner id: one that no process, job or slot bears.
    pub fn new_owner(&self) -> Owner {
        let header = self.header();
        let mut borne = vec![false; usize::from(Owner::MAX) + 1];
        borne[0] = true;
        self.processes().iter().for_each(|entry| borne[usize::from(entry.owner())] = true);
        (0..self.geometry.jobs as u32).for_each(|job| borne[usize::from(Job::new(self, job).word().owner())] = true);
        for pool in 0..POOL_COUNT_MAX {
            for class in self.classes(pool) {
                class.used().for_each(|(_, word)| borne[usize::from(word.owner())] = true);
            }
        }
        let mut owner = header.last_owner.load(Ordering::Relaxed) as Owner;
        loop {
            owner = owner.wrapping_add(1);
            if !borne[usize::from(owner)] {
                header.last_owner.store(u32::from(owner), Ordering::Relaxed);
                return owner;
            }
        }
    }

    /// How many hints of frames a queue holds.
    pub fn queue_depth(&self, queue: usize) -> usize {
        let waits = |job: &u32| {
            let word = Job::new(self, *job).word();
            word.state() == JobState::Ready && word.queue() == queue
        };
        let reserved = (self.frame_jobs()..self.geometry.jobs as u32).filter(waits).count();
        self.queue(queue).len().saturating_sub(reserved)
    }

    /// The event on which a queue's workers wait.
    pub fn queue_event(&self, queue: usize) -> Event<'_> {
        self.event(self.layout.queues[queue].1)
    }

    pub(crate) fn queue(&self, queue: usize) -> HintRing<'_> {
        self.ring(self.layout.queues[queue].0)
    }

    pub(crate) fn free_jobs(&self) -> HintRing<'_> {
        self.ring(self.layout.free_jobs)
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn control(&self) -> &Mapping {
        &self.control
    }

    pub(crate) fn requests(&self) -> &Mapping {
        &self.requests
    }

    /// The table of keys, where this process maps it and it has entries.
    pub(crate) fn keys(&self) -> Option<&Mapping> {
        self.keys.as_ref()
    }

    pub(crate) fn pool(&self, pool: usize) -> Option<&Mapping> {
        self.pools[pool].as_ref()
    }

    pub(crate) fn ring(&self, place: RingPlace) -> HintRing<'_> {
        // SAFETY: the layout places a ring's ends and cells, atomics alone, there.
        let (ends, cells) = unsafe {
            (&self.control.table::<RingEnds>(place.ends, 1)[0], self.control.table(place.cells, place.capacity))
        };
        HintRing::new(ends, cells)
    }

    pub(crate) fn event(&self, offset: usize) -> Event<'_> {
        // SAFETY: the layout places an event's words, atomics alone, there.
        let words = unsafe { self.control.table::<EventWords>(offset, 1) };
        Event::new(&words[0])
    }

    fn header(&self) -> &Header {
        header_of(&self.control)
    }
}

/// Maps a slab that can be none but one of host memory that stays as large as it is: no later touch is a SIGBUS.
fn map_slab(slab: &HostSlab<'_>, layout: &Layout, access: Access) -> Result<Mapping, SegmentError> {
    let wrong = |why: String| SegmentError::Slab { pool: slab.pool, why };
    let bytes = match layout.pools.get(slab.pool) {
        Some(place) if place.is_handed => place.bytes,
        _ => return Err(wrong("the segment has no such pool, or its slots lie in a file".into())),
    };
    let seals = rustix::fs::fcntl_get_seals(slab.memory).map_err(|error| wrong(format!("it is no memfd: {error}")))?;
    if !seals.contains(rustix::fs::SealFlags::SHRINK) {
        return Err(wrong("it may shrink".into()));
    }
    let found = rustix::fs::fstat(slab.memory).map_err(|error| wrong(error.to_string()))?.st_size;
    if usize::try_from(found).ok() != Some(bytes) {
        return Err(wrong(format!("it has {found} bytes, and the pool's slots {bytes}")));
    }
    Mapping::map(slab.memory.as_fd(), bytes, access.writes(slab.pool)).map_err(|error| wrong(error.to_string()))
}

/// What another user made, or may write, is not believed: it names processes to kill and memory to read.
fn check_owner(folder: &Path) -> Result<(), String> {
    let Ok(metadata) = fs::symlink_metadata(folder) else { return Ok(()) }; // absent, which opening it says
    let own = rustix::process::geteuid().as_raw();
    match (metadata.is_dir(), metadata.uid(), metadata.mode() & 0o077) {
        (false, ..) => Err("it is no folder".into()),
        (_, uid, _) if uid != own => Err(format!("it belongs to user {uid}, not to {own}")),
        (_, _, 0) => Ok(()),
        (_, _, open) => Err(format!("others may enter it (mode {open:03o}): remove it if it is not framepipe's")),
    }
}

/// Where a segment lies while it is made or removed.
fn aside(folder: &Path, what: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

/// Removes a folder, if it is there.
fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn header_of(control: &Mapping) -> &Header {
    // SAFETY: the control file begins with its header, atomics alone; its length was checked (`open`) or made so.
    let headers = unsafe { control.table::<Header>(0, 1) };
    &headers[0]
}

fn pool_file(pool: usize) -> String {
    format!("pool-{pool}")
}
