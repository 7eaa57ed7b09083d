//! Clients' files in tmpfs, removed for their age: what nobody collects is memory that nobody has. Files of frames in flight
//! stay, however old they are. A client that pushes a file at the moment of its removal has kept it too long: the frame's
//! error says that the file is gone.

use std::{
    collections::HashSet,
    ffi::CString,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use framepipe_cache::{Area, Count};
use framepipe_pipeline::{Config, say};
use framepipe_shm::Segment;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstatfs, openat, statat, unlinkat};

use crate::jobs;

/// Of one pass: entries that are looked at, and how deep folders may lie below an inbox.
const ENTRIES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 8;
/// Passes in a file's life, and the least time between two.
const PASSES: u64 = 10;
const PASS_LEAST: Duration = Duration::from_secs(1);
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// The inboxes whose files are removed.
pub struct Inbox {
    folders: Vec<PathBuf>,
    ttl: Duration,
    next: Instant,
}

/// A file that is old enough.
struct Old {
    folder: std::rc::Rc<OwnedFd>,
    name: CString,
    identity: (u64, u64),
}

impl Inbox {
    /// Of a configuration; says which inboxes are never touched.
    pub fn new(config: &Config, segment: &Path) -> Self {
        let ttl = Duration::from_secs(config.cache.inbox_ttl_s);
        let of_memory = |folder: &&PathBuf| {
            let why = match why_not(folder, segment) {
                None => return true,
                Some(why) => why,
            };
            say!("keeper: files in {} stay, whatever cache.inbox_ttl_s says: {why}", folder.display());
            false
        };
        let inboxes = config.server.inbox.iter().filter(|_| !ttl.is_zero());
        Self { folders: inboxes.filter(of_memory).cloned().collect(), ttl, next: Instant::now() }
    }

    /// Removes what is old, where it is time to.
    pub fn pass_when_due(&mut self, area: &Area, segment: &Segment) {
        let now = Instant::now();
        if self.folders.is_empty() || now < self.next {
            return;
        }
        self.next = now + PASS_LEAST.max(self.ttl / PASSES as u32);
        let removed = self.pass(segment);
        area.count(Count::InboxExpired, removed);
        if removed > 0 {
            say!("keeper: {removed} files that lay in the inbox for {} s and longer were removed", self.ttl.as_secs());
        }
    }

    fn pass(&self, segment: &Segment) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Some(before) = now.checked_sub(self.ttl) else { return 0 };
        let mut walk = Walk { before, left: ENTRIES_MAX, old: Vec::new() };
        for folder in &self.folders {
            if let Ok(folder) = open_folder(CWD, folder.as_path()) {
                walk.folder(folder, 0);
            }
        }
        if walk.old.is_empty() {
            return 0;
        }
        // First the files, then who names them.
        let requests = jobs::all(segment).map(|job| jobs::request(&job.view));
        let named: HashSet<(u64, u64)> =
            requests.map(|request| (request.source_device, request.source_inode)).collect();
        let old = walk.old.into_iter().filter(|old| !named.contains(&old.identity) && old.remove(before));
        old.count() as u64
    }
}

impl Old {
    /// Removes it, if it still is what it was.
    fn remove(&self, before: Duration) -> bool {
        let now = statat(&*self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        let is_it = now.is_ok_and(|stat| is_old(&stat, before) && identity(&stat) == self.identity);
        is_it && unlinkat(&*self.folder, &self.name, AtFlags::empty()).is_ok()
    }
}

struct Walk {
    before: Duration,
    left: usize,
    old: Vec<Old>,
}

impl Walk {
    /// What cannot be read, stays.
    fn folder(&mut self, folder: OwnedFd, depth: usize) {
        let folder = std::rc::Rc::new(folder);
        let Ok(entries) = Dir::read_from(&*folder) else { return };
        let mut below = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Some(left) = self.left.checked_sub(1) else { return };
            self.left = left;
            let Ok(stat) = statat(&*folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if depth < DEPTH_MAX => below.push(name.to_owned()),
                FileType::RegularFile if is_old(&stat, self.before) => {
                    self.old.push(Old { folder: folder.clone(), name: name.to_owned(), identity: identity(&stat) });
                }
                _ => {}
            }
        }
        for name in below {
            if let Ok(below) = open_folder(folder.as_fd(), &name) {
                self.folder(below, depth + 1);
            }
        }
    }
}

fn open_folder(below: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(below, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// True where neither content nor name, rights or owner have changed since.
fn is_old(stat: &Stat, before: Duration) -> bool {
    let before = (before.as_secs() as i64, i64::from(before.subsec_nanos()));
    let times = [(stat.st_mtime, stat.st_mtime_nsec as i64), (stat.st_ctime, stat.st_ctime_nsec as i64)];
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && times.iter().all(|time| *time < before)
}

/// Why no file of an inbox is removed.
fn why_not(folder: &Path, segment: &Path) -> Option<String> {
    let found = open_folder(CWD, folder).and_then(|folder| fstatfs(&folder));
    match found {
        Err(error) => return Some(format!("it cannot be opened: {error}")),
        Ok(found) if found.f_type != TMPFS_MAGIC => return Some("it lies in no tmpfs".into()),
        Ok(_) => {}
    }
    let whole = |path: &Path| fs::canonicalize(path);
    let holds_segment = match (whole(folder), whole(segment)) {
        (Ok(folder), Ok(segment)) => segment.starts_with(folder),
        _ => true,
    };
    holds_segment.then(|| "the pipeline's own memory lies below it".into())
}
