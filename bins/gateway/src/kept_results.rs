//! Results that are kept: given again to an image of the same content, and offered to the cache's keeper.

use framepipe_cache::{ArenaKind, BlockRef, Digest, Kind, Offer, Record, Told};
use framepipe_frame::{Descriptor, ErrorCode, FrameError};
use framepipe_pipeline::{Pool, Process, offer_made};
use framepipe_proto::v1;
use framepipe_shm::Work;
use prost::Message as _;

/// The result that ingest found for a frame, which was kept of another image of the same content.
pub fn of(work: &Work<'_>) -> Option<BlockRef> {
    let lease = work.lease(Pool::Held as usize).and_then(BlockRef::unpack);
    lease.filter(|block| block.arena() == ArenaKind::Results)
}

/// Reads it, and compares its checksum, and its key with the one by which ingest found it.
pub fn read(process: &Process, first: BlockRef, wanted: Option<Digest>) -> Result<v1::Detections, FrameError> {
    let area = process.area();
    let arena = area.arena(ArenaKind::Results);
    let damaged =
        || FrameError::new(ErrorCode::StoreDamaged, "the result that was kept of this image is damaged: push it again");
    let Record { key, sum, bytes } = arena.record(first).ok_or_else(damaged)?;
    let view = arena.view(first, bytes as usize).ok_or_else(damaged)?;
    // A copy: what is compared and what is decoded is the same.
    let copy = view.to_vec();
    if area.hasher().of(&copy) != sum || Some(key) != wanted {
        area.offer(process.order.owner, &Offer::about(Told::Damaged, Kind::Results, key));
        return Err(damaged());
    }
    v1::Detections::decode(copy.as_slice()).map_err(|_| damaged())
}

/// The key by which ingest wants a frame's result to be found.
pub fn key(descriptor: &Descriptor) -> Option<Digest> {
    let [low, high] = descriptor.result;
    Some(u128::from(high) << 64 | u128::from(low)).filter(|key| *key != 0)
}

/// Offers a result to the keeper.
pub fn keep(process: &Process, key: Digest, detections: &v1::Detections) {
    let (area, owner) = (process.area(), process.order.owner);
    offer_made(area, owner, Kind::Results, key, [&detections.encode_to_vec()]);
}
