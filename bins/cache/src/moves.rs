//! Images whose turn is last, moved from memory to the disk while memory is short: copied, checked, and only then taken out of
//! memory, if their frame still waits. Killed anywhere, a move leaves the image where it was, or a file beside it.

use std::{
    collections::HashSet,
    io,
    path::PathBuf,
    sync::atomic::{Ordering, fence},
    time::{Duration, Instant},
};

use framepipe_cache::{
    Area, ArenaKind, BlockRef, Count,
    spill::{self, SpillFile},
};
use framepipe_pipeline::queue_before;
use framepipe_shm::{Owner, Segment};

use crate::jobs::{self, Job};

/// Of one round: images, and the time after which no other is begun.
const IMAGES_MAX: usize = 32;
const TIME_MAX: Duration = Duration::from_millis(50);
/// After the disk has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Moves images.
pub struct Mover {
    folder: PathBuf,
    keeper: Owner,
    /// The disk has failed: not before this.
    not_before: Instant,
    /// Of the images that wait, those that are damaged: they stay where they are, and their frames find it out.
    damaged: HashSet<u64>,
}

/// What a round has moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    /// Images.
    pub images: u64,
    /// Bytes of memory that are free now.
    pub memory_bytes: u64,
    /// Bytes of disk that were taken.
    pub disk_bytes: u64,
    /// Bytes of the largest image that waits and may be moved, moved or not.
    pub largest: u64,
}

impl Mover {
    /// To this folder, as this keeper.
    pub fn new(folder: PathBuf, keeper: Owner) -> Self {
        Self { folder, keeper, not_before: Instant::now(), damaged: HashSet::new() }
    }

    /// Frees so many bytes of memory, as long as `disk_room` lasts. `beat` is called between images.
    pub fn relieve(&mut self, area: &Area, segment: &Segment, bytes: u64, disk_room: u64, beat: impl Fn()) -> Moved {
        let (start, mut moved) = (Instant::now(), Moved::default());
        if start < self.not_before {
            return moved;
        }
        let mut waiting = last_first(segment);
        let ids: HashSet<u64> = waiting.iter().map(|job| job.kept.id).collect();
        self.damaged.retain(|id| ids.contains(id));
        waiting.retain(|job| !self.damaged.contains(&job.kept.id));
        moved.largest = waiting.iter().map(|job| job.bytes).max().unwrap_or(0);
        for job in waiting {
            let is_enough = moved.memory_bytes >= bytes || moved.images as usize >= IMAGES_MAX;
            if is_enough || start.elapsed() >= TIME_MAX {
                break;
            }
            let file_bytes = job.bytes.saturating_add(spill::HEAD_BYTES as u64);
            if moved.disk_bytes.saturating_add(file_bytes) > disk_room {
                continue; // a smaller one may fit
            }
            beat();
            match self.move_one(area, segment, &job) {
                Ok(0) => {}
                Ok(freed) => {
                    moved.images += 1;
                    moved.memory_bytes += freed;
                    moved.disk_bytes += file_bytes;
                }
                Err(error) => {
                    tracing::warn!("no image is moved to {}: {error}", self.folder.display());
                    self.not_before = Instant::now() + PATIENCE;
                    break;
                }
            }
        }
        area.count(Count::Moved, moved.images);
        moved
    }

    /// Returns the bytes of memory that are free now; 0 where the image stays.
    fn move_one(&mut self, area: &Area, segment: &Segment, job: &Job<'_>) -> io::Result<u64> {
        area.begin_moving(job.kept.id);
        let moved = self.copy_and_free(area, segment, job);
        area.begin_moving(0);
        moved
    }

    fn copy_and_free(&mut self, area: &Area, segment: &Segment, job: &Job<'_>) -> io::Result<u64> {
        let (id, sum) = (job.kept.id, job.kept.digest());
        let arena = area.arena(ArenaKind::Images);
        let Some(first) = BlockRef::unpack(job.kept.block).filter(|first| first.arena() == ArenaKind::Images) else {
            return Ok(0);
        };
        if arena.record(first).is_none_or(|record| record.bytes != job.bytes) {
            return Ok(0); // it is on disk, or was copied out
        }
        let mut running = area.hasher().begin();
        let lived = arena.copy(first, job.bytes as usize, |piece| {
            running.add(piece);
            Ok(())
        })?;
        if !lived {
            return Ok(0); // its turn has come
        }
        if running.end() != sum {
            self.damaged.insert(id);
            return Ok(0);
        }
        let (mut writer, mut running) = (spill::Writer::begin(&self.folder, id)?, area.hasher().begin());
        let lived = arena.copy(first, job.bytes as usize, |piece| {
            running.add(piece);
            writer.add(piece)
        })?;
        if !lived || running.end() != sum {
            return Ok(0); // its turn has come meanwhile; what is damaged meanwhile is found next time
        }
        writer.finish(sum)?;
        let is_moving = arena.begin_move(first);
        // Pairs with the claimer's, between its claim and its look at the block: it sees that the block moves, and looks on the
        // disk, or its claim is seen here.
        fence(Ordering::SeqCst);
        if is_moving && segment.stands(job.index, &job.view) {
            arena.end_move(self.keeper, first);
            return Ok(job.bytes.max(1).next_multiple_of(arena.block_bytes() as u64));
        }
        // In this order: who does not find the file any more finds the block again.
        arena.abandon_move(first);
        spill::remove(&self.folder, id);
        Ok(0)
    }

