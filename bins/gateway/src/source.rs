//! The files that a call names: opened beneath the allowed roots and looked at, never read or mapped here (`copy.rs` reads them).

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, open, openat2},
    io::Errno,
};
use tonic::Status;

/// The allowed roots, opened once.
pub struct Roots {
    roots: Vec<(PathBuf, OwnedFd)>,
    are_in_memory: bool,
    /// Folders whose files are no images: framepipe's own, without symlinks in their paths.
    own: Vec<PathBuf>,
}

/// A file as it was when it was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Index of its root.
    pub root: u32,
    /// Its path below the root.
    pub path: String,
    /// Device, inode.
    pub id: (u64, u64),
    /// Bytes.
    pub bytes: u64,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl Roots {
    /// Opens the roots. `own` are the folders whose files clients may not name; those that are not there hold none.
    pub fn open(roots: &[PathBuf], own: &[PathBuf]) -> anyhow::Result<Self> {
        let open_root = |path: &PathBuf| {
            let root = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .with_context(|| format!("the inbox {} cannot be opened (server.inbox)", path.display()))?;
            anyhow::Ok((path.clone(), root))
        };
        let own = own.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
        let roots = roots.iter().map(open_root).collect::<anyhow::Result<Vec<_>>>()?;
        let is_tmpfs = |(_, root): &(PathBuf, OwnedFd)| fstatfs(root).is_ok_and(|of| of.f_type == libc::TMPFS_MAGIC);
        Ok(Self { are_in_memory: roots.iter().all(is_tmpfs), roots, own })
    }

    /// True where their files lie in memory: those of other file systems below them are none of theirs.
    pub fn are_in_memory(&self) -> bool {
        self.are_in_memory
    }

    /// The root of this number.
    ///
    /// # Panics
    /// When there is none: `Source::root` is one.
    pub fn root(&self, number: u32) -> BorrowedFd<'_> {
        self.roots[number as usize].1.as_fd()
    }

    /// Opens and looks at a file.
    pub fn look(&self, path: &str) -> Result<Source, Status> {
        let found =
            self.roots.iter().enumerate().find_map(|(number, (root, fd))| {
                Path::new(path).strip_prefix(root).ok().map(|below| (number, fd, below))
            });
        let Some((number, root, below)) = found else {
            return Err(self.outside(path));
        };
        let Some(below) = below.to_str().filter(|below| !below.is_empty()) else {
            return Err(Status::invalid_argument(format!("{path} is a directory: name a file in it")));
        };
        // O_NONBLOCK: a FIFO must not block the call until it is found to be one.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let file = openat2(root, below, flags, Mode::empty(), resolve).map_err(|error| self.refusal(path, error))?;
        let stat = fstat(&file).map_err(|error| unreadable(path, &error.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => {
                return Err(Status::invalid_argument(format!("{path} is a directory: name a file in it")));
            }
            other => return Err(Status::invalid_argument(format!("{path} is no regular file but a {other:?}"))),
        }
        if self.is_own(&file).map_err(|error| unreadable(path, &error))? {
            return Err(Status::permission_denied(format!("{path} is framepipe's own memory, not an image")));
        }
        Ok(Source {
            root: number as u32,
            path: below.to_owned(),
            id: (stat.st_dev, stat.st_ino),
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64),
        })
    }

    /// True where the kernel's own name of the file, in which no `..` and no symlink is left, lies in an own folder.
    fn is_own(&self, file: &OwnedFd) -> io::Result<bool> {
        let name = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        Ok(self.own.iter().any(|own| name.starts_with(own)))
    }

    fn outside(&self, path: &str) -> Status {
        let roots: Vec<String> = self.roots.iter().map(|(root, _)| root.display().to_string()).collect();
        Status::permission_denied(format!(
            "{path} lies outside the allowed roots, {}: store images there",
            roots.join(", ")
        ))
    }

    fn refusal(&self, path: &str, error: Errno) -> Status {
        match error {
            Errno::NOENT | Errno::NOTDIR => Status::not_found(format!("there is no file {path}")),
            Errno::LOOP => Status::permission_denied(format!("{path} is or passes a symlink: name the file itself")),
            Errno::XDEV => self.outside(path),
            // A FIFO without a writer, a socket, a device that is not there.
            Errno::NXIO => Status::invalid_argument(format!("{path} is no regular file")),
            Errno::ACCESS | Errno::PERM => {
                Status::permission_denied(format!("{path} may not be read by the server's user: change its mode"))
            }
            other => unreadable(path, &other.into()),
        }
    }
}

fn unreadable(path: &str, error: &io::Error) -> Status {
    Status::internal(format!("{path} cannot be opened: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, mkfifoat};
    use std::os::unix::fs::symlink;
    use tonic::Code;

    #[test]
    fn roots_are_in_memory_where_all_of_them_are() {
        let are_in_memory = |roots: &[&str]| {
            let roots: Vec<PathBuf> = roots.iter().map(PathBuf::from).collect();
            Roots::open(&roots, &[]).expect("opened").are_in_memory()
        };
        assert!(are_in_memory(&["/dev/shm"]));
        assert!(!are_in_memory(&["/proc"]) && !are_in_memory(&["/dev/shm", "/proc"]));
    }

    #[test]
    fn only_regular_files_beneath_the_roots_are_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("inbox");
        std::fs::create_dir_all(root.join("sub")).expect("made");
        let image = root.join("sub/a.jpg");
        std::fs::write(&image, b"12345").expect("written");
        std::fs::write(folder.path().join("outside"), b"x").expect("written");
        std::fs::create_dir_all(root.join("own/deep")).expect("made");
        std::fs::write(root.join("own/deep/file"), b"x").expect("written");
        symlink(&image, root.join("link")).expect("linked");
        symlink(folder.path(), root.join("up")).expect("linked");
        mkfifoat(CWD, root.join("fifo"), Mode::RUSR | Mode::WUSR).expect("made");
        // Named by way of a symlink, it is the same folder.
        let own = folder.path().join("alias");
        symlink(root.join("own"), &own).expect("linked");
        let roots = Roots::open(std::slice::from_ref(&root), &[own, folder.path().join("none")]).expect("opened");
        let look = |path: &str| roots.look(&format!("{}/{path}", root.display()));

        let source = look("sub/a.jpg").expect("a good file");
        assert_eq!((source.path.as_str(), source.bytes), ("sub/a.jpg", 5));
        for (path, code) in [
            ("../outside", Code::PermissionDenied),
            ("sub/../../outside", Code::PermissionDenied),
            ("link", Code::PermissionDenied),
            ("up/outside", Code::PermissionDenied),
            ("own/deep/file", Code::PermissionDenied),
            ("sub/../own/deep/file", Code::PermissionDenied),
            ("fifo", Code::InvalidArgument),
            ("sub", Code::InvalidArgument),
            ("", Code::InvalidArgument),
            ("none", Code::NotFound),
            ("sub/a.jpg/x", Code::NotFound),
        ] {
            assert_eq!(look(path).expect_err(path).code(), code, "{path}");
        }
        assert_eq!(roots.look("/etc/passwd").expect_err("outside").code(), Code::PermissionDenied);
    }
}
