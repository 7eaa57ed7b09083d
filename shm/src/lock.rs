//! A lock on a file: of one process at a time, and gone with it.

use std::{
    fs::{File, TryLockError},
    io, thread,
    time::{Duration, Instant},
};

/// A killed process's lock outlives it in a child that it had forked and that has not become another program yet.
const REMNANT_WAIT: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Held as long as it lives, and no longer than its process, but for a moment. The descriptor is closed on exec, as all of
/// std's are.
#[derive(Debug)]
pub struct FileLock(File);

impl FileLock {
    /// Takes the lock of a file; `None`: another process holds it, and not for a moment only.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn take(file: File) -> io::Result<Option<Self>> {
        let deadline = Instant::now() + REMNANT_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self(file))),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOOK),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing alone would leave it held for as long as a child that another thread has just forked takes to exec.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_childs_descriptor_keeps_no_lock_for_long_and_the_living_keep_theirs() {
        let path = std::env::temp_dir().join(format!("framepipe-test-lock-{}", std::process::id()));
        let open = || File::create(&path).expect("a file of the test's own");
        let living = FileLock::take(open()).expect("looked at").expect("nobody has it");
        assert!(FileLock::take(open()).expect("looked at").is_none(), "it lives");
        let _forked = living.file().try_clone().expect("one more descriptor");
        drop(living);

        let killed = open();
        killed.try_lock().expect("it was given up, whoever has a descriptor");
        let forked = killed.try_clone().expect("one more descriptor");
        drop(killed); // closed, as the kernel closes a killed process's
        let execs = thread::spawn(move || {
            thread::sleep(REMNANT_WAIT / 10);
            drop(forked);
        });
        FileLock::take(open()).expect("looked at").expect("it was waited for");
        execs.join().expect("it ended");
        std::fs::remove_file(path).expect("the test's own");
    }
}
