//! Opens a stream's folder as a dead process left it. Killed here as well, the next opening does the same again.

use crate::{
    Cut, Damage, JournalError, OpenReport, SEGMENT_BYTES_LIMIT, StreamId,
    position::Position,
    record::RECORD_HEADER_BYTES,
    segment::{Entry, Place, SEGMENT_HEADER_BYTES, Segment, Tail, records_in},
    stream::{MOVING, Stream, unix_s},
};
use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// What was found in a folder so far.
struct Recovery<'a> {
    id: &'a StreamId,
    folder: &'a Path,
    memory: Option<&'a Path>,
    report: &'a mut OpenReport,
    segments: VecDeque<Segment>,
    entries: VecDeque<Entry>,
    /// The least sequence that was certainly never given out.
    next: u64,
    /// The last segment, where appends can go on in it.
    active: Option<File>,
}

/// Opens a stream's folders, on disk and in memory. Nothing in them is visible yet. An empty one becomes a stream that begins
/// behind `floor`.
pub(crate) fn open_stream(
    id: StreamId,
    folder: PathBuf,
    memory: Option<PathBuf>,
    floor: u64,
    report: &mut OpenReport,
    beat: &dyn Fn(),
) -> Result<Stream, JournalError> {
    let half_moved = folder.join(MOVING);
    match std::fs::remove_file(&half_moved) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(JournalError::io("remove", &half_moved)(error));
        }
        _ => {}
    }
    let mut firsts = segment_firsts(&folder, memory.as_deref())?;
    let dropped_file = folder.join("dropped");
    let dropped = match dropped_file.exists() {
        true => Some(Position::open(dropped_file.clone(), 0)?),
        false => None,
    };
    let dropped_until = dropped.as_ref().map_or(0, |(dropped, _)| dropped.sequence());
    // Segments are deleted only once they are acknowledged, or dropped.
    let least = firsts.front().map_or(floor, |(first, _)| first.saturating_sub(1));
    let least = if dropped_until >= least { 0 } else { least };
    let (acknowledged, damaged) = Position::open(folder.join("acknowledged"), least)?;
    let position = acknowledged.sequence().max(dropped_until);
    while firsts.len() > 1 && firsts[1].0 <= position.saturating_add(1) {
        let path = segment_path(&folder, memory.as_deref(), firsts[0]);
        std::fs::remove_file(&path).map_err(JournalError::io("delete", &path))?;
        firsts.pop_front();
    }
    let mut recovery = Recovery {
        id: &id,
        folder: &folder,
        memory: memory.as_deref(),
        report,
        segments: VecDeque::new(),
        entries: VecDeque::new(),
        next: position.saturating_add(1),
        active: None,
    };
    let damaged_dropped = dropped.as_ref().map_or(0, |(_, damaged)| *damaged);
    for (file, bytes) in [(folder.join("acknowledged"), damaged), (dropped_file, damaged_dropped)] {
        if bytes > 0 {
            recovery.damaged(file, 0, bytes);
        }
    }
    if let Some(last) = firsts.back().copied()
        && recovery.remove_unmade(last)?
    {
        firsts.pop_back();
    }
    for (index, first) in firsts.iter().enumerate() {
        beat();
        recovery.segment(*first, firsts.get(index + 1).map(|(first, _)| *first))?;
    }
    let Recovery { mut segments, entries: mut kept, next, active, .. } = recovery;
    let active = match active {
        Some(active) => active,
        None => {
            let (segment, file) = Segment::create(&folder, next, Place::Disk)?;
            segments.push_back(segment);
            file
        }
    };
    kept.retain(|entry| entry.sequence > position);
    let kept_bytes = kept.iter().map(|entry| u64::from(entry.record_bytes)).sum();
    report.streams += 1;
    report.records += kept.len();
    let (uncut, reserved_frames, used, visible) = (false, 0, 0, position);
    let dropped = dropped.map(|(dropped, _)| dropped);
    Ok(Stream {
        id,
        folder,
        memory,
        segments,
        active,
        uncut,
        kept,
        kept_bytes,
        acknowledged,
        dropped,
        visible,
        next,
        reserved_frames,
        used,
    })
}

