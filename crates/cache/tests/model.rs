//! Random histories of an area equal those of a naive twin: several owners take, write, hold, free and die; a keeper adopts,
//! disowns, moves, enters into the index, and sweeps. After each step each chain has its bytes, exactly the twin's blocks are in
//! use, and index and offers are the twin's. At the end, when all names are gone, a sweep leaves nothing: no block, no memory.

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};

use framepipe_cache::{ArenaKind, BlockRef, INLINE_WORDS, Kind, Offer, Put, Shortage, Taken, Told, Value};
use proptest::{prelude::*, sample::Index};
use support::{BLOCK, Store, record};

const BLOCKS: usize = 24;
const KEEPER: u16 = 1;
/// How many owners live at a time.
const OWNERS: usize = 3;
/// Keys of the index, from 1 on; more than a bucket has room for.
const KEYS: u128 = 12;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Held,
    Cached,
    Moving,
}

/// A chain, as the twin knows it.
#[derive(Clone, Copy, Debug)]
struct Chain {
    bytes: usize,
    byte: u8,
    state: State,
    is_named: bool,
}

impl Chain {
    fn blocks(&self) -> usize {
        blocks(self.bytes)
    }
}

fn blocks(bytes: usize) -> usize {
    bytes.div_ceil(BLOCK).max(1)
}

/// The twin: a chain's name leads to all that is known of it.
#[derive(Default)]
struct Twin {
    chains: BTreeMap<u64, Chain>,
    /// Blocks of owners that died while they wrote.
    left: usize,
    index: HashMap<u128, Value>,
    offers: Vec<Offer>,
}

struct Writing<'a> {
    taken: Taken<'a>,
    owner: u16,
    bytes: usize,
    byte: u8,
}

#[derive(Clone, Debug)]
enum Step {
    Take { owner: usize, bytes: usize },
    Hold { which: Index, is_named: bool },
    GiveUp(Index),
    Die(usize),
    Unname(Index),
    Free(Index),
    Adopt(Index),
    Disown(Index),
    BeginMove(Index),
    AbandonMove(Index),
    EndMove(Index),
    SettleMoves,
    Sweep,
    Put { key: u128, number: u64 },
    Remove(u128),
    Offer(u128),
    Hear,
}

fn step() -> impl Strategy<Value = Step> {
    let which = any::<Index>;
    let bytes = prop_oneof![Just(0), 1..=BLOCK, 1..=5 * BLOCK, Just(BLOCKS * BLOCK), Just(BLOCKS * BLOCK + 1)];
    prop_oneof![
        8 => (0..OWNERS, bytes).prop_map(|(owner, bytes)| Step::Take { owner, bytes }),
        8 => (which(), any::<bool>()).prop_map(|(which, is_named)| Step::Hold { which, is_named }),
        1 => which().prop_map(Step::GiveUp),
        1 => (0..OWNERS).prop_map(Step::Die),
        2 => which().prop_map(Step::Unname),
        3 => which().prop_map(Step::Free),
        2 => which().prop_map(Step::Adopt),
        2 => which().prop_map(Step::Disown),
        2 => which().prop_map(Step::BeginMove),
        1 => which().prop_map(Step::AbandonMove),
        2 => which().prop_map(Step::EndMove),
        1 => Just(Step::SettleMoves),
        2 => Just(Step::Sweep),
        3 => (1..=KEYS, any::<u64>()).prop_map(|(key, number)| Step::Put { key, number }),
        1 => (1..=KEYS).prop_map(Step::Remove),
        1 => (1..=KEYS).prop_map(Step::Offer),
        1 => Just(Step::Hear),
    ]
}

/// Both worlds, side by side.
struct Worlds<'a> {
    store: &'a Store,
    twin: Twin,
    writing: Vec<Writing<'a>>,
    owners: [u16; OWNERS],
    next_owner: u16,
    next_byte: u8,
}

impl<'a> Worlds<'a> {
    fn new(store: &'a Store) -> Self {
        let owners = std::array::from_fn(|place| KEEPER + 1 + place as u16);
        let next_owner = KEEPER + 1 + OWNERS as u16;
        Self { store, twin: Twin::default(), writing: Vec::new(), owners, next_owner, next_byte: 0 }
    }

    fn pick(&self, which: Index) -> Option<(BlockRef, Chain)> {
        let chains: Vec<_> = self.twin.chains.iter().collect();
        let (name, chain) = (!chains.is_empty()).then(|| *which.get(&chains))?;
        Some((BlockRef::unpack(*name).expect("it was packed"), *chain))
    }

    /// A change of state that must go as the twin's.
    fn change(&mut self, which: Index, from: State, to: State, change: impl FnOnce(&Store, BlockRef) -> bool) {
        let Some((first, chain)) = self.pick(which) else { return };
        assert_eq!(change(self.store, first), chain.state == from, "{chain:?} from {from:?} to {to:?}");
        if chain.state == from {
            self.twin.chains.get_mut(&first.pack()).expect("it was picked").state = to;
        }
    }

