use framepipe_cache::ArenaKind;

use super::*;
use crate::bench::{BLOCK, Bench, KEEPERS, STAGES};

fn heard(books: &mut Books<'_>, now_ms: u64) -> Heard {
    books.hear(now_ms, |owner| owner == STAGES)
}

fn has(bench: &Bench, keys: impl IntoIterator<Item = Digest>) -> Vec<bool> {
    keys.into_iter().map(|key| bench.area.find(key).is_some()).collect()
}

fn swept(bench: &Bench) -> usize {
    crate::jobs::sweep(&bench.area, &bench.segment, KEEPERS);
    bench.area.arena(ArenaKind::Tensors).in_use()
}

#[test]
fn what_was_made_is_found_and_what_was_not_asked_for_again_goes_first() {
    let bench = Bench::new(6); // of which two stay free
    let mut books = Books::new(&bench.area, &Bench::config());
    for key in 1..=4 {
        bench.offer(Kind::Tensors, key, &[key as u8; 100]);
        heard(&mut books, key as u64 * 10);
    }
    assert_eq!((has(&bench, 1..=4), swept(&bench)), (vec![true; 4], 4));
    bench.area.offer(STAGES, &Offer::about(Told::Touched, Kind::Tensors, 1));
    heard(&mut books, 60);
    bench.offer(Kind::Tensors, 5, b"one more");
    assert_eq!(heard(&mut books, 70), Heard { offers: 1, damaged: 0 });
    assert_eq!(has(&bench, 1..=5), [true, false, true, true, true]);
    assert_eq!((swept(&bench), books.evictable_bytes()), (4, 4 * BLOCK as u64));
    let counted = [Count::Insertion(Kind::Tensors), Count::Eviction(Kind::Tensors), Count::SweptBlocks];
    assert_eq!(counted.map(|count| bench.area.counted(count)), [5, 1, 1]);
    let found = bench.area.find(5).expect("it is there").value;
    assert_eq!((found.kind, found.bytes), (Kind::Tensors, 8));
}

#[test]
fn of_two_that_made_the_same_the_first_ones_block_stays() {
    let bench = Bench::new(8);
    let mut books = Books::new(&bench.area, &Bench::config());
    let [first, _] = [0; 2].map(|_| bench.offer(Kind::Tensors, 7, b"the same"));
    heard(&mut books, 1);
    assert_eq!(bench.area.find(7).expect("it is there").value.block, first);
    assert_eq!((swept(&bench), bench.area.counted(Count::Insertion(Kind::Tensors))), (1, 1));
}

#[test]
fn an_offer_that_is_not_what_its_block_says_is_not_taken() {
    let bench = Bench::new(8);
    let mut books = Books::new(&bench.area, &Bench::config());
    let block = bench.make(Kind::Tensors, 7, b"bytes");
    let honest = Offer { block, bytes: 5, ..Offer::about(Told::Made, Kind::Tensors, 7) };
    for offer in [
        Offer { key: 8, ..honest },
        Offer { bytes: 4, ..honest },
        Offer { kind: Kind::Results, ..honest },
        Offer { block: block + (1 << 32), ..honest },
        Offer { block: 0, ..honest },
        Offer { block: u64::MAX, ..honest },
        Offer { kind: Kind::Metadata, ..honest },
    ] {
        bench.area.offer(STAGES, &offer);
        assert_eq!(heard(&mut books, 1).offers, 1);
        assert_eq!((has(&bench, [7, 8]), books.entries()), (vec![false; 2], 0), "{offer:?}");
    }
    bench.area.offer(STAGES, &honest);
    heard(&mut books, 1);
    assert!(bench.area.find(7).is_some());
}

#[test]
fn facts_are_counted_and_the_newer_ones_stand() {
    let bench = Bench::new(8);
    let mut books = Books::new(&bench.area, &Bench::config()); // four entries
    let fact = |key, fact| Offer { inline: [fact; 8], ..Offer::about(Told::Made, Kind::Metadata, key) };
    for key in 1..=5 {
        bench.area.offer(STAGES, &fact(key, 1));
        heard(&mut books, key as u64);
    }
    assert_eq!(has(&bench, 1..=5), [false, true, true, true, true]);
    bench.area.offer(STAGES, &fact(3, 9));
    heard(&mut books, 9);
    assert_eq!(bench.area.find(3).expect("it is there").value.inline, [9; 8]);
}

