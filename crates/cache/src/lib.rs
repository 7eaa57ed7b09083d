//! What is kept in memory beside the slots of frames in flight: images that clients gave away (`hold = copy`, uploads), tensors
//! and results that may be asked for again, and facts about files. And on disk: images for which memory has no room.
//!
//! | file | what it holds |
//! |---|---|
//! | `lru_k.rs`, `history.rs` | the order in which entries go: LRU-K, of which LRU is the case K = 1. Pure |
//! | `level.rs` | from memory in use to what is done about it. Pure |
//! | `digest.rs` | keys and checksums: 128 bits of keyed BLAKE3 |
//! | `geometry.rs`, `area.rs` | the area: files in tmpfs, mapped by whoever reads or writes them |
//! | `word.rs`, `arena.rs`, `row.rs` | blocks: taken, written, held, freed; chains of them, mapped in a row |
//! | `sweep.rs` | blocks that nobody names any more, given back |
//! | `index.rs` | from keys to blocks and facts: one writer, the keeper; readers without locks, which validate |
//! | `offers.rs` | what readers tell the keeper: they found, or made, something |
//! | `spill.rs` | images on disk: checksummed, written aside and renamed |
//! | `counts.rs` | what is counted |
//!
//! **Who has a block is one word**: FREE, TAKEN by a process that writes or frees it, HELD by frames, CACHED by the index.
//! HELD is no count: the job's request, or a lease slot in its bank, names the block, and a sweep frees what none names.
//!
//! This crate may use `unsafe` (it maps memory that other processes write); each block names its invariant.

#![allow(unsafe_code, reason = "mapped shared memory")]

mod area;
mod arena;
mod counts;
mod digest;
mod geometry;
mod history;
mod index;
mod level;
mod lru_k;
mod offers;
mod row;
pub mod spill;
mod sweep;
mod word;

pub use area::{Area, AreaError, Use};
pub use arena::{Arena, Record, Shortage, Taken, View};
pub use counts::Count;
pub use digest::{Digest, Hasher, Running};
pub use geometry::{ARENA_COUNT, ArenaGeometry, ArenaKind, Geometry, Kind};
pub use history::K_MAX;
pub use index::{Found, INLINE_WORDS, Put, Value};
pub use level::{Level, Limits, Pressure};
pub use lru_k::{Key, LruK, Policy, TooLarge};
pub use offers::{Offer, Told};
pub use sweep::{Candidates, Swept};
pub use word::BlockRef;
