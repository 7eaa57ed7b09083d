//! One stream: its segments, and an index of its kept records.
//!
//! Invariants: sequences grow along `kept`; `forgotten() < kept.sequence < next`; `forgotten() <= visible < next`; the
//! segments begin in growing order, and the last one takes the appends.

use crate::{
    JournalError, Options, StreamId,
    memory::Memory,
    position::Position,
    record::{self, RECORD_HEADER_BYTES},
    segment::{Entry, Place, SEGMENT_HEADER_BYTES, Segment},
};
use std::{
    collections::{HashSet, VecDeque},
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, FileExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// (run, frame) of every kept record of every stream.
pub(crate) type Frames = HashSet<(u64, u64)>;

/// A segment on its way from memory to the disk.
pub(crate) const MOVING: &str = "moving";

/// A record, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the stream.
    pub sequence: u64,
    /// The run that accepted the frame.
    pub run: u64,
    /// The frame's number in that run.
    pub frame: u64,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// What a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Records that are not acknowledged, visible or not.
    pub records: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
    /// Frames with a reservation: accepted, and not yet appended.
    pub reserved_frames: u64,
}

/// What all streams hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// How many there are.
    pub streams: u64,
    /// Records that are not acknowledged, visible or not.
    pub records: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
    /// Frames with a reservation: accepted, and not yet appended.
    pub reserved_frames: u64,
    /// Bytes of the stream that has most.
    pub fullest_bytes: u64,
    /// Bytes of the segments that lie in memory.
    pub memory_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) folder: PathBuf,
    /// Its folder in memory, made with the first segment there.
    pub(crate) memory: Option<PathBuf>,
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) active: File,
    /// A failed append could not be cut off yet.
    pub(crate) uncut: bool,
    pub(crate) kept: VecDeque<Entry>,
    pub(crate) kept_bytes: u64,
    pub(crate) acknowledged: Position,
    /// Up to where records were dropped for their age; `None`: none ever was.
    pub(crate) dropped: Option<Position>,
    pub(crate) visible: u64,
    /// The sequence of the next append.
    pub(crate) next: u64,
    pub(crate) reserved_frames: u64,
    /// When it was last written to, on the clock of the table of streams.
    pub(crate) used: u64,
}

impl Stream {
    pub(crate) fn kept(&self) -> Kept {
        let Self { kept_bytes: bytes, reserved_frames, .. } = *self;
        Kept { records: self.kept.len() as u64, bytes, reserved_frames }
    }

    pub(crate) fn reserved_bytes(&self, options: &Options) -> u64 {
        self.reserved_frames * options.record_bytes_max()
    }

    /// Bytes for which more frames can be reserved.
    pub(crate) fn room(&self, options: &Options) -> u64 {
        options.stream_bytes_max.saturating_sub(self.kept_bytes + self.reserved_bytes(options))
    }

    /// Looks whether the stream's own limit has room for the results of so many more frames.
    pub(crate) fn check_room(&self, frames: u32, options: &Options) -> Result<(), JournalError> {
        if u64::from(frames) * options.record_bytes_max() > self.room(options) {
            let (kept, reserved) = (self.kept_bytes, self.reserved_bytes(options));
            let limit = options.stream_bytes_max;
            return Err(JournalError::NoRoom { stream: self.id.clone(), frames, limit, kept, reserved });
        }
        Ok(())
    }

