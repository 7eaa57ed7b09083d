//! Quarantine: frames that killed their stage, kept on disk for people to look at, with their bytes, their story and the
//! stage's last words. Bounded in entries and in bytes; the oldest gives way.
//!
//! ```text
//! STATE/quarantine/FRAME/entry.toml     an [`Entry`]
//! STATE/quarantine/FRAME/frame.bin      the image's bytes, unless they were too many or could not be had
//! STATE/quarantine/.new/, .gone/        an entry half made or half removed: nobody misses it
//! ```

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use framepipe_frame::{ErrorCode, FrameError, RawFrame, Request};
use serde::{Deserialize, Serialize};

use crate::QuarantineConfig;

const NEW: &str = ".new";
const GONE: &str = ".gone";

/// One frame's story.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The frame's number.
    pub frame: u64,
    /// Its name.
    pub name: String,
    /// The stream that its error went to.
    pub stream: String,
    /// Its place in its PushData call.
    pub batch_index: u32,
    /// Where the client had stored it: its path below the inbox.
    pub path: String,
    /// First byte of the image there.
    pub offset: u64,
    /// Bytes of the image.
    pub bytes: u64,
    /// False where the bytes are not kept.
    pub is_kept: bool,
    /// Geometry of a raw frame.
    pub raw: Option<Raw>,
    /// The stage that died of it.
    pub stage: String,
    /// The last process that did.
    pub pid: u32,
    /// How it died.
    pub death: String,
    /// How often one died, working on the frame alone.
    pub attempts: u32,
    /// Seconds since 1970.
    pub unix_s: u64,
    /// The last lines that the process said.
    pub last_words: Vec<String>,
}

/// Geometry of a raw frame, as [`RawFrame`] has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Raw {
    /// A [`framepipe_frame::RawFormat`].
    pub format: u32,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from one row to the next.
    pub stride: u32,
}

impl Entry {
    /// The part of the story that the request tells.
    pub fn of(request: &Request) -> Self {
        let RawFrame { format, width, height, stride } = request.raw;
        Self {
            frame: request.frame,
            name: request.name.as_str().into_owned(),
            stream: request.stream.as_str().into_owned(),
            batch_index: request.batch_index,
            path: request.path.as_str().into_owned(),
            offset: request.offset,
            bytes: request.bytes,
            is_kept: false,
            raw: request.raw.is_raw().then_some(Raw { format, width, height, stride }),
            stage: String::new(),
            pid: 0,
            death: String::new(),
            attempts: 0,
            unix_s: 0,
            last_words: Vec::new(),
        }
    }
}

impl QuarantineConfig {
    /// The answer to a frame that is given up: what died of it, how often, and where to read more.
    pub fn given_up(&self, binary: &str, attempts: u8, frame: u64) -> FrameError {
        let story = match self.entries_max {
            0 => "see the launcher's log (quarantine.entries_max is 0: nothing is kept)".to_owned(),
            _ => format!("see `framepipe quarantine show {frame}`"),
        };
        let message = format!("the frame killed {binary} {attempts} times, worked on alone: {story}");
        FrameError::new(ErrorCode::Poison, message)
    }
}

/// Where the quarantine of a state folder lies.
pub fn folder(state: &Path) -> PathBuf {
    state.join("quarantine")
}

/// The quarantine of an instance.
#[derive(Clone, Debug)]
pub struct Quarantine {
    folder: PathBuf,
}

impl Quarantine {
    /// The quarantine in this state folder.
    pub fn new(state: &Path) -> Self {
        Self { folder: folder(state) }
    }

    /// Where a frame's entry lies.
    pub fn place(&self, frame: u64) -> PathBuf {
        self.folder.join(frame.to_string())
    }

    /// Where a frame's bytes lie, if they are kept.
    pub fn bytes_place(&self, frame: u64) -> PathBuf {
        self.place(frame).join("frame.bin")
    }

