//! Readers without locks against the one writer. A reader that has written its lease and was told that the entry still is what
//! it was reads the right bytes as long as it has the lease, while the keeper evicts and sweeps, and others take what was swept at
//! full speed. And an entry that is written while it is read is read whole or not at all.

mod support;

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use framepipe_cache::{ArenaKind, BlockRef, INLINE_WORDS, Kind, Offer, Put, Told, Value};
use framepipe_shm::{Gate, Geometry, POOL_COUNT_MAX, PoolGeometry, Segment, Work, Worker};
use support::{BLOCK, Random, Store, record};

const KEEPER: u16 = 1;
const JOBS: usize = 8;
/// Keys, from 1 on: a chain's bytes are all its key's number.
const KEYS: u64 = 6;
/// Few, so that what is swept has another key's bytes at once.
const BLOCKS: u64 = 16;
const LEASES: usize = 0;
/// Rounds of the keeper for each eviction: that readers find something.
const EVICTED_EACH: u64 = 8;
/// One test at a time: each wants the processors for itself.
static TURN: Mutex<()> = Mutex::new(());

fn seconds() -> Duration {
    let seconds = std::env::var("STORM_SECONDS").map_or(3, |text| text.parse().expect("STORM_SECONDS is a number"));
    Duration::from_secs(seconds)
}

/// A test goes on beyond its time until enough was counted to show anything, and no longer than this.
const PATIENCE: Duration = Duration::from_secs(60);
const ENOUGH: u64 = 20;

fn goes_on(start: Instant, is_enough: bool) -> bool {
    start.elapsed() < seconds() || !is_enough && start.elapsed() < PATIENCE
}

struct House {
    segment: Segment,
    store: Store,
    is_over: AtomicBool,
}

#[derive(Default)]
struct Counts {
    read: AtomicU64,
    refused: AtomicU64,
    made: AtomicU64,
    evicted: AtomicU64,
    swept: AtomicU64,
    named: AtomicU64,
}

impl Counts {
    fn are_enough(&self) -> bool {
        [&self.read, &self.refused, &self.evicted].iter().all(|count| count.load(Ordering::Relaxed) > ENOUGH)
    }
}

impl House {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("framepipe-test-leases-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = PathBuf::from("/dev/shm").join(name);
        let mut pools = [PoolGeometry::default(); POOL_COUNT_MAX];
        pools[LEASES] = PoolGeometry::new(&[(4096, JOBS as u64)]);
        let geometry = Geometry {
            pipeline: 0,
            jobs: JOBS as u64,
            reserved: 0,
            queues: 1,
            processes: 1,
            request_bytes: 8,
            descriptor_bytes: 8,
            keys: 0,
            key_bytes: 0,
            handed: 0,
            pools,
        };
        let segment = Segment::create(&folder, geometry, 1, 0).expect("a small segment fits");
        segment.processes()[0].occupy(KEEPER, 0, 0);
        let gate = Gate::new(&segment, KEEPER);
        let mut draft = gate.draft(JOBS).expect("all jobs are free");
        (0..JOBS).for_each(|place| draft.write(place, &[0; 8], &[0; 8]));
        gate.accept(draft, None).expect("the gateway lives");
        Self { segment, store: Store::new(ArenaKind::Tensors, BLOCKS, 16), is_over: AtomicBool::new(false) }
    }

