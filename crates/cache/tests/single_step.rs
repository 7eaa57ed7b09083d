//! Kills a process after every single instruction of each step that it takes on an area, and shows that a sweep then leaves
//! nothing that nobody names, and harms nothing that somebody does: at once, or after the living have taken all that is free.
//! The sweep itself is killed, and halted while the living take what it frees.
//!
//! The chain that all this is about lies apart and backwards (blocks 6, 1, 3): its first block is not the first that a sweep
//! comes to.

mod support;

use std::{collections::HashSet, mem::ManuallyDrop, sync::OnceLock, sync::atomic::Ordering, time::Instant};

use framepipe_cache::{ArenaKind, BlockRef, INLINE_WORDS, Kind, Offer, Put, Told, Value};
use framepipe_stepper::Stopped;
use support::{BLOCK, Shared, Store};

const LIVING: u16 = 1;
const KEEPER: u16 = 2;
const VICTIM: u16 = 7;
/// Died before.
const DEAD: u16 = 8;

const BLOCKS: usize = 8;
/// Blocks, and the byte, of the victim's chain.
const CHAIN_BYTES: usize = 3 * BLOCK - 100;
const CHAIN_BYTE: u8 = 0x77;
const KEY: u128 = 5 << 64 | 16;
/// In the same bucket.
const OLD_KEY: u128 = 6 << 64 | 16;

/// A store; what jobs name (word 0 is the victim's); and the chains that live whatever the victim does.
struct Bench {
    store: Store,
    names: Shared,
    living: Vec<(BlockRef, usize, u8)>,
    /// The victim's chain, where it had one before its step.
    chain: Option<BlockRef>,
}

impl Bench {
    /// Five chains of one block live; blocks 6, 1 and 3 are free, and are taken in this order.
    fn new() -> Self {
        let store = Store::new(ArenaKind::Tensors, BLOCKS as u64, 16);
        let mut singles: Vec<_> =
            (0..BLOCKS as u8).map(|byte| (store.put(LIVING, 1, byte, |_| ()).expect("free"), 1, byte)).collect();
        assert!(store.arena().free(LIVING, singles[4].0));
        singles[4].0 = store.put(LIVING, 1, 4, |_| ()).expect("block 4 is free"); // the next search begins behind it
        let freed = [6, 1, 3].map(|index| singles[index].0);
        assert!(freed.iter().all(|first| store.arena().free(LIVING, *first)));
        singles.retain(|(first, ..)| !freed.contains(first));
        Self { store, names: Shared::new(1), living: singles, chain: None }
    }

    /// With the victim's chain held, and named by its job.
    fn with_chain() -> Self {
        let mut bench = Self::new();
        bench.chain = put(&bench.store, &bench.names);
        assert!(bench.chain.is_some());
        bench.search_from_3();
        bench
    }

    /// The next search begins at block 3: chains that the living take run 3, 1 where these two are free.
    fn search_from_3(&mut self) {
        let block_2 = self.living.iter_mut().find(|(.., byte)| *byte == 2).expect("block 2 has its number");
        assert!(self.store.arena().free(LIVING, block_2.0));
        block_2.0 = self.store.put(LIVING, 1, 2, |_| ()).expect("it alone is free");
    }

    /// With a chain in its place that nobody names.
    fn with_unnamed_chain() -> Self {
        let mut bench = Self::with_chain();
        bench.names[0].store(0, Ordering::Relaxed);
        bench.chain = None;
        constant_names(&bench);
        bench
    }

    /// With a chain in its place that one of the dead was writing.
    fn with_dead_writer() -> Self {
        let mut bench = Self::new();
        std::mem::forget(bench.store.arena().take(DEAD, CHAIN_BYTES).expect("three blocks are free"));
        bench.search_from_3();
        constant_names(&bench);
        bench
    }

