//! What frames in flight name: kept images, by blocks and by files, and clients' files. Read from their requests and leases while
//! others work on.

use std::{collections::HashSet, mem::offset_of, sync::atomic::Ordering};

use bytemuck::Zeroable as _;
use framepipe_cache::{Area, ArenaKind, Count};
use framepipe_frame::{Kept, Request};
use framepipe_pipeline::Pool;
use framepipe_shm::{JobView, Owner, Segment};

/// A frame in flight, as far as it concerns the cache.
pub struct Job<'s> {
    /// Its job.
    pub index: u32,
    /// The job at that moment.
    pub view: JobView<'s>,
    /// Its number.
    pub frame: u64,
    /// Bytes of its image.
    pub bytes: u64,
    /// Where they are kept.
    pub kept: Kept,
}

/// All frames in flight. Of one that is just being accepted the numbers may be torn.
pub fn all(segment: &Segment) -> impl Iterator<Item = Job<'_>> {
    (0..segment.frame_jobs()).filter_map(|index| {
        let view = segment.job_view(index)?;
        let word = |at: usize| view.request.get(at / 8).map_or(0, |word| word.load(Ordering::Relaxed));
        let kept = offset_of!(Request, kept);
        let of_kept = |at: usize| word(kept + at);
        let sum = offset_of!(Kept, sum);
        let kept = Kept {
            id: of_kept(offset_of!(Kept, id)),
            block: of_kept(offset_of!(Kept, block)),
            sum: [of_kept(sum), of_kept(sum + 8)],
        };
        let (frame, bytes) = (word(offset_of!(Request, frame)), word(offset_of!(Request, bytes)));
        Some(Job { index, view, frame, bytes, kept })
    })
}

/// The whole request of a job.
pub fn request(view: &JobView<'_>) -> Request {
    let mut request = Request::zeroed();
    let words = bytemuck::bytes_of_mut(&mut request).chunks_mut(8).zip(view.request);
    words.for_each(|(bytes, word)| bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes()[..bytes.len()]));
    request
}

/// True where a living process bears the id.
pub fn is_alive(segment: &Segment, owner: Owner) -> bool {
    owner != 0 && segment.processes().iter().any(|entry| entry.owner() == owner)
}

/// Gives back the blocks that nobody names any more.
pub fn sweep(area: &Area, segment: &Segment, keeper: Owner) {
    // In this order: what may be nobody's, then what is named.
    let candidates = ArenaKind::ALL.map(|kind| (kind, area.arena(kind).candidates()));
    if candidates.iter().all(|(_, candidates)| candidates.is_empty()) {
        return;
    }
    let named = named_blocks(segment);
    let swept = candidates.into_iter().map(|(kind, candidates)| {
        area.arena(kind).sweep(keeper, candidates, &named, |owner| is_alive(segment, owner)).blocks as u64
    });
    area.count(Count::SweptBlocks, swept.sum());
}

fn named_blocks(segment: &Segment) -> HashSet<u64> {
    let is_copied = |job: &Job<'_>| job.view.lists >> Pool::Encoded as u32 & 1 == 1;
    let by_requests = all(segment).filter(|job| !is_copied(job)).map(|job| job.kept.block);
    let mut named: HashSet<u64> = by_requests.collect();
    // Leases after the requests: a frame that moves from one to the other meanwhile has either.
    named.extend([Pool::Held, Pool::Cached].into_iter().flat_map(|pool| segment.leases(pool as usize)));
    named
}

#[cfg(test)]
mod tests {
    use framepipe_cache::BlockRef;
    use framepipe_shm::Gate;

    use super::*;
    use crate::bench::{Bench, GATEWAYS, KEEPERS, STAGES};

    #[test]
    fn what_frames_name_stays_and_what_none_names_any_more_is_given_back() {
        let bench = Bench::new(8);
        let arena = bench.area.arena(ArenaKind::Images);
        let kept = [1, 2].map(|id| bench.keep(id, b"an image", b"an image"));
        let lives = || kept.map(|kept| arena.lives(BlockRef::unpack(kept.block).expect("a block")));
        sweep(&bench.area, &bench.segment, KEEPERS);
        assert_eq!((lives(), bench.area.counted(Count::SweptBlocks)), ([true, true], 0));
        Gate::new(&bench.segment, GATEWAYS).free(bench.claim()).expect("it is this one's");
        sweep(&bench.area, &bench.segment, KEEPERS);
        assert_eq!((lives(), bench.area.counted(Count::SweptBlocks)), ([false, true], 1));
        assert_eq!(arena.in_use(), 1);
    }

    #[test]
    fn blocks_that_the_dead_were_writing_are_given_back_and_those_of_the_living_stay() {
        let bench = Bench::new(8);
        let arena = bench.area.arena(ArenaKind::Tensors);
        let _of_the_living = arena.take(STAGES, 1).expect("there is room");
        std::mem::forget(arena.take(9, 1).expect("there is room"));
        sweep(&bench.area, &bench.segment, KEEPERS);
        assert_eq!((arena.in_use(), bench.area.counted(Count::SweptBlocks)), (1, 1));
    }

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let bench = Bench::new(8);
        let kept = bench.keep(u64::MAX, b"bytes", b"bytes");
        let job = all(&bench.segment).next().expect("one frame");
        assert_eq!((job.frame, job.bytes, job.kept, job.view.waits_in), (0, 5, kept, Some(0)));
        let whole = request(&job.view);
        assert_eq!((whole.kept, whole.bytes), (kept, 5));
        assert_eq!(all(&bench.segment).count(), 1);
    }
}
