//! An image's bytes become the detector's tensor, and where crops will be taken, a decoded frame that is kept for
//! them. A raw frame of packed pixels is sampled where it lies: its encoded slot serves the crops too. One of planes is
//! converted first, as an image is decoded. Where the pipeline has a GPU, the pixels go there, and all after that is done there
//! (`on_gpu.rs`). A tensor that was made before of the same image, and kept, is not made again (`tensors.rs`).

use anyhow::Result;
use framepipe_cache::Found;
use framepipe_frame::{ErrorCode, FrameError, RawFrame, TensorMap};
use framepipe_gpu::StageDevice;
use framepipe_pipeline::{Frame, Item, Needs, Plan, Pool, Process, Stage};
use framepipe_vision::{DecodeScale, Decoder, FrameView, Header, Limits, Preprocessor, RawView, probe};

use crate::{
    on_gpu::OnGpu,
    tensors::{Key, Tensors},
};

/// The stage: the decoder, and the detector's input.
pub struct Preprocess {
    limits: Limits,
    decoder: Decoder,
    preprocessor: Preprocessor,
    /// Largest decoded frame that is kept for the crops; 0: none is.
    kept_bytes_max: usize,
    /// Makes the tensors, where the pipeline has a GPU.
    on_gpu: Option<OnGpu>,
    /// Finds tensors that were made before, where they are kept.
    tensors: Option<Tensors>,
    /// Pixels of a frame that is not kept: grows to the largest, at most 3 times `limits.pixels_max`.
    scratch: Vec<u8>,
}

/// What a frame's tensor is made of.
pub enum Work {
    /// It was made before.
    Found(Key, Found),
    /// It is made, and kept where there is a key.
    Make(Pixels, Option<Key>),
}

/// Where a frame's pixels come from.
pub enum Pixels {
    /// They lie in the encoded slot, packed.
    Raw(RawFrame),
    /// Likewise, and are the tensor.
    Tensor(RawFrame),
    /// They are made in an image slot, which is kept.
    Kept(Original),
    /// They are made in the scratch buffer, at this scale, and forgotten.
    Forgotten(Original, DecodeScale),
}

/// What RGB pixels are made of.
#[derive(Clone, Copy)]
pub enum Original {
    /// An encoded image: they are decoded.
    Encoded(Header),
    /// A raw frame of planes: they are converted.
    Planar(RawFrame),
}

impl Original {
    /// Width and height when it is the right way up.
    pub fn size(&self) -> (u32, u32) {
        match self {
            Self::Encoded(header) => header.oriented_size(),
            Self::Planar(raw) => (raw.width, raw.height),
        }
    }

    /// EXIF orientation.
    fn orientation(&self) -> u8 {
        match self {
            Self::Encoded(header) => header.orientation,
            Self::Planar(_) => 1,
        }
    }

    /// Bytes of its RGB8.
    pub fn rgb_bytes(&self, scale: DecodeScale) -> usize {
        let (width, height) = self.size();
        3 * scale.pixels_of(width) as usize * scale.pixels_of(height) as usize
    }
}

impl Preprocess {
    /// Prepares for the detector's input.
    pub fn open(process: &Process) -> Result<Self> {
        let config = &process.order.config;
        let plan = Plan::of(config)?;
        let on_gpu = match StageDevice::of(process)? {
            Some(device) => Some(OnGpu::open(device, plan.detector.input.plan.clone(), &config.limits, config.jpeg)?),
            None => None,
        };
        let tensors = Tensors::of(process, &plan)?.filter(|_| on_gpu.is_none());
        Ok(Self {
            on_gpu,
            tensors,
            limits: config.limits,
            decoder: Decoder::new(config.limits)?,
            kept_bytes_max: plan.kept_bytes_max(),
            preprocessor: Preprocessor::new(plan.detector.input.plan)?,
            scratch: Vec::new(),
        })
    }

    fn work(&mut self, frame: &mut Frame<'_>, work: &Work) -> Result<(), FrameError> {
        match (work, &self.tensors) {
            (Work::Found(key, found), Some(_)) => {
                if Tensors::take(frame, *key, found)? {
                    return Ok(());
                }
                // It has gone since the frame was planned, without a slot for a decoded frame.
                let pixels = self.pixels(frame, 0)?;
                self.preprocess(frame, &pixels)
            }
            (Work::Make(pixels, key), tensors) => {
                let (key, tensors) = (*key, tensors.is_some());
                self.preprocess(frame, pixels)?;
                if let (Some(key), true) = (key, tensors) {
                    frame.check_in_place()?; // or a tensor of damaged bytes would be kept as the image's
                    Tensors::keep(frame, key)?;
                }
                Ok(())
            }
            (Work::Found(..), None) => {
                Err(FrameError::new(ErrorCode::Internal, "a tensor was found, and none is kept"))
            }
        }
    }