    /// A freeing that must go as the twin's; and a second one does nothing.
    fn free(&mut self, which: Index, from: State, free: impl Fn(&Store, BlockRef) -> bool) {
        let Some((first, chain)) = self.pick(which) else { return };
        assert_eq!(free(self.store, first), chain.state == from, "{chain:?}");
        if chain.state == from {
            self.twin.chains.remove(&first.pack());
            assert!(!free(self.store, first), "freed twice");
        }
    }

    fn take(&mut self, owner: usize, bytes: usize) {
        let free = BLOCKS - self.in_use();
        match self.store.arena().take(self.owners[owner], bytes) {
            Ok(mut taken) => {
                assert!(blocks(bytes) <= free);
                self.next_byte = self.next_byte.wrapping_add(1);
                let byte = self.next_byte;
                write(&mut taken, bytes, byte);
                taken.describe(&record(bytes, byte));
                self.writing.push(Writing { taken, owner: self.owners[owner], bytes, byte });
            }
            Err(Shortage::Full { needed, .. }) => {
                assert!(needed == blocks(bytes) && needed > free, "{needed} of {free}")
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn hold(&mut self, which: Index, is_named: bool) {
        if self.writing.is_empty() {
            return;
        }
        let Writing { taken, bytes, byte, .. } = self.writing.swap_remove(which.index(self.writing.len()));
        let first = taken.first();
        assert_eq!(taken.hold(), first);
        let chain = Chain { bytes, byte, state: State::Held, is_named };
        assert!(self.twin.chains.insert(first.pack(), chain).is_none(), "a name comes twice");
    }

    fn die(&mut self, owner: usize) {
        let dead = std::mem::replace(&mut self.owners[owner], self.next_owner);
        self.next_owner += 1;
        let (left, writing) = std::mem::take(&mut self.writing).into_iter().partition(|one| one.owner == dead);
        self.writing = writing;
        let left: Vec<Writing<'_>> = left;
        for one in left {
            self.twin.left += blocks(one.bytes);
            std::mem::forget(one.taken); // a process that is killed drops nothing
        }
    }

    fn sweep(&mut self) {
        let named = || self.twin.chains.iter().filter(|(_, chain)| chain.is_named).map(|(name, _)| *name).collect();
        let living = self.owners;
        let swept = self.store.sweep(KEEPER, named, |owner| owner == KEEPER || living.contains(&owner));
        let is_swept = |chain: &Chain| chain.state == State::Held && !chain.is_named;
        let gone: usize = self.twin.chains.values().filter(|chain| is_swept(chain)).map(Chain::blocks).sum();
        assert_eq!(swept, gone + self.twin.left);
        self.twin.chains.retain(|_, chain| !is_swept(chain));
        self.twin.left = 0;
    }

    fn put(&mut self, key: u128, number: u64) {
        let value = value(number);
        match self.store.area.put(key, &value) {
            Put::Done => drop(self.twin.index.insert(key, value)),
            Put::Full(keys) => {
                assert!(
                    !self.twin.index.contains_key(&key) && keys.iter().all(|key| self.twin.index.contains_key(key))
                );
                assert_eq!(HashSet::from(keys).len(), keys.len(), "a bucket names a key twice");
            }
            Put::None => panic!("there is an index"),
        }
    }

    fn step(&mut self, step: Step) {
        use State::{Cached, Held, Moving};
        match step {
            Step::Take { owner, bytes } => self.take(owner, bytes),
            Step::Hold { which, is_named } => self.hold(which, is_named),
            Step::GiveUp(_) if self.writing.is_empty() => {}
            Step::GiveUp(which) => drop(self.writing.swap_remove(which.index(self.writing.len())).taken),
            Step::Die(owner) => self.die(owner),
            Step::Unname(which) => {
                if let Some((first, _)) = self.pick(which) {
                    self.twin.chains.get_mut(&first.pack()).expect("it was picked").is_named = false;
                }
            }
            Step::Free(which) => self.free(which, Held, |store, first| store.arena().free(KEEPER, first)),
            Step::EndMove(which) => self.free(which, Moving, |store, first| store.arena().end_move(KEEPER, first)),
            Step::Adopt(which) => self.change(which, Held, Cached, |store, first| store.arena().adopt(first)),
            Step::Disown(which) => self.change(which, Cached, Held, |store, first| store.arena().disown(first)),
            Step::BeginMove(which) => self.change(which, Held, Moving, |store, first| store.arena().begin_move(first)),
            Step::AbandonMove(which) => {
                self.change(which, Moving, Held, |store, first| store.arena().abandon_move(first))
            }
            Step::SettleMoves => {
                let moving = self.twin.chains.values_mut().filter(|chain| chain.state == Moving);
                let count = moving.map(|chain| chain.state = Held).count();
                assert_eq!(self.store.arena().settle_moves(), count);
            }
            Step::Sweep => self.sweep(),
            Step::Put { key, number } => self.put(key, number),
            Step::Remove(key) => assert_eq!(self.store.area.remove(key), self.twin.index.remove(&key).is_some()),
            Step::Offer(key) => {
                let offer = Offer::about(Told::Touched, Kind::Results, key);
                assert!(self.store.area.offer(self.owners[0], &offer));
                self.twin.offers.push(offer);
            }
            Step::Hear => {
                let mut heard = Vec::new();
                self.store.area.hear(|_| true, |offer| heard.push(offer));
                let keys = |offers: &[Offer]| {
                    let mut keys: Vec<_> = offers.iter().map(|offer| offer.key).collect();
                    keys.sort_unstable();
                    keys
                };
                assert_eq!(keys(&heard), keys(&std::mem::take(&mut self.twin.offers)));
            }
        }
    }

    fn in_use(&self) -> usize {
        let writing: usize = self.writing.iter().map(|one| blocks(one.bytes)).sum();
        self.twin.chains.values().map(Chain::blocks).sum::<usize>() + writing + self.twin.left
    }

    fn compare(&self, context: &str) {
        for (name, chain) in &self.twin.chains {
            let first = BlockRef::unpack(*name).expect("it was packed");
            let lives = self.store.lives(first, chain.bytes, chain.byte, context);
            assert_eq!(lives, chain.state != State::Moving, "{context}: {chain:?}");
            // Who found it before it began to move reads on.
            assert!(self.store.shows(first, chain.bytes, chain.byte, context), "{context}: {chain:?}");
        }
        assert_eq!(self.store.arena().in_use(), self.in_use(), "{context}: blocks in use");
        let file_blocks = (self.in_use() * BLOCK / 512) as u64;
        assert_eq!(self.store.file_blocks(), file_blocks, "{context}: memory of the blocks in use, and no other");
        let cached: HashSet<u64> = self.store.arena().cached().map(|(first, _)| first.pack()).collect();
        let twins = self.twin.chains.iter().filter(|(_, chain)| chain.state == State::Cached);
        assert_eq!(cached, twins.map(|(name, _)| *name).collect(), "{context}");
        let all: HashMap<_, _> = self.store.area.all().collect();
        assert_eq!(all, self.twin.index, "{context}: the index");
        for key in 1..=KEYS {
            let found = self.store.area.find(key);
            assert!(found.is_none_or(|found| self.store.area.still(&found)));
            assert_eq!(found.map(|found| found.value), self.twin.index.get(&key).copied(), "{context}: key {key}");
        }
    }

    /// All die, and no job names anything.
    fn end(mut self) {
        (0..OWNERS).for_each(|owner| self.die(owner));
        self.twin.chains.values_mut().for_each(|chain| chain.is_named = false);
        self.store.arena().settle_moves();
        let cached: Vec<_> = self.store.arena().cached().collect();
        assert!(cached.iter().all(|(first, _)| self.store.arena().disown(*first)));
        self.twin.chains.values_mut().for_each(|chain| chain.state = State::Held);
        self.sweep();
        self.store.assert_all_free("at the end");
    }
}

/// Every other chain at once; the others piece by piece, from behind, across the ends of blocks.
fn write(taken: &mut Taken<'_>, bytes: usize, byte: u8) {
    if byte.is_multiple_of(2) {
        let piece = vec![byte; 1 + usize::from(byte) * 37];
        for at in (0..bytes).step_by(piece.len()).collect::<Vec<_>>().into_iter().rev() {
            taken.write_at(at, &piece[..piece.len().min(bytes - at)]).expect("its memory is reserved");
        }
        taken.write_at(bytes, &[]).expect("no bytes");
        return;
    }
    taken.write_at(0, &vec![byte; bytes]).expect("its memory is reserved");
}

fn value(number: u64) -> Value {
    let kind = Kind::ALL[(number % 3) as usize];
    Value { kind, block: number, bytes: number / 2, inline: [number; INLINE_WORDS] }
}

fn live(steps: impl IntoIterator<Item = Step>, compare_each: usize) {
    let store = Store::new(ArenaKind::Images, BLOCKS as u64, 16);
    let mut worlds = Worlds::new(&store);
    for (number, step) in steps.into_iter().enumerate() {
        let context = format!("step {number}, {step:?}");
        worlds.step(step);
        if number % compare_each == 0 {
            worlds.compare(&context);
        }
    }
    worlds.compare("the last step");
    worlds.end();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn histories_equal_the_twins(steps in proptest::collection::vec(step(), 1..200)) {
        live(steps, 1);
    }
}

/// Long ones, in which generations, chains and holes between them get old.
#[test]
fn long_histories_equal_the_twins() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let strategy = step();
    for _ in 0..3 {
        let next = |_| strategy.new_tree(&mut runner).expect("a step").current();
        live((0..20_000).map(next), 7);
    }
}