#[test]
fn a_full_bucket_loses_what_is_worth_least() {
    let bench = Bench::new(64);
    let mut books = Books::new(&bench.area, &Bench::config());
    let keys: Vec<Digest> = (0..9).map(|number| 5 + 32 * number).collect(); // of one bucket
    for (now, key) in keys[..8].iter().enumerate() {
        bench.offer(Kind::Results, *key, b"result");
        heard(&mut books, 1 + now as u64);
    }
    bench.area.offer(STAGES, &Offer::about(Told::Touched, Kind::Results, keys[0]));
    heard(&mut books, 20);
    bench.offer(Kind::Results, keys[8], b"result");
    heard(&mut books, 30);
    let expected: Vec<bool> = (0..9).map(|number| number != 1).collect();
    assert_eq!((has(&bench, keys), books.entries()), (expected, 8));
}

#[test]
fn a_successor_finds_what_is_whole_and_drops_the_rest() {
    let bench = Bench::new(16);
    let mut books = Books::new(&bench.area, &Bench::config());
    let blocks: Vec<u64> = (1..=4).map(|key| bench.offer(Kind::Tensors, key, &[key as u8; 9])).collect();
    heard(&mut books, 1);
    let arena = bench.area.arena(ArenaKind::Tensors);
    // 2: its block is gone; 3: nobody names its block; 4: its entry names another's block.
    arena.disown(BlockRef::unpack(blocks[1]).expect("a block"));
    arena.free(KEEPERS, BlockRef::unpack(blocks[1]).expect("a block"));
    bench.area.remove(3);
    let wrong = Value { kind: Kind::Tensors, block: blocks[0], bytes: 9, inline: [0; 8] };
    assert_eq!(bench.area.put(4, &wrong), Put::Done);
    let mut books = Books::new(&bench.area, &Bench::config());
    assert_eq!((books.take_over(50), books.entries()), (4, 1));
    assert_eq!((has(&bench, 1..=4), swept(&bench)), (vec![true, false, false, false], 1));
    bench.area.offer(STAGES, &Offer::about(Told::Touched, Kind::Tensors, 1));
    heard(&mut books, 60);
    assert!(bench.area.arena(ArenaKind::Tensors).lives(BlockRef::unpack(blocks[0]).expect("a block")));
}

#[test]
fn entries_go_by_worth_across_kinds_all_of_a_kind_where_that_is_wanted_and_damage_at_once() {
    let bench = Bench::new(16);
    let mut books = Books::new(&bench.area, &Bench::config());
    for (key, kind) in [(1, Kind::Results), (2, Kind::Tensors), (3, Kind::Results), (4, Kind::Tensors)] {
        bench.offer(kind, key, b"x");
        heard(&mut books, 10 * key as u64);
    }
    books.evict(BLOCK as u64 + 1, 100);
    assert_eq!(has(&bench, 1..=4), [false, false, true, true]);
    let counted = [Kind::Results, Kind::Tensors].map(|kind| bench.area.counted(Count::Eviction(kind)));
    assert_eq!(counted, [1, 1]);
    let other = Offer { block: 77, ..Offer::about(Told::Damaged, Kind::Tensors, 4) };
    bench.area.offer(STAGES, &other);
    assert_eq!(heard(&mut books, 101).damaged, 0, "that was another block's");
    bench.area.offer(STAGES, &Offer { block: 0, ..other });
    assert_eq!((heard(&mut books, 102).damaged, bench.area.counted(Count::Damage(Kind::Tensors))), (1, 1));
    books.drop_all(Kind::Results);
    assert_eq!((has(&bench, 1..=4), books.entries(), swept(&bench)), (vec![false; 4], 0, 0));
    books.evict(u64::MAX, 103); // nothing is left
}
