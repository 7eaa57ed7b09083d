//! What can go wrong. After every one of these the journal is as it was before the call, unless it says otherwise.

use crate::StreamId;
use std::{io, path::Path, path::PathBuf};

/// Why a journal refused.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// An option is out of its range.
    #[error("journal option {name} is {value}: it must be {demand}")]
    Options {
        /// The option.
        name: &'static str,
        /// Its value.
        value: u64,
        /// Its range.
        demand: String,
    },
    /// Another process has this journal open.
    #[error(
        "the journal {} is in use by {}: stop that gateway, or give this one a directory of its own",
        dir.display(),
        holder.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The journal's directory.
        dir: PathBuf,
        /// The process that holds the lock, where the lock file tells.
        holder: Option<u32>,
    },
    /// The folder in memory holds the unread results of another journal.
    #[error(
        "{} holds unread results of the journal in {}: start with that one, or give this one another name",
        folder.display(), owner.display()
    )]
    Foreign {
        /// The folder in memory.
        folder: PathBuf,
        /// The other journal's directory.
        owner: PathBuf,
    },
    /// There is no such stream.
    #[error("there is no stream {stream}")]
    NoSuchStream {
        /// The stream.
        stream: StreamId,
    },
    /// All streams are in use, and there is no room for another one.
    #[error("all {limit} streams are in use: pull and acknowledge the results of one, or raise the limit on streams")]
    StreamsFull {
        /// The limit on streams.
        limit: usize,
    },
    /// The stream has too little room for the results of these frames.
    #[error(
        "stream {stream} has no room for {frames} more results: {kept} bytes are kept and {reserved} reserved of \
         {limit}; pull and acknowledge results, or send fewer frames at once"
    )]
    NoRoom {
        /// The stream.
        stream: StreamId,
        /// Frames whose results were to be reserved.
        frames: u32,
        /// Limit on kept and reserved bytes.
        limit: u64,
        /// Bytes of records that are not acknowledged.
        kept: u64,
        /// Bytes reserved for frames in flight.
        reserved: u64,
    },
    /// The disk and the memory together have not the room for the results of all frames in flight and these.
    #[error(
        "the results of {frames} more frames may need {needed} bytes beside those of the frames in flight, and {} has {free} \
         bytes free for them: free some space there, or pull and acknowledge results",
        folder.display()
    )]
    DiskFull {
        /// Where the journal lies.
        folder: PathBuf,
        /// Frames whose results were to be reserved.
        frames: u32,
        /// Bytes that they may need.
        needed: u64,
        /// Bytes free, of disk and memory, beyond what is reserved.
        free: u64,
    },
    /// A payload is larger than one result may be.
    #[error("a result of {bytes} bytes: at most {limit} are allowed")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
        /// The limit, `result_bytes_max`.
        limit: u32,
    },
    /// The journal already keeps a result of this frame.
    #[error("frame {frame} of run {run:#x} already has its result in the journal")]
    Duplicate {
        /// The run.
        run: u64,
        /// The frame in it.
        frame: u64,
    },
    /// What is to be acknowledged has not been visible yet.
    #[error("stream {stream} has results up to {visible}: {sequence} cannot be acknowledged")]
    NotPublished {
        /// The stream.
        stream: StreamId,
        /// What was to be acknowledged.
        sequence: u64,
        /// The last visible sequence.
        visible: u64,
    },
    /// A record was valid when it was written or found, and is no more. What follows it can still be read.
    #[error("result {sequence} of stream {stream} is damaged: {} at byte {offset}", file.display())]
    Damaged {
        /// The stream.
        stream: StreamId,
        /// The segment's file.
        file: PathBuf,
        /// Where in the file the record begins.
        offset: u64,
        /// The record's sequence: read on behind it.
        sequence: u64,
        /// The frame whose result is lost.
        frame: u64,
    },
    /// A segment of another version of the format.
    #[error(
        "{} has format {found}, and this framepipe reads only {}: let the version that wrote it deliver its results, \
         or move it away",
        file.display(),
        crate::segment::VERSION
    )]
    Version {
        /// The segment's file.
        file: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The system refused. The call may be repeated once the cause (a full disk, say) is gone.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl JournalError {
    /// For `map_err`: an I/O error gets its place.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// True where the file's place is full, and another one may not be.
    pub(crate) fn is_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if [FileTooLarge, QuotaExceeded, StorageFull].contains(&source.kind()))
    }
}
