//! The area: a folder of the segment with a control file (header, words, index, offers) and one sparse file an arena. Made by the
//! launcher, opened by every process that reads or writes it, and kept as long as the segment is.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use framepipe_shm::Mapping;

use crate::{
    ARENA_COUNT, Arena, ArenaKind, Count, Geometry, Hasher, Level,
    arena::RecordWords,
    counts::COUNTS,
    geometry::PAGE_BYTES,
    index::EntryWords,
    offers::{OFFERS, OfferWords},
};

const MAGIC: u64 = u64::from_le_bytes(*b"fp-cache");
/// Changes with every change of what the bytes of an area mean.
const ABI: u32 = 1;
const CONTROL_FILE: &str = "control";

/// Head of the control file.
#[repr(C)]
pub(crate) struct Header {
    magic: AtomicU64,
    abi: AtomicU32,
    level: AtomicU32,
    geometry: [AtomicU64; size_of::<Geometry>() / 8],
    secret: [AtomicU64; 4],
    /// Bytes of memory from which on new images go to disk, as the keeper last said.
    hard_bytes: AtomicU64,
    /// Bytes of spilled images, as the keeper last counted.
    disk_bytes: AtomicU64,
    /// Bytes that spilled images may take, likewise.
    disk_bytes_max: AtomicU64,
    /// Where the next offer looks for a cell first.
    pub next_offer: AtomicU64,
    /// The image that the keeper moves to the disk; 0: none.
    moving: AtomicU64,
    /// How often each kind was to be dropped, by [`crate::Kind`], and how often it was.
    drops_wanted: [AtomicU64; 3],
    drops_done: [AtomicU64; 3],
    counts: [AtomicU64; COUNTS],
}

/// Which arenas a process maps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Use {
    reads: u32,
    writes: u32,
}

impl Use {
    /// None.
    pub const NONE: Self = Self { reads: 0, writes: 0 };
    /// All, to be written.
    pub const ALL: Self = Self { reads: 7, writes: 7 };

    /// And this one, to be read.
    pub fn reads(mut self, kind: ArenaKind) -> Self {
        self.reads |= 1 << kind as u32;
        self
    }

    /// And this one, to be written.
    pub fn writes(mut self, kind: ArenaKind) -> Self {
        self.writes |= 1 << kind as u32;
        self
    }
}

/// Why an area could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum AreaError {
    /// The files are no area that this binary understands.
    #[error("{folder} is no cache that this binary can use: {why}")]
    Foreign {
        /// Where.
        folder: String,
        /// What differs.
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

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> AreaError + '_ {
    |error| AreaError::Io { path: path.display().to_string(), error }
}

/// Where the parts of the control file lie.
#[derive(Clone, Debug)]
struct Layout {
    words: [usize; ARENA_COUNT],
    records: [usize; ARENA_COUNT],
    index: usize,
    offers: usize,
    bytes: usize,
}

impl Layout {
    fn of(geometry: &Geometry) -> Self {
        let mut end = (size_of::<Header>() as u64).next_multiple_of(PAGE_BYTES);
        let mut take = |bytes: u64| {
            let at = end.next_multiple_of(128);
            end = at + bytes;
            at as usize
        };
        let words = geometry.arenas.map(|arena| take(arena.blocks * 8));
        let records = geometry.arenas.map(|arena| take(arena.blocks * size_of::<RecordWords>() as u64));
        let index = take(geometry.entries * size_of::<EntryWords>() as u64);
        let offers = take((OFFERS * size_of::<OfferWords>()) as u64);
        Self { words, records, index, offers, bytes: end.next_multiple_of(PAGE_BYTES) as usize }
    }
}

pub(crate) struct ArenaFile {
    pub file: File,
    pub memory: Mapping,
}

/// A mapped area.
pub struct Area {
    folder: PathBuf,
    geometry: Geometry,
    layout: Layout,
    control: Mapping,
    arenas: [Option<ArenaFile>; ARENA_COUNT],
    hasher: Hasher,
    /// By arena, where this process looks for a free block first.
    pub(crate) hints: [AtomicUsize; ARENA_COUNT],
}

