//! A small pipeline over a real segment, for the tests: stage A (queue 0) writes pools 0 and 2; stage B (queue 1) reads
//! both, writes pool 1, carries pool 0 on and lets pool 2 go, which is handed: its slots lie in a slab, and a frame that has
//! lost one starts again at A; the gateway (queue 2) reads pools 0 and 1, notes the frame
//! in a ledger and frees the job.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(unsafe_code, reason = "a ledger shared with forked children")]

use std::{
    fs::File,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use framepipe_shm::{
    Access, Gate, Geometry, HostSlab, KeyNote, Outcome, PoolGeometry, Repair, Restart, Segment, Shortage, Work, Worker,
};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// Queues of the test pipeline.
pub const A: usize = 0;
/// See [`A`].
pub const B: usize = 1;
/// See [`A`].
pub const GATEWAY: usize = 2;

/// The pool whose slots lie in a slab.
const HANDED: usize = 2;

/// Entries of the table of keys.
pub const KEYS: u64 = 2;

/// What of a frame lies in pool 0, and in pool 1.
pub fn expected(frame: u64) -> (u64, u64) {
    let a = frame.wrapping_mul(3).wrapping_add(1);
    (a, a.wrapping_mul(3).wrapping_add(2))
}

/// A geometry of so many jobs for frames, a reserved one, and so many slots.
pub fn geometry(jobs: u64, slots: u64) -> Geometry {
    let mut pools = [PoolGeometry::default(); framepipe_shm::POOL_COUNT_MAX];
    pools[0] = PoolGeometry::new(&[(4096, slots)]);
    pools[1] = PoolGeometry::new(&[(4096, slots)]);
    pools[2] = PoolGeometry::new(&[(4096, slots)]);
    Geometry {
        pipeline: 0,
        jobs: jobs + 1,
        reserved: 1,
        queues: 3,
        processes: 32,
        request_bytes: 8,
        descriptor_bytes: 8,
        keys: KEYS,
        key_bytes: 8,
        handed: 1 << HANDED,
        pools,
    }
}

/// In place of a frame's number: what the reserved job bears.
pub const RESERVED: u64 = u64::MAX;

/// A segment of its own that goes when it is dropped, and a ledger of frames delivered.
pub struct Bench {
    pub segment: Segment,
    pub ledger: Ledger,
    slab: File,
}

fn slab(geometry: &Geometry) -> File {
    let slab = File::from(memfd_create("test-slab", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a memfd"));
    slab.set_len(geometry.pools[HANDED].bytes()).expect("it grows");
    fcntl_add_seals(&slab, SealFlags::SHRINK).expect("it can be sealed");
    slab
}

fn map(segment: &mut Segment, slab: &File) {
    segment.map_slabs(&[HostSlab { pool: HANDED, memory: slab.as_fd() }]).expect("it is the pool's");
}

impl Bench {
    /// With owner 1 entered as a living process: the test itself.
    pub fn new(jobs: u64, slots: u64) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("framepipe-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = PathBuf::from("/dev/shm").join(name);
        let geometry = geometry(jobs, slots);
        let mut segment = Segment::create(&folder, geometry, 1, 0).expect("a small segment fits");
        assert!(!folder.join("pool-2").exists() && folder.join("pool-1").exists(), "a slab is no file");
        let slab = slab(&geometry);
        map(&mut segment, &slab);
        segment.processes()[0].occupy(1, 0, 0);
        Self { segment, ledger: Ledger::new(), slab }
    }

    /// What is written in the slab is gone, as it is when all processes die.
    pub fn lose_slab(&self) {
        let bytes = self.segment.geometry().pools[HANDED].bytes();
        // From no memory of the heap, whose shape decides which way a single-stepped process takes.
        (0..bytes / 4096).for_each(|page| self.slab.write_all_at(&[0xee; 4096], page * 4096).expect("it is as large"));
    }

    /// What a launcher does that takes the segment over.
    pub fn take_over(&self) -> Repair {
        // A is the first stage, and writes the slab: there is nothing that a frame keeps.
        self.segment.recover_without_slabs(|queue| (queue == B).then_some(Restart { queue: A, keep: 0 }))
    }

    /// The same bench in a forked child: mappings of its own (a segment's are not inherited), the same ledger.
    pub fn in_child(&self) -> std::mem::ManuallyDrop<Self> {
        let slab = self.slab.try_clone().expect("one more descriptor");
        let mut segment = Segment::open(self.segment.folder(), Access::All).expect("the segment was made");
        map(&mut segment, &slab);
        std::mem::ManuallyDrop::new(Self { segment, ledger: Ledger(self.ledger.0), slab })
    }

    /// Accepts so many frames; false when there are too few jobs.
    pub fn accept(&self, owner: u16, count: usize) -> bool {
        self.accept_with(owner, count, None)
    }

    /// Accepts so many frames of a call with a key, which is remembered at a place of the table.
    pub fn accept_keyed(&self, owner: u16, count: usize, place: usize, key: u64) -> bool {
        self.accept_with(owner, count, Some(KeyNote { place, expires_ns: 1, record: &key.to_ne_bytes() }))
    }

    fn accept_with(&self, owner: u16, count: usize, key: Option<KeyNote<'_>>) -> bool {
        let gate = Gate::new(&self.segment, owner);
        let Some(mut draft) = gate.draft(count) else { return false };
        for place in 0..count {
            let frame = draft.first_frame() + place as u64;
            draft.write(place, &frame.to_ne_bytes(), &[0; 8]);
        }
        gate.accept(draft, key).expect("the gateway lives");
        true
    }

    /// Sends the reserved job; false where it is on its way already.
    pub fn send_reserved(&self, owner: u16) -> bool {
        let gate = Gate::new(&self.segment, owner);
        let Some(mut draft) = gate.draft_reserved() else { return false };
        draft.write(0, &RESERVED.to_ne_bytes(), &[0; 8]);
        gate.send_reserved(draft).expect("the gateway lives");
        true
    }

    /// What a new gateway finds remembered: key, first frame, frames.
    pub fn take_over_keys(&self, owner: u16) -> Vec<(u64, u64, u64)> {
        let mut keys = Vec::new();
        Gate::new(&self.segment, owner)
            .take_over_keys(|_, entry, record| keys.push((number(record), entry.first, entry.count)));
        keys
    }

    /// One step of stage A or B: claims a job and hands it on, or puts it back for want of a slot.
    pub fn work(&self, owner: u16, queue: usize) -> bool {
        let worker = Worker::new(&self.segment, owner, queue);
        let Some(work) = worker.claim() else { return false };
        self.finish(&worker, work, queue)
    }

    pub fn finish<'s>(&'s self, worker: &Worker<'s>, mut work: Work<'s>, queue: usize) -> bool {
        let frame = frame_of(&work);
        let outputs: Vec<(usize, u64)> = match queue {
            A => vec![(0, expected(frame).0), (2, !frame)],
            _ => {
                assert_eq!(number(work.input(2).expect("A wrote pool 2")), !frame, "frame {frame}, pool 2");
                vec![(1, number(work.input(0).expect("pool 0 is carried to B")).wrapping_mul(3).wrapping_add(2))]
            }
        };
        for (pool, value) in &outputs {
            match worker.acquire(&mut work, *pool, 8) {
                Err(Shortage::InUse { .. }) => {
                    worker.put_back(work).expect("the worker lives");
                    return false;
                }
                taken => taken.expect("8 bytes fit"),
            }
            let output = work.output(*pool).expect("it was acquired");
            output.bytes[..8].copy_from_slice(&value.to_ne_bytes());
            output.used = 8;
        }
        let mut descriptor = [0; 8];
        work.read_descriptor(&mut descriptor);
        let hops = u64::from_ne_bytes(descriptor);
        // A frame that starts again is known by what A had noted, and A notes it anew.
        let hops = if queue == A {
            assert!(hops <= 1, "frame {frame} at A after {hops} hops");
            1
        } else {
            hops + 1
        };
        let outcome = Outcome { queue: queue + 1, carry: 1, descriptor: &hops.to_ne_bytes() };
        worker.publish(work, outcome).expect("the worker lives");
        true
    }

    /// One step of the gateway: claims a finished job, notes it in the ledger unless it stands there, frees it.
    pub fn deliver(&self, owner: u16) -> bool {
        let Some(work) = Worker::new(&self.segment, owner, GATEWAY).claim() else { return false };
        let frame = frame_of(&work);
        let (a, b) = expected(frame);
        assert_eq!(number(work.input(0).expect("pool 0 is carried")), a, "frame {frame}, pool 0");
        assert_eq!(number(work.input(1).expect("pool 1 is written")), b, "frame {frame}, pool 1");
        let mut hops = [0; 8];
        work.read_descriptor(&mut hops);
        assert_eq!(u64::from_ne_bytes(hops), 2, "frame {frame} took two hops");
        assert_eq!(
            work.is_reserved(),
            frame == RESERVED,
            "frame {frame} in a job that is none of frames, or none of its own"
        );
        if !work.is_reserved() {
            self.ledger.note(frame);
        }
        Gate::new(&self.segment, owner).free(work).expect("the gateway lives");
        true
    }

    /// Works all there is, as owner 1.
    pub fn drain(&self) {
        while self.work(1, A) | self.work(1, B) | self.deliver(1) {}
    }

    /// Everything free, every hint where it belongs.
    pub fn assert_clean(&self, context: &str) {
        let jobs = self.segment.frame_jobs() as usize;
        assert!(!Gate::new(&self.segment, 1).is_reserved_away(), "{context}: the reserved job is stuck");
        assert_eq!(self.segment.job_census(), [jobs, 0, 0, 0], "{context}: jobs [free, writing, ready, claimed]");
        for pool in 0..3 {
            assert_eq!(self.segment.pool_use(pool).0, 0, "{context}: pool {pool} leaks");
        }
        assert_eq!(self.segment.repair_hints(), 0, "{context}: no hint is missing");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = Segment::remove(self.segment.folder());
    }
}

/// The frame's number, from its request.
pub fn frame_of(work: &Work<'_>) -> u64 {
    number(work.request())
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes[..8].try_into().expect("8 bytes"))
}

/// How often each frame was delivered: a page shared with forked children, as a journal would be.
pub struct Ledger(std::ptr::NonNull<AtomicU32>);

/// Frames that a ledger has room for.
pub const LEDGER_FRAMES: usize = 1 << 22;

impl Ledger {
    fn new() -> Self {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
        let bytes = std::num::NonZeroUsize::new(LEDGER_FRAMES * 4).expect("not zero");
        // SAFETY: a new anonymous mapping; it is never unmapped before the ledger goes.
        let start =
            unsafe { mmap_anonymous(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED) };
        Self(start.expect("the pages can be had").cast())
    }

    fn cell(&self, frame: u64) -> &AtomicU32 {
        assert!((frame as usize) < LEDGER_FRAMES, "frame {frame} exceeds the ledger");
        // SAFETY: in bounds; the mapping lives as long as the ledger.
        unsafe { self.0.add(frame as usize).as_ref() }
    }

    /// Notes a frame once, however often it is delivered again after a death (the journal's own deduplication).
    pub fn note(&self, frame: u64) {
        let _ = self.cell(frame).compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire);
    }

    /// True when the frame was delivered.
    pub fn has(&self, frame: u64) -> bool {
        self.cell(frame).load(Ordering::Acquire) == 1
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length.
        let _ = unsafe { nix::sys::mman::munmap(self.0.cast(), LEDGER_FRAMES * 4) };
    }
}
