//! Shared memory for framepipe: bytes, never images.
//!
//! **The frame table is the truth; rings carry hints.** Each frame in flight is a job with one 64-bit state word
//! ([`JobWord`]) in shared memory, and every step of its life is one compare-and-swap on that word. Lock-free rings
//! ([`HintRing`]) hand job numbers from stage to stage; a ring's cell is one word too. So there is no instruction at
//! which a process can die and leave something half done: recovery ([`Segment::recover`]) looks at the words and
//! puts back what the dead had.
//!
//! | file | what it holds |
//! |---|---|
//! | `word.rs` | the job word and the slot word |
//! | `ring.rs`, `hints.rs`, `event.rs` | the hint ring; the set of hints; the process-shared event (all checked with loom) |
//! | `geometry.rs`, `layout.rs` | what all processes agree on, and where it lies |
//! | `memory.rs`, `segment.rs` | files in /dev/shm and slabs, mapped; the segment: create, open, adopt, remove |
//! | `access.rs` | what a process maps of it |
//! | `lock.rs` | a lock of one process at a time |
//! | `lease.rs` | slots that name a block of the cache, and what frames' jobs name |
//! | `job.rs`, `keys.rs`, `pool.rs`, `process.rs` | the tables |
//! | `worker.rs` | a stage's steps: claim, acquire, publish, put back |
//! | `gate.rs` | the gateway's steps: allocate, accept, free |
//! | `recover.rs` | the launcher's step: put back what the dead had |
//!
//! This crate may use `unsafe` (it maps memory that other processes write); each block names its invariant.

#![allow(unsafe_code, reason = "mapped shared memory")]

mod event;
mod hints;
mod ring;
mod sync;

#[cfg(not(loom))]
mod access;
#[cfg(not(loom))]
mod clock;
#[cfg(not(loom))]
mod gate;
#[cfg(not(loom))]
mod geometry;
#[cfg(not(loom))]
mod job;
#[cfg(not(loom))]
mod keys;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod lease;
#[cfg(not(loom))]
mod lock;
#[cfg(not(loom))]
mod memory;
#[cfg(not(loom))]
mod pool;
#[cfg(not(loom))]
mod process;
#[cfg(not(loom))]
mod recover;
#[cfg(not(loom))]
mod segment;
#[cfg(not(loom))]
mod word;
#[cfg(not(loom))]
mod worker;

#[cfg(loom)]
pub use event::model;
pub use event::{Event, EventWords};
pub use hints::HintSet;
pub use ring::{HintRing, RingEnds};

#[cfg(not(loom))]
pub use {
    access::{Access, pool_bits},
    clock::monotonic_ns,
    gate::{Draft, Gate},
    geometry::{CLASS_COUNT_MAX, ClassGeometry, Geometry, GeometryError, POOL_COUNT_MAX, PoolGeometry},
    job::{Banked, JobState},
    keys::{KeyEntry, KeyNote},
    lease::JobView,
    lock::FileLock,
    memory::Mapping,
    pool::{Place, SlotRef},
    process::{Counter, ProcessEntry, ProcessState},
    recover::{Blame, Casualty, Repair, Restart, Sweeper},
    segment::{HostSlab, Segment, SegmentError},
    word::{JobWord, OWNER_MAX, Owner, SlotWord},
    worker::{Lost, Outcome, Output, Shortage, Work, Worker},
};