    /// What a keeper that died left of a move: the image stays where it is, and its file goes, if it is in memory still or no
    /// frame needs it. Returns how many were being moved.
    pub fn settle(&self, area: &Area, segment: &Segment) -> usize {
        let arena = area.arena(ArenaKind::Images);
        let moves = arena.settle_moves();
        let id = area.moving();
        if id == 0 {
            return moves;
        }
        spill::clear(&self.folder, &SpillFile { id, bytes: 0, is_whole: false });
        let named = jobs::all(segment).find(|job| job.kept.id == id);
        let is_in_memory = |job: &Job<'_>| BlockRef::unpack(job.kept.block).is_some_and(|first| arena.lives(first));
        if named.is_none_or(|job| is_in_memory(&job)) {
            spill::remove(&self.folder, id);
        }
        area.begin_moving(0);
        moves.max(1)
    }
}

/// The images in memory whose frames wait for ingest, those of the newest frames first.
fn last_first(segment: &Segment) -> Vec<Job<'_>> {
    let entries = [0, 1].map(|parity| queue_before(0, parity));
    let waits = |job: &Job<'_>| job.view.waits_in.is_some_and(|queue| entries.contains(&queue));
    let mut waiting: Vec<Job<'_>> =
        jobs::all(segment).filter(|job| waits(job) && job.kept.is_kept() && job.kept.block != 0).collect();
    waiting.sort_unstable_by_key(|job| std::cmp::Reverse(job.frame));
    waiting
}

#[cfg(test)]
mod tests {
    use std::fs;

    use framepipe_shm::Gate;

    use super::*;
    use crate::bench::{BLOCK, Bench, GATEWAYS, KEEPERS};

    const ENOUGH: u64 = 1 << 20;

    fn image(id: u64) -> Vec<u8> {
        (0..2 * BLOCK as u64 - 100).map(|byte| (byte * (id + 3)) as u8).collect()
    }

    fn id(number: u64) -> u64 {
        u64::from(GATEWAYS) << 48 | number
    }

    /// Images 1 to `count`, in the order in which they came.
    fn images(bench: &Bench, count: u64) -> Vec<framepipe_frame::Kept> {
        (1..=count).map(|number| bench.keep(id(number), &image(number), &image(number))).collect()
    }

    fn lives(bench: &Bench, kept: &framepipe_frame::Kept) -> bool {
        let first = BlockRef::unpack(kept.block).expect("a block");
        bench.area.arena(ArenaKind::Images).lives(first)
    }

    fn files(bench: &Bench) -> Vec<u64> {
        let mut files: Vec<u64> = spill::list(bench.disk()).expect("read").iter().map(|file| file.id).collect();
        files.sort_unstable();
        files
    }

    #[test]
    fn the_newest_images_go_until_enough_memory_is_free_and_are_whole_on_disk() {
        let bench = Bench::new(32);
        let kept = images(&bench, 4);
        let mut mover = Mover::new(bench.disk().to_owned(), KEEPERS);
        let used = bench.area.memory_bytes();
        let moved = mover.relieve(&bench.area, &bench.segment, 3 * BLOCK as u64, ENOUGH, || {});
        let (memory_bytes, disk_bytes) = (4 * BLOCK as u64, 2 * (image(1).len() + spill::HEAD_BYTES) as u64);
        assert_eq!(moved, Moved { images: 2, memory_bytes, disk_bytes, largest: image(1).len() as u64 });
        assert_eq!(bench.area.memory_bytes(), used - memory_bytes);
        assert_eq!(kept.iter().map(|kept| lives(&bench, kept)).collect::<Vec<_>>(), [true, true, false, false]);
        assert_eq!(files(&bench), [id(3), id(4)]);
        for number in [3, 4] {
            let mut back = vec![0; image(number).len()];
            let sum = kept[number as usize - 1].digest();
            spill::read(bench.disk(), id(number), sum, &bench.area.hasher(), &mut back).expect("whole");
            assert_eq!(back, image(number));
        }
    }

