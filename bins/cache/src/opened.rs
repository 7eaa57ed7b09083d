//! When files of watched folders were last opened, as the kernel tells (inotify): a push opens its file, and changes nothing of it
//! that would be seen afterwards. What is not known counts as opened just now.

use std::{
    collections::HashMap,
    ffi::CStr,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

/// Folders that are watched, and files that are remembered.
const FOLDERS_MAX: usize = 1024;
const FILES_MAX: usize = 100_000;
/// Of one hearing: more than the kernel holds back.
const EVENTS_MAX: usize = 1 << 16;
/// Room for some hundred events.
const BUFFER_BYTES: usize = 32 << 10;

/// A watched folder.
pub type Watch = i32;

/// What was opened. Times are those of the caller's clock.
pub struct Opened {
    inotify: OwnedFd,
    buffer: Vec<MaybeUninit<u8>>,
    /// Since when nothing that was opened in a folder was missed.
    since: HashMap<Watch, Duration>,
    /// By the hash of folder and name: two files that share one are both spared for longer.
    last: HashMap<u64, Duration>,
}

impl Opened {
    /// With no folder.
    ///
    /// # Errors
    /// Where the user's limit of inotify instances is reached.
    pub fn new() -> rustix::io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES];
        Ok(Self { inotify, buffer, since: HashMap::new(), last: HashMap::new() })
    }

    /// Watches a folder from now on, or goes on to. `None`: too many are watched.
    pub fn watch(&mut self, folder: BorrowedFd<'_>, now: Duration) -> Option<Watch> {
        let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
        let told = WatchFlags::OPEN | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::ONLYDIR;
        let watch = inotify::add_watch(&self.inotify, path, told).ok()?;
        if self.since.len() >= FOLDERS_MAX && !self.since.contains_key(&watch) {
            let _ = inotify::remove_watch(&self.inotify, watch); // it was there a moment ago
            return None;
        }
        self.since.entry(watch).or_insert(now);
        Some(watch)
    }

    /// Hears what was opened until now.
    pub fn hear(&mut self, now: Duration) {
        let Self { inotify, buffer, since, last } = self;
        let mut events = Reader::new(&*inotify, buffer);
        let mut is_missed = false;
        for _ in 0..EVENTS_MAX {
            let Ok(event) = events.next() else { break };
            let (watch, told) = (event.wd(), event.events());
            is_missed |= told.contains(ReadFlags::QUEUE_OVERFLOW);
            if told.contains(ReadFlags::IGNORED) {
                since.remove(&watch); // the folder is gone
            }
            let Some(name) = event.file_name().filter(|_| !told.contains(ReadFlags::ISDIR)) else { continue };
            if told.contains(ReadFlags::OPEN) {
                last.insert(key(watch, name), now);
                is_missed |= last.len() > FILES_MAX;
            } else {
                last.remove(&key(watch, name));
            }
            if is_missed {
                last.clear();
            }
        }
        if is_missed {
            since.values_mut().for_each(|since| *since = now);
        }
    }

    /// True where a file is known not to have been opened since.
    pub fn is_unused(&self, watch: Watch, name: &CStr, before: Duration) -> bool {
        let is_before = |time: &Duration| *time < before;
        self.since.get(&watch).is_some_and(is_before) && self.last.get(&key(watch, name)).is_none_or(is_before)
    }

    /// Forgets what was opened so long ago.
    pub fn forget(&mut self, before: Duration) {
        self.last.retain(|_, time| *time >= before);
    }
}

fn key(watch: Watch, name: &CStr) -> u64 {
    let mut hasher = DefaultHasher::new();
    (watch, name).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd as _, path::Path};

    use super::*;

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn what_was_opened_is_known_until_it_is_removed_or_forgotten() {
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let path = |name: &str| folder.path().join(name);
        ["old", "used"].iter().for_each(|name| fs::write(path(name), "x").expect("written"));
        let opened_folder = fs::File::open(folder.path()).expect("opened");
        let mut opened = Opened::new().expect("there is an instance");
        let watch = opened.watch(opened_folder.as_fd(), at(10)).expect("watched");
        let unused = |opened: &Opened, before| [c"old", c"used"].map(|name| opened.is_unused(watch, name, at(before)));
        assert_eq!(unused(&opened, 10), [false, false], "who knows what was before?");
        assert_eq!(unused(&opened, 11), [true, true]);
        fs::read(path("used")).expect("read");
        opened.hear(at(20));
        assert_eq!((unused(&opened, 20), unused(&opened, 21)), ([true, false], [true, true]));
        opened.forget(at(20));
        assert_eq!(opened.last.len(), 1);
        fs::remove_file(path("used")).expect("removed");
        opened.hear(at(21));
        assert_eq!((opened.last.len(), opened.watch(opened_folder.as_fd(), at(30))), (0, Some(watch)));
        assert_eq!(unused(&opened, 11), [true, true], "it was watched all the time");
        fs::remove_dir_all(folder.path()).expect("removed");
        opened.hear(at(31));
        drop(opened_folder);
        opened.hear(at(31));
        assert!(opened.since.is_empty());
    }

    #[test]
    fn more_than_can_be_remembered_counts_as_all_opened_just_now() {
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let opened_folder = fs::File::open(folder.path()).expect("opened");
        let mut opened = Opened::new().expect("there is an instance");
        let watch = opened.watch(opened_folder.as_fd(), at(10)).expect("watched");
        opened.last.extend((0..FILES_MAX as u64).map(|key| (key, at(10))));
        fs::write(Path::new(folder.path()).join("one more"), "x").expect("written");
        opened.hear(at(20));
        assert_eq!((opened.last.len(), opened.since[&watch]), (0, at(20)));
        assert!(!opened.is_unused(watch, c"another", at(20)) && opened.is_unused(watch, c"another", at(21)));
    }
}
