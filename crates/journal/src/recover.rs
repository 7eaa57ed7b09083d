//! Opens a stream's folder as a dead process left it. Killed here as well, the next opening does the same again.

use crate::{
    Cut, Damage, JournalError, OpenReport, SEGMENT_BYTES_LIMIT, StreamId,
    position::Position,
    record::RECORD_HEADER_BYTES,
    segment::{Entry, SEGMENT_HEADER_BYTES, Segment, Tail, records_in},
    stream::Stream,
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
    report: &'a mut OpenReport,
    segments: VecDeque<Segment>,
    entries: VecDeque<Entry>,
    /// The least sequence that was certainly never given out.
    next: u64,
    /// The last segment and its bytes, where appends can go on in it.
    active: Option<(File, u32)>,
}

/// Opens a stream's folder. Nothing in it is visible yet. An empty one becomes a stream that begins behind `floor`.
pub(crate) fn open_stream(
    id: StreamId,
    folder: PathBuf,
    floor: u64,
    report: &mut OpenReport,
) -> Result<Stream, JournalError> {
    let mut firsts = segment_firsts(&folder)?;
    // Segments are deleted only once they are acknowledged.
    let least = firsts.front().map_or(floor, |first| first.saturating_sub(1));
    let (acknowledged, damaged) = Position::open(folder.join("acknowledged"), least)?;
    let position = acknowledged.sequence();
    while firsts.len() > 1 && firsts[1] <= position.saturating_add(1) {
        let path = Segment::path(&folder, firsts[0]);
        std::fs::remove_file(&path).map_err(JournalError::io("delete", &path))?;
        firsts.pop_front();
    }
    let (segments, entries) = (VecDeque::new(), VecDeque::new());
    let mut recovery = Recovery {
        id: &id,
        folder: &folder,
        report,
        segments,
        entries,
        next: position.saturating_add(1),
        active: None,
    };
    if damaged > 0 {
        recovery.damaged(folder.join("acknowledged"), 0, damaged);
    }
    if let Some(first) = firsts.back().copied()
        && recovery.remove_unmade(first)?
    {
        firsts.pop_back();
    }
    for (index, first) in firsts.iter().enumerate() {
        recovery.segment(*first, firsts.get(index + 1).copied())?;
    }
    let Recovery { mut segments, entries: mut kept, next, active, .. } = recovery;
    let (active, active_bytes) = match active {
        Some(active) => active,
        None => {
            let (segment, file) = Segment::create(&folder, next)?;
            segments.push_back(segment);
            (file, SEGMENT_HEADER_BYTES as u32)
        }
    };
    kept.retain(|entry| entry.sequence > position);
    let kept_bytes = kept.iter().map(|entry| u64::from(entry.record_bytes)).sum();
    report.streams += 1;
    report.records += kept.len();
    let (uncut, reserved_frames, used, visible) = (false, 0, 0, position);
    let mut stream = Stream {
        id,
        folder,
        segments,
        active,
        active_bytes,
        uncut,
        kept,
        kept_bytes,
        acknowledged,
        visible,
        next,
        reserved_frames,
        used,
    };
    stream.delete_acknowledged_segments()?;
    Ok(stream)
}

/// When a stream was last appended to or acknowledged.
pub(crate) fn last_written(stream: &Stream) -> SystemTime {
    let modified =
        |metadata: std::io::Result<std::fs::Metadata>| metadata.and_then(|metadata| metadata.modified()).ok();
    let acknowledged = modified(std::fs::metadata(stream.folder.join("acknowledged")));
    modified(stream.active.metadata()).max(acknowledged).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The first sequences of the folder's segments, in order. Other files are not ours and stay.
fn segment_firsts(folder: &Path) -> Result<VecDeque<u64>, JournalError> {
    let list = || -> std::io::Result<Vec<u64>> {
        let names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<std::io::Result<Vec<_>>>()?;
        Ok(names.iter().filter_map(|name| Segment::first_of(name.to_str()?)).collect())
    };
    let mut firsts = list().map_err(JournalError::io("list", folder))?;
    firsts.sort_unstable();
    Ok(firsts.into())
}

impl Recovery<'_> {
    /// Removes the last segment, where its making was interrupted, so that the one before it goes on: a disk that is
    /// still full must not keep the journal shut.
    fn remove_unmade(&mut self, first: u64) -> Result<bool, JournalError> {
        let path = Segment::path(self.folder, first);
        let bytes = std::fs::metadata(&path).map_err(JournalError::io("examine", &path))?.len();
        if bytes >= (SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES) as u64 {
            return Ok(false);
        }
        let header = std::fs::read(&path).map_err(JournalError::io("read", &path))?;
        let unmade = Segment::parse(&header, first, &path)?.is_none();
        if unmade {
            std::fs::remove_file(&path).map_err(JournalError::io("delete", &path))?;
            self.report.cut.push(Cut { stream: self.id.clone(), file: path, bytes });
            self.next = self.next.max(first);
        }
        Ok(unmade)
    }

    /// Takes in the segment that begins with `first`; `following` is the first sequence of the next one.
    fn segment(&mut self, first: u64, following: Option<u64>) -> Result<(), JournalError> {
        let (path, limit) = (Segment::path(self.folder, first), following.unwrap_or(u64::MAX));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&path).map_err(JournalError::io("open", &path))?;
        let file_bytes = file.metadata().map_err(JournalError::io("examine", &path))?.len();
        // A larger one is not ours. It is not read, and counts as damaged as a whole.
        let bytes = if file_bytes <= u64::from(SEGMENT_BYTES_LIMIT) {
            std::fs::read(&path).map_err(JournalError::io("read", &path))?
        } else {
            Vec::new()
        };
        let Some(segment) = Segment::parse(&bytes, first, &path)? else {
            let records = file_bytes.saturating_sub(SEGMENT_HEADER_BYTES as u64) / RECORD_HEADER_BYTES as u64;
            self.next = self.next.max(first.saturating_add(records).min(limit));
            self.segments.push_back(Segment { first, salt: 0 });
            self.damaged(path, 0, file_bytes);
            return Ok(());
        };
        let scan = segment.scan(&bytes, limit);
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
                self.report.cut.push(Cut { stream: self.id.clone(), file: path, bytes: tail_bytes });
            }
            Tail::Torn | Tail::Damaged => {
                self.damaged(path, scan.end as u64, tail_bytes);
                self.next = self.next.max(behind.saturating_add(records_in(tail_bytes as usize)).min(limit));
            }
        }
        // Within a segment numbers are consecutive: where some are skipped, a new segment begins.
        if following.is_none() && self.next == behind {
            self.active = Some((file, scan.end as u32));
        }
        Ok(())
    }

    fn damaged(&mut self, file: PathBuf, offset: u64, bytes: u64) {
        self.report.damage.push(Damage { stream: self.id.clone(), file, offset, bytes });
    }
}
