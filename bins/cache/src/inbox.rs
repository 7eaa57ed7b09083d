//! Clients' files in tmpfs, removed for their age: what nobody collects is memory that nobody has. A file stays that was changed
//! or opened meanwhile, by a push or by anybody, or that a frame in flight names. A client that pushes a file at the moment of
//! its removal has kept it too long: the frame's error says that the file is gone.

use std::{
    collections::HashSet,
    ffi::CString,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use framepipe_cache::{Area, Count};
use framepipe_pipeline::Config;
use framepipe_shm::Segment;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstatfs, openat, statat, unlinkat};

use crate::{
    jobs,
    opened::{Opened, Watch},
};

/// Of one pass: entries that are looked at, and how deep folders may lie below an inbox.
const ENTRIES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 8;
/// Passes in a file's life, and the least time between two.
const PASSES: u64 = 10;
const PASS_LEAST: Duration = Duration::from_secs(1);

/// The inboxes whose files are removed.
pub struct Inbox {
    folders: Vec<PathBuf>,
    ttl: Duration,
    next: Instant,
    /// None where no file is removed.
    opened: Option<Opened>,
}

/// A file that is old enough.
struct Old {
    folder: Rc<OwnedFd>,
    watch: Watch,
    name: CString,
    identity: (u64, u64),
}

impl Inbox {
    /// Of a configuration; says which inboxes are never touched.
    pub fn new(config: &Config) -> Self {
        let own = config.own_folders();
        let ttl = Duration::from_secs(config.cache.inbox_ttl_s);
        let of_memory = |folder: &&PathBuf| {
            let why = match why_not(folder, &own) {
                None => return true,
                Some(why) => why,
            };
            tracing::warn!("files in {} stay, whatever cache.inbox_ttl_s says: {why}", folder.display());
            false
        };
        let inboxes = config.server.inbox.iter().filter(|_| !ttl.is_zero());
        Self::of(inboxes.filter(of_memory).cloned().collect(), ttl)
    }

    fn of(folders: Vec<PathBuf>, ttl: Duration) -> Self {
        let mut inbox = Self { folders, ttl, next: Instant::now(), opened: None };
        if !inbox.folders.is_empty() {
            let cannot =
                |error| tracing::warn!("no file of an inbox is removed: inotify cannot tell what is used: {error}");
            inbox.opened = Opened::new().map_err(cannot).ok();
        }
        inbox
    }

    /// Hears what is used, and removes what is old, where it is time to.
    pub fn pass_when_due(&mut self, area: &Area, segment: &Segment) {
        let Some(opened) = &mut self.opened else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        opened.hear(now);
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + PASS_LEAST.max(self.ttl / PASSES as u32);
        let removed = self.pass(segment, now);
        area.count(Count::InboxExpired, removed);
        if removed > 0 {
            tracing::info!("{removed} files that nobody used for {} s were removed from the inbox", self.ttl.as_secs());
        }
    }