/// When a stream was last appended to or acknowledged.
pub(crate) fn last_written(stream: &Stream) -> SystemTime {
    let modified =
        |metadata: std::io::Result<std::fs::Metadata>| metadata.and_then(|metadata| metadata.modified()).ok();
    let acknowledged = modified(std::fs::metadata(stream.folder.join("acknowledged")));
    modified(stream.active.metadata()).max(acknowledged).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The first sequences of the stream's segments, in order, with their places. Other files are not ours and stay.
fn segment_firsts(folder: &Path, memory: Option<&Path>) -> Result<VecDeque<(u64, Place)>, JournalError> {
    let mut firsts: Vec<(u64, Place)> = list(folder)?.into_iter().map(|first| (first, Place::Disk)).collect();
    for first in memory.map_or(Ok(Vec::new()), list)? {
        let Some(twin) = firsts.iter_mut().find(|(on_disk, _)| *on_disk == first) else {
            firsts.push((first, Place::Memory));
            continue;
        };
        // A move to the disk that ended before the original was deleted, or an empty one on disk that memory replaced.
        let on_disk = Segment::path(folder, first);
        let bytes = std::fs::metadata(&on_disk).map_err(JournalError::io("examine", &on_disk))?.len();
        let loser = if bytes > SEGMENT_HEADER_BYTES as u64 { Place::Memory } else { Place::Disk };
        let path = segment_path(folder, memory, (first, loser));
        std::fs::remove_file(&path).map_err(JournalError::io("delete", &path))?;
        twin.1 = if loser == Place::Memory { Place::Disk } else { Place::Memory };
    }
    firsts.sort_unstable_by_key(|(first, _)| *first);
    Ok(firsts.into())
}

fn list(folder: &Path) -> Result<Vec<u64>, JournalError> {
    let list = || -> std::io::Result<Vec<u64>> {
        let names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<std::io::Result<Vec<_>>>()?;
        Ok(names.iter().filter_map(|name| Segment::first_of(name.to_str()?)).collect())
    };
    match list() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(JournalError::io("list", folder)),
    }
}

fn segment_path(folder: &Path, memory: Option<&Path>, (first, place): (u64, Place)) -> PathBuf {
    let folder = memory.filter(|_| place == Place::Memory).unwrap_or(folder);
    Segment::path(folder, first)
}

impl Recovery<'_> {
    /// Removes the last segment, where its making was interrupted, so that the one before it goes on: a disk that is
    /// still full must not keep the journal shut.
    fn remove_unmade(&mut self, (first, place): (u64, Place)) -> Result<bool, JournalError> {
        let path = segment_path(self.folder, self.memory, (first, place));
        let bytes = std::fs::metadata(&path).map_err(JournalError::io("examine", &path))?.len();
        if bytes >= (SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES) as u64 {
            return Ok(false);
        }
        let header = std::fs::read(&path).map_err(JournalError::io("read", &path))?;
        let unmade = Segment::parse(&header, first, place, &path)?.is_none();
        if unmade {
            std::fs::remove_file(&path).map_err(JournalError::io("delete", &path))?;
            self.report.cut.push(Cut { stream: self.id.clone(), file: path, bytes });
            self.next = self.next.max(first);
        }
        Ok(unmade)
    }

    /// Takes in the segment that begins with `first`; `following` is the first sequence of the next one.
    fn segment(&mut self, (first, place): (u64, Place), following: Option<u64>) -> Result<(), JournalError> {
        let (path, limit) = (segment_path(self.folder, self.memory, (first, place)), following.unwrap_or(u64::MAX));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&path).map_err(JournalError::io("open", &path))?;
        let metadata = file.metadata().map_err(JournalError::io("examine", &path))?;
        let (file_bytes, written) = (metadata.len(), unix_s(metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)));
        // A larger one is not ours. It is not read, and counts as damaged as a whole.
        let bytes = if file_bytes <= u64::from(SEGMENT_BYTES_LIMIT) {
            std::fs::read(&path).map_err(JournalError::io("read", &path))?
        } else {
            Vec::new()
        };
        let Some(segment) = Segment::parse(&bytes, first, place, &path)? else {
            let records = file_bytes.saturating_sub(SEGMENT_HEADER_BYTES as u64) / RECORD_HEADER_BYTES as u64;
            self.next = self.next.max(first.saturating_add(records).min(limit));
            let bytes = u32::try_from(file_bytes).unwrap_or(u32::MAX);
            self.segments.push_back(Segment { first, salt: 0, place, bytes });
            self.damaged(path, 0, file_bytes);
            return Ok(());
        };
        let scan = segment.scan(&bytes, limit, written);
        let behind = scan.entries.last().map_or(first, |entry| entry.sequence + 1);
        let tail_bytes = (bytes.len() - scan.end) as u64;
        for lost in &scan.lost {
            self.damaged(path.clone(), lost.start as u64, lost.len() as u64);
        }
        self.segments.push_back(segment);
        self.entries.extend(&scan.entries);
        self.next = self.next.max(behind);
        match scan.tail {
            Tail::None => {}
            Tail::Torn if following.is_none() => {
                file.set_len(scan.end as u64).map_err(JournalError::io("cut", &path))?;
                self.segments.back_mut().expect("it was just pushed").bytes = scan.end as u32;
                self.report.cut.push(Cut { stream: self.id.clone(), file: path, bytes: tail_bytes });
            }
            Tail::Torn | Tail::Damaged => {
                self.damaged(path, scan.end as u64, tail_bytes);
                self.next = self.next.max(behind.saturating_add(records_in(tail_bytes as usize)).min(limit));
            }
        }
        // Within a segment numbers are consecutive: where some are skipped, a new segment begins.
        if following.is_none() && self.next == behind {
            self.active = Some(file);
        }
        Ok(())
    }

    fn damaged(&mut self, file: PathBuf, offset: u64, bytes: u64) {
        self.report.damage.push(Damage { stream: self.id.clone(), file, offset, bytes });
    }
}
