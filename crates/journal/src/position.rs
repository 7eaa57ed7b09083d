//! A sequence that only grows, in a file of fixed size: how far a stream is acknowledged (`acknowledged`), and the
//! last sequence that a dropped stream may have given out (`floor`).
//!
//! Two slots of 16 bytes, written in turn, so that a write that is cut short leaves the other slot whole. The
//! larger valid sequence counts. Little-endian.
//! ```text
//! 0   u64  sequence
//! 8   u32  CRC-32 of the sequence
//! 12  u32  zero
//! ```

use crate::{
    JournalError,
    record::{u32_at, u64_at},
};
use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::PathBuf,
};

const SLOT_BYTES: usize = 16;
const FILE_BYTES: usize = 2 * SLOT_BYTES;

/// One such sequence. The file is opened for each write: acknowledgements are rare beside appends, and a descriptor
/// less a stream is worth more.
#[derive(Debug)]
pub(crate) struct Position {
    path: PathBuf,
    sequence: u64,
    /// The slot that holds `sequence`; the next write takes the other one.
    slot: usize,
}

impl Position {
    /// Opens or makes the file. `least` is what is known without it. Also says how many bytes are damaged (neither slot
    /// is valid, though one was written): 0 as a rule.
    pub(crate) fn open(path: PathBuf, least: u64) -> Result<(Self, u64), JournalError> {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(JournalError::io("read", &path)(error)),
        };
        let slots = [slot_at(&bytes, 0), slot_at(&bytes, 1)];
        let slot = usize::from(slots[1] > slots[0]);
        let mut this = Self { path, sequence: slots[slot].unwrap_or(0), slot };
        let damaged = if slots[slot].is_none() { bytes.len() as u64 } else { 0 };
        if slots[slot].is_none() || this.sequence < least {
            this.sequence = this.sequence.max(least);
            // Both slots, so that the file has its full size from here on and a full disk cannot refuse a write.
            this.write([slot_bytes(this.sequence); 2].as_flattened(), 0)?;
        }
        Ok((this, damaged))
    }

    /// The sequence; 0 for none.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Stores a larger sequence.
    pub(crate) fn store(&mut self, sequence: u64) -> Result<(), JournalError> {
        let slot = 1 - self.slot;
        self.write(&slot_bytes(sequence), slot * SLOT_BYTES)?;
        (self.sequence, self.slot) = (sequence, slot);
        Ok(())
    }

    fn write(&self, bytes: &[u8], at: usize) -> Result<(), JournalError> {
        debug_assert!(at + bytes.len() <= FILE_BYTES);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&self.path).map_err(JournalError::io("open", &self.path))?;
        file.write_all_at(bytes, at as u64).map_err(JournalError::io("write", &self.path))
    }
}

fn slot_bytes(sequence: u64) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..8].copy_from_slice(&sequence.to_le_bytes());
    slot[8..12].copy_from_slice(&crc32fast::hash(&sequence.to_le_bytes()).to_le_bytes());
    slot
}

fn slot_at(bytes: &[u8], slot: usize) -> Option<u64> {
    let bytes = bytes.get(slot * SLOT_BYTES..)?;
    let (sequence, crc) = (u64_at(bytes, 0)?, u32_at(bytes, 8)?);
    (crc32fast::hash(&sequence.to_le_bytes()) == crc).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_damaged_slot_falls_back_to_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acknowledged");
        let (mut position, _) = Position::open(path.clone(), 0).unwrap();
        position.store(5).unwrap();
        position.store(9).unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), FILE_BYTES);
        for at in 0..FILE_BYTES {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let (found, damaged) = Position::open(path.clone(), 0).unwrap();
            assert!([5, 9].contains(&found.sequence()) && damaged == 0, "byte {at}: {found:?}");
        }
    }

    #[test]
    fn two_damaged_slots_are_reported_and_what_is_known_without_them_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acknowledged");
        std::fs::write(&path, [7; FILE_BYTES]).unwrap();
        let (found, damaged) = Position::open(path.clone(), 3).unwrap();
        assert_eq!((found.sequence(), damaged), (3, FILE_BYTES as u64));
        assert_eq!(Position::open(path, 0).unwrap().0.sequence(), 3);
    }
}