    /// Enters a frame; the oldest ones give way. Returns the frames that did.
    ///
    /// # Errors
    /// What the operating system says; the frame was not entered then.
    pub fn enter(&self, mut entry: Entry, bytes: Option<&[u8]>, bounds: &QuarantineConfig) -> io::Result<Vec<u64>> {
        if bounds.entries_max == 0 {
            return Ok(Vec::new());
        }
        let bytes = bytes.filter(|bytes| bytes.len() as u64 <= bounds.bytes_max);
        entry.is_kept = bytes.is_some();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let _lock = self.lock()?;
        let aside = self.folder.join(NEW);
        remove(&aside)?;
        fs::DirBuilder::new().mode(0o700).create(&aside)?;
        let written = Self::write(&aside, &entry, bytes);
        if written.is_err() {
            let _ = remove(&aside); // the reason is the one to tell, and a full disk wants its room back
        }
        written?;
        self.remove_entry(entry.frame)?;
        let dropped = self.make_room(bytes.map_or(0, |bytes| bytes.len() as u64), bounds)?;
        fs::rename(aside, self.place(entry.frame))?;
        Ok(dropped)
    }

    fn write(folder: &Path, entry: &Entry, bytes: Option<&[u8]>) -> io::Result<()> {
        let file = |name: &str, bytes: &[u8]| {
            let mut options = fs::File::options();
            options.write(true).create_new(true).mode(0o600).open(folder.join(name))?.write_all(bytes)
        };
        if let Some(bytes) = bytes {
            file("frame.bin", bytes)?;
        }
        file("entry.toml", toml::to_string(entry).map_err(io::Error::other)?.as_bytes())
    }

    /// Drops the oldest entries until one more, with so many bytes, is within the bounds; and what is no entry.
    fn make_room(&self, bytes: u64, bounds: &QuarantineConfig) -> io::Result<Vec<u64>> {
        for frame in self.frames()? {
            if self.entry(frame).is_none() {
                self.remove_entry(frame)?;
            }
        }
        let mut entries = self.entries()?;
        let mut dropped = Vec::new();
        let kept =
            |entries: &[Entry]| entries.iter().filter(|entry| entry.is_kept).map(|entry| entry.bytes).sum::<u64>();
        while entries.len() >= bounds.entries_max as usize
            || !entries.is_empty() && kept(&entries) + bytes > bounds.bytes_max
        {
            let oldest = entries.remove(0);
            self.remove_entry(oldest.frame)?;
            dropped.push(oldest.frame);
        }
        Ok(dropped)
    }

    fn frames(&self) -> io::Result<Vec<u64>> {
        let names = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names?,
        };
        let mut frames = Vec::new();
        for name in names {
            frames.extend(name?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        Ok(frames)
    }

    /// All entries, the oldest first. What is none is left out.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = self.frames()?.into_iter().filter_map(|frame| self.entry(frame)).collect();
        entries.sort_by_key(|entry| (entry.unix_s, entry.frame));
        Ok(entries)
    }

    /// One entry, if it is there and whole.
    pub fn entry(&self, frame: u64) -> Option<Entry> {
        let text = fs::read_to_string(self.place(frame).join("entry.toml")).ok()?;
        toml::from_str(&text).ok().filter(|entry: &Entry| entry.frame == frame)
    }

    /// Drops an entry, if it is there. Moved aside first: killed meanwhile, it leaves no half of one.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn drop_entry(&self, frame: u64) -> io::Result<()> {
        match self.lock() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()), // there is no quarantine yet
            lock => lock.and_then(|_lock| self.remove_entry(frame)),
        }
    }

    /// The launcher and the commands of the operator write in turn.
    fn lock(&self) -> io::Result<fs::File> {
        let lock = fs::File::open(&self.folder)?;
        lock.lock()?;
        Ok(lock)
    }

    fn remove_entry(&self, frame: u64) -> io::Result<()> {
        let aside = self.folder.join(GONE);
        remove(&aside)?;
        match fs::rename(self.place(frame), &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            moved => moved.and_then(|()| remove(&aside)),
        }
    }
}

