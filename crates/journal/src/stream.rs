//! One stream: its segments, and an index of its kept records.
//!
//! Invariants: sequences grow along `kept`; `acknowledged < kept.sequence < next`; `acknowledged <= visible < next`;
//! the segments begin in growing order, the last one takes the appends, and ends at `active_bytes`.

use crate::{
    JournalError, Options, StreamId,
    position::Position,
    record::{self, RECORD_HEADER_BYTES},
    segment::{Entry, SEGMENT_HEADER_BYTES, Segment},
};
use std::{
    collections::{HashSet, VecDeque},
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
};

/// (run, frame) of every kept record of every stream.
pub(crate) type Frames = HashSet<(u64, u64)>;

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

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) folder: PathBuf,
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) active: File,
    pub(crate) active_bytes: u32,
    /// A failed append could not be cut off yet.
    pub(crate) uncut: bool,
    pub(crate) kept: VecDeque<Entry>,
    pub(crate) kept_bytes: u64,
    pub(crate) acknowledged: Position,
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

    pub(crate) fn reserve(&mut self, frames: u32, options: &Options) -> Result<(), JournalError> {
        if u64::from(frames) * options.record_bytes_max() > self.room(options) {
            let (kept, reserved) = (self.kept_bytes, self.reserved_bytes(options));
            let limit = options.stream_bytes_max;
            return Err(JournalError::NoRoom { stream: self.id.clone(), frames, limit, kept, reserved });
        }
        self.reserved_frames += u64::from(frames);
        Ok(())
    }

    /// Writes a record. `buffer` is scratch space.
    pub(crate) fn append(
        &mut self,
        buffer: &mut Vec<u8>,
        options: &Options,
        (run, frame): (u64, u64),
        payload: &[u8],
    ) -> Result<u64, JournalError> {
        if self.uncut {
            self.cut_back().map_err(JournalError::io("cut back", &self.active_path()))?;
        }
        let record_bytes = (RECORD_HEADER_BYTES + payload.len()) as u32;
        let empty = self.active_bytes == SEGMENT_HEADER_BYTES as u32;
        if !empty && self.active_bytes + record_bytes > options.segment_bytes {
            self.begin_segment()?;
        }
        record::encode(buffer, self.active_segment().salt, self.next, run, frame, payload);
        // One write, as long as the system takes all of it.
        if let Err(error) = self.active.write_all_at(buffer, u64::from(self.active_bytes)) {
            self.uncut = self.cut_back().is_err();
            return Err(JournalError::io("append to", &self.active_path())(error));
        }
        let sequence = self.next;
        self.kept.push_back(Entry { sequence, run, frame, offset: self.active_bytes, record_bytes });
        self.kept_bytes += u64::from(record_bytes);
        self.active_bytes += record_bytes;
        self.next += 1;
        self.reserved_frames = self.reserved_frames.saturating_sub(1);
        Ok(sequence)
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
        let path = Segment::path(&self.folder, segment.first);
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
        let Entry { sequence, run, frame, offset, record_bytes } = *entry;
        let expected = (sequence, run, frame, record_bytes as usize);
        if whole.is_none_or(|found| (found.sequence, found.run, found.frame, found.record_bytes()) != expected) {
            let (stream, offset) = (self.id.clone(), u64::from(offset));
            return Err(JournalError::Damaged { stream, file: path, offset, sequence, frame });
        }
        bytes.drain(..RECORD_HEADER_BYTES);
        Ok(Record { sequence, run, frame, payload: bytes })
    }

    pub(crate) fn acknowledge(&mut self, sequence: u64, frames: &mut Frames) -> Result<(), JournalError> {
        if sequence > self.visible {
            return Err(JournalError::NotPublished { stream: self.id.clone(), sequence, visible: self.visible });
        }
        if sequence <= self.acknowledged.sequence() {
            return Ok(());
        }
        self.acknowledged.store(sequence)?;
        let count = self.kept.partition_point(|entry| entry.sequence <= sequence);
        for entry in self.kept.drain(..count) {
            self.kept_bytes -= u64::from(entry.record_bytes);
            frames.remove(&(entry.run, entry.frame));
        }
        self.delete_acknowledged_segments()
    }

    /// Deletes the segments whose records are all acknowledged, except the last one.
    pub(crate) fn delete_acknowledged_segments(&mut self) -> Result<(), JournalError> {
        while self.segments.len() > 1 && self.segments[1].first <= self.acknowledged.sequence().saturating_add(1) {
            let path = Segment::path(&self.folder, self.segments[0].first);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(JournalError::io("delete", &path)(error));
                }
                _ => self.segments.pop_front(),
            };
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), JournalError> {
        let (segment, file) = Segment::create(&self.folder, self.next)?;
        self.segments.push_back(segment);
        (self.active, self.active_bytes) = (file, SEGMENT_HEADER_BYTES as u32);
        // The segment before may be acknowledged already. Should it resist, the next acknowledgement tries again.
        let _ = self.delete_acknowledged_segments();
        Ok(())
    }

    fn cut_back(&mut self) -> io::Result<()> {
        self.active.set_len(u64::from(self.active_bytes))?;
        self.uncut = false;
        Ok(())
    }

    fn active_segment(&self) -> &Segment {
        self.segments.back().expect("a stream always has a segment")
    }

    fn active_path(&self) -> PathBuf {
        Segment::path(&self.folder, self.active_segment().first)
    }
}
