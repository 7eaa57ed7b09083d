//! The bounds of a journal.

use std::time::Duration;

use crate::{JournalError, record::RECORD_HEADER_BYTES, segment::SEGMENT_HEADER_BYTES};

/// The largest `segment_bytes`: a segment is read whole, one at a time, when the journal is opened.
pub const SEGMENT_BYTES_LIMIT: u32 = 1 << 30;

/// The largest `result_bytes_max`.
pub const RESULT_BYTES_LIMIT: u32 = 1 << 26;

/// The bounds of a journal. They may differ from one opening to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Bytes of kept and reserved records in one stream, above which it takes no more reservations.
    pub stream_bytes_max: u64,
    /// Streams.
    pub streams_max: usize,
    /// Bytes of one segment file. A segment is deleted as a whole, once all of it is acknowledged.
    pub segment_bytes: u32,
    /// Bytes of segments in tmpfs, of all streams together; 0: everything lies on disk.
    pub memory_bytes_max: u64,
    /// Age at which a record is dropped, whether read or not; zero: never.
    pub retention: Duration,
    /// Bytes of one result's payload: what is reserved for a frame, next to the record's header.
    pub result_bytes_max: u32,
}

impl Options {
    /// Bytes of the largest record: what one frame reserves.
    pub(crate) fn record_bytes_max(&self) -> u64 {
        u64::from(self.result_bytes_max) + RECORD_HEADER_BYTES as u64
    }

    pub(crate) fn check(&self) -> Result<(), JournalError> {
        let refuse = |name, value, demand| Err(JournalError::Options { name, value, demand });
        let segment_bytes_min = SEGMENT_HEADER_BYTES as u64 + self.record_bytes_max();
        if self.result_bytes_max == 0 || self.result_bytes_max > RESULT_BYTES_LIMIT {
            let demand = format!("1 to {RESULT_BYTES_LIMIT}");
            return refuse("result_bytes_max", u64::from(self.result_bytes_max), demand);
        }
        if !(segment_bytes_min..=u64::from(SEGMENT_BYTES_LIMIT)).contains(&u64::from(self.segment_bytes)) {
            let demand = format!("{segment_bytes_min} (the largest result and its headers) to {SEGMENT_BYTES_LIMIT}");
            return refuse("segment_bytes", u64::from(self.segment_bytes), demand);
        }
        if self.stream_bytes_max < self.record_bytes_max() {
            let demand = format!("at least {} (the largest result and its header)", self.record_bytes_max());
            return refuse("stream_bytes_max", self.stream_bytes_max, demand);
        }
        if self.streams_max == 0 {
            return refuse("streams_max", 0, "at least 1".to_owned());
        }
        Ok(())
    }
}