    fn preprocess(&mut self, frame: &mut Frame<'_>, pixels: &Pixels) -> Result<(), FrameError> {
        let shared = frame.encoded()?;
        let encoded = &*shared;
        let Self { decoder, preprocessor, scratch, .. } = self;
        if let Some(on_gpu) = &mut self.on_gpu {
            let tensor_map = on_gpu.preprocess(frame, encoded, pixels, decoder)?;
            describe(frame, pixels, tensor_map);
            return Ok(());
        }
        let bytes = preprocessor.plan().tensor_bytes();
        let tensor_map = match pixels {
            // It has no slot of its own: detect reads it where it lies.
            Pixels::Tensor(raw) => {
                frame.descriptor.encoded_is_tensor = 1;
                preprocessor.plan().tensor_map((raw.width, raw.height))
            }
            Pixels::Raw(raw) => {
                let view = RawView::of(encoded, raw)?.packed()?;
                frame.write_output(Pool::Tensor, |slot| Ok((bytes, write(preprocessor, view, slot))))?
            }
            Pixels::Kept(original) => frame.write_outputs([Pool::Image, Pool::Tensor], |[image, slot]| {
                let image_bytes = original.rgb_bytes(DecodeScale::Full);
                let view = to_rgb(decoder, encoded, original, DecodeScale::Full, &mut image[..image_bytes])?;
                Ok(([image_bytes, bytes], write(preprocessor, view, slot)))
            })?,
            // Sampled as it is decoded: rows that the tensor does not need are never made.
            Pixels::Forgotten(Original::Encoded(header), scale) if Decoder::has_rows(header) => {
                let mut rows = decoder.rows(encoded, header, *scale)?;
                frame.write_output(Pool::Tensor, |slot| {
                    let map = preprocessor.run(&mut rows, &mut slot[..bytes])?;
                    // The rest is looked at, too: what is cut short is no image, wherever the cut is.
                    rows.finish()?;
                    Ok((bytes, map))
                })?
            }
            Pixels::Forgotten(original, scale) => {
                let image_bytes = original.rgb_bytes(*scale);
                scratch.resize(scratch.len().max(image_bytes), 0);
                let view = to_rgb(decoder, encoded, original, *scale, &mut scratch[..image_bytes])?;
                frame.write_output(Pool::Tensor, |slot| Ok((bytes, write(preprocessor, view, slot))))?
            }
        };
        describe(frame, pixels, tensor_map);
        Ok(())
    }
}

impl Preprocess {
    /// Where a frame's pixels come from. One whose pixels take more than `kept_bytes_max` is not kept.
    fn pixels(&self, frame: &Frame<'_>, kept_bytes_max: usize) -> Result<Pixels, FrameError> {
        let plan = self.preprocessor.plan();
        let (shared, raw) = (frame.encoded()?, frame.request().raw);
        let encoded = &*shared;
        let original = if raw.is_raw() {
            match RawView::of(encoded, &raw)? {
                RawView::Packed(view) if self.is_the_tensor(frame, encoded, &view) => return Ok(Pixels::Tensor(raw)),
                RawView::Packed(_) => return Ok(Pixels::Raw(raw)),
                RawView::Planar(_) => Original::Planar(raw),
            }
        } else {
            Original::Encoded(plan.header(probe(encoded, &self.limits)?))
        };
        // `probe` held it to `limits.pixels_max`, as ingest did raw frames.
        if original.rgb_bytes(DecodeScale::Full) <= kept_bytes_max {
            return Ok(Pixels::Kept(original));
        }
        let scale = match &original {
            Original::Encoded(header) => plan.decode_scale(header),
            Original::Planar(_) => DecodeScale::Full,
        };
        Ok(Pixels::Forgotten(original, scale))
    }

