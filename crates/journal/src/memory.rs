//! The part of the journal that lies in tmpfs: segments go there while there is room, and to the disk otherwise.

use crate::{JournalError, StreamId};
use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// The folder in tmpfs, and how much of it is used.
#[derive(Debug)]
pub(crate) struct Memory {
    /// `None`: everything lies on disk.
    folder: Option<PathBuf>,
    pub(crate) bytes_max: u64,
    /// Bytes of all segments in it.
    pub(crate) used: u64,
}

impl Memory {
    /// Opens or makes the folder; without room for anything, none is made.
    pub(crate) fn open(folder: &Path, bytes_max: u64) -> Result<Self, JournalError> {
        // One that a former process left is taken over, whatever the budget is now.
        let wanted = bytes_max > 0 || folder.exists();
        if wanted {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(JournalError::io("make", folder))?;
        }
        Ok(Self { folder: wanted.then(|| folder.to_owned()), bytes_max, used: 0 })
    }

    /// Where the segments of a stream lie.
    pub(crate) fn of(&self, stream: &StreamId) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(stream.as_str()))
    }

    /// True while so many more bytes are within the budget.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.folder.is_some() && self.used + bytes <= self.bytes_max
    }

    /// Bytes that can still be written: of the budget, and of the tmpfs itself.
    pub(crate) fn left(&self) -> u64 {
        let free = self.folder.as_ref().and_then(|folder| free_bytes(folder).ok()).unwrap_or(0);
        self.bytes_max.saturating_sub(self.used).min(free)
    }

    /// Removes what belongs to no stream: a stream is dropped on disk first.
    pub(crate) fn remove_strays(&self, is_stream: impl Fn(&str) -> bool) -> Result<(), JournalError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        for entry in std::fs::read_dir(folder).map_err(JournalError::io("list", folder))? {
            let path = entry.map_err(JournalError::io("list", folder))?.path();
            if !path.file_name().and_then(|name| name.to_str()).is_some_and(&is_stream) {
                std::fs::remove_dir_all(&path).map_err(JournalError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Removes the folder, which is empty.
    pub(crate) fn remove(&self) -> Result<(), JournalError> {
        match self.folder.as_ref().map(|folder| (folder, std::fs::remove_dir(folder))) {
            Some((folder, Err(error))) if error.kind() != io::ErrorKind::NotFound => {
                Err(JournalError::io("remove", folder)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Bytes that the file system of a folder has free for this process.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let room = rustix::fs::statvfs(folder)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}