    /// A job of its own for each turn, which then is put back.
    fn turns<'s>(&'s self, owner: u16, mut turn: impl FnMut(&Worker<'s>, &mut Work<'s>)) {
        let worker = Worker::new(&self.segment, owner, 0);
        while !self.is_over.load(Ordering::Relaxed) {
            let Some(mut work) = worker.claim() else { continue };
            turn(&worker, &mut work);
            worker.put_back(work).expect("the worker lives");
        }
    }

    /// Taken only now: a slot in use names what it named before, until it is a lease of something else.
    fn lease<'s>(worker: &Worker<'s>, work: &mut Work<'s>, word: u64) {
        worker.acquire(work, LEASES, 8).expect("there is one for each job");
        work.output(LEASES).expect("it was acquired").lease(word);
    }

    fn reader(&self, owner: u16, counts: &Counts) {
        let mut random = Random(u64::from(owner));
        let area = &self.store.area;
        self.turns(owner, |worker, work| {
            let key = 1 + random.next() % KEYS;
            let Some(found) = area.find(key.into()) else { return std::thread::yield_now() };
            assert_eq!(found.value, value(key, found.value.block), "an entry of another key");
            let first = BlockRef::unpack(found.value.block).expect("the keeper packed it");
            linger(&mut random); // the keeper may evict it here
            Self::lease(worker, work, found.value.block);
            if !area.still(&found) {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
            for _ in 0..random.below(4) {
                assert!(
                    self.store.lives(first, bytes_of(key), key as u8, "a reader with a lease"),
                    "{first:?} is gone"
                );
                linger(&mut random);
            }
            counts.read.fetch_add(1, Ordering::Relaxed);
        });
    }

    fn maker(&self, owner: u16, counts: &Counts) {
        let mut random = Random(u64::from(owner));
        self.turns(owner, |worker, work| {
            let key = 1 + random.next() % KEYS;
            let put = self.store.put(owner, bytes_of(key), key as u8, |name| Self::lease(worker, work, name));
            let Some(first) = put else { return std::thread::yield_now() };
            assert!(self.store.lives(first, bytes_of(key), key as u8, "a maker"), "{first:?} is gone");
            let value = value(key, first.pack());
            let told = Told::Made;
            let Value { kind, block, bytes, inline } = value;
            self.store.area.offer(owner, &Offer { told, kind, key: key.into(), block, bytes, inline });
            counts.made.fetch_add(1, Ordering::Relaxed);
        });
    }

    fn keeper(&self, counts: &Counts) {
        let mut random = Random(u64::from(KEEPER));
        while !self.is_over.load(Ordering::Relaxed) {
            self.store.area.hear(|_| true, |offer| self.enter(&offer));
            if random.next().is_multiple_of(EVICTED_EACH) {
                self.evict(1 + random.next() % KEYS, counts);
            }
            let named = |named: HashSet<u64>| {
                counts.named.fetch_add(named.len() as u64, Ordering::Relaxed);
                named
            };
            let swept = self.store.sweep(KEEPER, || named(self.segment.leases(LEASES).collect()), |_| true);
            counts.swept.fetch_add(swept as u64, Ordering::Relaxed);
        }
    }

    fn enter(&self, offer: &Offer) {
        let first = BlockRef::unpack(offer.block).expect("its maker packed it");
        if self.store.area.find(offer.key).is_none() && self.store.arena().adopt(first) {
            let Offer { kind, block, bytes, inline, .. } = *offer;
            assert_eq!(self.store.area.put(offer.key, &Value { kind, block, bytes, inline }), Put::Done);
        }
    }

    fn evict(&self, key: u64, counts: &Counts) {
        let Some(found) = self.store.area.find(key.into()) else { return };
        assert!(self.store.area.remove(key.into()));
        let first = BlockRef::unpack(found.value.block).expect("it was packed");
        assert!(self.store.arena().disown(first), "what the index names is its");
        counts.evicted.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = Segment::remove(self.segment.folder());
    }
}

/// A while, which others use for their steps: now and then on this thread's processor.
fn linger(random: &mut Random) {
    (0..random.below(100)).for_each(|_| std::hint::spin_loop());
    if random.next().is_multiple_of(4) {
        std::thread::yield_now();
    }
}

fn bytes_of(key: u64) -> usize {
    1 + (key as usize % 3) * BLOCK
}

fn value(key: u64, block: u64) -> Value {
    let bytes = record(bytes_of(key), key as u8).bytes;
    Value { kind: Kind::Tensors, block, bytes, inline: [key; INLINE_WORDS] }
}

#[test]
fn who_has_a_lease_and_was_told_still_reads_the_right_bytes() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (house, counts) = (House::new(), Counts::default());
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads = [
            scope.spawn(|| house.reader(2, &counts)),
            scope.spawn(|| house.reader(3, &counts)),
            scope.spawn(|| house.maker(4, &counts)),
            scope.spawn(|| house.maker(5, &counts)),
            scope.spawn(|| house.keeper(&counts)),
        ];
        while goes_on(start, counts.are_enough()) && threads.iter().all(|thread| !thread.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        house.is_over.store(true, Ordering::Relaxed);
    });
    println!("{:?}", [&counts.read, &counts.refused, &counts.made, &counts.evicted, &counts.swept, &counts.named]);
    assert!(counts.are_enough(), "too few for this to show anything");
    (1..=KEYS).for_each(|key| house.evict(key, &counts));
    house.store.sweep(KEEPER, || house.segment.leases(LEASES).collect(), |_| true);
    house.store.assert_all_free("at the end");
}

/// Each on a processor of its own, where there are as many: side by side, not in turns.
fn run_on(number: usize) {
    use nix::{
        sched::{CpuSet, sched_getaffinity, sched_setaffinity},
        unistd::Pid,
    };
    let this = Pid::from_raw(0);
    let may = sched_getaffinity(this).expect("it is this thread");
    let mine = (0..CpuSet::count()).filter(|cpu| may.is_set(*cpu) == Ok(true)).nth(number);
    let mut one = CpuSet::new();
    if let Some(mine) = mine {
        one.set(mine).expect("it is in the set");
        sched_setaffinity(this, &one).expect("it may run there");
    }
}

