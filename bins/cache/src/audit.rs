//! Index and blocks compared, and checksums verified: a slice at a time, all in turn.

use std::time::{Duration, Instant};

use framepipe_cache::{Area, Count};

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
        tracing::warn!("{repaired} entries or blocks that did not fit each other were dropped");
    }
    if damaged > 0 {
        tracing::warn!("{damaged} entries were damaged and are dropped: they will be made again");
    }
}

/// The place behind a slice, or the first one where there is none.
fn advanced(place: usize, slice: usize, places: usize) -> usize {
    if place + slice >= places { 0 } else { place + slice }
}

#[cfg(test)]
mod tests {
    use framepipe_cache::{ArenaKind, BlockRef, Kind, Put, Value};

    use super::*;
    use crate::bench::{BLOCK, Bench, KEEPERS, STAGES};

    #[test]
    fn damage_is_found_and_the_rest_stays() {
        let bench = Bench::new(16);
        let mut books = Books::new(&bench.area, &Bench::config());
        let blocks: Vec<u64> = (1..=5).map(|key| bench.offer(Kind::Tensors, key, &[key as u8; BLOCK])).collect();
        bench.offer(Kind::Results, 6, &[6; 3 * BLOCK]);
        books.hear(1, |owner| owner == STAGES);
        let mut audit = Audit::new();
        audit.slice(&bench.area, &mut books);
        assert_eq!(books.entries(), 6, "nothing was wrong");
        bench.damage(ArenaKind::Tensors, BLOCK as u64 + 7);
        bench.damage(ArenaKind::Results, 3 * BLOCK as u64 - 1);
        audit.slice(&bench.area, &mut books);
        let found: Vec<_> = (1..=6).map(|key| bench.area.find(key).is_some()).collect();
        assert_eq!(found, [true, false, true, true, true, false]);
        let damaged = [Kind::Tensors, Kind::Results].map(|kind| bench.area.counted(Count::Damage(kind)));
        assert_eq!((damaged, bench.area.counted(Count::Repairs)), ([1, 1], 0));
        // 3: its block is gone; 4: nobody names its block.
        let arena = bench.area.arena(ArenaKind::Tensors);
        let third = BlockRef::unpack(blocks[2]).expect("a block");
        assert!(arena.disown(third) && arena.free(KEEPERS, third));
        bench.area.remove(4);
        let fact = Value { kind: Kind::Metadata, block: 0, bytes: 0, inline: [0; 8] };
        assert_eq!(bench.area.put(40, &fact), Put::Done, "an entry that is in no book");
        audit.slice(&bench.area, &mut books);
        assert_eq!(bench.area.counted(Count::Repairs), 3);
        crate::jobs::sweep(&bench.area, &bench.segment, KEEPERS);
        assert_eq!((bench.area.all().count(), arena.in_use()), (2, 2));
    }

    #[test]
    fn an_entry_whose_version_is_damaged_is_emptied_and_can_be_made_again() {
        let bench = Bench::new(16);
        let mut books = Books::new(&bench.area, &Bench::config());
        let key = 0xfeed_beef_0123_4567_89ab_cdef_0246_8ace;
        bench.offer(Kind::Tensors, key, b"a tensor");
        books.hear(1, |owner| owner == STAGES);
        bench.damage_version(key);
        assert!(bench.area.find(key).is_none(), "it looks as if it was being written");
        Audit::new().slice(&bench.area, &mut books);
        assert_eq!(bench.area.counted(Count::Repairs), 2, "the entry, and its block");
        bench.offer(Kind::Tensors, key, b"a tensor");
        books.hear(2, |owner| owner == STAGES);
        assert!(bench.area.find(key).is_some());
        crate::jobs::sweep(&bench.area, &bench.segment, KEEPERS);
        assert_eq!(bench.area.arena(ArenaKind::Tensors).in_use(), 1);
    }

    #[test]
    fn every_place_has_its_turn() {
        assert_eq!(
            [(0, 10), (10, 10), (20, 4), (0, 30)].map(|(place, slice)| advanced(place, slice, 24)),
            [10, 20, 0, 0]
        );
        assert_eq!(advanced(0, 1, 0), 0);
    }
}