    /// With two entries of one bucket in the index.
    fn with_entries() -> Self {
        let bench = Self::new();
        assert!([OLD_KEY, KEY].iter().all(|key| bench.store.area.put(*key, &value(1)) == Put::Done));
        bench
    }

    /// With an offer that waits.
    fn with_offer() -> Self {
        let bench = Self::new();
        assert!(bench.store.area.offer(LIVING, &offer(1)));
        bench
    }

    /// The same in a forked child: mappings of its own, the same names.
    fn in_child(&self) -> ManuallyDrop<Self> {
        let child = Self {
            store: ManuallyDrop::into_inner(self.store.in_child()),
            names: self.names.again(),
            living: self.living.clone(),
            chain: self.chain,
        };
        even_heap();
        ManuallyDrop::new(child)
    }

    fn named(&self) -> HashSet<u64> {
        let living = self.living.iter().map(|(first, ..)| first.pack());
        living.chain([self.names[0].load(Ordering::Relaxed)]).collect()
    }

    fn sweep(&self) -> usize {
        self.store.sweep(KEEPER, || self.named(), |owner| owner != VICTIM && owner != DEAD)
    }

    /// The living take all that is free: chains of two blocks as long as there are two.
    fn take_all(&mut self) {
        for bytes in [2 * BLOCK, 1] {
            while let Some(first) = self.store.put(LIVING, bytes, 0xa0 + self.living.len() as u8, |_| ()) {
                self.living.push((first, bytes, 0xa0 + self.living.len() as u8));
            }
        }
    }

    fn assert_living(&self, context: &str) {
        for (first, bytes, byte) in &self.living {
            assert!(self.store.lives(*first, *bytes, *byte, context), "{context}: {first:?} is gone");
        }
    }

    /// Sweeps; then all but what lives is free, and a second sweep finds nothing. At last all is freed.
    fn finish(&mut self, context: &str) {
        self.sweep();
        self.assert_living(context);
        let mut expected: usize = self.living.iter().map(|(_, bytes, _)| bytes.div_ceil(BLOCK)).sum();
        if let Some(first) = BlockRef::unpack(self.names[0].load(Ordering::Relaxed))
            && self.store.lives(first, CHAIN_BYTES, CHAIN_BYTE, context)
        {
            expected += 3;
        }
        assert_eq!(self.store.arena().in_use(), expected, "{context}: what nobody names is free");
        assert_eq!(self.sweep(), 0, "{context}: a second sweep finds nothing");
        self.names[0].store(0, Ordering::Relaxed);
        self.living.clear();
        self.sweep();
        self.store.assert_all_free(context);
    }
}

/// The heap is inherited, and its shape differs from one process to the next: from here on small pieces come from caches that
/// are full, whatever it was, so that all processes take one way.
fn even_heap() {
    const CACHED: usize = 7; // pieces of a size in malloc's cache of a thread
    let pieces = |size: usize| -> Vec<Vec<u8>> { (0..24).map(|_| Vec::with_capacity(16 * size - 8)).collect() };
    let mut all: Vec<_> = (1..=24).map(pieces).collect();
    // Of the middle: what lies around them is in use, so that none of them can grow where it is.
    all.iter_mut().for_each(|pieces| pieces[8..8 + CACHED].iter_mut().for_each(|piece| *piece = Vec::new()));
    std::mem::forget(all);
}

fn put(store: &Store, names: &Shared) -> Option<BlockRef> {
    store.put(VICTIM, CHAIN_BYTES, CHAIN_BYTE, |name| names[0].store(name, Ordering::Relaxed))
}

fn value(number: u64) -> Value {
    Value { kind: Kind::Tensors, block: number, bytes: number, inline: [number; INLINE_WORDS] }
}

fn offer(number: u64) -> Offer {
    let inline = [number; INLINE_WORDS];
    Offer { told: Told::Made, kind: Kind::Tensors, key: KEY, block: number, bytes: number, inline }
}

/// Keeps a result from being optimised away.
fn done<T>(result: T) {
    std::hint::black_box(result);
}

