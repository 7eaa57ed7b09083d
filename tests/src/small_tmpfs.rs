//! A tmpfs of a test's own that can be filled up: what a full /dev/shm, or a full disk, does.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// A mounted tmpfs, unmounted when it is dropped.
pub struct SmallTmpfs(PathBuf);

impl SmallTmpfs {
    /// Mounts one of so many bytes on a folder; `None`, and said, where this user may not mount.
    ///
    /// # Panics
    /// Where it cannot be mounted for another reason.
    pub fn mount(folder: &Path, bytes: u64) -> Option<Self> {
        let options = format!("size={bytes},mode=0700");
        match mount(
            Some("tmpfs"),
            folder,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some(options.as_str()),
        ) {
            Ok(()) => Some(Self(folder.to_owned())),
            Err(nix::Error::EPERM) => {
                eprintln!("SKIPPED: a small tmpfs can be mounted by root alone");
                None
            }
            Err(error) => panic!("cannot mount a tmpfs on {}: {error}", folder.display()),
        }
    }

    /// Fills it up but for so many bytes.
    ///
    /// # Panics
    /// Where that cannot be.
    pub fn leave(&self, bytes: u64) {
        let path = self.0.join("ballast");
        let _ = fs::remove_file(&path); // of the time before
        let room = statvfs(&self.0).expect("it is mounted");
        let free = room.f_bavail * room.f_frsize;
        let ballast = File::create(path).expect("it has room for a name");
        if free > bytes {
            fallocate(&ballast, FallocateFlags::empty(), 0, free - bytes).expect("it has that room");
        }
    }
}

impl Drop for SmallTmpfs {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH); // processes that a panic left may use it still
    }
}
