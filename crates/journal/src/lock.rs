//! The lock that lets exactly one process open a journal.

use crate::JournalError;
use framepipe_shm::FileLock;
use std::{
    fs::OpenOptions,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// Takes DIR/lock.
pub(crate) fn take(dir: &Path) -> Result<FileLock, JournalError> {
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(JournalError::io("open", &path))?;
    let Some(lock) = FileLock::take(file).map_err(JournalError::io("lock", &path))? else {
        let holder = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        return Err(JournalError::Locked { dir: dir.to_owned(), holder });
    };
    // The pid is a courtesy to who finds it locked: a full disk must not keep the journal shut. Of fixed width, so that
    // it replaces the former one whole.
    let _ = lock.file().write_all_at(format!("{:>10}\n", std::process::id()).as_bytes(), 0);
    Ok(lock)
}
