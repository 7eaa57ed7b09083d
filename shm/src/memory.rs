//! Named files in /dev/shm, reserved in full when they are made, and mapped; and slabs, which come as descriptors.

use std::{
    fs::File,
    io,
    num::NonZeroUsize,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::Path,
    ptr::NonNull,
};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};

/// A shared mapping of a whole file. Writing to one that was opened to be read is a death by SIGSEGV. The pointer stays valid until the mapping is dropped.
pub struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping is plain memory that any thread may reach; what lies in it is reached through atomics or under
// the ownership that the job words give.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Makes a file of `bytes` zeroes, with all its memory reserved, and maps it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn create(path: &Path, bytes: usize) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        // Reserved now: a full /dev/shm is an error here, not a SIGBUS at some later touch.
        let length = i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        nix::fcntl::posix_fallocate(&file, 0, length)?;
        Self::map(&file, bytes, true)
    }

    /// Makes a file of `bytes` zeroes without a page of memory, and maps it. Whoever touches a part of it reserves it first
    /// (`fallocate`), or a full tmpfs is its death by SIGBUS.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn create_sparse(path: &Path, bytes: usize) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        file.set_len(bytes as u64)?;
        Self::map(&file, bytes, true)
    }

    /// Maps the whole of an existing file: to be written, or only to be read.
    ///
    /// # Errors
    /// What the operating system says; `UnexpectedEof` where the file is empty.
    pub fn open(path: &Path, writable: bool) -> io::Result<Self> {
        let file = File::options().read(true).write(writable).open(path)?;
        let bytes =
            usize::try_from(file.metadata()?.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        Self::map(&file, bytes, writable)
    }

    /// Maps `bytes` bytes, which are all that the file has: to be written, or only to be read.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn map(file: impl AsFd, bytes: usize, writable: bool) -> io::Result<Self> {
        let length = NonZeroUsize::new(bytes).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let protection = if writable { ProtFlags::PROT_READ | ProtFlags::PROT_WRITE } else { ProtFlags::PROT_READ };
        // Not populated: a mapping's teardown delays the notice of its process's death.
        // SAFETY: a new mapping at an address that the kernel chooses aliases nothing of this process.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, file, 0)? };
        // A grandchild must not keep the slots mapped past their owner's death.
        // SAFETY: the range was mapped just now.
        unsafe { madvise(start, bytes, MmapAdvise::MADV_DONTFORK)? };
        Ok(Self { start: start.cast(), bytes })
    }

    /// Bytes of the mapping: one at least.
    #[expect(clippy::len_without_is_empty, reason = "none is empty")]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// The address `offset` bytes in, of which `bytes` must lie in the mapping.
    ///
    /// # Panics
    /// Where they do not.
    pub fn at(&self, offset: usize, bytes: usize) -> NonNull<u8> {
        let end = offset.checked_add(bytes).expect("an offset of the layout does not overflow");
        assert!(end <= self.bytes, "{bytes} bytes at {offset} lie in a mapping of {}", self.bytes);
        // SAFETY: `offset` lies in the mapping, checked above.
        unsafe { self.start.add(offset) }
    }

    /// A table of `count` records of atomics at `offset`.
    ///
    /// # Panics
    /// Where it does not lie in the mapping, or is not aligned.
    ///
    /// # Safety
    /// `T` consists of atomics alone (or padding), for which all bit patterns are valid, and lies there by the layout.
    pub unsafe fn table<T>(&self, offset: usize, count: usize) -> &[T] {
        let start = self.at(offset, count * size_of::<T>()).cast::<T>();
        assert!(start.is_aligned(), "the layout aligns its tables");
        // SAFETY: in bounds and aligned (checked); the caller vouches for `T`; the mapping outlives `&self`.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), count) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; every reference into it borrowed `self`.
        let _ = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}
