//! The journal: its directory, and the table of its streams.

use crate::{
    JournalError, Kept, OpenReport, Options, Record, StreamId, Totals, lock,
    memory::{Memory, free_bytes},
    position::Position,
    recover::{last_written, open_stream},
    stream::{Frames, Stream, unix_s},
};
use framepipe_shm::FileLock;
use std::{
    collections::HashMap,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A folder with this prefix is a stream half made or half removed: nobody misses it. No stream id has a dot.
const PARTIAL: &str = ".partial-";

/// All streams of one journal directory. See the crate's page for the life of a record.
#[derive(Debug)]
pub struct Journals {
    /// DIR/streams.
    folder: PathBuf,
    options: Options,
    memory: Memory,
    streams: HashMap<StreamId, Stream>,
    frames: Frames,
    /// Frames with a reservation, of all streams.
    reserved_frames: u64,
    /// No dropped stream gave out a sequence above this one, and every new stream begins behind it: a sequence never
    /// comes back under the same name.
    floor: Position,
    /// Scratch space of the appends.
    buffer: Vec<u8>,
    /// Counts what is done to streams, to find the one that is idle longest.
    clock: u64,
    _lock: FileLock,
}

impl Journals {
    /// Opens the journal in `dir`, with the part of it in `memory`, a folder in tmpfs; makes it where there is none, and
    /// repairs what a death left. Nothing is visible until it is published. All that is kept is read; `beat` is called
    /// again and again meanwhile, as a sign of life.
    ///
    /// # Errors
    /// [`JournalError::Options`], [`JournalError::Locked`], [`JournalError::Version`], [`JournalError::Io`]. Damaged
    /// records are no error, but part of the report.
    pub fn open(
        dir: &Path,
        memory: &Path,
        options: Options,
        beat: impl Fn(),
    ) -> Result<(Self, OpenReport), JournalError> {
        options.check()?;
        let folder = dir.join("streams");
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(dir).map_err(JournalError::io("make", dir))?;
        let lock = lock::take(dir)?;
        builder.create(&folder).map_err(JournalError::io("make", &folder))?;
        let mut memory = Memory::open(memory, dir, &folder, options.memory_bytes_max)?;
        let (mut floor, damaged) = Position::open(dir.join("floor"), 0)?;
        let memory_is_full = options.memory_bytes_max > 0 && !memory.is_there();
        let mut report = OpenReport { memory_is_full, ..OpenReport::default() };
        let mut opened = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(JournalError::io("list", &folder))? {
            let path = entry.map_err(JournalError::io("list", &folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(PARTIAL) {
                std::fs::remove_dir_all(&path).map_err(JournalError::io("remove", &path))?;
            } else if let Ok(id) = StreamId::new(name)
                && path.is_dir()
            {
                let in_memory = memory.of(&id);
                let mut stream = open_stream(id, path, in_memory, floor.sequence(), &mut report, &beat)?;
                memory.used += stream.memory_bytes();
                stream.delete_forgotten_segments(&mut memory)?;
                opened.push((last_written(&stream), stream));
            }
        }
        if damaged > 0 {
            raise(&mut floor, opened.iter().map(|(_, stream)| stream))?;
            report.floor_damage = Some(dir.join("floor"));
        }
        memory.remove_strays(|name| opened.iter().any(|(_, stream)| stream.id.as_str() == name))?;
        opened.sort_by_key(|(written, _)| *written);
        let mut this = Self {
            folder,
            options,
            memory,
            streams: HashMap::new(),
            frames: Frames::new(),
            reserved_frames: 0,
            floor,
            buffer: Vec::new(),
            clock: 0,
            _lock: lock,
        };
        for (_, mut stream) in opened {
            this.clock += 1;
            stream.used = this.clock;
            this.frames.extend(stream.kept.iter().map(|entry| (entry.run, entry.frame)));
            this.streams.insert(stream.id.clone(), stream);
        }
        Ok((this, report))
    }

    /// The names of all streams, in no order.
    pub fn stream_ids(&self) -> impl Iterator<Item = &StreamId> {
        self.streams.keys()
    }

    /// True where a kept record, visible or not, belongs to this frame.
    pub fn contains(&self, run: u64, frame: u64) -> bool {
        self.frames.contains(&(run, frame))
    }

    /// Makes a stream, where it does not exist. At the limit on streams, those that are idle longest give way, if
    /// they keep no record, have no reservation and are not `held`; their names are returned.
    ///
    /// A new stream begins behind the last sequence of every stream that was ever dropped, with 1 where none was. So a
    /// name that comes back never repeats a sequence, and who resumes it with a position from before acknowledges
    /// nothing.
    ///
    /// # Errors
    /// [`JournalError::StreamsFull`], where no stream can give way; [`JournalError::Io`].
    pub fn create_stream(
        &mut self,
        stream: &StreamId,
        held: impl Fn(&StreamId) -> bool,
    ) -> Result<Vec<StreamId>, JournalError> {
        if self.streams.contains_key(stream) {
            return Ok(Vec::new());
        }
        let surplus = (self.streams.len() + 1).saturating_sub(self.options.streams_max);
        let free = |one: &&Stream| one.kept.is_empty() && one.reserved_frames == 0 && !held(&one.id);
        let mut idle: Vec<_> = self.streams.values().filter(free).map(|one| (one.used, one.id.clone())).collect();
        if idle.len() < surplus {
            return Err(JournalError::StreamsFull { limit: self.options.streams_max });
        }
        idle.sort_unstable();
        let dropped: Vec<_> = idle.into_iter().take(surplus).map(|(_, id)| id).collect();
        // Before the first is dropped: killed between the two, no harm is done.
        raise(&mut self.floor, dropped.iter().map(|id| &self.streams[id]))?;
        for id in &dropped {
            self.drop_stream(id)?;
        }
        let mut made = self.make_stream(stream)?;
        self.clock += 1;
        made.used = self.clock;
        self.streams.insert(stream.clone(), made);
        Ok(dropped)
    }

    /// Looks whether there is room for the results of `frames` more frames: within the stream's limit, and on the disk and in
    /// memory, beside that of all frames in flight. A stream that does not exist is an empty one.
    ///
    /// # Errors
    /// [`JournalError::NoRoom`], [`JournalError::DiskFull`].
    pub fn check_room(&self, stream: &StreamId, frames: u32) -> Result<(), JournalError> {
        let (options, record_bytes_max) = (&self.options, self.options.record_bytes_max());
        let needed = u64::from(frames) * record_bytes_max;
        match self.streams.get(stream) {
            Some(stream) => stream.check_room(frames, options)?,
            None if needed > options.stream_bytes_max => {
                let (stream, limit) = (stream.clone(), options.stream_bytes_max);
                return Err(JournalError::NoRoom { stream, frames, limit, kept: 0, reserved: 0 });
            }
            None => {}
        }
        let reserved = self.reserved_frames * record_bytes_max;
        let on_disk = free_bytes(&self.folder).map_err(JournalError::io("examine", &self.folder))?;
        if needed <= on_disk.saturating_sub(reserved) {
            return Ok(());
        }
        let free = on_disk.saturating_add(self.memory.left_beside_disk()).saturating_sub(reserved);
        if needed > free {
            return Err(JournalError::DiskFull { folder: self.folder.clone(), frames, needed, free });
        }
        Ok(())
    }

    /// Reserves room for the results of `frames` frames that are to be accepted: all of them or none. What is reserved is a
    /// sum in the books, no block of the disk: another program can still fill it.
    ///
    /// # Errors
    /// As [`Journals::check_room`]; [`JournalError::NoSuchStream`].
    pub fn reserve(&mut self, stream: &StreamId, frames: u32) -> Result<(), JournalError> {
        self.check_room(stream, frames)?;
        self.reserve_accepted(stream, frames)
    }

    /// Reserves room for frames that a former process accepted: they are owed it, whatever the limit is now.
    ///
    /// # Errors
    /// [`JournalError::NoSuchStream`].
    pub fn reserve_accepted(&mut self, stream: &StreamId, frames: u32) -> Result<(), JournalError> {
        self.written(stream)?.reserved_frames += u64::from(frames);
        self.reserved_frames += u64::from(frames);
        Ok(())
    }

    /// Gives back the reservation of frames that were not accepted after all.
    ///
    /// # Errors
    /// [`JournalError::NoSuchStream`].
    pub fn release(&mut self, stream: &StreamId, frames: u32) -> Result<(), JournalError> {
        let stream = self.written(stream)?;
        stream.reserved_frames = stream.reserved_frames.saturating_sub(u64::from(frames));
        self.reserved_frames = self.reserved_frames.saturating_sub(u64::from(frames));
        Ok(())
    }

    /// Appends the result of a frame, consuming one reservation, and returns its sequence. It is not visible yet. It
    /// is never refused for the limits' sake: that was settled when the frame was accepted.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`]; [`JournalError::Duplicate`]; [`JournalError::NoSuchStream`];
    /// [`JournalError::Io`], on a full disk for example: nothing was appended, and the call may be repeated.
    pub fn append(&mut self, stream: &StreamId, run: u64, frame: u64, payload: &[u8]) -> Result<u64, JournalError> {
        let (bytes, limit) = (payload.len(), self.options.result_bytes_max);
        if bytes > limit as usize {
            return Err(JournalError::TooLarge { bytes, limit });
        }
        if self.contains(run, frame) {
            return Err(JournalError::Duplicate { run, frame });
        }
        self.clock += 1;
        let Self { streams, options, memory, buffer, frames, reserved_frames, clock, .. } = self;
        let found = streams.get_mut(stream).ok_or_else(|| JournalError::NoSuchStream { stream: stream.clone() })?;
        found.used = *clock;
        let before = found.reserved_frames;
        let sequence = found.append(buffer, options, memory, (run, frame), payload)?;
        *reserved_frames = reserved_frames.saturating_sub(before - found.reserved_frames);
        frames.insert((run, frame));
        Ok(sequence)
    }

    /// Drops the visible records that are older than the retention, and tells how many those were of each stream that lost
    /// some.
    ///
    /// # Errors
    /// [`JournalError::Io`], the first of them: one stream's fault is no other's, and what was told of is dropped.
    pub fn expire(&mut self, now: SystemTime, mut tell: impl FnMut(&StreamId, usize)) -> Result<(), JournalError> {
        let retention_s = self.options.retention.as_secs();
        if retention_s == 0 {
            return Ok(());
        }
        let before = unix_s(now).saturating_sub(retention_s);
        let Self { streams, frames, memory, .. } = self;
        let expire = |stream: &mut Stream| stream.expire(before, frames, memory, &mut tell);
        try_all(streams.values_mut().map(expire))
    }

    /// The first and the last sequence that a reader behind `after` has missed, because they were dropped for their age.
    ///
    /// # Errors
    /// [`JournalError::NoSuchStream`].
    pub fn gap(&self, stream: &StreamId, after: u64) -> Result<Option<(u64, u64)>, JournalError> {
        Ok(self.stream(stream)?.gap(after))
    }

    /// Moves what lies in memory to the disk, for an end that is not a death: the last call before the journal is dropped.
    /// `beat` is called again and again meanwhile.
    ///
    /// # Errors
    /// [`JournalError::Io`], the first of them, on a full disk for example: what is not on disk stays in memory, where the
    /// next opening finds it.
    pub fn close(&mut self, beat: impl Fn()) -> Result<(), JournalError> {
        let Self { streams, memory, .. } = self;
        try_all(streams.values_mut().map(|stream| stream.move_to_disk(memory, &beat)))?;
        memory.remove()
    }

    /// Makes all appended records visible; their jobs must be free. Returns the last visible sequence.
    ///
    /// # Errors
    /// [`JournalError::NoSuchStream`].
    pub fn publish(&mut self, stream: &StreamId) -> Result<u64, JournalError> {
        let stream = self.written(stream)?;
        stream.publish();
        Ok(stream.visible)
    }

    /// The last visible sequence, also when it is acknowledged; the one before the stream's first for none.
    ///
    /// # Errors
    /// [`JournalError::NoSuchStream`].
    pub fn visible_until(&self, stream: &StreamId) -> Result<u64, JournalError> {
        Ok(self.stream(stream)?.visible)
    }

    /// Reads visible, kept records behind `after`: at most `records_max`, and as many as have `bytes_max` bytes of
    /// payload together, but at least one if there is any.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] for the first record of the answer: the next call can go on behind it;
    /// [`JournalError::NoSuchStream`]; [`JournalError::Io`].
    pub fn read(
        &self,
        stream: &StreamId,
        after: u64,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, JournalError> {
        self.stream(stream)?.read(after, records_max, bytes_max)
    }

    /// Forgets the records up to `sequence`. What is acknowledged stays so after a death; a lower sequence than
    /// before, or than the stream's first, changes nothing.
    ///
    /// # Errors
    /// [`JournalError::NotPublished`]; [`JournalError::NoSuchStream`]; [`JournalError::Io`], where the position
    /// cannot be stored, or where it is stored but an old segment cannot be deleted: a later call tries that again.
    pub fn acknowledge(&mut self, stream: &StreamId, sequence: u64) -> Result<(), JournalError> {
        self.clock += 1;
        let Self { streams, frames, memory, clock, .. } = self;
        let found = streams.get_mut(stream).ok_or_else(|| JournalError::NoSuchStream { stream: stream.clone() })?;
        found.used = *clock;
        found.acknowledge(sequence, frames, memory)
    }

    /// What the stream holds.
    ///
    /// # Errors
    /// [`JournalError::NoSuchStream`].
    pub fn kept(&self, stream: &StreamId) -> Result<Kept, JournalError> {
        Ok(self.stream(stream)?.kept())
    }

    /// What all streams hold together.
    pub fn totals(&self) -> Totals {
        let mut totals =
            Totals { streams: self.streams.len() as u64, memory_bytes: self.memory.used, ..Totals::default() };
        for Kept { records, bytes, reserved_frames } in self.streams.values().map(Stream::kept) {
            totals.records += records;
            totals.bytes += bytes;
            totals.fullest_bytes = totals.fullest_bytes.max(bytes);
            totals.reserved_frames += reserved_frames;
        }
        totals
    }

    fn stream(&self, stream: &StreamId) -> Result<&Stream, JournalError> {
        self.streams.get(stream).ok_or_else(|| JournalError::NoSuchStream { stream: stream.clone() })
    }

    /// The stream, as one that is not idle.
    fn written(&mut self, stream: &StreamId) -> Result<&mut Stream, JournalError> {
        self.clock += 1;
        let found = self.streams.get_mut(stream);
        let found = found.ok_or_else(|| JournalError::NoSuchStream { stream: stream.clone() })?;
        found.used = self.clock;
        Ok(found)
    }

    /// Makes a stream's files aside, and then puts them in their place at once: half of them would be another stream.
    fn make_stream(&self, stream: &StreamId) -> Result<Stream, JournalError> {
        let (aside, place) = (self.aside(stream)?, self.folder.join(stream.as_str()));
        DirBuilder::new().mode(0o700).create(&aside).map_err(JournalError::io("make", &aside))?;
        if let Some(left) = self.memory.of(stream) {
            remove_all(&left)?; // of a dropped stream of this name, whose folder could not be removed then
        }
        let floor = self.floor.sequence();
        let made = open_stream(stream.clone(), aside.clone(), None, floor, &mut OpenReport::default(), &|| ());
        let moved = made.and_then(|_| std::fs::rename(&aside, &place).map_err(JournalError::io("rename", &aside)));
        moved.inspect_err(|_| {
            // Best effort: no client shall fill a full disk with what is left of streams that cannot be made.
            let _ = std::fs::remove_dir_all(&aside);
        })?;
        open_stream(stream.clone(), place, self.memory.of(stream), floor, &mut OpenReport::default(), &|| ())
    }

    fn drop_stream(&mut self, stream: &StreamId) -> Result<(), JournalError> {
        let (aside, place) = (self.aside(stream)?, self.folder.join(stream.as_str()));
        std::fs::rename(&place, &aside).map_err(JournalError::io("rename", &place))?;
        let dropped = self.streams.remove(stream);
        self.memory.used -= dropped.map_or(0, |dropped| dropped.memory_bytes());
        // After the folder on disk: without that, an opening takes it for nothing.
        if let Some(folder) = self.memory.of(stream) {
            let _ = std::fs::remove_dir_all(folder);
        }
        // What cannot be removed now is removed when its name is wanted, or at the next opening.
        let _ = std::fs::remove_dir_all(&aside);
        Ok(())
    }

    /// A free place for the stream's files, where no opening takes them for a stream.
    fn aside(&self, stream: &StreamId) -> Result<PathBuf, JournalError> {
        let aside = self.folder.join(format!("{PARTIAL}{stream}"));
        remove_all(&aside)?;
        Ok(aside)
    }
}

/// Removes a folder with all that is in it, where there is one.
fn remove_all(folder: &Path) -> Result<(), JournalError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(JournalError::io("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// Raises the floor to the last sequence that any of these streams gave out.
fn raise<'a>(floor: &mut Position, streams: impl Iterator<Item = &'a Stream>) -> Result<(), JournalError> {
    let last = streams.map(|stream| stream.next - 1).max().unwrap_or(0);
    if last > floor.sequence() {
        // Twice, so that both slots hold it: the former floor is no substitute.
        floor.store(last)?;
        floor.store(last)?;
    }
    Ok(())
}

/// Goes through all of them, whatever one of them says; the first error, if there is one.
fn try_all(attempts: impl Iterator<Item = Result<(), JournalError>>) -> Result<(), JournalError> {
    let all: Vec<_> = attempts.collect();
    all.into_iter().collect()
}