impl Area {
    /// Makes an area, or leaves the one that is there as it is.
    ///
    /// # Errors
    /// Where the geometry cannot be, another one is there, or there is no room.
    pub fn make(folder: &Path, geometry: Geometry) -> Result<(), AreaError> {
        let foreign = |why: String| AreaError::Foreign { folder: folder.display().to_string(), why };
        geometry.check().map_err(foreign)?;
        if folder.exists() {
            let found = Self::open(folder, Use::NONE)?.geometry;
            return if found == geometry {
                Ok(())
            } else {
                Err(foreign("it was made with another configuration".into()))
            };
        }
        let mut new = folder.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let _ = fs::remove_dir_all(&new); // of a launcher that was killed while it made one
        fs::create_dir(&new).map_err(io_error(&new))?;
        for kind in ArenaKind::ALL.into_iter().filter(|kind| geometry.arenas[*kind as usize].blocks > 0) {
            let path = new.join(kind.name());
            Mapping::create_sparse(&path, geometry.arenas[kind as usize].bytes() as usize).map_err(io_error(&path))?;
        }
        let path = new.join(CONTROL_FILE);
        let control = Mapping::create(&path, Layout::of(&geometry).bytes).map_err(io_error(&path))?;
        let header = header_of(&control);
        let mut secret = [0; 32];
        let random = Path::new("/dev/urandom");
        File::open(random).and_then(|mut file| file.read_exact(&mut secret)).map_err(io_error(random))?;
        store_words(&header.secret, &secret);
        store_words(&header.geometry, bytemuck::bytes_of(&geometry));
        header.abi.store(ABI, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        fs::rename(&new, folder).map_err(io_error(folder))
    }

    /// Opens an area that the launcher made, and maps the arenas that are used.
    ///
    /// # Errors
    /// Where there is none, or it is of another version.
    pub fn open(folder: &Path, used: Use) -> Result<Self, AreaError> {
        let foreign = |why: String| AreaError::Foreign { folder: folder.display().to_string(), why };
        let path = folder.join(CONTROL_FILE);
        let control = Mapping::open(&path, true).map_err(io_error(&path))?;
        if control.len() < size_of::<Header>() {
            return Err(foreign(format!("its control file has {} bytes", control.len())));
        }
        let header = header_of(&control);
        let (magic, abi) = (header.magic.load(Ordering::Acquire), header.abi.load(Ordering::Relaxed));
        if (magic, abi) != (MAGIC, ABI) {
            return Err(foreign(format!("its ABI is {abi}, this binary's is {ABI}")));
        }
        let geometry: Geometry = bytemuck::pod_read_unaligned(&load_words(&header.geometry));
        geometry.check().map_err(foreign)?;
        let layout = Layout::of(&geometry);
        if control.len() != layout.bytes {
            return Err(foreign(format!("its control file has {} bytes, not {}", control.len(), layout.bytes)));
        }
        let mut arenas: [Option<ArenaFile>; ARENA_COUNT] = Default::default();
        for kind in ArenaKind::ALL {
            let place = geometry.arenas[kind as usize];
            let (reads, writes) = (used.reads >> kind as u32 & 1 == 1, used.writes >> kind as u32 & 1 == 1);
            if place.blocks == 0 || !(reads || writes) {
                continue;
            }
            let path = folder.join(kind.name());
            let file = File::options().read(true).write(writes).open(&path).map_err(io_error(&path))?;
            let bytes = file.metadata().map_err(io_error(&path))?.len();
            if bytes != place.bytes() {
                return Err(foreign(format!("{} has {bytes} bytes, not {}", path.display(), place.bytes())));
            }
            let memory = Mapping::map(file.as_fd(), bytes as usize, writes).map_err(io_error(&path))?;
            arenas[kind as usize] = Some(ArenaFile { file, memory });
        }
        let secret = load_words(&header.secret).try_into().expect("four words are 32 bytes");
        let (folder, hasher) = (folder.to_owned(), Hasher::new(secret));
        Ok(Self { folder, geometry, layout, control, arenas, hasher, hints: Default::default() })
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How large its parts are.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Hashes with its secret.
    pub fn hasher(&self) -> Hasher {
        self.hasher
    }

    /// One of its arenas.
    pub fn arena(&self, kind: ArenaKind) -> Arena<'_> {
        Arena::new(self, kind)
    }

    /// Adds to what is counted.
    pub fn count(&self, count: Count, amount: u64) {
        self.header().counts[count.place()].fetch_add(amount, Ordering::Relaxed);
    }

    /// What was counted.
    pub fn counted(&self, count: Count) -> u64 {
        self.header().counts[count.place()].load(Ordering::Relaxed)
    }

    /// What is done about the memory in use, as the keeper last said.
    pub fn level(&self) -> Level {
        Level::from_number(self.header().level.load(Ordering::Relaxed))
    }

    /// Bytes of memory in use, of all arenas: of blocks that are not free.
    pub fn memory_bytes(&self) -> u64 {
        ArenaKind::ALL.iter().map(|kind| self.arena(*kind).bytes_in_use()).sum()
    }

    /// Bytes of memory from which on new images go to disk; bytes of spilled images; and how many those may be: as the keeper
    /// last said.
    pub fn limits(&self) -> (u64, u64, u64) {
        let header = self.header();
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        (load(&header.hard_bytes), load(&header.disk_bytes), load(&header.disk_bytes_max))
    }

    /// The keeper's word on all that.
    pub fn say(&self, level: Level, hard_bytes: u64, disk_bytes: u64, disk_bytes_max: u64) {
        let header = self.header();
        header.hard_bytes.store(hard_bytes, Ordering::Relaxed);
        header.disk_bytes.store(disk_bytes, Ordering::Relaxed);
        header.disk_bytes_max.store(disk_bytes_max, Ordering::Relaxed);
        header.level.store(level as u32, Ordering::Relaxed);
    }

    /// The keeper: the id of the image that it moves to the disk from here on; 0: none.
    pub fn begin_moving(&self, id: u64) {
        self.header().moving.store(id, Ordering::Release);
    }

    /// The keeper, when it begins: the image that a predecessor was moving when it died; 0: none.
    pub fn moving(&self) -> u64 {
        self.header().moving.load(Ordering::Acquire)
    }

    /// Asks the keeper to drop all entries of a kind; [`Self::is_dropped`] says of the number returned when it has.
    pub fn want_drop(&self, kind: crate::Kind) -> u64 {
        self.header().drops_wanted[kind as usize].fetch_add(1, Ordering::AcqRel) + 1
    }

    /// True once the keeper has.
    pub fn is_dropped(&self, kind: crate::Kind, number: u64) -> bool {
        self.header().drops_done[kind as usize].load(Ordering::Acquire) >= number
    }

    /// The keeper's side: the number that is wanted and not done.
    pub fn drop_wanted(&self, kind: crate::Kind) -> Option<u64> {
        let wanted = self.header().drops_wanted[kind as usize].load(Ordering::Acquire);
        (!self.is_dropped(kind, wanted)).then_some(wanted)
    }

    /// The keeper's side: it is done.
    pub fn dropped(&self, kind: crate::Kind, number: u64) {
        self.header().drops_done[kind as usize].store(number, Ordering::Release);
    }

    pub(crate) fn header(&self) -> &Header {
        header_of(&self.control)
    }

    pub(crate) fn file(&self, kind: ArenaKind) -> Option<&ArenaFile> {
        self.arenas[kind as usize].as_ref()
    }

    pub(crate) fn words(&self, kind: ArenaKind) -> &[AtomicU64] {
        let blocks = self.geometry.arenas[kind as usize].blocks as usize;
        // SAFETY: the layout places the arena's words, atomics, there.
        unsafe { self.control.table(self.layout.words[kind as usize], blocks) }
    }

    pub(crate) fn records(&self, kind: ArenaKind) -> &[RecordWords] {
        let blocks = self.geometry.arenas[kind as usize].blocks as usize;
        // SAFETY: the layout places the arena's records, atomics alone, there.
        unsafe { self.control.table(self.layout.records[kind as usize], blocks) }
    }

    pub(crate) fn entries(&self) -> &[EntryWords] {
        // SAFETY: the layout places the entries, atomics alone, there.
        unsafe { self.control.table(self.layout.index, self.geometry.entries as usize) }
    }

    pub(crate) fn offers(&self) -> &[OfferWords] {
        // SAFETY: the layout places the offers, atomics alone, there.
        unsafe { self.control.table(self.layout.offers, OFFERS) }
    }
}

fn header_of(control: &Mapping) -> &Header {
    // SAFETY: the control file begins with its header, atomics alone; its length was checked (`open`) or made so.
    let headers = unsafe { control.table::<Header>(0, 1) };
    &headers[0]
}

fn store_words(words: &[AtomicU64], bytes: &[u8]) {
    for (word, bytes) in words.iter().zip(bytes.as_chunks::<8>().0) {
        word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
    }
}

fn load_words(words: &[AtomicU64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect()
}
