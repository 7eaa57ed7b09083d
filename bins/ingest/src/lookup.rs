//! What is known of an image by its content, before anything is made of it: what its header says, and a result that was kept.
//!
//! The content's key is the hash of the bytes that are worked on, never of what a file was before: a client may change a file in
//! tmpfs by a mapping without any trace in its times.

use framepipe_cache::{Count, Digest, INLINE_WORDS, Kind, Offer, Told};
use framepipe_frame::{FrameError, Request};
use framepipe_pipeline::{Config, Frame, Leased, Plan, Pool};
use framepipe_vision::{Format, Header};

/// What ingest looks up.
pub struct Lookup {
    /// Names the models and what is asked of them; none: results are not kept.
    by: Option<Vec<u8>>,
    /// Names what images may be: an image that was good once is good again.
    limits: Vec<u8>,
    raw_frames: bool,
}

impl Lookup {
    /// What this pipeline looks up; none: nothing, and no image is hashed.
    pub fn of(config: &Config) -> anyhow::Result<Option<Self>> {
        if !config.cache.looks_up() {
            return Ok(None);
        }
        let plan = Plan::of(config)?;
        let by = match config.cache.result_bytes_max {
            0 => None,
            _ => Some(plan.identity(config)?.into_bytes()),
        };
        let limits = format!("{} {:?}", env!("CARGO_PKG_VERSION"), config.limits).into_bytes();
        Ok(Some(Self { by, limits, raw_frames: config.cache.raw_frames }))
    }

    /// True where this image is looked up.
    pub fn wants(&self, request: &Request) -> bool {
        self.raw_frames || !request.raw.is_raw()
    }

    /// True where an image of this content was looked at before, and is one that can be decoded.
    pub fn is_known(&self, frame: &Frame<'_>, content: Digest) -> bool {
        let (area, key) = (frame.area(), self.facts_key(frame, content));
        if area.find(key).is_none_or(|found| found.value.kind != Kind::Metadata) {
            area.count(Count::Miss(Kind::Metadata), 1);
            return false;
        }
        area.count(Count::Hit(Kind::Metadata), 1);
        frame.tell(&Offer::about(Told::Touched, Kind::Metadata, key));
        true
    }

    /// Notes what the header of an image of this content says.
    pub fn note(&self, frame: &Frame<'_>, content: Digest, header: &Header) {
        let (width, height) = header.oriented_size();
        let mut inline = [0; INLINE_WORDS];
        inline[2] = u64::from(width) << 32 | u64::from(height);
        inline[3] = u64::from(header.orientation) << 32 | format_number(header.format);
        frame.tell(&Offer { inline, ..Offer::about(Told::Made, Kind::Metadata, self.facts_key(frame, content)) });
    }

    fn facts_key(&self, frame: &Frame<'_>, content: Digest) -> Digest {
        frame.area().hasher().derive("facts", content, &self.limits)
    }

    /// Finds a result of this content that was kept, and leases it to the frame; true: it is done. Where none is, the gateway
    /// will keep the one that comes of it.
    pub fn take_result(&self, frame: &mut Frame<'_>, request: &Request, content: Digest) -> Result<bool, FrameError> {
        let Some(by) = &self.by else { return Ok(false) };
        let area = frame.area();
        let key = area.hasher().derive("result", content, &[by, bytemuck::bytes_of(&request.raw)].concat());
        frame.descriptor.result = [key as u64, (key >> 64) as u64];
        if let Some(found) = area.find(key).filter(|found| found.value.kind == Kind::Results)
            && let Some(Leased { view, sum }) = frame.lease_found(Pool::Held, key, &found)?
        {
            // From here on nothing would make it again.
            if area.hasher().of(&view) == sum {
                area.count(Count::Hit(Kind::Results), 1);
                frame.tell(&Offer::about(Told::Touched, Kind::Results, key));
                frame.is_done = true;
                return Ok(true);
            }
            frame.tell(&Offer::about(Told::Damaged, Kind::Results, key));
            frame.set_used(Pool::Held, 0)?;
        }
        area.count(Count::Miss(Kind::Results), 1);
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
