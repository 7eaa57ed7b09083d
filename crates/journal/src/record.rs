//! One record: the result of one frame.
//!
//! All numbers are little-endian.
//! ```text
//! 0   u32  length of the payload in bytes
//! 4   u32  CRC-32 of all the other bytes of the record, begun with the segment's salt
//! 8   u64  sequence
//! 16  u64  run
//! 24  u64  frame
//! 32  the payload
//! ```
//! The salt is chosen at random for each segment, so that no payload, whoever shaped it, can hold bytes that pass
//! for a record when a damaged segment is searched for the next good one.

use crc32fast::Hasher;

pub(crate) const RECORD_HEADER_BYTES: usize = 32;

/// A record's header, as read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordHeader {
    pub(crate) length: u32,
    crc: u32,
    pub(crate) sequence: u64,
    pub(crate) run: u64,
    pub(crate) frame: u64,
}

impl RecordHeader {
    /// The header at the start of `bytes`; None where they are too few. Nothing is checked.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            length: u32_at(bytes, 0)?,
            crc: u32_at(bytes, 4)?,
            sequence: u64_at(bytes, 8)?,
            run: u64_at(bytes, 16)?,
            frame: u64_at(bytes, 24)?,
        })
    }

    /// Bytes of the whole record.
    pub(crate) fn record_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.length as usize
    }
}

/// Replaces the buffer's content by a record.
pub(crate) fn encode(buffer: &mut Vec<u8>, salt: u32, sequence: u64, run: u64, frame: u64, payload: &[u8]) {
    buffer.clear();
    let length = u32::try_from(payload.len()).expect("Options::check bounds a payload far below 4 GiB");
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    for number in [sequence, run, frame] {
        buffer.extend_from_slice(&number.to_le_bytes());
    }
    buffer.extend_from_slice(payload);
    let crc = checksum(buffer, salt);
    buffer[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// The record at the start of `bytes`, where a whole and valid one is there.
pub(crate) fn decode(bytes: &[u8], salt: u32) -> Option<(RecordHeader, &[u8])> {
    let header = RecordHeader::parse(bytes)?;
    let record = bytes.get(..header.record_bytes())?;
    (checksum(record, salt) == header.crc).then(|| (header, &record[RECORD_HEADER_BYTES..]))
}

fn checksum(record: &[u8], salt: u32) -> u32 {
    let mut hasher = Hasher::new_with_initial(salt);
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
