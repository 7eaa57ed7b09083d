//! Tensors that were made before: found by the key of the image's content and that of the graph, and leased to the frame, or
//! copied for it where memory is short. A frame that got its tensor so is not decoded; its crops are decoded from the encoded
//! bytes, if there will be any.

use anyhow::Result;
use bytemuck::{Pod, Zeroable};
use framepipe_cache::{ArenaKind, Count, Digest, Found, Kind, Level, Offer, Told};
use framepipe_frame::{FrameError, TensorMap};
use framepipe_pipeline::{Frame, Plan, Pool, Process, TENSOR_FACTS_BYTES};

/// The key of a tensor.
pub type Key = Digest;

/// The keys of this pipeline's tensors.
pub struct Tensors {
    /// Names the graph, and what decodes.
    graph: Vec<u8>,
}

impl Tensors {
    /// Where tensors are kept, and those of this detector are as large as they.
    pub fn of(process: &Process, plan: &Plan) -> Result<Option<Self>> {
        let graph = &plan.detector.input.plan;
        let bytes = graph.tensor_bytes() + TENSOR_FACTS_BYTES;
        let arena = process.area().arena(ArenaKind::Tensors);
        if arena.blocks() == 0 || bytes > arena.block_bytes() {
            return Ok(None);
        }
        // A frame that is kept for crops is decoded whole, another one at the scale that the tensor needs.
        let named = format!("{} {:?} {}", env!("CARGO_PKG_VERSION"), graph.graph(), plan.kept_bytes_max());
        Ok(Some(Self { graph: named.into_bytes() }))
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
    pub fn take(frame: &mut Frame<'_>, key: Key, found: &Found) -> Result<bool, FrameError> {
        let area = frame.area();
        let Some(facts) = frame.take_tensor(key, found, area.level() >= Level::CopyOnRead)? else {
            area.count(Count::Miss(Kind::Tensors), 1);
            return Ok(false);
        };
        area.count(Count::Hit(Kind::Tensors), 1);
        frame.tell(&Offer::about(Told::Touched, Kind::Tensors, key));
        let Facts { size, tensor_map, orientation, .. } = bytemuck::pod_read_unaligned(&facts);
        let descriptor = &mut frame.descriptor;
        [descriptor.source_width, descriptor.source_height] = size;
        (descriptor.kept_width, descriptor.kept_height) = (0, 0);
        (descriptor.orientation, descriptor.tensor_map) = (orientation, tensor_map);
        Ok(true)
    }

    /// Keeps the tensor that was made for a frame, with what else was found out, where there is room.
    pub fn keep(frame: &mut Frame<'_>, key: Key) -> Result<(), FrameError> {
        let descriptor = &frame.descriptor;
        let facts = Facts {
            size: [descriptor.source_width, descriptor.source_height],
            tensor_map: descriptor.tensor_map,
            orientation: descriptor.orientation,
            zero: 0,
        };
        frame.offer_written(Pool::Tensor, Kind::Tensors, key, bytemuck::bytes_of(&facts))
    }
}

/// What later stages need to know of the image, as it lies behind its tensor.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Facts {
    size: [u32; 2],
    tensor_map: TensorMap,
    orientation: u32,
    zero: u32,
}

const _: () = assert!(size_of::<Facts>() == TENSOR_FACTS_BYTES);
