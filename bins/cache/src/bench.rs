//! A segment and an area of a test's own, with frames in flight.

use std::path::{Path, PathBuf};

use bytemuck::Zeroable as _;
use framepipe_cache::{Area, ArenaGeometry, ArenaKind, Digest, Geometry, Kind, Offer, Record, Told, Use};
use framepipe_frame::{Kept, Request};
use framepipe_pipeline::{CacheConfig, GATEWAY, KEEPER, QUEUES, cache_folder};
use framepipe_shm::{Gate, Owner, Segment, Worker};
use tempfile::TempDir;

pub const GATEWAYS: Owner = 3;
pub const STAGES: Owner = 4;
pub const KEEPERS: Owner = 5;
/// Bytes of a block of every arena.
pub const BLOCK: usize = 4096;

pub struct Bench {
    pub segment: Segment,
    pub area: Area,
    _memory: TempDir,
    disk: TempDir,
}

impl Bench {
    /// Of arenas with so many blocks each.
    pub fn new(blocks: u64) -> Self {
        let memory = tempfile::Builder::new().prefix("framepipe-test-").tempdir_in("/dev/shm").expect("a folder");
        let folder = memory.path().join("segment");
        let geometry = framepipe_shm::Geometry {
            pipeline: 0,
            jobs: 16,
            reserved: 0,
            queues: QUEUES as u64,
            processes: 4,
            request_bytes: size_of::<Request>() as u64,
            descriptor_bytes: 8,
            keys: 0,
            key_bytes: 0,
            handed: 0,
            pools: Default::default(),
        };
        let segment = Segment::create(&folder, geometry, 1, 0).expect("a small segment fits");
        for (entry, owner, stage) in [(0, GATEWAYS, GATEWAY), (1, STAGES, 0), (2, KEEPERS, KEEPER)] {
            segment.processes()[entry].occupy(owner, stage, 0);
        }
        let arena = ArenaGeometry { block_bytes: BLOCK as u64, blocks };
        Area::make(&cache_folder(&folder), Geometry { arenas: [arena; 3], entries: 256 }).expect("it fits");
        let area = Area::open(&cache_folder(&folder), Use::ALL).expect("it was made");
        let disk = tempfile::tempdir().expect("a folder");
        Self { segment, area, _memory: memory, disk }
    }

    /// Where spilled images lie.
    pub fn disk(&self) -> &Path {
        self.disk.path()
    }

    pub fn config() -> CacheConfig {
        CacheConfig {
            memory_bytes_max: 1 << 20,
            soft: 0.5,
            hard: 0.9,
            disk_bytes_max: 1 << 20,
            chunk_bytes: BLOCK as u64,
            tensor_bytes_max: 1 << 20,
            result_bytes_max: 1 << 20,
            metadata_entries_max: 4,
            k: 2,
            correlated_ms: 0,
            raw_frames: false,
            uploads_max: 1,
            inbox_ttl_s: 0,
            pinning: Default::default(),
        }
    }

    /// A frame in flight whose image is kept in memory, as the gateway takes it in. Its checksum is that of `sum_of`.
    pub fn keep(&self, id: u64, bytes: &[u8], sum_of: &[u8]) -> Kept {
        let sum = self.area.hasher().of(sum_of);
        let mut taken = self.area.arena(ArenaKind::Images).take(GATEWAYS, bytes.len()).expect("there is room");
        taken.write_at(0, bytes).expect("its memory is reserved");
        taken.describe(&Record { key: 0, sum, bytes: bytes.len() as u64 });
        let kept = Kept { id, block: taken.first().pack(), sum: [sum as u64, (sum >> 64) as u64] };
        self.accept(&Request { bytes: bytes.len() as u64, kept, ..Request::zeroed() });
        taken.hold();
        kept
    }

    /// Accepts a frame.
    pub fn accept(&self, request: &Request) {
        let gate = Gate::new(&self.segment, GATEWAYS);
        let mut draft = gate.draft(1).expect("jobs are free");
        draft.write(0, bytemuck::bytes_of(&Request { frame: draft.first_frame(), ..*request }), &[0; 8]);
        gate.accept(draft, None).expect("the gateway lives");
    }

    /// Claims the oldest frame that waits for ingest.
    pub fn claim(&self) -> framepipe_shm::Work<'_> {
        Worker::new(&self.segment, STAGES, 0).claim().expect("a frame waits")
    }

    /// A tensor or a result, as a stage makes it; returns its block.
    pub fn make(&self, kind: Kind, key: Digest, bytes: &[u8]) -> u64 {
        let arena = self.area.arena(kind.arena().expect("it lies in blocks"));
        let mut taken = arena.take(STAGES, bytes.len()).expect("there is room");
        taken.write_at(0, bytes).expect("its memory is reserved");
        taken.describe(&Record { key, sum: self.area.hasher().of(bytes), bytes: bytes.len() as u64 });
        taken.hold().pack()
    }

    /// And offered.
    pub fn offer(&self, kind: Kind, key: Digest, bytes: &[u8]) -> u64 {
        let block = self.make(kind, key, bytes);
        let offer = Offer { block, bytes: bytes.len() as u64, ..Offer::about(Told::Made, kind, key) };
        assert!(self.area.offer(STAGES, &offer));
        block
    }

    /// Changes a byte of an arena's file.
    pub fn damage(&self, kind: ArenaKind, at: u64) {
        use std::os::unix::fs::FileExt as _;
        let path: PathBuf = self.area.folder().join(kind.name());
        let file = std::fs::File::options().read(true).write(true).open(path).expect("the arena's file");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("read");
        file.write_all_at(&[byte[0] ^ 1], at).expect("written");
    }
    /// Makes an entry of the index look as if it was being written.
    pub fn damage_version(&self, key: Digest) {
        use std::os::unix::fs::FileExt as _;
        let path = self.area.folder().join("control");
        let file = std::fs::File::options().read(true).write(true).open(&path).expect("the control file");
        let words = std::fs::read(path).expect("read");
        // An entry: its version, then its key, on a boundary of its own.
        let of_key = |at: &usize| words[at + 8..at + 24] == key.to_le_bytes();
        let at = (0..words.len() - 24).step_by(128).find(of_key).expect("the entry is there");
        file.write_all_at(&[words[at] ^ 1], at as u64).expect("written");
    }
}
