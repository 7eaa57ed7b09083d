//! Where a frame's pixels lie: in the kept image slot, in the encoded slot of a raw frame, or, where no frame was kept,
//! nowhere until the image is decoded, or the planar frame converted, again. Of an upright JPEG only the part that the
//! crops need is.

use framepipe_frame::FrameError;
use framepipe_pipeline::{Frame, Pool};
use framepipe_vision::{Decoder, FrameView, Header, Limits, RawView, Region, probe};

/// Finds frames' pixels, one frame's at a time.
pub struct Pixels {
    limits: Limits,
    decoder: Decoder,
    /// A frame decoded or converted again: grows to the largest, at most 3 times `limits.pixels_max`.
    scratch: Vec<u8>,
}

impl Pixels {
    /// With a decoder that holds images to `limits`.
    pub fn new(limits: Limits) -> Result<Self, FrameError> {
        Ok(Self { limits, decoder: Decoder::new(limits)?, scratch: Vec::new() })
    }

    /// The frame's pixels, the right way up and in source size: at least those of the region that `needed` gives for that
    /// size.
    pub fn of<'a>(
        &'a mut self,
        frame: &Frame<'a>,
        needed: impl FnOnce((u32, u32)) -> Region,
    ) -> Result<FrameView<'a>, FrameError> {
        let (width, height) = (frame.descriptor.kept_width, frame.descriptor.kept_height);
        if width > 0 {
            return Ok(FrameView::rgb(frame.input(Pool::Image)?, width, height)?);
        }
        let encoded = frame.input(Pool::Encoded)?;
        let raw = frame.request().raw;
        if raw.is_raw() {
            return match RawView::of(encoded, &raw)? {
                RawView::Packed(view) => Ok(view),
                RawView::Planar(view) => {
                    let image = room(&mut self.scratch, view.rgb_bytes());
                    view.write_rgb(image);
                    Ok(FrameView::rgb(image, raw.width, raw.height)?)
                }
            };
        }
        // The way up that preprocess gave the detector.
        let orientation = frame.descriptor.orientation as u8;
        let header = Header { orientation, ..probe(encoded, &self.limits)? };
        let (width, height) = header.oriented_size();
        if Decoder::has_rows(&header) {
            let region = needed((width, height));
            let part = room(&mut self.scratch, region.rgb_bytes());
            self.decoder.decode_region(encoded, &header, &region, part)?;
            return Ok(FrameView::part(part, (width, height), &region)?);
        }
        let image = room(&mut self.scratch, 3 * width as usize * height as usize);
        self.decoder.decode_rgb(encoded, &header, image)?;
        Ok(FrameView::rgb(image, width, height)?)
    }
}

/// The scratch buffer's first `bytes`.
fn room(scratch: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    scratch.resize(scratch.len().max(bytes), 0);
    &mut scratch[..bytes]
}
