//! Where a frame's pixels lie: in the kept image slot, in the encoded slot of a raw frame, or, where no frame was kept,
//! nowhere until the image is decoded again.

use framepipe_frame::FrameError;
use framepipe_pipeline::{Frame, Pool};
use framepipe_vision::{Decoder, FrameView, Limits, probe};

/// Finds frames' pixels, one frame's at a time.
pub struct Pixels {
    limits: Limits,
    decoder: Decoder,
    /// A frame decoded again: grows to the largest, at most 3 times `limits.pixels_max`.
    scratch: Vec<u8>,
}

impl Pixels {
    /// With a decoder that holds images to `limits`.
    pub fn new(limits: Limits) -> Result<Self, FrameError> {
        Ok(Self { limits, decoder: Decoder::new(limits)?, scratch: Vec::new() })
    }

    /// The frame's pixels, the right way up and in source size.
    pub fn of<'a>(&'a mut self, frame: &Frame<'a>) -> Result<FrameView<'a>, FrameError> {
        let (width, height) = (frame.descriptor.kept_width, frame.descriptor.kept_height);
        if width > 0 {
            return Ok(FrameView::rgb(frame.input(Pool::Image)?, width, height)?);
        }
        let encoded = frame.input(Pool::Encoded)?;
        let raw = frame.request().raw;
        if raw.is_raw() {
            return Ok(FrameView::raw(encoded, &raw)?);
        }
        let header = probe(encoded, &self.limits)?;
        let (width, height) = header.oriented_size();
        let image_bytes = 3 * width as usize * height as usize;
        self.scratch.resize(self.scratch.len().max(image_bytes), 0);
        let image = &mut self.scratch[..image_bytes];
        self.decoder.decode_rgb(encoded, &header, image)?;
        Ok(FrameView::rgb(image, width, height)?)
    }
}