    /// Writes a record. `buffer` is scratch space.
    pub(crate) fn append(
        &mut self,
        buffer: &mut Vec<u8>,
        options: &Options,
        memory: &mut Memory,
        (run, frame): (u64, u64),
        payload: &[u8],
    ) -> Result<u64, JournalError> {
        if self.uncut {
            self.cut_back().map_err(JournalError::io("cut back", &self.active_path()))?;
        }
        let record_bytes = (RECORD_HEADER_BYTES + payload.len()) as u32;
        self.make_place(record_bytes, options, memory)?;
        if let Err(error) = self.write(buffer, (run, frame), payload) {
            let anew = u64::from(record_bytes) + SEGMENT_HEADER_BYTES as u64;
            let other = match self.active_segment().place {
                // The tmpfs is full, whatever the budget says.
                Place::Memory => Place::Disk,
                // What acknowledgements freed in memory was promised to the frames in flight as well.
                Place::Disk if error.is_full() && memory.has_room(anew) => Place::Memory,
                Place::Disk => return Err(error),
            };
            if self.uncut {
                return Err(error);
            }
            self.begin_segment(other, memory)?;
            self.write(buffer, (run, frame), payload)?;
        }
        let (sequence, unix_s) = (self.next, unix_s(SystemTime::now()));
        let active = self.segments.back_mut().expect("a stream always has a segment");
        self.kept.push_back(Entry { sequence, run, frame, offset: active.bytes, record_bytes, unix_s });
        active.bytes += record_bytes;
        memory.used += if active.place == Place::Memory { u64::from(record_bytes) } else { 0 };
        self.kept_bytes += u64::from(record_bytes);
        self.next += 1;
        self.reserved_frames = self.reserved_frames.saturating_sub(1);
        Ok(sequence)
    }

    /// Begins another segment, where the last one is full, or a record would exceed the memory's budget there, or an empty
    /// one may as well lie in memory.
    fn make_place(&mut self, record_bytes: u32, options: &Options, memory: &mut Memory) -> Result<(), JournalError> {
        let active = *self.active_segment();
        let is_empty = active.bytes == SEGMENT_HEADER_BYTES as u32;
        let is_full = !is_empty && active.bytes + record_bytes > options.segment_bytes;
        let anew = u64::from(record_bytes) + SEGMENT_HEADER_BYTES as u64;
        let stays = !is_full
            && match active.place {
                Place::Memory => memory.has_room(record_bytes.into()),
                Place::Disk => !is_empty || !memory.has_room(anew),
            };
        if stays {
            return Ok(());
        }
        // A full disk must not stop what fits into memory, nor a full tmpfs what fits on the disk.
        if memory.has_room(anew) && self.begin_segment(Place::Memory, memory).is_ok() {
            return Ok(());
        }
        if active.place == Place::Disk && !is_full { Ok(()) } else { self.begin_segment(Place::Disk, memory) }
    }

    /// Writes a record behind the last one: one write, as long as the system takes all of it.
    fn write(&mut self, buffer: &mut Vec<u8>, whose: (u64, u64), payload: &[u8]) -> Result<(), JournalError> {
        let active = *self.active_segment();
        record::encode(buffer, active.salt, self.next, whose.0, whose.1, payload);
        self.active.write_all_at(buffer, u64::from(active.bytes)).map_err(|error| {
            self.uncut = self.cut_back().is_err();
            JournalError::io("append to", &self.active_path())(error)
        })
    }

    pub(crate) fn publish(&mut self) {
        self.visible = self.next - 1;
    }

