//! What readers tell the keeper: they found an entry, made something that may be kept, or found damage. A table of cells: a
//! reader takes a free one, fills it, and goes on. It waits for nobody: where no cell is free, nothing is told.

use std::sync::atomic::{AtomicU64, Ordering};

use framepipe_shm::Owner;

use crate::{
    Area, Count, Digest, INLINE_WORDS, Kind,
    digest::{halves, whole},
};

/// Cells.
pub(crate) const OFFERS: usize = 512;
/// Cells that are looked at for a free one.
const TRIED: usize = 32;

/// A cell. Its word: `owner:16 << 8 | state:2`.
#[repr(C, align(128))]
pub(crate) struct OfferWords {
    word: AtomicU64,
    what: AtomicU64,
    key: [AtomicU64; 2],
    block: AtomicU64,
    bytes: AtomicU64,
    inline: [AtomicU64; INLINE_WORDS],
}

const FREE: u64 = 0;
const FILLING: u64 = 1;
const FULL: u64 = 2;

/// What is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Told {
    /// It was asked for.
    Touched = 1,
    /// It was made, and may be kept.
    Made = 2,
    /// It is damaged.
    Damaged = 3,
}

/// Something told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// What.
    pub told: Told,
    /// Of what kind.
    pub kind: Kind,
    /// Its key.
    pub key: Digest,
    /// The block that holds it (packed); 0: none.
    pub block: u64,
    /// Bytes there.
    pub bytes: u64,
    /// Facts.
    pub inline: [u64; INLINE_WORDS],
}

impl Offer {
    /// A word about an entry, of which nothing new is said.
    pub fn about(told: Told, kind: Kind, key: Digest) -> Self {
        Self { told, kind, key, block: 0, bytes: 0, inline: [0; INLINE_WORDS] }
    }
}

impl Area {
    /// Tells the keeper something; false, and counted, where it has no room.
    pub fn offer(&self, owner: Owner, offer: &Offer) -> bool {
        let cells = self.offers();
        let start = self.header().next_offer.fetch_add(1, Ordering::Relaxed) as usize;
        for step in 0..TRIED {
            let cell = &cells[(start + step) % OFFERS];
            let filling = u64::from(owner) << 8 | FILLING;
            if cell.word.compare_exchange(FREE, filling, Ordering::Acquire, Ordering::Relaxed).is_err() {
                continue;
            }
            let [low, high] = halves(offer.key);
            cell.what.store(offer.told as u64 | (offer.kind as u64) << 8, Ordering::Relaxed);
            cell.key[0].store(low, Ordering::Relaxed);
            cell.key[1].store(high, Ordering::Relaxed);
            cell.block.store(offer.block, Ordering::Relaxed);
            cell.bytes.store(offer.bytes, Ordering::Relaxed);
            cell.inline.iter().zip(offer.inline).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
            cell.word.store(u64::from(owner) << 8 | FULL, Ordering::Release);
            return true;
        }
        self.count(Count::OffersDropped, 1);
        false
    }

    /// The keeper: hears all that was told, and frees the cells of the dead.
    pub fn hear(&self, is_alive: impl Fn(Owner) -> bool, mut hear: impl FnMut(Offer)) {
        for cell in self.offers() {
            let word = cell.word.load(Ordering::Acquire);
            match word & 3 {
                FULL => {
                    let offer = cell.read();
                    cell.word.store(FREE, Ordering::Release);
                    offer.into_iter().for_each(&mut hear);
                }
                FILLING if !is_alive((word >> 8) as Owner) => {
                    // Its owner is dead: nobody else writes the cell.
                    let _ = cell.word.compare_exchange(word, FREE, Ordering::AcqRel, Ordering::Relaxed);
                }
                _ => {}
            }
        }
    }
}

impl OfferWords {
    fn read(&self) -> Option<Offer> {
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let what = load(&self.what);
        let told = match what & 255 {
            1 => Told::Touched,
            2 => Told::Made,
            3 => Told::Damaged,
            _ => return None,
        };
        Some(Offer {
            told,
            kind: Kind::from_number(what >> 8)?,
            key: whole([load(&self.key[0]), load(&self.key[1])]),
            block: load(&self.block),
            bytes: load(&self.bytes),
            inline: std::array::from_fn(|word| load(&self.inline[word])),
        })
    }
}
