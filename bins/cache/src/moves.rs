//! Images whose turn is last, moved from memory to the disk while memory is short: copied, checked, and only then taken out of
//! memory, if their frame still waits. Killed anywhere, a move leaves the image where it was, or a file beside it.

use std::{
    io,
    path::PathBuf,
    sync::atomic::{Ordering, fence},
    time::{Duration, Instant},
};

use framepipe_cache::{Area, ArenaKind, BlockRef, Count, spill};
use framepipe_pipeline::{queue_before, say};
use framepipe_shm::{Owner, Segment};

use crate::jobs::{self, Job};

/// Of one round: images, and the time after which no other is begun.
const IMAGES_MAX: usize = 32;
const TIME_MAX: Duration = Duration::from_millis(50);
/// After the disk has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a file has beside the image's bytes.
const FILE_BYTES: u64 = 4096;

/// Moves images.
pub struct Mover {
    folder: PathBuf,
    keeper: Owner,
    /// The disk has failed: not before this.
    not_before: Instant,
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
    /// Bytes of the largest image that waits, moved or not.
    pub largest: u64,
}

impl Mover {
    /// To this folder, as this keeper.
    pub fn new(folder: PathBuf, keeper: Owner) -> Self {
        Self { folder, keeper, not_before: Instant::now() }
    }

    /// Frees so many bytes of memory, as long as `disk_room` lasts. `beat` is called between images.
    pub fn relieve(&mut self, area: &Area, segment: &Segment, bytes: u64, disk_room: u64, beat: impl Fn()) -> Moved {
        let (start, mut moved) = (Instant::now(), Moved::default());
        if start < self.not_before {
            return moved;
        }
        let waiting = last_first(segment);
        moved.largest = waiting.iter().map(|job| job.bytes).max().unwrap_or(0);
        for job in waiting {
            let is_enough = moved.memory_bytes >= bytes || moved.images as usize >= IMAGES_MAX;
            if is_enough || start.elapsed() >= TIME_MAX {
                break;
            }
            let file_bytes = job.bytes.saturating_add(FILE_BYTES);
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
                    say!("keeper: no image is moved to {}: {error}", self.folder.display());
                    self.not_before = Instant::now() + PATIENCE;
                    break;
                }
            }
        }
        area.count(Count::Moved, moved.images);
        moved
    }

    /// Returns the bytes of memory that are free now; 0 where the image stays.
    fn move_one(&self, area: &Area, segment: &Segment, job: &Job<'_>) -> io::Result<u64> {
        let (id, sum) = (job.kept.id, job.kept.digest());
        let arena = area.arena(ArenaKind::Images);
        let Some(first) = BlockRef::unpack(job.kept.block).filter(|first| first.arena() == ArenaKind::Images) else {
            return Ok(0);
        };
        if arena.record(first).is_none_or(|record| record.bytes != job.bytes) {
            return Ok(0); // it is on disk, or was copied out
        }
        let (mut writer, mut running) = (spill::Writer::begin(&self.folder, id)?, area.hasher().begin());
        let lived = arena.copy(first, job.bytes as usize, |piece| {
            running.add(piece);
            writer.add(piece)
        })?;
        if !lived || running.end() != sum {
            return Ok(0); // its turn has come; or it is damaged, which its frame finds out
        }
        writer.finish(sum)?;
        if !arena.begin_move(first) {
            spill::remove(&self.folder, id);
            return Ok(0);
        }
        // Pairs with the claimer's, between its claim and its look at the block: it sees that the block moves, and looks on the
        // disk, or its claim is seen here.
        fence(Ordering::SeqCst);
        if !segment.stands(job.index, &job.view) {
            arena.abandon_move(first);
            spill::remove(&self.folder, id);
            return Ok(0);
        }
        arena.end_move(self.keeper, first);
        Ok(job.bytes.div_ceil(arena.block_bytes() as u64).max(1) * arena.block_bytes() as u64)
    }

    /// What a keeper that died left of its moves: files of images that are in memory, which they are read from.
    pub fn settle(&self, area: &Area, segment: &Segment) -> usize {
        let moves = area.arena(ArenaKind::Images).settle_moves();
        let files = spill::list(&self.folder).unwrap_or_default(); // a folder that cannot be read is said of elsewhere
        let arena = area.arena(ArenaKind::Images);
        for job in jobs::all(segment).filter(|job| job.view.waits_in.is_some() && job.kept.block != 0) {
            let lives = BlockRef::unpack(job.kept.block).is_some_and(|first| arena.lives(first));
            for file in files.iter().filter(|file| file.id == job.kept.id && (lives || !file.is_whole)) {
                spill::clear(&self.folder, file);
            }
        }
        moves
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