/// What the sweep that is killed or halted is told to be named: one set, made by whoever prepares, as another one would have
/// other hashes, and the step take another way.
fn constant_names(bench: &Bench) -> &'static HashSet<u64> {
    static NAMED: OnceLock<HashSet<u64>> = OnceLock::new();
    NAMED.get_or_init(|| bench.named())
}

fn sweep(bench: &Bench) {
    let arena = bench.store.arena();
    let candidates = arena.candidates();
    done(arena.sweep(VICTIM, candidates, constant_names(bench), |owner| owner != DEAD));
}

/// A step: what is prepared for it, and what the victim does.
type Case = (&'static str, fn() -> Bench, fn(&Bench));

const ARENA: &[Case] = &[
    ("take, write, describe, hold", Bench::new, |bench| done(put(&bench.store, &bench.names))),
    ("take, drop", Bench::new, |bench| done(bench.store.arena().take(VICTIM, CHAIN_BYTES))),
    ("free", Bench::with_chain, |bench| done(bench.store.arena().free(VICTIM, chain(bench)))),
    ("adopt, disown", Bench::with_chain, |bench| {
        done((bench.store.arena().adopt(chain(bench)), bench.store.arena().disown(chain(bench))));
    }),
    ("begin a move, abandon it", Bench::with_chain, |bench| {
        done((bench.store.arena().begin_move(chain(bench)), bench.store.arena().abandon_move(chain(bench))));
    }),
    ("begin a move, end it", Bench::with_chain, |bench| {
        done((bench.store.arena().begin_move(chain(bench)), bench.store.arena().end_move(VICTIM, chain(bench))));
    }),
    ("sweep a held chain", Bench::with_unnamed_chain, sweep),
    ("sweep what a dead writer left", Bench::with_dead_writer, sweep),
];

/// Those of them that must not lose the chain, wherever they are killed.
const KEEPS: &[&str] = &["adopt, disown", "begin a move, abandon it"];

fn chain(bench: &Bench) -> BlockRef {
    bench.chain.expect("the victim's chain is held")
}

/// A step's end by the victim's death: what it had in the index goes back to be held, and what it moved.
fn settle(bench: &Bench) {
    bench.store.arena().settle_moves();
    let cached: Vec<_> = bench.store.arena().cached().collect();
    assert!(cached.iter().all(|(first, _)| bench.store.arena().disown(*first)));
}

fn kill(case: &Case, living_first: bool) {
    let (name, prepare, step) = case;
    let start = Instant::now();
    let stride = if name.starts_with("sweep") { SWEEP_STRIDE } else { 1 };
    let kills = at_every_instruction(stride, prepare, *step, |mut bench, victim, point| {
        let context = format!("{name}, killed after {point} instructions");
        victim.kill();
        settle(&bench);
        if living_first {
            bench.take_all();
        }
        if KEEPS.contains(name) {
            assert!(bench.store.lives(chain(&bench), CHAIN_BYTES, CHAIN_BYTE, &context), "{context}");
        }
        bench.finish(&context);
    });
    let order = if living_first { "the living go first" } else { "swept at once" };
    println!("{name:32} {order:20} {kills:6} kills: nothing lost or leaked ({:.1?})", start.elapsed());
}

/// Halts a step while the living take all that is free; then it goes on.
fn halt(case: &Case) {
    let (name, prepare, step) = case;
    let start = Instant::now();
    let halts = at_every_instruction(SWEEP_STRIDE, prepare, *step, |mut bench, halted, point| {
        let context = format!("{name}, halted after {point} instructions");
        bench.take_all();
        bench.assert_living(&context);
        halted.finish();
        bench.assert_living(&context);
        bench.take_all();
        bench.assert_living(&context);
        halted.kill();
        settle(&bench);
        bench.finish(&context);
    });
    println!(
        "{name:32} {:20} {halts:6} halts: nothing lost or leaked ({:.1?})",
        "the living meanwhile",
        start.elapsed()
    );
}

/// Kills the keeper at each instruction of a step on the index: each key has its old value or its new one, or was being
/// written and is none; and after the repair both may be written as ever.
fn index(name: &str, may_be: [&[Option<u64>]; 2], step: fn(&Bench)) {
    let start = Instant::now();
    let kills = at_every_instruction(1, Bench::with_entries, step, |bench, victim, point| {
        let context = format!("{name}, killed after {point} instructions");
        victim.kill();
        let area = &bench.store.area;
        let torn = area.repair_index();
        assert!(torn <= 1 && area.repair_index() == 0, "{context}: {torn} repairs");
        for (key, may_be) in [OLD_KEY, KEY].iter().zip(may_be) {
            let found = area.find(*key).map(|found| found.value);
            let number = found.map(|found| found.block);
            assert_eq!(found, number.map(value), "{context}: a torn value");
            assert!(may_be.contains(&number), "{context}: {key} is {number:?}");
            assert_eq!(area.put(*key, &value(9)), Put::Done, "{context}");
            assert_eq!(area.find(*key).map(|found| found.value), Some(value(9)), "{context}");
        }
        assert_eq!(area.all().count(), 2, "{context}: nothing else is there");
    });
    println!("{name:32} {:20} {kills:6} kills: nothing torn ({:.1?})", "repaired", start.elapsed());
}

/// Kills a process at each instruction of telling or hearing: an offer is whole, comes once at most, and its cell is free.
fn offers(name: &str, stride: usize, prepare: fn() -> Bench, step: fn(&Bench)) {
    let start = Instant::now();
    let kills = at_every_instruction(stride, prepare, step, |bench, victim, point| {
        let context = format!("{name}, killed after {point} instructions");
        victim.kill();
        let area = &bench.store.area;
        let mut heard = Vec::new();
        area.hear(|owner| owner != VICTIM, |offer| heard.push(offer));
        assert!(heard.len() <= 1 && heard.iter().all(|heard| *heard == offer(1)), "{context}: {heard:?}");
        let told = (0..CELLS + 1).take_while(|number| area.offer(LIVING, &offer(*number))).count();
        assert_eq!(told as u64, CELLS, "{context}: a cell is lost");
        heard.clear();
        area.hear(|_| true, |offer| heard.push(offer));
        assert_eq!(heard.len(), told, "{context}");
        area.hear(|_| true, |offer| panic!("{context}: {offer:?} comes twice"));
    });
    println!("{name:32} {:20} {kills:6} kills: nothing torn or lost ({:.1?})", "heard", start.elapsed());
}

/// Instructions between two stops in a step that is long, or only halted.
const SWEEP_STRIDE: usize = 3;
/// Cells of the table of offers.
const CELLS: u64 = 512;

fn at_every_instruction(
    stride: usize,
    prepare: impl Fn() -> Bench,
    step: fn(&Bench),
    at: impl FnMut(Bench, Stopped, usize),
) -> usize {
    let (enter, step) = (|bench: &Bench| bench.in_child(), |bench: ManuallyDrop<Bench>| step(&bench));
    framepipe_stepper::at_every_instruction(stride, prepare, enter, step, at)
}

fn main() {
    let start = Instant::now();
    for case in ARENA {
        kill(case, false);
        kill(case, true);
        halt(case);
    }
    index("put a key", [&[Some(1)], &[Some(1), None, Some(2)]], |bench| done(bench.store.area.put(KEY, &value(2))));
    index("remove a key", [&[Some(1), None], &[Some(1)]], |bench| done(bench.store.area.remove(OLD_KEY)));
    offers("offer", 1, Bench::new, |bench| done(bench.store.area.offer(VICTIM, &offer(1))));
    offers("hear", 7, Bench::with_offer, |bench| bench.store.area.hear(|_| true, done));
    println!("test result: ok. single-step kills passed in {:.1?}", start.elapsed());
}
