//! What another process wrote is input: references, sizes and names that are of nothing.

mod support;

use framepipe_cache::{Arena, ArenaKind, BlockRef, Kind, Put, Shortage, Use, Value};
use support::{BLOCK, Random, Store};

/// Whatever a reference says, an arena that is asked about it says no, and changes nothing.
#[test]
fn a_reference_to_nothing_is_refused_by_every_step() {
    let store = Store::new(ArenaKind::Tensors, 4, 0);
    let first = store.put(1, 2 * BLOCK, 5, |_| ()).expect("free");
    let arena = store.arena();
    let mut random = Random(1);
    let scribbled = (0..20_000).map(|round| match round % 3 {
        0 => random.next(),
        1 => first.pack() ^ 1 << random.below(64),
        _ => random.next() & 0xff_ffff_0fff_ffff | (random.below(3) as u64) << 28,
    });
    let refused = |arena: &Arena<'_>, reference: BlockRef| {
        assert!(!arena.lives(reference) && arena.record(reference).is_none() && arena.view(reference, 1).is_none());
        assert!(!arena.free(9, reference) && !arena.adopt(reference) && !arena.disown(reference));
        assert!(!arena.begin_move(reference) && !arena.abandon_move(reference) && !arena.end_move(9, reference));
    };
    let mut unpacked = 0;
    for reference in scribbled.filter_map(BlockRef::unpack).filter(|reference| *reference != first) {
        unpacked += 1;
        refused(&arena, reference);
        refused(&store.area.arena(ArenaKind::Images), reference); // which has no blocks
    }
    assert!(unpacked > 5000, "{unpacked} of the words were references");
    refused(&store.area.arena(ArenaKind::Images), first);
    assert!(store.lives(first, 2 * BLOCK, 5, "afterwards") && arena.in_use() == 2);
}

/// A size is the frame's word: more than the chain has is none of its bytes.
#[test]
fn more_bytes_than_a_chain_has_are_not_shown() {
    let store = Store::new(ArenaKind::Images, 8, 0);
    let first = store.put(1, BLOCK + 1, 5, |_| ()).expect("free");
    let _next = store.put(1, BLOCK, 6, |_| ()).expect("free");
    let arena = store.arena();
    assert_eq!(arena.view(first, 2 * BLOCK).map(|view| view.len()), Some(2 * BLOCK), "its blocks");
    for bytes in [2 * BLOCK + 1, 8 * BLOCK, 9 * BLOCK, usize::MAX - BLOCK, usize::MAX] {
        assert!(arena.view(first, bytes).is_none(), "{bytes} bytes");
    }
    assert_eq!(arena.view(first, 0).map(|view| view.len()), Some(0));
}

#[test]
fn no_bytes_take_a_block_and_too_many_take_none() {
    let store = Store::new(ArenaKind::Images, 2, 0);
    let first = store.put(1, 0, 5, |_| ()).expect("free");
    assert!(store.lives(first, 0, 5, "no bytes") && store.arena().in_use() == 1);
    for bytes in [BLOCK + 1, 3 * BLOCK, usize::MAX] {
        let shortage = store.arena().take(1, bytes).err();
        assert!(matches!(shortage, Some(Shortage::Full { .. })), "{bytes} bytes: {shortage:?}");
    }
    assert!(matches!(store.area.arena(ArenaKind::Results).take(1, 0), Err(Shortage::Full { .. })), "it has no blocks");
    assert_eq!(store.arena().in_use(), 1);
}

/// Keys of every shape, 0 included, in an index of one bucket, and in none.
#[test]
fn an_index_of_one_bucket_and_none_take_every_key() {
    let value = |number: u64| Value { kind: Kind::Metadata, block: 0, bytes: number, inline: [number; 8] };
    let none = Store::new(ArenaKind::Images, 1, 0);
    assert_eq!((none.area.put(1, &value(1)), none.area.remove(1), none.area.repair_index()), (Put::None, false, 0));
    assert!(none.area.find(1).is_none());
    let store = Store::new(ArenaKind::Images, 1, 8);
    let keys = [0, 1, 8, u128::MAX, 1 << 64, 1 << 127, 7, 16];
    for (number, key) in keys.into_iter().enumerate() {
        assert_eq!(store.area.put(key, &value(number as u64)), Put::Done);
    }
    assert_eq!(store.area.put(5, &value(0)), Put::Full(keys));
    for (number, key) in keys.into_iter().enumerate() {
        assert_eq!(store.area.find(key).map(|found| found.value), Some(value(number as u64)), "{key}");
    }
    assert_eq!(store.area.repair_index(), 0);
    assert!(store.area.remove(0) && !store.area.remove(0) && store.area.find(0).is_none());
    assert_eq!(store.area.put(5, &value(0)), Put::Done);
}

/// A process that maps nothing of an arena to be read still looks at its words.
#[test]
fn an_arena_that_is_not_mapped_shows_no_bytes() {
    let store = Store::new(ArenaKind::Images, 4, 0);
    let first = store.put(1, 1, 5, |_| ()).expect("free");
    let blind = framepipe_cache::Area::open(store.area.folder(), Use::NONE).expect("it was made");
    let arena = blind.arena(ArenaKind::Images);
    assert!(arena.lives(first) && arena.view(first, 1).is_none());
    let reader =
        framepipe_cache::Area::open(store.area.folder(), Use::NONE.reads(ArenaKind::Images)).expect("it was made");
    assert_eq!(reader.arena(ArenaKind::Images).view(first, 1).map(|view| view.to_vec()), Some(vec![5]));
}