/// Removes a folder, or a file in its place, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use framepipe_frame::Text;

    use super::*;

    const BOUNDS: QuarantineConfig = QuarantineConfig { entries_max: 3, bytes_max: 100 };

    fn entry(frame: u64, bytes: u64) -> Entry {
        let name = Text::truncated("a \"hostile\"\n[name]\u{1b}");
        Entry { unix_s: frame, ..Entry::of(&Request { frame, bytes, name, ..Request::zeroed() }) }
    }

    fn frames(quarantine: &Quarantine) -> Vec<u64> {
        quarantine.entries().expect("readable").iter().map(|entry| entry.frame).collect()
    }

    #[test]
    fn an_entry_comes_back_with_its_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let quarantine = Quarantine::new(folder.path());
        assert!(frames(&quarantine).is_empty() && quarantine.entry(7).is_none());
        let said = Entry { last_words: vec!["\u{fffd} = \"x\"".into()], ..entry(7, 5) };
        quarantine.enter(said.clone(), Some(b"12345"), &BOUNDS).expect("entered");
        assert_eq!(quarantine.entry(7), Some(Entry { is_kept: true, ..said }));
        assert_eq!(fs::read(quarantine.bytes_place(7)).expect("kept"), b"12345");
        quarantine.drop_entry(7).expect("dropped");
        assert!(frames(&quarantine).is_empty());
    }

    #[test]
    fn the_oldest_give_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let quarantine = Quarantine::new(folder.path());
        let enter = |frame, bytes: usize| {
            quarantine.enter(entry(frame, bytes as u64), Some(&vec![0; bytes]), &BOUNDS).expect("entered")
        };
        assert_eq!((enter(1, 10), enter(2, 10), enter(3, 10)), (vec![], vec![], vec![]));
        assert_eq!(enter(4, 10), [1], "three entries at most");
        assert_eq!(enter(5, 85), [2, 3], "100 bytes at most");
        assert_eq!(frames(&quarantine), [4, 5]);
        assert_eq!(enter(6, 101), [] as [u64; 0], "too large to be kept at all");
        assert!(!quarantine.entry(6).expect("entered").is_kept);
        assert!(!quarantine.bytes_place(6).exists());
    }

    #[test]
    fn what_a_death_left_half_made_is_no_entry() {
        let folder = tempfile::tempdir().expect("a folder");
        let quarantine = Quarantine::new(folder.path());
        fs::create_dir_all(folder.path().join("quarantine/.new/frame.bin")).expect("made");
        fs::create_dir_all(quarantine.place(9)).expect("made");
        fs::write(quarantine.place(9).join("entry.toml"), "frame = 9\n").expect("written");
        fs::write(quarantine.place(10), "a file").expect("written");
        assert!(frames(&quarantine).is_empty());
        quarantine.enter(entry(11, 1), Some(b"1"), &BOUNDS).expect("entered");
        assert_eq!(frames(&quarantine), [11]);
        let left = fs::read_dir(folder.path().join("quarantine")).expect("there").count();
        assert_eq!(left, 1, "what was no entry is gone");
    }

    #[test]
    fn a_frame_that_is_entered_again_takes_its_own_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let quarantine = Quarantine::new(folder.path());
        for frame in [1, 2, 3, 3] {
            quarantine.enter(entry(frame, 30), Some(&[0; 30]), &BOUNDS).expect("entered");
        }
        assert_eq!(frames(&quarantine), [1, 2, 3]);
    }

    #[test]
    fn none_are_kept_where_none_are_wanted() {
        let folder = tempfile::tempdir().expect("a folder");
        let quarantine = Quarantine::new(folder.path());
        let none = QuarantineConfig { entries_max: 0, bytes_max: 100 };
        quarantine.enter(entry(1, 1), Some(b"1"), &none).expect("nothing to do");
        assert!(frames(&quarantine).is_empty());
    }
}