    /// True where a raw frame's bytes are its tensor, and lie in a slot, which stays as it is until the frame's end. (What lies in
    /// the cache comes in pieces, or from the disk.)
    fn is_the_tensor(&self, frame: &Frame<'_>, encoded: &[u8], view: &FrameView<'_>) -> bool {
        let plan = self.preprocessor.plan();
        let is_in_a_slot = frame.has_input(Pool::Encoded) && encoded.len() == plan.tensor_bytes();
        self.on_gpu.is_none() && is_in_a_slot && plan.takes_as_is(view)
    }

    /// Bytes of the image slot that they take; 0: none.
    fn image_bytes(&self, pixels: &Pixels) -> usize {
        match pixels {
            // The GPU's crops are taken there; the CPU's from where the client's bytes lie.
            Pixels::Raw(raw) if self.on_gpu.is_some() => {
                let bytes = raw.bytes().unwrap_or(0) as usize;
                if bytes <= self.kept_bytes_max { bytes } else { 0 }
            }
            Pixels::Kept(original) => original.rgb_bytes(DecodeScale::Full),
            Pixels::Raw(_) | Pixels::Tensor(_) | Pixels::Forgotten(..) => 0,
        }
    }
}

impl Stage for Preprocess {
    type Plan = Work;

    fn plan(&mut self, frame: &mut Frame<'_>) -> Result<(Needs, Work), FrameError> {
        let needs = Needs::NONE.and(Pool::Tensor, self.preprocessor.plan().tensor_bytes());
        let key = self.tensors.as_ref().and_then(|tensors| tensors.key(frame));
        if let Some((key, found)) = key.and_then(|key| Some((key, Tensors::find(frame, key)?))) {
            // The slot is for the case that it has gone by then; the frame takes the lease alone.
            return Ok((needs.and(Pool::Cached, size_of::<u64>()), Work::Found(key, found)));
        }
        let pixels = self.pixels(frame, self.kept_bytes_max)?;
        if matches!(pixels, Pixels::Tensor(_)) {
            return Ok((Needs::NONE, Work::Make(pixels, None)));
        }
        let needs = match self.image_bytes(&pixels) {
            0 => needs,
            bytes => needs.and(Pool::Image, bytes),
        };
        Ok((needs, Work::Make(pixels, key)))
    }

    fn may_take_long(&self, batch: &[Item<'_, Work>]) -> bool {
        // What is decoded takes as long as it is large, and that is another size each time.
        let is_decoded = |pixels: &Pixels| matches!(pixels, Pixels::Kept(_) | Pixels::Forgotten(..));
        batch.iter().any(|item| matches!(&item.plan, Work::Make(pixels, _) if is_decoded(pixels)))
    }

    fn process(&mut self, batch: &mut [Item<'_, Work>]) {
        for item in batch {
            item.frame.error = self.work(&mut item.frame, &item.plan).err();
        }
    }
}

/// Writes the tensor of pixels that are there, at the start of `slot`, which begins at a page and holds it.
fn write(preprocessor: &mut Preprocessor, mut view: FrameView<'_>, slot: &mut [u8]) -> TensorMap {
    let bytes = preprocessor.plan().tensor_bytes();
    let Ok(map) = preprocessor.run(&mut view, &mut slot[..bytes]);
    map
}

/// Makes the RGB pixels of `original` in `image`, which holds them exactly.
pub fn to_rgb<'i>(
    decoder: &mut Decoder,
    encoded: &[u8],
    original: &Original,
    scale: DecodeScale,
    image: &'i mut [u8],
) -> Result<FrameView<'i>, FrameError> {
    match original {
        Original::Encoded(header) => decoder.decode_scaled(encoded, header, scale, image)?,
        Original::Planar(raw) => RawView::of(encoded, raw)?.planar()?.write_rgb(image),
    }
    Ok(FrameView::scaled_rgb(image, original.size(), scale)?)
}

/// Notes in the descriptor what the later stages need to know.
fn describe(frame: &mut Frame<'_>, pixels: &Pixels, tensor_map: TensorMap) {
    let (source, kept, orientation) = match pixels {
        Pixels::Raw(raw) | Pixels::Tensor(raw) => ((raw.width, raw.height), (0, 0), 1),
        Pixels::Kept(original) => (original.size(), original.size(), original.orientation()),
        Pixels::Forgotten(original, _) => (original.size(), (0, 0), original.orientation()),
    };
    let descriptor = &mut frame.descriptor;
    (descriptor.source_width, descriptor.source_height) = source;
    (descriptor.kept_width, descriptor.kept_height) = kept;
    descriptor.orientation = orientation.into();
    descriptor.tensor_map = tensor_map;
}
