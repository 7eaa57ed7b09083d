//! Where everything lies in the segment's files: offsets computed from the geometry alone, by every process alike.

use crate::{
    event::EventWords,
    geometry::{CLASS_COUNT_MAX, Geometry, PAGE_BYTES, POOL_COUNT_MAX},
    hints::HintSet,
    job::JobHead,
    keys::KeyHead,
    process::ProcessEntry,
    ring::RingEnds,
    segment::Header,
};

/// Alignment of every table: two cache lines, as the prefetcher fetches them in pairs.
const TABLE_ALIGN: u64 = 128;

/// Place of a ring: its ends and event, then its cells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RingPlace {
    pub ends: usize,
    pub cells: usize,
    pub capacity: usize,
}

/// Place of a size class: its slot words in the control file, its slots in the pool's file or slab.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClassPlace {
    pub words: usize,
    pub slots: usize,
    pub data: usize,
    pub slot_bytes: usize,
    /// The words of the hints of free slots.
    pub free: usize,
}

/// Place of a pool.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PoolPlace {
    pub event: usize,
    pub classes: [ClassPlace; CLASS_COUNT_MAX],
    /// Of the pool's file or slab.
    pub bytes: usize,
    /// True where that is a slab, which is no file of the segment.
    pub is_handed: bool,
}

/// Places of everything.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub processes: usize,
    pub free_jobs: RingPlace,
    pub queues: Vec<(RingPlace, usize)>,
    pub pools: [PoolPlace; POOL_COUNT_MAX],
    pub jobs: usize,
    pub job_stride: usize,
    pub descriptor: usize,
    pub bank_stride: usize,
    pub banks: usize,
    /// Of the control file.
    pub bytes: usize,
    /// From one job's request to the next one's, in the file of requests, and the bytes of that file.
    pub request_stride: usize,
    pub requests_bytes: usize,
    /// From one entry to the next, in the file of keys, and the bytes of that file.
    pub key_stride: usize,
    pub keys_bytes: usize,
}

struct Cursor(u64);

impl Cursor {
    fn take(&mut self, bytes: u64) -> usize {
        let at = self.0.next_multiple_of(TABLE_ALIGN);
        self.0 = at + bytes;
        at as usize
    }

    /// A ring that holds every hint twice over, so that a repeated hint seldom finds it full.
    fn ring(&mut self, hints: u64) -> RingPlace {
        let capacity = (hints.max(1) * 2).next_power_of_two();
        let ends = self.take(size_of::<RingEnds>() as u64);
        RingPlace { ends, cells: self.take(capacity * 8), capacity: capacity as usize }
    }

    fn event(&mut self) -> usize {
        self.take(size_of::<EventWords>() as u64)
    }
}

impl Layout {
    /// The layout of a geometry that passed its check.
    pub fn of(geometry: &Geometry) -> Self {
        let mut cursor = Cursor((size_of::<Header>() as u64).next_multiple_of(PAGE_BYTES));
        let processes = cursor.take(geometry.processes * size_of::<ProcessEntry>() as u64);
        let free_jobs = cursor.ring(geometry.jobs);
        let queues = (0..geometry.queues).map(|_| (cursor.ring(geometry.jobs), cursor.event())).collect();
        let mut pools = [PoolPlace::default(); POOL_COUNT_MAX];
        for (number, (place, pool)) in pools.iter_mut().zip(&geometry.pools).enumerate() {
            place.event = cursor.event();
            place.is_handed = geometry.is_handed(number);
            for (class_place, class) in place.classes.iter_mut().zip(&pool.classes).filter(|(_, class)| class.slots > 0)
            {
                *class_place = ClassPlace {
                    words: cursor.take(class.slots * 8),
                    slots: class.slots as usize,
                    data: place.bytes,
                    slot_bytes: class.slot_bytes as usize,
                    free: cursor.take(HintSet::words(class.slots) * 8),
                };
                place.bytes += (class.slots * class.slot_bytes) as usize;
            }
        }
        let bank_head = (POOL_COUNT_MAX * 16) as u64;
        let bank_stride = (bank_head + geometry.descriptor_bytes).next_multiple_of(8);
        let job_stride = (size_of::<JobHead>() as u64 + 2 * bank_stride).next_multiple_of(TABLE_ALIGN);
        let request_stride = geometry.request_bytes.next_multiple_of(8);
        let key_stride = (size_of::<KeyHead>() as u64 + geometry.key_bytes).next_multiple_of(8);
        let jobs = cursor.take(geometry.jobs * job_stride);
        Self {
            processes,
            free_jobs,
            queues,
            pools,
            jobs,
            job_stride: job_stride as usize,
            descriptor: bank_head as usize,
            bank_stride: bank_stride as usize,
            banks: size_of::<JobHead>(),
            bytes: cursor.0.next_multiple_of(PAGE_BYTES) as usize,
            request_stride: request_stride as usize,
            requests_bytes: (geometry.jobs * request_stride).next_multiple_of(PAGE_BYTES) as usize,
            key_stride: key_stride as usize,
            keys_bytes: (geometry.keys * key_stride).next_multiple_of(PAGE_BYTES) as usize,
        }
    }

    /// Bytes of all files together; slabs are none.
    pub fn bytes_total(&self) -> u64 {
        let pools: usize = self.pools.iter().filter(|pool| !pool.is_handed).map(|pool| pool.bytes).sum();
        (self.bytes + self.requests_bytes + self.keys_bytes + pools) as u64
    }
}
