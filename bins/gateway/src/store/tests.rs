use std::fs;

use framepipe_cache::{ArenaGeometry, Geometry, Hasher, Level, Use};
use tempfile::TempDir;

use super::*;

const OWNER: Owner = 7;
const BLOCK: u64 = 4096;

/// A store of its own folder.
pub(crate) struct Bench {
    folder: TempDir,
    pub store: Arc<Store>,
}

impl Bench {
    /// 16 blocks of memory, of which images may take `hard` bytes.
    pub fn new(hard: u64, disk: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let arenas = [ArenaGeometry { block_bytes: BLOCK, blocks: 16 }, Default::default(), Default::default()];
        Area::make(&folder.path().join("cache"), Geometry { arenas, entries: 0 }).expect("made");
        fs::create_dir(folder.path().join("spill")).expect("made");
        let store = Self::open(&folder, hard, disk, &[]);
        Self { folder, store }
    }

    fn open(folder: &TempDir, hard_bytes: u64, disk_bytes_max: u64, in_flight: &[u64]) -> Arc<Store> {
        let used = Use::NONE.writes(ArenaKind::Images);
        let area = Box::leak(Box::new(Area::open(&folder.path().join("cache"), used).expect("opened")));
        let bounds = Bounds { hard_bytes, disk_bytes_max };
        let spill = folder.path().join("spill");
        Store::open(area, OWNER, spill, bounds, &in_flight.iter().copied().collect()).expect("opened")
    }

    fn keep(&self, bytes: &[u8]) -> Result<Keeping, StoreError> {
        let mut writing = self.store.begin(bytes.len() as u64)?;
        bytes.chunks(1000).try_for_each(|piece| writing.add(piece))?;
        writing.finish()
    }

    /// Keeps an image and gives it to a frame.
    fn hold(&self, bytes: &[u8]) -> Kept {
        let keeping = self.keep(bytes).expect("there is room");
        let kept = keeping.kept();
        keeping.hold();
        kept
    }

    pub fn hasher(&self) -> Hasher {
        self.store.area.hasher()
    }

    fn in_memory(&self, kept: &Kept, bytes: usize) -> Option<Vec<u8>> {
        let first = BlockRef::unpack(kept.block)?;
        Some(self.store.area.arena(ArenaKind::Images).view(first, bytes)?.to_vec())
    }

    fn files(&self) -> usize {
        spill::list(&self.store.folder).expect("read").len()
    }

    pub fn is_empty(&self) -> bool {
        self.store.area.memory_bytes() == 0 && self.files() == 0
    }

    fn counted(&self) -> [u64; 2] {
        [Count::Held, Count::Spilled].map(|count| self.store.area.counted(count))
    }
}

fn image(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| ((at * 31) >> 3) as u8).collect()
}

#[test]
fn an_image_lies_in_memory_while_there_is_room_and_then_on_disk() {
    let bench = Bench::new(8 * BLOCK, 1 << 20);
    let bytes = image(5 * BLOCK as usize + 17);
    let first = bench.hold(&bytes);
    assert_eq!(bench.in_memory(&first, bytes.len()), Some(bytes.clone()));
    assert_eq!((first.digest(), bench.files()), (bench.hasher().of(&bytes), 0));
    let second = bench.hold(&bytes);
    assert_eq!((second.block, second.digest(), bench.files()), (0, first.digest(), 1));
    let mut back = vec![0; bytes.len()];
    spill::read(&bench.store.folder, second.id, second.digest(), &bench.hasher(), &mut back).expect("whole");
    assert_eq!(back, bytes);
    assert_eq!(bench.counted(), [1, 1]);
    bench.store.release(&first);
    bench.store.release(&second);
    assert!(bench.is_empty());
    assert_ne!(bench.hold(&bytes).block, 0, "memory has room again");
}

#[test]
fn blocks_that_lie_apart_are_filled_in_order() {
    let bench = Bench::new(16 * BLOCK, 0);
    let small: Vec<Kept> = (0..16).map(|_| bench.hold(b"x")).collect();
    small.iter().step_by(2).for_each(|kept| bench.store.release(kept));
    let bytes = image(7 * BLOCK as usize + 1);
    let kept = bench.hold(&bytes);
    assert_eq!(bench.in_memory(&kept, bytes.len()), Some(bytes));
}

