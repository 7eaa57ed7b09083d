//! What an opening found, for the caller to log.

use crate::StreamId;
use std::path::PathBuf;

/// What [`crate::Journals::open`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Streams.
    pub streams: usize,
    /// Kept records of all streams: appended and not acknowledged.
    pub records: usize,
    /// Appends that a death interrupted. They had not returned, so nothing is lost.
    pub cut: Vec<Cut>,
    /// Bytes that no death explains, and whose records are lost. Reported at each opening until what surrounds
    /// them is acknowledged.
    pub damage: Vec<Damage>,
    /// The journal's file `floor`, where it was damaged. It begins anew behind the streams that are left: one that was
    /// dropped before may get sequences again that it had.
    pub floor_damage: Option<PathBuf>,
    /// The tmpfs was too full for anything: all results go to the disk, until the next opening.
    pub memory_is_full: bool,
}

/// The rest of an interrupted append, cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The stream.
    pub stream: StreamId,
    /// Its file.
    pub file: PathBuf,
    /// Bytes cut off.
    pub bytes: u64,
}

/// Bytes that hold no valid record, where a record must have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The stream.
    pub stream: StreamId,
    /// Its file.
    pub file: PathBuf,
    /// Where in the file the bytes begin.
    pub offset: u64,
    /// How many there are.
    pub bytes: u64,
}
