//! An image's bytes become the detector's tensor, and where crops will be taken, a decoded frame that is kept for
//! them. A raw frame is sampled where it lies: its encoded slot serves the crops too.

use anyhow::Result;
use framepipe_frame::{FrameError, RawFrame, TensorMap};
use framepipe_pipeline::{Frame, Item, Needs, Plan, Pool, Process, Stage};
use framepipe_vision::{DecodeScale, Decoder, FrameView, Header, Limits, Preprocessor, probe};

/// The stage: the decoder, and the detector's input.
pub struct Preprocess {
    limits: Limits,
    decoder: Decoder,
    preprocessor: Preprocessor,
    /// Largest decoded frame that is kept for the crops; 0: none is.
    kept_bytes_max: usize,
    /// Pixels of a frame that is not kept: grows to the largest, at most 3 times `limits.pixels_max`.
    scratch: Vec<u8>,
}

/// Where a frame's pixels come from.
pub enum Pixels {
    /// They lie in the encoded slot.
    Raw(RawFrame),
    /// They are decoded into an image slot, which is kept.
    Kept(Header),
    /// They are decoded into the scratch buffer, at this scale, and forgotten.
    Forgotten(Header, DecodeScale),
}

impl Preprocess {
    /// Prepares for the detector's input.
    pub fn open(process: &Process) -> Result<Self> {
        let config = &process.order.config;
        let plan = Plan::of(config)?;
        let image_slot_bytes = process.segment().geometry().pools[Pool::Image as usize].slot_bytes_max() as usize;
        Ok(Self {
            limits: config.limits,
            decoder: Decoder::new(config.limits)?,
            preprocessor: Preprocessor::new(plan.detector.input.plan)?,
            kept_bytes_max: if plan.attributes.is_empty() { 0 } else { image_slot_bytes },
            scratch: Vec::new(),
        })
    }

    fn preprocess(&mut self, frame: &mut Frame<'_>, pixels: &Pixels) -> Result<(), FrameError> {
        let encoded = frame.input(Pool::Encoded)?;
        let Self { decoder, preprocessor, scratch, .. } = self;
        let bytes = preprocessor.plan().tensor_bytes();
        let mut write = |mut view: FrameView<'_>, slot: &mut [u8]| {
            let Ok(map) = preprocessor.run(&mut view, &mut slot[..bytes]);
            map
        };
        let tensor_map = match pixels {
            Pixels::Raw(raw) => {
                let view = FrameView::raw(encoded, raw)?;
                frame.write_output(Pool::Tensor, |slot| Ok((bytes, write(view, slot))))?
            }
            Pixels::Kept(header) => frame.write_outputs([Pool::Image, Pool::Tensor], |[image, slot]| {
                let image_bytes = DecodeScale::Full.rgb_bytes(header);
                let view = decode(decoder, encoded, header, DecodeScale::Full, &mut image[..image_bytes])?;
                Ok(([image_bytes, bytes], write(view, slot)))
            })?,
            Pixels::Forgotten(header, scale) => {
                let image_bytes = scale.rgb_bytes(header);
                scratch.resize(scratch.len().max(image_bytes), 0);
                let view = decode(decoder, encoded, header, *scale, &mut scratch[..image_bytes])?;
                frame.write_output(Pool::Tensor, |slot| Ok((bytes, write(view, slot))))?
            }
        };
        describe(frame, pixels, tensor_map);
        Ok(())
    }
}

impl Stage for Preprocess {
    type Plan = Pixels;

    fn plan(&mut self, frame: &mut Frame<'_>) -> Result<(Needs, Pixels), FrameError> {
        let needs = Needs::NONE.and(Pool::Tensor, self.preprocessor.plan().tensor_bytes());
        let raw = frame.request().raw;
        if raw.is_raw() {
            return Ok((needs, Pixels::Raw(raw)));
        }
        let plan = self.preprocessor.plan();
        let header = plan.header(probe(frame.input(Pool::Encoded)?, &self.limits)?);
        let image_bytes = DecodeScale::Full.rgb_bytes(&header); // `probe` held it to `limits.pixels_max`
        if image_bytes > self.kept_bytes_max {
            return Ok((needs, Pixels::Forgotten(header, plan.decode_scale(&header))));
        }
        Ok((needs.and(Pool::Image, image_bytes), Pixels::Kept(header)))
    }

    fn process(&mut self, batch: &mut [Item<'_, Pixels>]) {
        for item in batch {
            item.frame.error = self.preprocess(&mut item.frame, &item.plan).err();
        }
    }
}

fn decode<'i>(
    decoder: &mut Decoder,
    encoded: &[u8],
    header: &Header,
    scale: DecodeScale,
    image: &'i mut [u8],
) -> Result<FrameView<'i>, FrameError> {
    decoder.decode_scaled(encoded, header, scale, image)?;
    Ok(FrameView::scaled_rgb(image, header.oriented_size(), scale)?)
}

/// Notes in the descriptor what the later stages need to know.
fn describe(frame: &mut Frame<'_>, pixels: &Pixels, tensor_map: TensorMap) {
    let (source, kept, orientation) = match pixels {
        Pixels::Raw(raw) => ((raw.width, raw.height), (0, 0), 1),
        Pixels::Kept(header) => (header.oriented_size(), header.oriented_size(), header.orientation),
        Pixels::Forgotten(header, _) => (header.oriented_size(), (0, 0), header.orientation),
    };
    let descriptor = &mut frame.descriptor;
    (descriptor.source_width, descriptor.source_height) = source;
    (descriptor.kept_width, descriptor.kept_height) = kept;
    descriptor.orientation = orientation.into();
    descriptor.tensor_map = tensor_map;
}
