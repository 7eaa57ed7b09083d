//! One copy of a client's bytes into a slot of the server's, after which nothing that the client does can change them. An image
//! that framepipe keeps already is left where it lies, while memory lasts; else it is copied, and its memory given back.
//! What is no image that can be decoded is told at once.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use framepipe_cache::{ArenaKind, BlockRef, Count, Digest, Level};
use framepipe_frame::{ErrorCode, FrameError, RawFrame, Request};
use framepipe_pipeline::{
    Frame, Item, KeptAt, Needs, Pool, Process, Stage, canary,
    source::{OpenFile, open_root},
};
use framepipe_vision::{Header, Limits, probe};

use crate::lookup::Lookup;

/// The stage: the inbox folders, what images may be, and what is looked up before they are worked on.
pub struct Ingest {
    roots: Vec<OwnedFd>,
    limits: Limits,
    lookup: Option<Lookup>,
    spill: PathBuf,
    /// The file of the frame before, while others wait that may lie in it, too.
    latest: Option<OpenFile>,
}

/// How the image comes.
#[derive(Clone, Copy)]
pub enum Way {
    /// From the client's file.
    Read,
    /// It is kept in memory, and read there.
    InPlace(BlockRef),
    /// It is kept, and copied out.
    Copy,
    /// It is the canary's.
    BuiltIn,
}

impl Ingest {
    /// Opens the inbox folders.
    pub fn open(process: &Process) -> anyhow::Result<Self> {
        let config = &process.order.config;
        let roots = config.server.inbox.iter().map(|root| open_root(root)).collect::<Result<_, _>>()?;
        Ok(Self { roots, limits: config.limits, lookup: Lookup::of(config)?, spill: config.spill(), latest: None })
    }

    fn ingest(&mut self, frame: &mut Frame<'_>, way: Way) -> Result<(), FrameError> {
        let request = frame.request();
        match way {
            Way::Read => self.read(frame, &request),
            Way::InPlace(_) | Way::Copy => self.take_kept(frame, &request, way),
            Way::BuiltIn => self.write_canary(frame),
        }
    }

    /// Gives the canary its image. Nothing is looked up, so that no frame's result is in the place of its own.
    fn write_canary(&self, frame: &mut Frame<'_>) -> Result<(), FrameError> {
        frame.write_output(Pool::Encoded, |slot| {
            slot[..canary::IMAGE.len()].copy_from_slice(canary::IMAGE);
            Ok((canary::IMAGE.len(), ()))
        })?;
        self.probe(frame).map(drop)
    }

    /// Reads the client's file.
    fn read(&mut self, frame: &mut Frame<'_>, request: &Request) -> Result<(), FrameError> {
        let no_root = || FrameError::new(ErrorCode::Internal, format!("there is no root {}", request.root));
        let root = self.roots.get(request.root as usize).ok_or_else(no_root)?;
        let bytes = request.bytes as usize;
        let file = match self.latest.take().filter(|latest| latest.is_of(request)) {
            Some(latest) => latest,
            None => OpenFile::open(root.as_fd(), request)?,
        };
        frame.write_output(Pool::Encoded, |slot| {
            file.source(request).read(&mut slot[..bytes])?;
            Ok((bytes, ()))
        })?;
        self.latest = Some(file);
        frame.bytes_copied += request.bytes;
        self.look(frame, request, |frame| Ok(frame.area().hasher().of(frame.written(Pool::Encoded)?)))
    }

    /// Takes an image that framepipe keeps. Its checksum is its content's key.
    fn take_kept(&self, frame: &mut Frame<'_>, request: &Request, way: Way) -> Result<(), FrameError> {
        let content = request.kept.digest();
        let Way::InPlace(first) = way else {
            frame.copy_kept(&self.spill)?;
            frame.bytes_copied += request.bytes;
            return self.look(frame, request, |_| Ok(content));
        };
        if let Some(lookup) = self.lookup.as_ref().filter(|lookup| lookup.wants(request)) {
            set_content(frame, content);
            if lookup.take_result(frame, request, content)? {
                return Ok(());
            }
        }
        // Preprocess compares the checksum. Here it tells damage of ours from an image that never was one.
        frame.lease(Pool::Held, first.pack())?;
        let area = frame.area();
        let view = area.arena(ArenaKind::Images).view(first, request.bytes as usize);
        let checked = match &view {
            Some(view) if !request.raw.is_raw() => probe(view, &self.limits).map(drop),
            _ => Ok(()),
        };
        let is_whole = || view.as_ref().is_some_and(|view| area.hasher().of(view) == content);
        if view.is_none() || checked.is_err() && !is_whole() {
            area.count(Count::ImageDamage, 1);
            let words = "the image that was kept in memory is damaged: push it again";
            return Err(FrameError::new(ErrorCode::StoreDamaged, words));
        }
        checked
    }

    /// Looks at the image in the frame's encoded slot, unless one of its content was looked at before; and for its result.
    fn look(
        &self,
        frame: &mut Frame<'_>,
        request: &Request,
        content: impl FnOnce(&mut Frame<'_>) -> Result<Digest, FrameError>,
    ) -> Result<(), FrameError> {
        let Some(lookup) = self.lookup.as_ref().filter(|lookup| lookup.wants(request)) else {
            return if request.raw.is_raw() { Ok(()) } else { self.probe(frame).map(drop) };
        };
        let content = content(frame)?;
        set_content(frame, content);
        if !request.raw.is_raw() && !lookup.is_known(frame, content) {
            let header = self.probe(frame)?;
            lookup.note(frame, content, &header);
        }
        lookup.take_result(frame, request, content).map(drop)
    }

    fn probe(&self, frame: &mut Frame<'_>) -> Result<Header, FrameError> {
        probe(frame.written(Pool::Encoded)?, &self.limits)
    }
}

fn set_content(frame: &mut Frame<'_>, content: Digest) {
    frame.descriptor.content = [content as u64, (content >> 64) as u64];
}

impl Stage for Ingest {
    type Plan = Way;

    fn plan(&mut self, frame: &mut Frame<'_>) -> Result<(Needs, Way), FrameError> {
        if frame.is_canary() {
            return Ok((Needs::NONE.and(Pool::Encoded, canary::IMAGE.len()), Way::BuiltIn));
        }
        let request = frame.request();
        check_request(&request, &self.limits)?;
        // A lease is a word; it may be one on a result as well.
        let lease = Needs::NONE.and(Pool::Held, size_of::<u64>());
        let copy = lease.and(Pool::Encoded, request.bytes as usize);
        if !request.kept.is_kept() {
            let needs =
                if self.lookup.is_some() { copy } else { Needs::NONE.and(Pool::Encoded, request.bytes as usize) };
            return Ok((needs, Way::Read));
        }
        match frame.kept_at() {
            KeptAt::Memory(first) if frame.area().level() == Level::InPlace => Ok((lease, Way::InPlace(first))),
            KeptAt::Memory(_) | KeptAt::Disk => Ok((copy, Way::Copy)),
        }
    }

    fn process(&mut self, batch: &mut [Item<'_, Way>]) {
        if !batch.iter().any(|item| matches!(item.plan, Way::Read)) {
            self.latest = None; // frames that have no file may come for long
        }
        for item in batch {
            item.frame.error = self.ingest(&mut item.frame, item.plan).err();
        }
    }

    fn idle(&mut self) {
        self.latest = None;
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
