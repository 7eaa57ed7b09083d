//! What is known of an image before anything is made of it: its content's key, by its file or by its bytes, and a result that
//! was kept.
//!
//! A file's facts are asked by what the kernel says of it: device, inode, size, and when it last changed. They are kept only
//! where that lies back so far that whatever changes the file from then on changes that time too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use framepipe_cache::{Area, ArenaKind, BlockRef, Count, Digest, Found, INLINE_WORDS, Kind, Offer, Told};
use framepipe_frame::{FrameError, Request};
use framepipe_pipeline::{Config, Frame, Plan, PlanError, Pool, source::Source};
use framepipe_vision::{Format, Header};

/// The kernel's clock for files goes in steps of some milliseconds; a client's may lie on another machine that is a little off.
const SETTLED: Duration = Duration::from_secs(2);

/// What ingest looks up.
pub struct Lookup {
    /// Names the models and what is asked of them; none: results are not kept.
    by: Option<Vec<u8>>,
    raw_frames: bool,
}

/// An image's key, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// It is known.
    Known(Digest),
    /// It is that of the bytes, once they are read; to be noted under this key of the file's, where there is one.
    OfBytes(Option<Digest>),
}

impl Lookup {
    /// What this pipeline looks up; none: nothing, and no image is hashed.
    pub fn of(config: &Config) -> Result<Option<Self>, PlanError> {
        if !config.cache.looks_up() {
            return Ok(None);
        }
        let plan = Plan::of(config)?;
        let by = (config.cache.result_bytes_max > 0).then(|| plan.identity(config).into_bytes());
        Ok(Some(Self { by, raw_frames: config.cache.raw_frames }))
    }

    /// True where this image is looked up.
    pub fn wants(&self, request: &Request) -> bool {
        self.raw_frames || !request.raw.is_raw()
    }

    /// The key of the image in a file.
    pub fn content(&self, frame: &Frame<'_>, request: &Request, source: &Source<'_>) -> Result<Content, FrameError> {
        let area = frame.area();
        let changed_ns = source.changed_ns()?;
        let facts = [
            request.source_device,
            request.source_inode,
            request.source_bytes,
            changed_ns as u64,
            request.offset,
            request.bytes,
        ];
        let facts: Vec<u8> = facts.iter().flat_map(|fact| fact.to_le_bytes()).collect();
        let key = area.hasher().derive("file", 0, &facts);
        if let Some(found) = area.find(key).filter(|found| found.value.kind == Kind::Metadata) {
            area.count(Count::Hit(Kind::Metadata), 1);
            frame.tell(&Offer::about(Told::Touched, Kind::Metadata, key));
            let [low, high, ..] = found.value.inline;
            return Ok(Content::Known(u128::from(high) << 64 | u128::from(low)));
        }
        area.count(Count::Miss(Kind::Metadata), 1);
        let settled = u128::try_from(changed_ns).ok().is_some_and(|changed| changed + SETTLED.as_nanos() < now_ns());
        Ok(Content::OfBytes(settled.then_some(key)))
    }

    /// Notes an image's key, and what its header says.
    pub fn note(&self, frame: &Frame<'_>, file: Option<Digest>, content: Digest, header: Option<&Header>) {
        let Some(key) = file else { return };
        let mut inline = [0; INLINE_WORDS];
        (inline[0], inline[1]) = (content as u64, (content >> 64) as u64);
        if let Some(header) = header {
            let (width, height) = header.oriented_size();
            inline[2] = u64::from(width) << 32 | u64::from(height);
            inline[3] = u64::from(header.orientation) << 32 | format_number(header.format);
        }
        frame.tell(&Offer { inline, ..Offer::about(Told::Made, Kind::Metadata, key) });
    }

    /// Finds a result of this content that was kept, and leases it to the frame; true: it is done. Where none is, the gateway
    /// will keep the one that comes of it.
    pub fn take_result(&self, frame: &mut Frame<'_>, request: &Request, content: Digest) -> Result<bool, FrameError> {
        let Some(by) = &self.by else { return Ok(false) };
        let area = frame.area();
        let key = area.hasher().derive("result", content, &[by, bytemuck::bytes_of(&request.raw)].concat());
        if let Some(found) = area.find(key).filter(|found| is_whole(area, found)) {
            if frame.lease_found(Pool::Held, &found)? {
                area.count(Count::Hit(Kind::Results), 1);
                frame.tell(&Offer::about(Told::Touched, Kind::Results, key));
                frame.is_done = true;
                return Ok(true);
            }
        }
        area.count(Count::Miss(Kind::Results), 1);
        frame.descriptor.result = [key as u64, (key >> 64) as u64];
        Ok(false)
    }
}

/// As `framepipe cache list` names them.
fn format_number(format: Format) -> u64 {
    match format {
        Format::Jpeg(_) => 1,
        Format::Png => 2,
        Format::WebP => 3,
        Format::Bmp => 4,
    }
}

/// Looks at a result before the frame relies on it: from here on nothing would make it again.
fn is_whole(area: &Area, found: &Found) -> bool {
    let arena = area.arena(ArenaKind::Results);
    let block = BlockRef::unpack(found.value.block).filter(|block| block.arena() == ArenaKind::Results);
    let record = block.and_then(|block| Some((arena.record(block)?, block)));
    record.is_some_and(|(record, block)| arena.lives(block) && record.bytes == found.value.bytes)
}

fn now_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}
