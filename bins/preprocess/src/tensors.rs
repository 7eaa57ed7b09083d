//! Tensors that were made before: found by the key of the image's content and that of the graph, and leased to the frame, or
//! copied for it where memory is short. A frame that got its tensor so is not decoded; its crops are decoded from the encoded
//! bytes, if there will be any.

use anyhow::Result;
use framepipe_cache::{ArenaKind, Count, Digest, Found, INLINE_WORDS, Kind, Level, Offer, Told};
use framepipe_frame::{FrameError, TensorMap};
use framepipe_model::Manifest;
use framepipe_pipeline::{Frame, Pool, Process};

/// The key of a tensor.
pub type Key = Digest;

/// The keys of this pipeline's tensors.
pub struct Tensors {
    /// Names the graph, and what decodes.
    graph: Vec<u8>,
}

impl Tensors {
    /// Where tensors are kept, and those of this detector are as large as they.
    pub fn of(process: &Process, detector: &Manifest) -> Result<Option<Self>> {
        let bytes = detector.input.plan.tensor_bytes();
        let arena = process.area().arena(ArenaKind::Tensors);
        if arena.blocks() == 0 || bytes > arena.block_bytes() {
            return Ok(None);
        }
        let graph = format!("{} {:?}", env!("CARGO_PKG_VERSION"), detector.input.plan.graph());
        Ok(Some(Self { graph: graph.into_bytes() }))
    }

    /// The key of a frame's tensor; none where its content is not known.
    pub fn key(&self, frame: &Frame<'_>) -> Option<Key> {
        let [low, high] = frame.descriptor.content;
        let content = u128::from(high) << 64 | u128::from(low);
        let by = [self.graph.as_slice(), bytemuck::bytes_of(&frame.request().raw)].concat();
        (content != 0).then(|| frame.area().hasher().derive("tensor", content, &by))
    }

    /// The tensor of this key, if there is one.
    pub fn find(frame: &Frame<'_>, key: Key) -> Option<Found> {
        let found = frame.area().find(key).filter(|found| found.value.kind == Kind::Tensors && found.value.block != 0);
        if found.is_none() {
            frame.area().count(Count::Miss(Kind::Tensors), 1);
        }
        found
    }

    /// Gives a frame the tensor that was found; false where it has gone since.
    pub fn take(&self, frame: &mut Frame<'_>, key: Key, found: &Found) -> Result<bool, FrameError> {
        if !frame.lease_found(Pool::Cached, found)? {
            frame.area().count(Count::Miss(Kind::Tensors), 1);
            return Ok(false);
        }
        if frame.area().level() >= Level::CopyOnRead && !frame.copy_cached(found)? {
            return Ok(false);
        }
        frame.area().count(Count::Hit(Kind::Tensors), 1);
        frame.tell(&Offer::about(Told::Touched, Kind::Tensors, key));
        let [size, scale, pad, orientation, ..] = found.value.inline;
        let (high, low) = (|word: u64| (word >> 32) as u32, |word: u64| word as u32);
        let descriptor = &mut frame.descriptor;
        (descriptor.source_width, descriptor.source_height) = (high(size), low(size));
        (descriptor.kept_width, descriptor.kept_height) = (0, 0);
        descriptor.orientation = low(orientation);
        descriptor.tensor_map = TensorMap {
            scale_x: f32::from_bits(high(scale)),
            scale_y: f32::from_bits(low(scale)),
            pad_x: f32::from_bits(high(pad)),
            pad_y: f32::from_bits(low(pad)),
        };
        Ok(true)
    }

    /// Keeps the tensor that was made for a frame, with what else was found out, where there is room.
    pub fn keep(frame: &mut Frame<'_>, key: Key) -> Result<(), FrameError> {
        let descriptor = frame.descriptor;
        let TensorMap { scale_x, scale_y, pad_x, pad_y } = descriptor.tensor_map;
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let mut inline = [0; INLINE_WORDS];
        inline[0] = pair(descriptor.source_width, descriptor.source_height);
        inline[1] = pair(scale_x.to_bits(), scale_y.to_bits());
        inline[2] = pair(pad_x.to_bits(), pad_y.to_bits());
        inline[3] = descriptor.orientation.into();
        frame.offer_written(Pool::Tensor, Kind::Tensors, key, inline)
    }
}
