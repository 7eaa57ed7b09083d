//! A client's file. It may be anything by now: gone, rewritten, a FIFO, a link out of the inbox. It is opened below
//! its root without following a link, read once, and compared before and after with what was accepted. It is never
//! mapped: truncating it would kill this process.

use std::{
    borrow::Cow,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use framepipe_frame::{ErrorCode, FrameError, Request};
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2},
    io::{Errno, pread},
};

/// No way out of the root, and no link on the way: not even one that stays inside.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Opens an inbox folder, below which sources are opened.
///
/// # Errors
/// Names the folder and what to do about it.
pub fn open_root(path: &Path) -> Result<OwnedFd, RootError> {
    let failed = |what: &str, advice: &str, errno: Errno| RootError {
        words: format!("{what} {}: {errno}; {advice}", path.display()),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(path, flags, Mode::empty())
        .map_err(|errno| failed("cannot open the inbox folder", "create it, or correct server.inbox", errno))?;
    // Old sandboxes refuse openat2 altogether: better told now than by every frame.
    let advice = "it needs Linux 5.6, and a sandbox that allows it";
    openat2(&root, ".", flags, Mode::empty(), BENEATH)
        .map_err(|errno| failed("openat2(2) fails below", advice, errno))?;
    Ok(root)
}

/// An inbox folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub struct RootError {
    words: String,
}

/// A file that was opened for one frame, and may have others, which need not open it again. As long as it is there the client's
/// bytes take memory, whoever deletes them.
#[derive(Debug)]
pub struct OpenFile {
    file: OwnedFd,
    root: u32,
    path: String,
    device: u64,
    inode: u64,
}

impl OpenFile {
    /// Opens the request's file below `root`. Never waits, whatever the path leads to.
    ///
    /// # Errors
    /// `SourceGone`, or `SourceChanged` with what changed.
    pub fn open(root: BorrowedFd<'_>, request: &Request) -> Result<Self, FrameError> {
        // NONBLOCK: opening a FIFO that nobody writes would wait for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let path = request.path.as_str().into_owned();
        let file = openat2(root, &*path, flags, Mode::empty(), BENEATH).map_err(|errno| refused(&path, errno))?;
        let Request { root, source_device: device, source_inode: inode, .. } = *request;
        let file = Self { file, root, path, device, inode };
        file.source(request).check()?;
        Ok(file)
    }

    /// True where it is the file that was accepted with this request.
    pub fn is_of(&self, request: &Request) -> bool {
        (self.root, self.device, self.inode) == (request.root, request.source_device, request.source_inode)
            && *self.path == *request.path.as_str()
    }

    /// The source of a request whose file it is. Whether it is as it was accepted, [`Source::check`] says after it was read.
    pub fn source<'r>(&'r self, request: &'r Request) -> Source<'r> {
        Source { request, file: self.file.as_fd() }
    }
}

/// A frame's part of an open file.
#[derive(Debug)]
pub struct Source<'r> {
    request: &'r Request,
    file: BorrowedFd<'r>,
}

impl Source<'_> {
    /// Copies the request's bytes to `into`, which has their length.
    ///
    /// # Errors
    /// `SourceChanged`, also where the file changed while it was read.
    pub fn read(&self, into: &mut [u8]) -> Result<(), FrameError> {
        self.read_piece(0, into)?;
        self.check()
    }

    /// Copies the request's bytes from byte `at` of the image on. What was read is good once [`Self::check`] says so.
    ///
    /// # Errors
    /// `SourceChanged`, where the file ends before.
    pub fn read_piece(&self, at: u64, into: &mut [u8]) -> Result<(), FrameError> {
        let mut done = 0;
        while done < into.len() {
            let place = at.saturating_add(done as u64);
            match pread(self.file, &mut into[done..], self.request.offset.saturating_add(place)) {
                Ok(0) => {
                    let what = format!("it ended {place} bytes into the image's {}", self.request.bytes);
                    return Err(changed(&self.path(), what));
                }
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(changed(&self.path(), format!("it cannot be read: {errno}"))),
            }
        }
        Ok(())
    }

    fn path(&self) -> Cow<'_, str> {
        self.request.path.as_str()
    }

    /// Compares the file with what was accepted: bytes that were read before were its bytes then.
    ///
    /// # Errors
    /// `SourceChanged`, with what changed.
    pub fn check(&self) -> Result<(), FrameError> {
        let stat = fstat(self.file).map_err(|errno| refused(&self.path(), errno))?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if !file_type.is_file() {
            return Err(changed(&self.path(), format!("it is a {file_type:?} now, not a regular file")));
        }
        let request = self.request;
        for (what, accepted, now) in [
            ("device", i128::from(request.source_device), i128::from(stat.st_dev)),
            ("inode", request.source_inode.into(), stat.st_ino.into()),
            ("size in bytes", request.source_bytes.into(), stat.st_size.into()),
            ("modification time in ns", request.source_mtime_ns.into(), mtime_ns(&stat).into()),
        ] {
            if accepted != now {
                return Err(changed(&self.path(), format!("its {what} was {accepted} when accepted, and is {now}")));
            }
        }
        Ok(())
    }
}

/// Nanoseconds since 1970 of the last write.
fn mtime_ns(stat: &Stat) -> i64 {
    stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64)
}

/// The frame's error for what the kernel said to a path that was good when it was accepted.
fn refused(path: &str, errno: Errno) -> FrameError {
    match errno {
        Errno::NOENT => FrameError::new(
            ErrorCode::SourceGone,
            format!("{path} was removed after it was accepted: keep a source until its result is there"),
        ),
        Errno::LOOP | Errno::XDEV => changed(path, "the path has a symbolic link now, or leads out of its root"),
        // AGAIN: another process holds a lease on the file.
        Errno::NOTDIR | Errno::ACCESS | Errno::PERM | Errno::NXIO | Errno::NODEV | Errno::AGAIN => {
            changed(path, format!("it can no longer be opened: {errno}"))
        }
        errno => FrameError::new(ErrorCode::Internal, format!("cannot open {path}: {errno}")),
    }
}

fn changed(path: &str, what: impl std::fmt::Display) -> FrameError {
    FrameError::new(ErrorCode::SourceChanged, format!("{path} changed after it was accepted: {what}"))
}

#[cfg(test)]
mod tests;
