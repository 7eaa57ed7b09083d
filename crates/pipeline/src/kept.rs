//! Where a frame's bytes lie: in its slots, or in the cache, where they are read in place. What was read in place is compared with
//! its checksum once the stage is done with it, before the frame goes on: whatever became of the memory meanwhile, it is an
//! error and never another image.

use std::{ops::Deref, rc::Rc, sync::atomic::Ordering, sync::atomic::fence};

use framepipe_cache::{
    Area, ArenaKind, BlockRef, Count, Digest, Found, Kind, Level, Offer, Record, Told, View,
    spill::{self, SpillError},
};
use framepipe_frame::{ErrorCode, FrameError};
use framepipe_shm::Owner;

use crate::{Frame, Pool};

/// Bytes of a frame, to be read as long as its stage has it.
#[derive(Clone)]
pub enum Bytes<'s> {
    /// In a slot.
    Slot(&'s [u8]),
    /// In the cache.
    Cache(Rc<View<'s>>),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Slot(bytes) => bytes,
            Self::Cache(view) => view,
        }
    }
}

/// The cache, as a stage's process works with it.
#[derive(Clone, Copy)]
pub(crate) struct Cache<'s> {
    pub area: &'s Area,
    pub owner: Owner,
}

/// What was read in place.
#[derive(Clone, Copy)]
pub(crate) struct InPlace {
    first: BlockRef,
    bytes: usize,
    sum: Digest,
    /// Under which the index has it; 0: it does not.
    key: Digest,
}

/// Offers bytes that were made of an image to the keeper, one part behind the other, under `key`. Where there is no room they are
/// not kept.
pub fn offer_made<const PARTS: usize>(area: &Area, owner: Owner, kind: Kind, key: Digest, parts: [&[u8]; PARTS]) {
    let Some(arena) = kind.arena().map(|arena| area.arena(arena)) else { return };
    if area.level() >= Level::Spill {
        return; // images need the memory more
    }
    let bytes = parts.iter().map(|part| part.len()).sum();
    let Ok(mut taken) = arena.take(owner, bytes) else { return };
    let (mut running, mut at) = (area.hasher().begin(), 0);
    for part in parts {
        if taken.write_at(at, part).is_err() {
            return;
        }
        running.add(part);
        at += part.len();
    }
    taken.describe(&Record { key, sum: running.end(), bytes: bytes as u64 });
    let block = taken.hold().pack();
    area.offer(owner, &Offer { block, bytes: bytes as u64, ..Offer::about(Told::Made, kind, key) });
}

/// Behind a cached tensor lie so many bytes of facts about its image, of which this crate knows nothing: its checksum is theirs,
/// too.
pub const TENSOR_FACTS_BYTES: usize = 32;

/// A block of the cache that the frame has leased.
pub struct Leased<'s> {
    /// Its bytes, which are not compared with the checksum yet.
    pub view: View<'s>,
    /// Their checksum.
    pub sum: Digest,
}

/// Where framepipe keeps an image.
pub enum KeptAt {
    /// In memory. It stays there as long as the frame is behind ingest's queue.
    Memory(BlockRef),
    /// On disk.
    Disk,
}

fn kept_at(area: &Area, block: u64) -> KeptAt {
    // Pairs with the keeper's, between its word that the image moves and its look whether the frame still waits.
    fence(Ordering::SeqCst);
    let first = BlockRef::unpack(block).filter(|first| first.arena() == ArenaKind::Images);
    match first.filter(|first| area.arena(ArenaKind::Images).lives(*first)) {
        Some(first) => KeptAt::Memory(first),
        None => KeptAt::Disk,
    }
}

fn damaged(what: impl std::fmt::Display) -> FrameError {
    FrameError::new(ErrorCode::StoreDamaged, format!("{what}: push the image again"))
}

