//! Chunks that lie apart, mapped in a row, to be read as one piece.

use std::{io, num::NonZeroUsize, ops::Deref, os::fd::AsFd, ptr::NonNull};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use crate::arena::Run;

/// Runs of blocks, mapped one behind the other.
pub struct Row {
    start: NonNull<u8>,
    mapped: usize,
    bytes: usize,
}

// SAFETY: memory that is only read, and unmapped with its owner.
unsafe impl Send for Row {}
// SAFETY: as above.
unsafe impl Sync for Row {}

impl Row {
    /// Maps the runs of a file of blocks; `bytes` of them are in use.
    pub(crate) fn map(file: impl AsFd, block_bytes: usize, runs: &[Run], bytes: usize) -> io::Result<Self> {
        let mapped = runs.iter().map(|(_, count)| count).sum::<usize>() * block_bytes;
        let length = NonZeroUsize::new(mapped).filter(|_| bytes <= mapped).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address that the kernel chooses aliases nothing of this process: room for the runs.
        let start = unsafe { mmap_anonymous(None, length, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE)? };
        let row = Self { start: start.cast(), mapped, bytes };
        let mut at = 0;
        for (first, count) in runs {
            let length = NonZeroUsize::new(count * block_bytes).ok_or(io::ErrorKind::InvalidInput)?;
            let address = NonZeroUsize::new(row.start.as_ptr() as usize + at);
            let (flags, offset) = (MapFlags::MAP_SHARED | MapFlags::MAP_FIXED, (first * block_bytes) as i64);
            // SAFETY: it replaces a part of the room that was mapped just now, and nothing else.
            unsafe { mmap(address, length, ProtFlags::PROT_READ, flags, file.as_fd(), offset)? };
            at += length.get();
        }
        // A grandchild must not keep the memory past its owner's death.
        // SAFETY: the range was mapped just now.
        unsafe { madvise(row.start.cast(), mapped, MmapAdvise::MADV_DONTFORK)? };
        Ok(row)
    }
}

impl Deref for Row {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped to be read, `bytes` of it at least, until `self` is dropped.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; every reference into it borrowed `self`.
        let _ = unsafe { munmap(self.start.cast(), self.mapped) };
    }
}
