//! A segment: one file with records of consecutive sequences.
//!
//! Its name is the first sequence that it may hold, in 20 digits. All numbers are little-endian.
//! ```text
//! 0   8 bytes  "fpjournl"
//! 8   u32      version of the format
//! 12  u32      salt of the records' checksums
//! 16  u64      first sequence, as in the name
//! 24  u32      CRC-32 of the 24 bytes before
//! 28  records, one close behind the other
//! ```
//! Only the last segment of a stream is written, only at its end, with one write a record. The kernel copies a
//! write's bytes in order and a kill can only cut it short, so an interrupted append leaves a prefix of its record:
//! a *torn* tail, which is cut off. Anything else that is no record is *damage*: it stays as it is, the log goes on
//! in a new segment behind it, and its sequences (at most one for each 32 bytes) are never given out again, so that
//! no reader takes a new result for one that it already had. (A last record whose length alone was damaged passes
//! for a torn one.)

use crate::{
    JournalError,
    record::{self, RECORD_HEADER_BYTES, RecordHeader, u32_at, u64_at},
};
use std::{
    fs::{File, OpenOptions},
    hash::{BuildHasher, Hasher, RandomState},
    io,
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

pub(crate) const VERSION: u32 = 1;
pub(crate) const SEGMENT_HEADER_BYTES: usize = 28;
const MAGIC: &[u8; 8] = b"fpjournl";

/// Where a segment lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the stream's folder on disk.
    Disk,
    /// In the stream's folder in memory.
    Memory,
}

/// One segment of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    pub(crate) salt: u32,
    pub(crate) place: Place,
    /// Bytes of its file, as far as they are records.
    pub(crate) bytes: u32,
}

/// Where a record lies, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    pub(crate) run: u64,
    pub(crate) frame: u64,
    /// In its segment's file.
    pub(crate) offset: u32,
    /// Header and payload.
    pub(crate) record_bytes: u32,
    /// When it was appended, seconds since 1970; after an opening, when its segment was last written.
    pub(crate) unix_s: u64,
}

/// What a segment's bytes hold.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) entries: Vec<Entry>,
    /// Bytes between records that are no records.
    pub(crate) lost: Vec<Range<usize>>,
    /// Behind the last good record.
    pub(crate) end: usize,
    pub(crate) tail: Tail,
}

/// What follows the last good record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing.
    None,
    /// The first part of one record.
    Torn,
    /// Something else.
    Damaged,
}

impl Segment {
    /// The file of the segment that begins with `first`.
    pub(crate) fn path(folder: &Path, first: u64) -> PathBuf {
        folder.join(format!("{first:020}.log"))
    }

    /// The first sequence, from a file's name; None for a file that is no segment.
    pub(crate) fn first_of(name: &str) -> Option<u64> {
        let digits = name.strip_suffix(".log")?;
        (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
    }

    /// Makes a segment without records. It replaces what is left of one whose making was interrupted.
    pub(crate) fn create(folder: &Path, first: u64, place: Place) -> Result<(Self, File), JournalError> {
        let path = Self::path(folder, first);
        // RandomState is the standard library's source of random bits.
        let salt = RandomState::new().build_hasher().finish() as u32;
        let mut header = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&salt.to_le_bytes());
        header.extend_from_slice(&first.to_le_bytes());
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        let create = || -> io::Result<File> {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all_at(&header, 0)?;
            Ok(file)
        };
        match create() {
            Ok(file) => Ok((Self { first, salt, place, bytes: SEGMENT_HEADER_BYTES as u32 }, file)),
            Err(error) => {
                // Best effort: a segment without a whole header is removed by the next opening, replaced by the next try.
                let _ = std::fs::remove_file(&path);
                Err(JournalError::io("create", &path)(error))
            }
        }
    }

    /// Reads the header of the segment that is named `first`. None where it is damaged.
    pub(crate) fn parse(bytes: &[u8], first: u64, place: Place, file: &Path) -> Result<Option<Self>, JournalError> {
        let fields = || Some((u32_at(bytes, 8)?, u32_at(bytes, 12)?, u64_at(bytes, 16)?, u32_at(bytes, 24)?));
        let Some((version, salt, named, crc)) = fields() else { return Ok(None) };
        if !bytes.starts_with(MAGIC) || crc32fast::hash(&bytes[..24]) != crc || named != first {
            return Ok(None);
        }
        if version != VERSION {
            return Err(JournalError::Version { file: file.to_owned(), found: version });
        }
        Ok(Some(Self { first, salt, place, bytes: bytes.len() as u32 }))
    }

    /// Finds the records in the file's bytes. `limit` is the first sequence of the next segment.
    pub(crate) fn scan(&self, bytes: &[u8], limit: u64, unix_s: u64) -> Scan {
        let mut scan = Scan { entries: Vec::new(), lost: Vec::new(), end: SEGMENT_HEADER_BYTES, tail: Tail::None };
        let mut next = self.first;
        while scan.end < bytes.len() {
            let good = |at: usize| {
                // Where bytes are lost, so are at most that many records.
                let sequences = next..=next.saturating_add(records_in(at - scan.end)).min(limit.saturating_sub(1));
                let plausible = |header: &RecordHeader| sequences.contains(&header.sequence);
                RecordHeader::parse(&bytes[at..]).filter(plausible)?;
                record::decode(&bytes[at..], self.salt).map(|(header, _)| (at, header))
            };
            let Some((at, header)) = (scan.end..bytes.len()).find_map(good) else {
                scan.tail = if is_torn(&bytes[scan.end..], next) { Tail::Torn } else { Tail::Damaged };
                return scan;
            };
            if at > scan.end {
                scan.lost.push(scan.end..at);
            }
            let RecordHeader { sequence, run, frame, .. } = header;
            let record_bytes = header.record_bytes() as u32;
            scan.entries.push(Entry { sequence, run, frame, offset: at as u32, record_bytes, unix_s });
            scan.end = at + header.record_bytes();
            next = sequence + 1;
        }
        scan
    }
}

/// The most records that fit into that many bytes.
pub(crate) fn records_in(bytes: usize) -> u64 {
    (bytes / RECORD_HEADER_BYTES) as u64
}

/// True where `bytes` can be what an interrupted append of the record `sequence` leaves.
fn is_torn(bytes: &[u8], sequence: u64) -> bool {
    RecordHeader::parse(bytes).is_none_or(|header| {
        let possible = header.length <= crate::RESULT_BYTES_LIMIT && header.sequence == sequence;
        possible && header.record_bytes() > bytes.len()
    })
}