/// One step of each, at one moment, again and again: the reader is told that the entry is not any more, or the keeper sees its
/// lease.
#[test]
fn reader_or_keeper_sees_the_other() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let house = House::new();
    let (area, block) = (&house.store.area, 77);
    let worker = Worker::new(&house.segment, 2, 0);
    let mut work = worker.claim().expect("a job waits");
    House::lease(&worker, &mut work, 0);
    let (round, done, told_still) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let is_over = AtomicBool::new(false);
    let wait = |word: &AtomicU64, number: u64| {
        (0..u32::MAX).find(|spins| {
            if spins % 10_000 == 9_999 {
                std::thread::yield_now(); // the other is not running
            }
            word.load(Ordering::Acquire) >= number || is_over.load(Ordering::Relaxed)
        });
    };
    let start = Instant::now();
    let (mut rounds, mut seen) = (0, [0; 2]);
    std::thread::scope(|scope| {
        let reader = || {
            run_on(1);
            for number in 1.. {
                wait(&round, 3 * number - 2); // the key is put, and the lease names nothing
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let found = area.find(1).expect("it was put");
                done.store(3 * number - 2, Ordering::Release);
                wait(&round, 3 * number - 1);
                work.output(LEASES).expect("it was acquired").lease(block);
                told_still.store(area.still(&found), Ordering::Relaxed);
                done.store(3 * number - 1, Ordering::Release);
                wait(&round, 3 * number);
                work.output(LEASES).expect("it was acquired").lease(0);
                done.store(3 * number, Ordering::Release);
            }
        };
        let reader = scope.spawn(reader);
        run_on(0);
        while goes_on(start, seen.iter().all(|seen| *seen > ENOUGH)) && !reader.is_finished() {
            rounds += 1;
            assert_eq!(area.put(1, &value(1, block)), Put::Done);
            round.store(3 * rounds - 2, Ordering::Release);
            wait(&done, 3 * rounds - 2);
            round.store(3 * rounds - 1, Ordering::Release);
            (0..rounds % 400).for_each(|step| _ = std::hint::black_box(step)); // sometimes the one is sooner, sometimes the other
            area.remove(1);
            let is_named = house.segment.leases(LEASES).any(|word| word == block);
            wait(&done, 3 * rounds - 1);
            let still = told_still.load(Ordering::Relaxed);
            is_over.store(still && !is_named, Ordering::Relaxed);
            assert!(!still || is_named, "round {rounds}: the reader reads what the keeper frees");
            seen[usize::from(still)] += 1;
            round.store(3 * rounds, Ordering::Release);
            wait(&done, 3 * rounds);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    println!("{rounds} rounds, told [gone, still] {seen:?}");
    assert!(seen.iter().all(|seen| *seen > ENOUGH), "{seen:?}");
}

/// One bucket, in which keys come and go and change, so that entries pass from one key to another.
#[test]
fn an_entry_is_read_whole_or_not_at_all() {
    const CHANGES: u64 = 16;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let store = Store::new(ArenaKind::Tensors, 1, 8);
    let is_over = AtomicBool::new(false);
    let whole = |key: u64, number: u64| {
        let inline = std::array::from_fn(|word| key << 32 | number << 8 | word as u64);
        Value { kind: Kind::ALL[(number % 3) as usize], block: key << 32 | number, bytes: number, inline }
    };
    let start = Instant::now();
    let read: u64 = std::thread::scope(|scope| {
        let reader = |seed: u64| {
            let (store, is_over) = (&store, &is_over);
            move || {
                let (mut random, mut read) = (Random(seed), 0);
                while !is_over.load(Ordering::Relaxed) {
                    let key = random.next() % 12;
                    if let Some(found) = store.area.find(key.into()) {
                        assert_eq!(found.value, whole(key, found.value.bytes), "key {key}");
                        read += 1;
                    }
                }
                read
            }
        };
        let readers = [scope.spawn(reader(1)), scope.spawn(reader(2))];
        let mut random = Random(3);
        while start.elapsed() < seconds() && readers.iter().all(|reader| !reader.is_finished()) {
            let key = random.next() % 12;
            match random.next() % 3 {
                0 => drop(store.area.remove(key.into())),
                _ => drop(store.area.put(key.into(), &whole(key, random.next() % CHANGES))),
            }
        }
        is_over.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().expect("no torn entry")).sum()
    });
    assert!(read > 10_000, "{read} entries read");
}
