//! The part of the journal that lies in tmpfs: segments go there while there is room, and to the disk otherwise.

use crate::{JournalError, StreamId};
use std::{
    ffi::OsStr,
    fs::DirBuilder,
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

/// Names the directory of the journal that the folder belongs to.
const OWNER: &str = "owner";

/// The folder in tmpfs, and how much of it is used.
#[derive(Debug)]
pub(crate) struct Memory {
    /// `None`: everything lies on disk.
    folder: Option<PathBuf>,
    /// It lies on the file system of the streams on the disk, which has no room beside itself.
    is_on_disk: bool,
    pub(crate) bytes_max: u64,
    /// Bytes of all segments in it.
    pub(crate) used: u64,
}

impl Memory {
    /// Opens or makes the folder of the journal in `dir`, whose streams on the disk lie in `streams`; without room for anything,
    /// none is made. Whether both lie on one file system is looked at here alone.
    pub(crate) fn open(folder: &Path, dir: &Path, streams: &Path, bytes_max: u64) -> Result<Self, JournalError> {
        // One that a former process left is taken over, whatever the budget is now.
        let wanted = bytes_max > 0 || folder.exists();
        let folder = if wanted { take(folder, dir)? } else { None };
        let is_on_disk = folder.as_ref().is_some_and(|folder| share_room(folder, streams));
        Ok(Self { folder, is_on_disk, bytes_max, used: 0 })
    }

    /// False where everything lies on disk.
    pub(crate) fn is_there(&self) -> bool {
        self.folder.is_some()
    }

    /// Where the segments of a stream lie.
    pub(crate) fn of(&self, stream: &StreamId) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(stream.as_str()))
    }

    /// True while so many more bytes are within the budget.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.folder.is_some() && self.used + bytes <= self.bytes_max
    }

    /// Bytes that can still be written beside those on the disk: of the budget, and of the tmpfs itself.
    pub(crate) fn left_beside_disk(&self) -> u64 {
        let Some(folder) = self.folder.as_ref().filter(|_| !self.is_on_disk) else { return 0 };
        self.bytes_max.saturating_sub(self.used).min(free_bytes(folder).unwrap_or(0))
    }

    /// Removes what belongs to no stream: a stream is dropped on disk first.
    pub(crate) fn remove_strays(&self, is_stream: impl Fn(&str) -> bool) -> Result<(), JournalError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        for entry in std::fs::read_dir(folder).map_err(JournalError::io("list", folder))? {
            let path = entry.map_err(JournalError::io("list", folder))?.path();
            if path.is_dir() && !path.file_name().and_then(|name| name.to_str()).is_some_and(&is_stream) {
                std::fs::remove_dir_all(&path).map_err(JournalError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Removes the folder, in which no stream has anything any more.
    pub(crate) fn remove(&self) -> Result<(), JournalError> {
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_file(folder.join(OWNER)); // if it cannot be removed, the folder cannot either
        }
        match self.folder.as_ref().map(|folder| (folder, std::fs::remove_dir(folder))) {
            Some((folder, Err(error))) if error.kind() != io::ErrorKind::NotFound => {
                Err(JournalError::io("remove", folder)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Opens or makes the folder, which is then this journal's; none where the tmpfs is full. One that holds results has an
/// owner already, so nothing needs to be written in it.
fn take(folder: &Path, dir: &Path) -> Result<Option<PathBuf>, JournalError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(JournalError::io("make", folder));
    let taken = made.and_then(|()| check_user(folder)).and_then(|()| own(folder, dir));
    match taken {
        Err(error) if error.is_full() => Ok(None),
        taken => taken.map(|()| Some(folder.to_owned())),
    }
}

/// Anybody may make folders in a tmpfs such as /dev/shm: one of another user could lead what is written there anywhere.
fn check_user(folder: &Path) -> Result<(), JournalError> {
    let found = std::fs::symlink_metadata(folder).map_err(JournalError::io("examine", folder))?;
    if found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let foreign = io::Error::new(io::ErrorKind::PermissionDenied, "it is no folder of this user: remove it");
    Err(JournalError::io("use", folder)(foreign))
}

/// Takes the folder for the journal in `dir`. One that is another journal's holds results that are known there alone.
fn own(folder: &Path, dir: &Path) -> Result<(), JournalError> {
    let file = folder.join(OWNER);
    let dir = std::fs::canonicalize(dir).map_err(JournalError::io("examine", dir))?;
    match std::fs::read(&file) {
        Ok(owner) if owner == dir.as_os_str().as_bytes() => return Ok(()),
        Ok(owner) => {
            let owner = PathBuf::from(OsStr::from_bytes(&owner));
            if owner.exists() {
                return Err(JournalError::Foreign { folder: folder.to_owned(), owner });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(JournalError::io("read", &file)(error)),
    }
    std::fs::write(&file, dir.as_os_str().as_bytes()).map_err(JournalError::io("write", &file))
}

/// True where two folders lie on one file system.
fn share_room(one: &Path, other: &Path) -> bool {
    let device = |folder: &Path| std::fs::metadata(folder).map(|metadata| metadata.dev()).ok();
    device(one).is_some_and(|one| device(other) == Some(one))
}

/// Bytes that the file system of a folder has free for this process.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let room = rustix::fs::statvfs(folder)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_room_beside_the_disk_where_it_is_another_file_system() {
        let (disk, tmpfs) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
        let left = |folder: &Path| {
            let memory = Memory::open(&folder.join("memory"), disk.path(), disk.path(), 1000).unwrap();
            memory.left_beside_disk()
        };
        assert_eq!(left(disk.path()), 0, "its bytes are the disk's");
        let beside = if share_room(tmpfs.path(), disk.path()) { 0 } else { 1000 };
        assert_eq!(left(tmpfs.path()), beside);
    }
}
