//! The lock that lets exactly one process open a journal.

use crate::JournalError;
use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// Held as long as it lives, and at most as long as its process. The descriptor is closed on exec, as all of std's
/// are.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes DIR/lock, without waiting.
    pub(crate) fn take(dir: &Path) -> Result<Self, JournalError> {
        let path = dir.join("lock");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(JournalError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                return Err(JournalError::Locked { dir: dir.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(JournalError::io("lock", &path)(error)),
        }
        // The pid is a courtesy to who finds it locked: a full disk must not keep the journal shut. Of fixed width, so
        // that it replaces the former one whole.
        let _ = file.write_all_at(format!("{:>10}\n", std::process::id()).as_bytes(), 0);
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it held for as long as a child that another thread has just forked takes to exec.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_a_forked_child_still_has_does_not_keep_the_journal_locked() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        assert!(Lock::take(dir.path()).is_err());
        let forked = lock.0.try_clone().unwrap();
        drop(lock);
        Lock::take(dir.path()).unwrap();
        drop(forked);
    }
}