impl<'s> Frame<'s> {
    /// The cache.
    pub fn area(&self) -> &'s Area {
        self.cache.area
    }

    /// The image as it came, by the frame's encoded slot or by its lease.
    ///
    /// # Errors
    /// `StoreDamaged` where what was kept is gone; an internal error where an earlier stage left nothing.
    pub fn encoded(&self) -> Result<Bytes<'s>, FrameError> {
        let Some(lease) = self.work.lease(Pool::Held as usize).filter(|_| !self.has_input(Pool::Encoded)) else {
            return self.input(Pool::Encoded).map(Bytes::Slot);
        };
        let request = self.request();
        let gone = || {
            self.cache.area.count(Count::ImageDamage, 1);
            damaged("the image that was kept in memory is gone")
        };
        let first = BlockRef::unpack(lease).filter(|first| first.arena() == ArenaKind::Images).ok_or_else(gone)?;
        let bytes = request.bytes as usize;
        let view = self.cache.area.arena(ArenaKind::Images).view(first, bytes).ok_or_else(gone)?;
        self.in_place.set(Some(InPlace { first, bytes, sum: request.kept.digest(), key: 0 }));
        Ok(Bytes::Cache(Rc::new(view)))
    }

    /// The detector's input, by the frame's tensor slot, by its lease on a cached one, or by its encoded slot, where preprocess says
    /// that a raw frame's bytes are its tensor.
    ///
    /// # Errors
    /// `StoreDamaged` where the cached one is gone; an internal error where an earlier stage left nothing.
    pub fn tensor(&self) -> Result<&'s [u8], FrameError> {
        let Some(lease) = self.work.lease(Pool::Cached as usize) else {
            return self.input(if self.descriptor.encoded_is_tensor == 1 { Pool::Encoded } else { Pool::Tensor });
        };
        let gone = || damaged("the image's tensor that was cached is gone");
        let first = BlockRef::unpack(lease).filter(|first| first.arena() == ArenaKind::Tensors).ok_or_else(gone)?;
        let arena = self.cache.area.arena(ArenaKind::Tensors);
        let Record { key, sum, bytes } = arena.record(first).ok_or_else(gone)?;
        // A tensor is one block, so that its view is no row of several.
        let Some(View::Mapped(tensor)) = arena.view(first, bytes as usize) else { return Err(gone()) };
        self.in_place.set(Some(InPlace { first, bytes: bytes as usize, sum, key }));
        Ok(tensor.split_last_chunk::<TENSOR_FACTS_BYTES>().ok_or_else(gone)?.0)
    }

    /// Where the image of a frame is kept that waits for ingest. Once it is claimed it stays where it is.
    pub fn kept_at(&self) -> KeptAt {
        kept_at(self.cache.area, self.request().kept.block)
    }

    /// Leases a block to the frame by the planned slot of a pool.
    ///
    /// # Errors
    /// An internal error where no slot was planned.
    pub fn lease(&mut self, pool: Pool, first: u64) -> Result<(), FrameError> {
        self.output(pool)?.lease(first);
        Ok(())
    }

    /// Leases what was found in the index under `key`; `None`, and nothing is leased, where it is not there any more, or the
    /// block is another key's.
    ///
    /// # Errors
    /// As [`Self::lease`].
    pub fn lease_found(&mut self, pool: Pool, key: Digest, found: &Found) -> Result<Option<Leased<'s>>, FrameError> {
        self.lease(pool, found.value.block)?;
        let leased = BlockRef::unpack(found.value.block).filter(|_| self.cache.area.still(found)).and_then(|first| {
            let arena = self.cache.area.arena(first.arena());
            let record = arena.record(first)?;
            let is_it = found.value.kind.arena() == Some(first.arena()) && record.key == key;
            let view = arena.view(first, record.bytes as usize).filter(|_| is_it)?;
            Some(Leased { view, sum: record.sum })
        });
        if leased.is_none() {
            self.set_used(pool, 0)?;
        }
        Ok(leased)
    }

    /// Gives a frame the cached tensor that was found under `key`, by a lease or, where it `is_copied`, in the planned tensor
    /// slot. Returns the facts that lie behind it; `None` where it has gone, or is damaged.
    ///
    /// # Errors
    /// An internal error where no slots were planned.
    pub fn take_tensor(
        &mut self,
        key: Digest,
        found: &Found,
        is_copied: bool,
    ) -> Result<Option<[u8; TENSOR_FACTS_BYTES]>, FrameError> {
        let Some(Leased { view, sum }) = self.lease_found(Pool::Cached, key, found)? else { return Ok(None) };
        let Some((tensor, facts)) = view.split_last_chunk::<TENSOR_FACTS_BYTES>() else { return Ok(None) };
        if !is_copied {
            return Ok(Some(*facts)); // detect compares the checksum
        }
        let (mut running, facts) = (self.cache.area.hasher().begin(), *facts);
        let is_whole = self.write_output(Pool::Tensor, |slot| {
            let Some(slot) = slot.get_mut(..tensor.len()) else { return Ok((0, false)) };
            slot.copy_from_slice(tensor);
            running.add(slot);
            running.add(&facts);
            let is_whole = running.end() == sum;
            Ok((if is_whole { slot.len() } else { 0 }, is_whole))
        })?;
        if !is_whole {
            self.tell(&Offer::about(Told::Damaged, Kind::Tensors, key));
        }
        self.set_used(Pool::Cached, 0)?; // the lease ends: the copy is the frame's
        Ok(is_whole.then_some(facts))
    }

    /// Copies the image that is kept into the planned encoded slot, and compares its checksum. Its memory is given back once the
    /// frame has gone on.
    ///
    /// # Errors
    /// `StoreDamaged`.
    pub fn copy_kept(&mut self, spill_folder: &std::path::Path) -> Result<(), FrameError> {
        let (request, area) = (self.request(), self.cache.area);
        let (bytes, sum) = (request.bytes as usize, request.kept.digest());
        let mut at = self.kept_at();
        self.write_output(Pool::Encoded, |slot| {
            let slot = &mut slot[..bytes];
            let mut read = || spill::read(spill_folder, request.kept.id, sum, &area.hasher(), slot);
            let on_disk = matches!(at, KeptAt::Disk).then(&mut read);
            if let Some(Err(SpillError::Gone(_))) = on_disk {
                // The keeper was about to move it, has seen that the frame is claimed, and lets it stay: in memory it is.
                at = kept_at(area, request.kept.block);
            }
            match &at {
                KeptAt::Memory(first) => {
                    let view = area.arena(ArenaKind::Images).view(*first, bytes);
                    slot.copy_from_slice(&view.ok_or_else(|| damaged("the image that was kept in memory is gone"))?);
                    if area.hasher().of(slot) != sum {
                        return Err(damaged("the image that was kept in memory is damaged"));
                    }
                    area.count(Count::CopiedOnRead, 1);
                }
                KeptAt::Disk => {
                    on_disk.expect("it was read there").map_err(damaged)?;
                    area.count(Count::Restored, 1);
                }
            }
            Ok((bytes, ()))
        })
        .inspect_err(|_| area.count(Count::ImageDamage, 1))?;
        if let KeptAt::Memory(first) = at {
            self.release = Some(first);
        }
        Ok(())
    }

    /// Tells the keeper something.
    pub fn tell(&self, offer: &Offer) {
        self.cache.area.offer(self.cache.owner, offer);
    }

    /// Offers what was written to an output slot to the keeper, and what lies behind it there, under `key`. Where there is no room
    /// it is not kept.
    ///
    /// # Errors
    /// An internal error where no slot was planned.
    pub fn offer_written(&mut self, pool: Pool, kind: Kind, key: Digest, behind: &[u8]) -> Result<(), FrameError> {
        let Cache { area, owner } = self.cache;
        offer_made(area, owner, kind, key, [self.written(pool)?, behind]);
        Ok(())
    }

    /// Compares what was read in place with its checksum: before anything is kept that was made of it, and before the frame goes
    /// on. This error is the frame's then, whatever else it had: what was made of damaged bytes says nothing.
    ///
    /// # Errors
    /// `StoreDamaged`.
    pub fn check_in_place(&mut self) -> Result<(), FrameError> {
        let Some(InPlace { first, bytes, sum, key }) = self.in_place.take() else { return Ok(()) };
        let area = self.cache.area;
        let is_whole = |view: View<'_>| area.hasher().of(&view) == sum;
        if area.arena(first.arena()).view(first, bytes).is_some_and(is_whole) {
            if first.arena() == ArenaKind::Images {
                area.count(Count::ReadInPlace, 1);
            }
            return Ok(());
        }
        let what = match first.arena() {
            ArenaKind::Images => {
                area.count(Count::ImageDamage, 1);
                "the image that was kept in memory is damaged"
            }
            ArenaKind::Tensors | ArenaKind::Results => {
                self.tell(&Offer::about(Told::Damaged, Kind::Tensors, key));
                "the image's tensor that was cached is damaged"
            }
        };
        Err(damaged(what))
    }

    /// Gives back the memory of an image that was copied out, now that the frame has gone on with the copy.
    pub(crate) fn released(cache: Cache<'_>, first: Option<BlockRef>) {
        if let Some(first) = first {
            cache.area.arena(ArenaKind::Images).free(cache.owner, first);
        }
    }
}