    fn pass(&mut self, segment: &Segment, now: Duration) -> u64 {
        let (Some(opened), Some(before)) = (&mut self.opened, now.checked_sub(self.ttl)) else { return 0 };
        opened.forget(before);
        let mut walk = Walk { before, now, left: ENTRIES_MAX, old: Vec::new(), opened };
        for folder in &self.folders {
            if let Ok(folder) = open_folder(CWD, folder.as_path()) {
                walk.folder(folder, 0);
            }
        }
        let Walk { old, opened, .. } = walk;
        if old.is_empty() {
            return 0;
        }
        // First the files, then who uses and names them.
        opened.hear(now);
        let requests = jobs::all(segment).map(|job| jobs::request(&job.view));
        let named: HashSet<(u64, u64)> =
            requests.map(|request| (request.source_device, request.source_inode)).collect();
        let is_unused = |old: &Old| opened.is_unused(old.watch, &old.name, before) && !named.contains(&old.identity);
        old.into_iter().filter(|old| is_unused(old) && old.remove(before)).count() as u64
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

struct Walk<'a> {
    before: Duration,
    now: Duration,
    left: usize,
    old: Vec<Old>,
    opened: &'a mut Opened,
}

impl Walk<'_> {
    /// What cannot be read, or watched, stays.
    fn folder(&mut self, folder: OwnedFd, depth: usize) {
        let folder = Rc::new(folder);
        let Some(watch) = self.opened.watch(folder.as_fd(), self.now) else { return };
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
                    let (folder, name) = (folder.clone(), name.to_owned());
                    self.old.push(Old { folder, watch, name, identity: identity(&stat) });
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
fn why_not(folder: &Path, own: &[PathBuf]) -> Option<String> {
    let found = open_folder(CWD, folder).and_then(|folder| fstatfs(&folder));
    match found {
        Err(error) => return Some(format!("it cannot be opened: {error}")),
        Ok(found) if found.f_type != libc::TMPFS_MAGIC => return Some("it lies in no tmpfs".into()),
        Ok(_) => {}
    }
    let folder = whole(folder);
    let is_around = |own: &&PathBuf| whole(own).starts_with(&folder) || folder.starts_with(whole(own));
    own.iter().find(is_around).map(|own| format!("framepipe's own {} lies there", own.display()))
}

/// A path without symlinks and `..`, as far as its folder is there yet.
fn whole(path: &Path) -> PathBuf {
    let of_missing = || Some(whole(path.parent()?).join(path.file_name()?));
    fs::canonicalize(path).ok().or_else(of_missing).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use bytemuck::Zeroable as _;
    use framepipe_frame::Request;

    use super::*;
    use crate::bench::Bench;

    const TTL: Duration = Duration::from_secs(600);

    fn now() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("read").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = entries.map(|name| name.into_string().expect("UTF-8")).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn old_files_go_and_new_ones_named_ones_folders_and_links_stay() {
        let bench = Bench::new(8);
        let memory = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let (folder, outside) = (memory.path().join("inbox"), memory.path().join("outside"));
        [&folder, &folder.join("below"), &outside].iter().for_each(|folder| fs::create_dir(folder).expect("made"));
        let outside = [outside.join("file"), outside.clone()];
        fs::write(&outside[0], "x").expect("written");
        symlink(&outside[0], folder.join("link")).expect("linked");
        symlink(&outside[1], folder.join("linked-folder")).expect("linked");
        for name in ["old", "below/old", "named"] {
            fs::write(folder.join(name), "x").expect("written");
        }
        let named = fs::metadata(folder.join("named")).expect("it is there");
        bench.accept(&Request { source_device: named.dev(), source_inode: named.ino(), ..Request::zeroed() });
        let mut inbox = Inbox::of(vec![folder.clone()], TTL);
        let start = now();
        assert_eq!(inbox.pass(&bench.segment, start), 0, "they are new");
        assert_eq!(inbox.pass(&bench.segment, start + TTL / 2), 0);
        assert_eq!(inbox.pass(&bench.segment, now() + 2 * TTL), 2);
        assert_eq!(inbox.pass(&bench.segment, now() + 3 * TTL), 0);
        assert_eq!(names(&folder), ["below", "link", "linked-folder", "named"]);
        assert!(names(&folder.join("below")).is_empty() && outside[0].exists());
    }

    #[test]
    fn a_file_that_is_pushed_again_and_again_stays_until_nobody_pushes_it_any_more() {
        let bench = Bench::new(8);
        let memory = tempfile::tempdir_in("/dev/shm").expect("a folder");
        ["old", "pushed"].iter().for_each(|name| fs::write(memory.path().join(name), "x").expect("written"));
        let mut inbox = Inbox::of(vec![memory.path().to_owned()], TTL);
        let start = now();
        assert_eq!(inbox.pass(&bench.segment, start), 0, "from now on it is known what is opened");
        let mut removed = 0;
        for half in 1..=6 {
            drop(fs::File::open(memory.path().join("pushed")).expect("it is there"));
            removed += inbox.pass(&bench.segment, start + half * TTL / 2 + Duration::from_secs(60));
        }
        assert_eq!((removed, names(memory.path())), (1, vec!["pushed".to_owned()]));
        assert_eq!(inbox.pass(&bench.segment, start + 6 * TTL), 1);
    }

    #[test]
    fn a_file_is_as_old_as_its_newest_change() {
        let memory = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let path = memory.path().join("file");
        let file = fs::File::create(&path).expect("made");
        let now = now();
        let hour = Duration::from_secs(3600);
        let stat = || statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).expect("it is there");
        assert!(is_old(&stat(), now + hour) && !is_old(&stat(), now - hour));
        file.set_modified(SystemTime::now() - 2 * hour).expect("set");
        assert!(!is_old(&stat(), now - hour), "somebody has just changed its time");
        file.set_modified(SystemTime::now() + 2 * hour).expect("set");
        assert!(!is_old(&stat(), now + hour));
    }

    #[test]
    fn an_inbox_on_disk_or_around_what_is_framepipes_is_never_touched() {
        let [memory, disk] = ["/dev/shm", "/var/tmp"].map(|folder| tempfile::tempdir_in(folder).expect("a folder"));
        let inbox = memory.path().join("inbox");
        fs::create_dir(&inbox).expect("made");
        symlink(&inbox, memory.path().join("link")).expect("linked");
        let text = format!(
            "[pipeline]\ndetector = \"x\"\n[paths]\nshm = \"{0}/shm\"\nstate = \"{0}/state\"\nrun = \"{0}/run\"\n\
             models = \"{0}/models\"\n",
            memory.path().display()
        );
        let config = Config::parse(&text, Path::new("/x.toml"), &Default::default()).expect("it is good");
        let own = config.own_folders();
        assert_eq!(why_not(&inbox, &own), None);
        assert_eq!(why_not(disk.path(), &own), Some("it lies in no tmpfs".into()));
        assert!(why_not(&inbox.join("missing"), &own).is_some());
        for own in own {
            let why = Some(format!("framepipe's own {} lies there", own.display()));
            assert_eq!(why_not(memory.path(), &[own]), why, "it is not there yet, and will lie there");
        }
        for own in [inbox.join("state/journal"), memory.path().join("link/x"), memory.path().to_owned()] {
            assert!(why_not(&inbox, std::slice::from_ref(&own)).is_some(), "{}", own.display());
        }
    }
}