#[test]
fn what_no_frame_got_leaves_nothing() {
    for hard in [16 * BLOCK, 0] {
        let bench = Bench::new(hard, 1 << 20);
        let mut writing = bench.store.begin(9000).expect("there is room");
        writing.add(&image(5000)).expect("written");
        assert!(!bench.is_empty());
        drop(writing);
        assert!(bench.is_empty(), "half of it");
        drop(bench.keep(&image(9000)).expect("there is room"));
        assert!(bench.is_empty(), "all of it");
        assert_eq!(bench.counted(), [0, 0]);
        assert_eq!(bench.store.disk().used(0, Instant::now()), 0);
    }
}

#[test]
fn an_image_without_bytes_is_kept_as_well() {
    for hard in [16 * BLOCK, 0] {
        let bench = Bench::new(hard, 1 << 20);
        let kept = bench.hold(b"");
        assert!(kept.is_kept() && kept.digest() == bench.hasher().of(b""));
        bench.store.release(&kept);
        assert!(bench.is_empty());
    }
}

#[test]
fn where_neither_has_room_the_refusal_names_the_keys_and_nothing_is_left() {
    let bench = Bench::new(2 * BLOCK, 3 * BLOCK);
    let kept = [bench.hold(&image(2 * BLOCK as usize)), bench.hold(&image(2 * BLOCK as usize))];
    assert_eq!((bench.counted(), bench.files()), ([1, 1], 1), "its file has a head of a page");
    assert!(bench.store.check_room([1].into_iter()).is_err());
    let Err(error) = bench.keep(b"x") else { panic!("there is no room") };
    let words = error.to_string();
    assert!(matches!(error, StoreError::Full { .. }), "{words}");
    for said in ["keep 1 bytes", "8192 of 8192", "cache.memory_bytes_max", "12288 of 12288", "cache.disk_bytes_max"] {
        assert!(words.contains(said), "{words}");
    }
    assert_eq!(bench.files(), 1);
    kept.iter().for_each(|kept| bench.store.release(kept));
    assert!(bench.is_empty());
    // One block each, though they are small; or a page more on disk.
    for (sizes, fits) in
        [(vec![2 * BLOCK, 2 * BLOCK], true), (vec![1; 2], true), (vec![BLOCK + 1, BLOCK, BLOCK, 0], false)]
    {
        assert_eq!(bench.store.check_room(sizes.iter().copied()).is_ok(), fits, "{sizes:?}");
        assert_eq!(bench.store.can_fit(sizes.iter().copied()), fits, "{sizes:?}");
    }
}

#[test]
fn room_is_taken_when_an_image_begins_so_that_many_at_once_do_not_exceed_it() {
    let bench = Bench::new(0, 3 * BLOCK);
    let first = bench.store.begin(2 * BLOCK).expect("there is room");
    assert!(bench.store.begin(1).is_err(), "nothing is written yet");
    drop(first);
    drop(bench.store.begin(2 * BLOCK).expect("there is room again"));
}

#[test]
fn what_the_keeper_counts_replaces_what_this_process_counted() {
    let bench = Bench::new(0, 0);
    bench.store.area.say(Level::Spill, 1, 0, 10 * BLOCK);
    let kept = bench.hold(&image(4 * BLOCK as usize));
    assert!(bench.store.begin(5 * BLOCK).is_err(), "5 of 10 are used");
    bench.store.area.say(Level::Spill, 1, 5 * BLOCK, 10 * BLOCK); // it has seen the file
    assert!(bench.store.begin(4 * BLOCK).is_err(), "or so it may be: it may have moved one of its own");
    bench.store.disk().changed -= COUNTED;
    bench.store.disk().lately = [0; 2];
    assert!(bench.store.begin(4 * BLOCK).is_ok() && bench.store.begin(5 * BLOCK).is_err());
    bench.store.release(&kept);
    assert!(bench.store.begin(9 * BLOCK).is_ok());
    bench.store.area.say(Level::Spill, 1, 6 * BLOCK, 10 * BLOCK); // of others
    assert!(bench.store.begin(3 * BLOCK).is_ok());
    // And its limit on memory is the one that counts.
    assert_eq!(bench.hold(b"xx").block, 0);
    bench.store.area.say(Level::InPlace, 4 * BLOCK, 6 * BLOCK, 10 * BLOCK);
    assert_ne!(bench.hold(b"x").block, 0);
}

