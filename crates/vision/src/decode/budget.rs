//! A bound on the CPU time that one image takes, for decoders that know none: they read their bytes through
//! [`Metered`], which looks at the thread's clock and fails when the time is spent.
//!
//! So a decoder is stopped where it reads, and only there. In between, 4 KiB of a PNG unfold to at most 4 MiB. libwebp
//! is given a file in parts, and the clock is looked at between them; a WebP that draws its whole picture from a few
//! bytes is bounded by `pixels_max` alone, and so is an animated one that is lossy.

use std::{
    cell::Cell,
    io::{self, BufRead, Cursor, Read, Seek, SeekFrom},
    time::Duration,
};

use framepipe_frame::{ErrorCode, FrameError};
use rustix::time::{ClockId, clock_gettime};

/// Bytes between two looks at the clock. A look takes some 0.3 us, so many bytes at least 20 us.
const BYTES_PER_LOOK: usize = 4096;

/// The time that an image may take from here on.
pub(super) struct Budget {
    cpu_ms_max: u32,
    /// On this thread's clock; `None`: no limit.
    end: Option<Duration>,
    spent: Cell<bool>,
}

impl Budget {
    pub(super) fn new(cpu_ms_max: u32) -> Self {
        let end = (cpu_ms_max > 0).then(|| thread_cpu() + Duration::from_millis(cpu_ms_max.into()));
        Self { cpu_ms_max, end, spent: Cell::new(false) }
    }

    /// The error of an image that was stopped, whatever its decoder made of it.
    pub(super) fn error(&self, format: &str) -> Option<FrameError> {
        self.spent.get().then(|| out_of_time(format, self.cpu_ms_max))
    }

    pub(super) fn look(&self) -> io::Result<()> {
        if self.end.is_some_and(|end| thread_cpu() > end) {
            self.spent.set(true);
            return Err(io::Error::other("out of CPU time"));
        }
        Ok(())
    }
}

pub(super) fn out_of_time(format: &str, cpu_ms_max: u32) -> FrameError {
    FrameError::new(
        ErrorCode::ImageTooLarge,
        format!("{format}: it takes more milliseconds of CPU time to decode than cpu_ms_max = {cpu_ms_max}"),
    )
}

fn thread_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// An image's bytes, while there is time left.
pub(super) struct Metered<'a> {
    bytes: Cursor<&'a [u8]>,
    budget: &'a Budget,
    /// Bytes given since the last look.
    unlooked: usize,
}

impl<'a> Metered<'a> {
    pub(super) fn new(bytes: &'a [u8], budget: &'a Budget) -> Self {
        Self { bytes: Cursor::new(bytes), budget, unlooked: 0 }
    }
}

impl BufRead for Metered<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.unlooked >= BYTES_PER_LOOK {
            self.unlooked = 0;
            self.budget.look()?;
        }
        let rest = self.bytes.fill_buf()?;
        Ok(&rest[..rest.len().min(BYTES_PER_LOOK)])
    }

    fn consume(&mut self, amount: usize) {
        self.unlooked += amount;
        self.bytes.consume(amount);
    }
}

impl Read for Metered<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let given = self.fill_buf()?.read(to)?;
        self.consume(given);
        Ok(given)
    }
}

impl Seek for Metered<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}
