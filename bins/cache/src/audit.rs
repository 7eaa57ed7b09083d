//! Index and blocks compared, and checksums verified: a slice at a time, all in turn.

use std::time::{Duration, Instant};

use framepipe_cache::{Area, Count};
use framepipe_pipeline::say;

use crate::books::{Books, IN_BLOCKS};

/// Between two slices.
const SLICE: Duration = Duration::from_millis(250);
/// Of a slice: entries of the index; cached blocks looked for there; bytes whose checksums are verified, save that one chain
/// is verified at least.
const ENTRIES: usize = 4096;
const BLOCKS: usize = 4096;
const BYTES: u64 = 4 << 20;

/// Where it stands in its rounds.
pub struct Audit {
    next: Instant,
    entry: usize,
    block: [usize; 2],
    sum: [usize; 2],
}

impl Audit {
    /// At the beginning.
    pub fn new() -> Self {
        Self { next: Instant::now() + SLICE, entry: 0, block: [0; 2], sum: [0; 2] }
    }

    /// The next slice, where it is time for it.
    pub fn slice_when_due(&mut self, area: &Area, books: &mut Books<'_>) {
        let now = Instant::now();
        if now < self.next || area.geometry().entries == 0 {
            return;
        }
        self.next = now + SLICE;
        self.slice(area, books);
    }

    fn slice(&mut self, area: &Area, books: &mut Books<'_>) {
        let mut repaired = books.drop_strays(self.entry..(self.entry + ENTRIES).min(area.geometry().entries as usize));
        self.entry = advanced(self.entry, ENTRIES, area.geometry().entries as usize);
        let mut damaged = 0;
        for (place, kind) in IN_BLOCKS.into_iter().enumerate() {
            let Some(arena) = kind.arena().map(|arena| area.arena(arena)) else { continue };
            repaired += books.disown_strays(kind, self.block[place], BLOCKS);
            self.block[place] = advanced(self.block[place], BLOCKS, arena.cached().count());
            let (mut bytes, mut chains) = (0, 0);
            let slice: Vec<_> = arena.cached().skip(self.sum[place]).take(BLOCKS).collect();
            for (first, record) in slice {
                if bytes >= BYTES {
                    break;
                }
                (bytes, chains) = (bytes + record.bytes, chains + 1);
                let mut running = area.hasher().begin();
                let copied = arena.copy(first, record.bytes as usize, |piece| {
                    running.add(piece);
                    Ok(())
                });
                // Nobody but the keeper frees what is cached: a chain that cannot be followed is damaged, too.
                if !copied.is_ok_and(|lived| lived && running.end() == record.sum) {
                    damaged += usize::from(books.condemn(kind, record.key));
                }
            }
            self.sum[place] = advanced(self.sum[place], chains, arena.cached().count());
        }
        area.count(Count::Repairs, repaired as u64);
        say_of(repaired, damaged);
    }
}

/// Says what was found, if anything was.
pub fn say_of(repaired: usize, damaged: usize) {
    if repaired > 0 {
        say!("keeper: {repaired} entries or blocks that did not fit each other were dropped");
    }
    if damaged > 0 {
        say!("keeper: {damaged} entries were damaged and are dropped: they will be made again");
    }
}

/// The place behind a slice, or the first one where there is none.
fn advanced(place: usize, slice: usize, places: usize) -> usize {
    if place + slice >= places { 0 } else { place + slice }
}