#[test]
fn what_was_written_shortly_before_the_keepers_number_changed_counts_until_the_keeper_has_counted_it() {
    let mut now = Instant::now();
    let mut disk = Disk::new(100, 0, now);
    let mut at = |disk: &mut Disk, after_ms, said| {
        now += Duration::from_millis(after_ms);
        (disk.used(said, now), now)
    };
    for written in 1..=10 {
        let (used, now) = at(&mut disk, 100, 100);
        assert_eq!(used, 100 + 10 * (written - 1));
        disk.wrote(10, now);
    }
    // It moves images of its own, ten times a second.
    for moved in 1..=10 {
        assert_eq!(at(&mut disk, 100, 100 + moved).0, 200 + moved);
    }
    // It has counted all of them.
    assert!(at(&mut disk, 100, 210).0 >= 210);
    assert_eq!(at(&mut disk, 2000, 210).0, 210);
    // What came before is forgotten when the next change comes.
    assert_eq!(at(&mut disk, 2000, 211).0, 211);
    let (_, then) = at(&mut disk, 0, 211);
    disk.wrote(10, then);
    assert_eq!(at(&mut disk, 10, 212).0, 222);
    disk.counted(221); // the folder itself
    assert_eq!(at(&mut disk, 10, 212).0, 221);
}

#[test]
fn room_that_another_process_made_unseen_is_found_in_the_folder() {
    let bench = Bench::new(0, 3 * BLOCK);
    let kept = bench.hold(&image(2 * BLOCK as usize));
    spill::remove(&bench.store.folder, kept.id).expect("it was there");
    bench.hold(&image(2 * BLOCK as usize));
    assert_eq!(bench.files(), 1);
}

#[test]
fn what_a_former_gateway_of_the_same_id_left_is_removed_unless_a_frame_names_it() {
    let bench = Bench::new(0, 3 * BLOCK);
    let old = bench.hold(&image(2 * BLOCK as usize));
    let end = 1 << NUMBER_BITS;
    let own = |number| u64::from(OWNER) << NUMBER_BITS | number;
    let (left, anothers) = (own(end - 1000), u64::from(OWNER + 1) << NUMBER_BITS | (end - 9));
    for id in [left, anothers] {
        fs::write(spill::path(&bench.store.folder, id), b"").expect("written");
    }
    fs::write(bench.store.folder.join(format!("{:016x}.new", own(5))), b"").expect("written");
    let ids = || {
        let mut ids: Vec<u64> = spill::list(&bench.store.folder).expect("read").iter().map(|file| file.id).collect();
        ids.sort_unstable();
        ids
    };
    // The clock was set back: as far as it tells, this id lies ahead.
    let again = Bench::open(&bench.folder, 0, 4 * BLOCK, &[old.id, own(end - 500), anothers, 0]);
    assert_eq!(ids(), [old.id, anothers]);
    assert!(again.begin(1).is_err(), "3 of 4 pages are used, and a file has a head");
    assert!(again.begin(0).is_ok());
    assert_eq!(again.next.load(Ordering::Relaxed), end - 499 + 2, "two were begun");
    let later = Bench::open(&bench.folder, 0, 4 * BLOCK, &[]).next.load(Ordering::Relaxed);
    assert_eq!(ids(), [anothers]);
    assert!(later > old.id % end && later < end - 1000);
}

#[test]
fn a_folder_that_fails_is_another_error() {
    let bench = Bench::new(0, 1 << 20);
    fs::remove_dir(&bench.store.folder).expect("it is empty");
    let Err(error) = bench.keep(b"x") else { panic!("there is no folder") };
    assert!(matches!(error, StoreError::Disk { .. }) && error.to_string().contains("paths.state"), "{error}");
    let memory = bench.store.memory_failed(io::Error::other("no page")).to_string();
    assert!(memory.contains("paths.shm") && !memory.contains("paths.state"), "{memory}");
    assert_eq!(bench.store.disk().used(0, Instant::now()), 0);
}
