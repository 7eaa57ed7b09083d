//! What all processes of a segment agree on: how many jobs, queues and slots there are, and how large they are. It
//! lies in the segment's header, hashed; tuning (batch sizes, timeouts) is not part of it.

use bytemuck::{Pod, Zeroable};

/// Most pools a segment has, and most slots a job has: one of each pool.
pub const POOL_COUNT_MAX: usize = 8;
/// Most size classes a pool has.
pub const CLASS_COUNT_MAX: usize = 4;

/// A pool's size class: `slots` slots of `slot_bytes` bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ClassGeometry {
    /// Bytes of a slot; a multiple of the page.
    pub slot_bytes: u64,
    /// How many there are; 0: the class does not exist.
    pub slots: u64,
}

/// A pool: the slots that one stage writes, in classes of growing size.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PoolGeometry {
    /// The classes; the first one with no slots ends the list.
    pub classes: [ClassGeometry; CLASS_COUNT_MAX],
}

impl PoolGeometry {
    /// A pool of these (slot bytes, slots), each size rounded up to whole pages.
    pub fn new(classes: &[(u64, u64)]) -> Self {
        let mut pool = Self::default();
        for (class, (slot_bytes, slots)) in pool.classes.iter_mut().zip(classes) {
            *class = ClassGeometry { slot_bytes: slot_bytes.next_multiple_of(PAGE_BYTES), slots: *slots };
        }
        pool
    }

    /// Bytes of all the pool's slots.
    pub fn bytes(&self) -> u64 {
        self.classes.iter().map(|class| class.slot_bytes.saturating_mul(class.slots)).fold(0, u64::saturating_add)
    }

    /// Bytes of the largest slot.
    pub fn slot_bytes_max(&self) -> u64 {
        self.classes.iter().filter(|class| class.slots > 0).map(|class| class.slot_bytes).max().unwrap_or(0)
    }
}

/// The geometry of a segment.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Geometry {
    /// What the frames are processed with, hashed by whoever makes the segment: a segment of other models, though of equal
    /// sizes, is another segment.
    pub pipeline: u64,
    /// Jobs: the most frames in flight, and those reserved.
    pub jobs: u64,
    /// How many of them, the last in the table, no accepted frame ever has: 0, or one that is the gateway's own.
    pub reserved: u64,
    /// Queues: one before each stage, and one before the gateway's delivery.
    pub queues: u64,
    /// Entries of the process table.
    pub processes: u64,
    /// Bytes of a job's request.
    pub request_bytes: u64,
    /// Bytes of a job's descriptor.
    pub descriptor_bytes: u64,
    /// Entries of the table of idempotency keys.
    pub keys: u64,
    /// Bytes of such an entry's record.
    pub key_bytes: u64,
    /// Bits of the pools whose slots lie in no file of the segment, but in a slab that the launcher hands to processes.
    pub handed: u64,
    /// The pools, by number.
    pub pools: [PoolGeometry; POOL_COUNT_MAX],
}

/// A geometry that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {value}; it must be {bound}")]
pub struct GeometryError {
    /// Which number.
    pub what: String,
    /// What it is.
    pub value: u64,
    /// What it must be.
    pub bound: String,
}

pub(crate) const PAGE_BYTES: u64 = 4096;
const JOBS_MAX: u64 = 1 << 16;
const QUEUES_MAX: u64 = 32;
const PROCESSES_MAX: u64 = 1024;
const RECORD_BYTES_MAX: u64 = 1 << 16;
const KEYS_MAX: u64 = 1 << 20;
const SLOTS_MAX: u64 = 1 << 16;
const SLOT_BYTES_MAX: u64 = 1 << 34;

impl Geometry {
    /// Checks every number against its bound.
    ///
    /// # Errors
    /// Names the first number that is out of bounds.
    pub fn check(&self) -> Result<(), GeometryError> {
        let within = |what: &str, value: u64, least: u64, most: u64| {
            let bound = || format!("{least} to {most}");
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(GeometryError { what: what.into(), value, bound: bound() })
            }
        };
        within("the number of jobs", self.jobs, 1, JOBS_MAX)?;
        within("the number of reserved jobs", self.reserved, 0, 1)?;
        within("the number of jobs that are not reserved", self.jobs - self.reserved, 1, JOBS_MAX)?;
        within("the number of queues", self.queues, 1, QUEUES_MAX)?;
        within("the number of processes", self.processes, 1, PROCESSES_MAX)?;
        within("a request's size in bytes", self.request_bytes, 0, RECORD_BYTES_MAX)?;
        within("a descriptor's size in bytes", self.descriptor_bytes, 0, RECORD_BYTES_MAX)?;
        within("the number of idempotency keys", self.keys, 0, KEYS_MAX)?;
        within("the size in bytes of a key's record", self.key_bytes, 0, RECORD_BYTES_MAX)?;
        within("the set of handed pools", self.handed, 0, (1 << POOL_COUNT_MAX) - 1)?;
        for (pool, geometry) in self.pools.iter().enumerate() {
            let mut previous = 0;
            for class in &geometry.classes {
                within(&format!("the number of slots of a class of pool {pool}"), class.slots, 0, SLOTS_MAX)?;
                if class.slots > 0 {
                    let what = format!("the slot size in bytes of a class of pool {pool} (classes grow)");
                    within(&what, class.slot_bytes, previous + 1, SLOT_BYTES_MAX)?;
                    previous = class.slot_bytes;
                }
            }
        }
        Ok(())
    }

    /// True of a pool whose slots lie in a handed slab: it dies with the last process that has it, the segment does not.
    pub fn is_handed(&self, pool: usize) -> bool {
        self.handed >> pool & 1 == 1
    }

    /// FNV-1a over the geometry and the ABI version: equal in two processes that may share a segment.
    pub(crate) fn hash(&self, abi: u32) -> u64 {
        let bytes = bytemuck::bytes_of(self).iter().chain(bytemuck::bytes_of(&abi).iter());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    }
}
