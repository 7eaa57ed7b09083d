//! One copy of a client's bytes into a slot of the server's, after which nothing that the client does can change them.
//! What is no image that can be decoded is told at once.

use std::os::fd::{AsFd, OwnedFd};

use framepipe_frame::{ErrorCode, FrameError, RawFrame, Request};
use framepipe_pipeline::{
    Frame, Item, Needs, Pool, Process, Stage,
    source::{RootError, Source, open_root},
};
use framepipe_vision::{Limits, probe};

/// The stage: the inbox folders, and what images may be.
pub struct Ingest {
    roots: Vec<OwnedFd>,
    limits: Limits,
}

impl Ingest {
    /// Opens the inbox folders.
    pub fn open(process: &Process) -> Result<Self, RootError> {
        let config = &process.order.config;
        let roots = config.server.inbox.iter().map(|root| open_root(root)).collect::<Result<_, _>>()?;
        Ok(Self { roots, limits: config.limits })
    }

    fn ingest(&self, frame: &mut Frame<'_>) -> Result<(), FrameError> {
        let request = frame.request();
        let no_root = || FrameError::new(ErrorCode::Internal, format!("there is no root {}", request.root));
        let root = self.roots.get(request.root as usize).ok_or_else(no_root)?;
        let bytes = request.bytes as usize;
        frame.write_output(Pool::Encoded, |slot| {
            let image = &mut slot[..bytes];
            Source::open(root.as_fd(), &request)?.read(image)?;
            if !request.raw.is_raw() {
                probe(image, &self.limits)?;
            }
            Ok((bytes, ()))
        })?;
        frame.bytes_copied += request.bytes;
        Ok(())
    }
}

impl Stage for Ingest {
    type Plan = ();

    fn plan(&mut self, frame: &mut Frame<'_>) -> Result<(Needs, ()), FrameError> {
        let request = frame.request();
        check_request(&request, &self.limits)?;
        Ok((Needs::NONE.and(Pool::Encoded, request.bytes as usize), ()))
    }

    fn process(&mut self, batch: &mut [Item<'_, ()>]) {
        for item in batch {
            item.frame.error = self.ingest(&mut item.frame).err();
        }
    }
}

/// What can be said without reading the source.
fn check_request(request: &Request, limits: &Limits) -> Result<(), FrameError> {
    if request.raw.is_raw() {
        return check_raw(&request.raw, request.bytes, limits);
    }
    if request.bytes == 0 {
        return Err(FrameError::new(ErrorCode::UnsupportedFormat, "an image of 0 bytes"));
    }
    Ok(())
}

fn check_raw(raw: &RawFrame, bytes: u64, limits: &Limits) -> Result<(), FrameError> {
    let RawFrame { format, width, height, stride } = *raw;
    let corrupt = |what: String| FrameError::new(ErrorCode::CorruptImage, what);
    let needed = raw.bytes().ok_or_else(|| {
        corrupt(format!(
            "a raw frame of format {format}, {width}x{height} pixels and a stride of {stride} bytes cannot be"
        ))
    })?;
    if needed > bytes {
        return Err(corrupt(format!(
            "a raw frame of {width}x{height} pixels has {needed} bytes, and {bytes} were sent"
        )));
    }
    limits.check_size(width, height)
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    fn check(bytes: u64, raw: RawFrame) -> Option<ErrorCode> {
        check_request(&Request { bytes, raw, ..Request::zeroed() }, &Limits::default()).err().map(|error| error.code)
    }

    #[test]
    fn a_request_that_cannot_be_an_image_is_refused_before_its_source_is_opened() {
        assert_eq!(check(1, RawFrame::default()), None);
        assert_eq!(check(0, RawFrame::default()), Some(ErrorCode::UnsupportedFormat));
        let raw = RawFrame { format: 1, width: 4, height: 2, stride: 16 };
        assert_eq!(check(28, raw), None, "the last row needs no stride behind it");
        assert_eq!(check(27, raw), Some(ErrorCode::CorruptImage));
        assert_eq!(check(28, RawFrame { stride: 11, ..raw }), Some(ErrorCode::CorruptImage));
        assert_eq!(check(0, RawFrame { width: 0, ..raw }), Some(ErrorCode::CorruptImage));
        let long = RawFrame { format: 3, width: 65_500, height: 1, stride: 65_500 };
        assert_eq!(check(65_500, long), Some(ErrorCode::ImageTooLarge));
        let (nv12, i420) = (RawFrame { format: 4, ..raw }, RawFrame { format: 5, ..raw });
        assert_eq!(check(2 * 16 + 4, nv12), None, "the last row of pairs needs no stride behind it");
        assert_eq!(check(2 * 16 + 3, nv12), Some(ErrorCode::CorruptImage));
        assert_eq!(check(2 * 16 + 8 + 2, i420), None, "the last row of V needs no stride behind it");
        assert_eq!(check(2 * 16 + 8 + 1, i420), Some(ErrorCode::CorruptImage));
        assert_eq!(check(u64::MAX, RawFrame { stride: 3, ..i420 }), Some(ErrorCode::CorruptImage));
        assert_eq!(check(99, RawFrame { height: u32::MAX, stride: u32::MAX, ..nv12 }), Some(ErrorCode::CorruptImage));
    }
}