    pub(crate) fn read(&self, after: u64, records_max: usize, bytes_max: usize) -> Result<Vec<Record>, JournalError> {
        let from = self.kept.partition_point(|entry| entry.sequence <= after);
        let visible = self.kept.range(from..).take_while(|entry| entry.sequence <= self.visible);
        let (mut records, mut bytes, mut opened) = (Vec::new(), 0, None);
        for entry in visible.take(records_max) {
            bytes += entry.record_bytes as usize - RECORD_HEADER_BYTES;
            if !records.is_empty() && bytes > bytes_max {
                break;
            }
            match self.read_one(entry, &mut opened) {
                Ok(record) => records.push(record),
                // The caller gets what is before it now, and the error when it comes back for more.
                Err(_) if !records.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// Reads one record. `opened` keeps the last segment that was opened for reading.
    fn read_one(&self, entry: &Entry, opened: &mut Option<(u64, File)>) -> Result<Record, JournalError> {
        let index = self.segments.partition_point(|segment| segment.first <= entry.sequence) - 1;
        let segment = self.segments[index];
        let path = self.path_of(&segment);
        let file = if index + 1 == self.segments.len() {
            &self.active
        } else {
            if opened.as_ref().is_none_or(|(first, _)| *first != segment.first) {
                *opened = Some((segment.first, File::open(&path).map_err(JournalError::io("open", &path))?));
            }
            &opened.as_ref().expect("it was just opened").1
        };
        let mut bytes = vec![0; entry.record_bytes as usize];
        let whole = match file.read_exact_at(&mut bytes, u64::from(entry.offset)) {
            Ok(()) => record::decode(&bytes, segment.salt).map(|(header, _)| header),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(JournalError::io("read", &path)(error)),
        };
        let Entry { sequence, run, frame, offset, record_bytes, .. } = *entry;
        let expected = (sequence, run, frame, record_bytes as usize);
        if whole.is_none_or(|found| (found.sequence, found.run, found.frame, found.record_bytes()) != expected) {
            let (stream, offset) = (self.id.clone(), u64::from(offset));
            return Err(JournalError::Damaged { stream, file: path, offset, sequence, frame });
        }
        bytes.drain(..RECORD_HEADER_BYTES);
        Ok(Record { sequence, run, frame, payload: bytes })
    }

    pub(crate) fn acknowledge(
        &mut self,
        sequence: u64,
        frames: &mut Frames,
        memory: &mut Memory,
    ) -> Result<(), JournalError> {
        if sequence > self.visible {
            return Err(JournalError::NotPublished { stream: self.id.clone(), sequence, visible: self.visible });
        }
        if sequence <= self.acknowledged.sequence() {
            return Ok(());
        }
        self.acknowledged.store(sequence)?;
        self.forget(sequence, frames, memory)
    }

    /// Drops the visible records that were appended before `unix_s`, and tells how many, if any.
    pub(crate) fn expire(
        &mut self,
        unix_s: u64,
        frames: &mut Frames,
        memory: &mut Memory,
        mut tell: impl FnMut(&StreamId, usize),
    ) -> Result<(), JournalError> {
        let visible = self.visible;
        let is_old = |entry: &&Entry| entry.unix_s < unix_s && entry.sequence <= visible;
        let count = self.kept.iter().take_while(is_old).count();
        let Some(last) = count.checked_sub(1).map(|last| self.kept[last].sequence) else { return Ok(()) };
        match &mut self.dropped {
            Some(dropped) => dropped.store(last)?,
            None => self.dropped = Some(Position::open(self.folder.join("dropped"), last)?.0),
        }
        // Dropped they are, whether or not their segments can be deleted now.
        tell(&self.id, count);
        self.forget(last, frames, memory)
    }

    /// The first and the last sequence that a reader behind `after` has missed, because they were dropped.
    pub(crate) fn gap(&self, after: u64) -> Option<(u64, u64)> {
        let dropped = self.dropped.as_ref()?.sequence();
        let read = after.max(self.acknowledged.sequence());
        (dropped > read).then_some((read + 1, dropped))
    }

    /// No record up to this sequence is kept.
    pub(crate) fn forgotten(&self) -> u64 {
        self.acknowledged.sequence().max(self.dropped.as_ref().map_or(0, Position::sequence))
    }

    fn forget(&mut self, sequence: u64, frames: &mut Frames, memory: &mut Memory) -> Result<(), JournalError> {
        let count = self.kept.partition_point(|entry| entry.sequence <= sequence);
        for entry in self.kept.drain(..count) {
            self.kept_bytes -= u64::from(entry.record_bytes);
            frames.remove(&(entry.run, entry.frame));
        }
        self.delete_forgotten_segments(memory)
    }

    /// Deletes the segments whose records are all forgotten. An empty one replaces the last one, where that lies in memory:
    /// streams that are read must leave their memory to others.
    pub(crate) fn delete_forgotten_segments(&mut self, memory: &mut Memory) -> Result<(), JournalError> {
        while self.segments.len() > 1 && self.segments[1].first <= self.forgotten().saturating_add(1) {
            let segment = self.segments[0];
            self.delete(&segment, memory)?;
            self.segments.pop_front();
        }
        let last = self.active_segment();
        let has_records = last.bytes > SEGMENT_HEADER_BYTES as u32;
        if last.place == Place::Memory && has_records && self.kept.is_empty() && !self.uncut {
            // Where this fails, the next acknowledgement tries again.
            let _ = self.begin_segment(Place::Memory, memory);
        }
        Ok(())
    }

    /// Bytes of its segments in memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let held = self.segments.iter().filter(|segment| segment.place == Place::Memory);
        held.map(|segment| u64::from(segment.bytes)).sum()
    }

    fn delete(&self, segment: &Segment, memory: &mut Memory) -> Result<(), JournalError> {
        let path = self.path_of(segment);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(JournalError::io("delete", &path)(error)),
            _ => {
                let bytes = if segment.place == Place::Memory { u64::from(segment.bytes) } else { 0 };
                memory.used = memory.used.saturating_sub(bytes);
                Ok(())
            }
        }
    }

    fn begin_segment(&mut self, place: Place, memory: &mut Memory) -> Result<(), JournalError> {
        let folder = match (place, &self.memory) {
            (Place::Memory, Some(folder)) => {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
                made.map_err(JournalError::io("make", folder))?;
                folder.clone()
            }
            _ => self.folder.clone(),
        };
        let (segment, file) = Segment::create(&folder, self.next, place)?;
        let replaced = self.segments.pop_back_if(|last| last.first == segment.first);
        self.segments.push_back(segment);
        self.active = file;
        memory.used += if place == Place::Memory { u64::from(segment.bytes) } else { 0 };
        // Two of one name, of which one is empty: should this fail, the next opening does it.
        let _ = replaced.map(|replaced| self.delete(&replaced, memory));
        // The segment before may be forgotten already. Should it resist, the next acknowledgement tries again.
        let _ = self.delete_forgotten_segments(memory);
        Ok(())
    }

    /// Moves the segments in memory to the disk, and removes the folder there.
    pub(crate) fn move_to_disk(&mut self, memory: &mut Memory, beat: &dyn Fn()) -> Result<(), JournalError> {
        for index in 0..self.segments.len() {
            beat();
            let segment = self.segments[index];
            if segment.place == Place::Disk {
                continue;
            }
            let from = self.path_of(&segment);
            let moved = Segment { place: Place::Disk, ..segment };
            let (to, aside) = (self.path_of(&moved), self.folder.join(MOVING));
            // Whole or not at all: an opening that finds both keeps the one on disk.
            let copied = copy(&from, &aside).map_err(JournalError::io("copy", &from));
            let placed = copied.and_then(|()| std::fs::rename(&aside, &to).map_err(JournalError::io("rename", &aside)));
            placed.inspect_err(|_| {
                let _ = std::fs::remove_file(&aside); // or the next opening removes it
            })?;
            self.delete(&segment, memory)?;
            self.segments[index] = moved;
        }
        match self.memory.as_ref().map(|folder| (folder, std::fs::remove_dir(folder))) {
            Some((folder, Err(error))) if error.kind() != io::ErrorKind::NotFound => {
                Err(JournalError::io("remove", folder)(error))
            }
            _ => Ok(()),
        }
    }

    fn cut_back(&mut self) -> io::Result<()> {
        self.active.set_len(u64::from(self.active_segment().bytes))?;
        self.uncut = false;
        Ok(())
    }

    fn active_segment(&self) -> &Segment {
        self.segments.back().expect("a stream always has a segment")
    }

    fn active_path(&self) -> PathBuf {
        self.path_of(self.active_segment())
    }

    pub(crate) fn path_of(&self, segment: &Segment) -> PathBuf {
        match (segment.place, &self.memory) {
            (Place::Memory, Some(folder)) => Segment::path(folder, segment.first),
            _ => Segment::path(&self.folder, segment.first),
        }
    }
}

/// Copies a segment, and when it was last written: its records keep their age.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let written = std::fs::metadata(from)?.modified()?;
    std::fs::copy(from, to)?;
    File::options().write(true).open(to)?.set_modified(written)
}

/// Seconds since 1970.
pub(crate) fn unix_s(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