    #[test]
    fn an_image_whose_frame_is_claimed_meanwhile_stays_and_leaves_no_file() {
        let bench = Bench::new(32);
        let kept = images(&bench, 1);
        let claimed = std::cell::RefCell::new(Vec::new());
        let mut mover = Mover::new(bench.disk().to_owned(), KEEPERS);
        // Between the look at who waits and the move.
        let claim = || claimed.borrow_mut().push(bench.claim());
        assert_eq!(mover.relieve(&bench.area, &bench.segment, ENOUGH, ENOUGH, claim).images, 0);
        assert_eq!(claimed.borrow().len(), 1);
        assert!(lives(&bench, &kept[0]) && files(&bench).is_empty());
        assert_eq!(mover.relieve(&bench.area, &bench.segment, ENOUGH, ENOUGH, || panic!("none waits")).images, 0);
    }

    #[test]
    fn a_damaged_image_and_one_for_which_the_disk_has_no_room_stay() {
        let bench = Bench::new(32);
        let kept = [bench.keep(id(1), &image(1), &image(2)), bench.keep(id(2), &image(2), &image(2))];
        let mut mover = Mover::new(bench.disk().to_owned(), KEEPERS);
        let moved = mover.relieve(&bench.area, &bench.segment, ENOUGH, image(1).len() as u64, || {});
        assert_eq!(moved, Moved { largest: image(1).len() as u64, ..Moved::default() });
        let moved = mover.relieve(&bench.area, &bench.segment, ENOUGH, ENOUGH, || {});
        assert_eq!((moved.images, files(&bench)), (1, vec![id(2)]));
        assert!(lives(&bench, &kept[0]));
    }

    #[test]
    fn a_damaged_image_is_tried_once_and_no_file_is_begun_for_it() {
        let bench = Bench::new(32);
        let kept = [bench.keep(id(1), &image(1), &image(1)), bench.keep(id(2), &image(2), &image(1))];
        // The folder is missing: a file that was begun would be an error, after which nothing is moved for a while.
        let mut mover = Mover::new(bench.disk().join("missing"), KEEPERS);
        let damaged = |job: &Job<'_>| job.kept.id == id(2);
        let job = last_first(&bench.segment).into_iter().find(damaged).expect("it waits");
        assert!(matches!(mover.move_one(&bench.area, &bench.segment, &job), Ok(0)));
        fs::create_dir(bench.disk().join("missing")).expect("made");
        let tried = std::cell::Cell::new(0);
        let beat = || tried.set(tried.get() + 1);
        assert_eq!(mover.relieve(&bench.area, &bench.segment, ENOUGH, ENOUGH, beat).images, 1);
        assert_eq!((tried.get(), lives(&bench, &kept[1])), (1, true), "the other one alone");
        let _first = bench.claim();
        Gate::new(&bench.segment, GATEWAYS).free(bench.claim()).expect("it is this one's");
        mover.relieve(&bench.area, &bench.segment, ENOUGH, ENOUGH, || panic!("none waits"));
        assert!(mover.damaged.is_empty(), "what waits no more is forgotten");
    }

    #[test]
    fn a_disk_that_fails_is_left_alone_for_a_while_and_the_image_stays() {
        let bench = Bench::new(32);
        let kept = images(&bench, 1);
        let mut mover = Mover::new(bench.disk().join("missing"), KEEPERS);
        assert_eq!(mover.relieve(&bench.area, &bench.segment, ENOUGH, ENOUGH, || {}).images, 0);
        fs::create_dir(bench.disk().join("missing")).expect("made");
        assert_eq!(mover.relieve(&bench.area, &bench.segment, ENOUGH, ENOUGH, || panic!("too early")).images, 0);
        assert!(lives(&bench, &kept[0]));
    }

    #[test]
    fn what_a_dead_keeper_was_moving_stays_in_memory_or_on_disk_never_both() {
        // Of images 1 and 2 the file is written, the former is moving; 3 has been moved; 4's frame is answered.
        for (number, in_memory, on_disk) in [(1, true, false), (2, true, false), (3, false, true), (4, false, false)] {
            let bench = Bench::new(32);
            let kept = if number < 4 { images(&bench, number).pop() } else { None };
            let arena = bench.area.arena(ArenaKind::Images);
            let first = kept.and_then(|kept| BlockRef::unpack(kept.block));
            bench.area.begin_moving(id(number));
            let writer = spill::Writer::begin(bench.disk(), id(number)).expect("begun");
            writer.finish(0).expect("finished");
            fs::write(bench.disk().join(format!("{:016x}.new", id(number))), "x").expect("written");
            if let (1 | 3, Some(first)) = (number, first) {
                assert!(arena.begin_move(first) && !arena.lives(first));
            }
            if let (3, Some(first)) = (number, first) {
                assert!(arena.end_move(KEEPERS, first));
            }
            assert_eq!(Mover::new(bench.disk().to_owned(), KEEPERS).settle(&bench.area, &bench.segment), 1);
            assert_eq!(kept.is_some_and(|kept| lives(&bench, &kept)), in_memory, "image {number}");
            assert_eq!(files(&bench), if on_disk { vec![id(number)] } else { vec![] }, "image {number}");
            assert_eq!(bench.area.moving(), 0);
        }
    }
}
