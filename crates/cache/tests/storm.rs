//! A storm of `kill -9`: processes take chains, write them, hand them to one another by a table of jobs, read and free them, while
//! one after another is killed, and so is the keeper, which sweeps, and moves what waits. No wrong byte is read, no chain that a
//! job names is lost, and at the end nothing is left.
//!
//! The table is the frame table in small: a job's word says who has it, its name which chain. A chain's bytes are all the low byte
//! of its name's generation and block, so that each reader knows them.
#![allow(unsafe_code, reason = "fork")]

mod support;

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering, fence},
    time::{Duration, Instant},
};

use framepipe_cache::{ArenaKind, BlockRef};
use framepipe_shm::Owner;
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};
use support::{BLOCK, Random, Shared, Store};

const JOBS: usize = 24;
const BLOCKS: u64 = 40;
const WORKERS: usize = 4;
/// A storm that is weak for want of processors goes on beyond its time, and no longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is with a job: `owner << 8 | state`, and a number above that grows with each step.
const FREE: u64 = 0;
const WRITING: u64 = 1;
const READY: u64 = 2;
const CLAIMED: u64 = 3;
/// Its chain was read, and is being freed.
const DONE: u64 = 4;

/// The shared words: processes' owners (the keeper's first); counters; and of each job its word, the name of its chain, its
/// bytes, and the name that lies on disk.
struct Table<'a>(&'a [AtomicU64]);

const OWNERS: usize = 1 + WORKERS;
const HELD: usize = OWNERS;
const READ: usize = HELD + 1;
const MOVED: usize = READ + 1;
const READ_ON_DISK: usize = MOVED + 1;
const SWEPT: usize = READ_ON_DISK + 1;
const WORDS: usize = SWEPT + 1 + 4 * JOBS;

impl Table<'_> {
    fn job(&self, number: usize) -> &AtomicU64 {
        &self.0[SWEPT + 1 + 4 * number]
    }

    fn name(&self, number: usize) -> &AtomicU64 {
        &self.0[SWEPT + 2 + 4 * number]
    }

    fn on_disk(&self, number: usize) -> &AtomicU64 {
        &self.0[SWEPT + 3 + 4 * number]
    }

    fn bytes(&self, number: usize) -> &AtomicU64 {
        &self.0[SWEPT + 4 + 4 * number]
    }

    fn count(&self, counter: usize, amount: usize) {
        self.0[counter].fetch_add(amount as u64, Ordering::Relaxed);
    }

    fn is_alive(&self, owner: Owner) -> bool {
        self.0[..OWNERS].iter().any(|word| word.load(Ordering::Acquire) == u64::from(owner))
    }

    /// One step of a job: from what was seen to another state, by an owner.
    fn swap(&self, number: usize, seen: u64, state: u64, owner: Owner) -> Option<u64> {
        let next = ((seen >> 32) + 1) << 32 | u64::from(owner) << 8 | state;
        let swapped = self.job(number).compare_exchange(seen, next, Ordering::SeqCst, Ordering::Acquire);
        swapped.is_ok().then_some(next)
    }

    /// What jobs name.
    fn named(&self) -> HashSet<u64> {
        let names = (0..JOBS).filter(|job| state(self.job(*job).load(Ordering::Acquire)) != FREE);
        names.map(|job| self.name(job).load(Ordering::Acquire)).collect()
    }

    /// The launcher's step: what the dead had is as if they had never had it, or as if they had finished.
    fn recover(&self) {
        for job in 0..JOBS {
            let seen = self.job(job).load(Ordering::Acquire);
            let owner = (seen >> 8) as Owner;
            if owner == 0 || self.is_alive(owner) {
                continue;
            }
            let state = match state(seen) {
                WRITING | DONE => FREE,
                CLAIMED => READY,
                _ => continue,
            };
            self.swap(job, seen, state, 0).expect("nobody else changes a dead one's job");
        }
    }
}

fn state(word: u64) -> u64 {
    word & 255
}

fn byte_of(name: u64) -> u8 {
    (name ^ name >> 32 ^ name >> 8) as u8 | 1
}

/// A job that is in a state, if there is one behind a random place.
fn find(table: &Table<'_>, random: &mut Random, wanted: u64) -> Option<(usize, u64)> {
    let start = random.below(JOBS);
    let jobs = (0..JOBS).map(|step| (start + step) % JOBS);
    jobs.map(|job| (job, table.job(job).load(Ordering::Acquire))).find(|(_, word)| state(*word) == wanted)
}

/// Brings a frame: a chain that its job names before it is held, and then the job waits.
fn bring(store: &Store, table: &Table<'_>, owner: Owner, random: &mut Random) {
    let Some((job, seen)) = find(table, random, FREE) else { return };
    let Some(writing) = table.swap(job, seen, WRITING, owner) else { return };
    table.name(job).store(0, Ordering::Relaxed);
    let bytes = random.below(5 * BLOCK);
    if let Ok(mut taken) = store.arena().take(owner, bytes) {
        let name = taken.first().pack();
        taken.write_at(0, &vec![byte_of(name); bytes]).expect("its memory is reserved");
        table.bytes(job).store(bytes as u64, Ordering::Relaxed);
        table.name(job).store(name, Ordering::Release);
        taken.hold();
        table.count(HELD, 1);
        let ready = table.swap(job, writing, READY, 0);
        assert!(ready.is_some(), "who lives keeps its job");
    } else {
        let free = table.swap(job, writing, FREE, 0);
        assert!(free.is_some(), "who lives keeps its job");
    }
}

/// Reads a frame where it lies, in memory or on disk; then its chain goes.
fn take(store: &Store, table: &Table<'_>, owner: Owner, random: &mut Random) {
    let Some((job, seen)) = find(table, random, READY) else { return };
    let Some(claimed) = table.swap(job, seen, CLAIMED, owner) else { return };
    fence(Ordering::SeqCst); // pairs with the keeper's, behind `begin_move`
    let name = table.name(job).load(Ordering::Acquire);
    let first = BlockRef::unpack(name).expect("a chain was packed");
    if store.arena().lives(first) {
        (0..random.below(100)).for_each(|_| std::hint::spin_loop()); // the keeper may begin to move it here, and must leave it
        let view = store.arena().view(first, table.bytes(job).load(Ordering::Acquire) as usize);
        let view = view.expect("what was found here after the claim stays");
        for _ in 0..4 {
            assert!(view.iter().all(|byte| *byte == byte_of(name)), "job {job}: wrong bytes of {first:?}");
            (0..random.below(1000)).for_each(|_| std::hint::spin_loop());
        }
        table.count(READ, 1);
    } else {
        // Nothing is written there: that it would be is what counts.
        assert_eq!(
            table.on_disk(job).load(Ordering::Acquire),
            name,
            "job {job}: {first:?} is neither here nor on disk"
        );
        table.count(READ_ON_DISK, 1);
    }
    let done = table.swap(job, claimed, DONE, owner).expect("who lives keeps its job");
    store.arena().free(owner, first);
    let free = table.swap(job, done, FREE, 0);
    assert!(free.is_some(), "who lives keeps its job");
}

/// Moves a chain that waits: its bytes lie on disk first. If its job comes to its turn meanwhile, it stays.
fn move_out(store: &Store, table: &Table<'_>, owner: Owner, random: &mut Random) {
    let Some((job, seen)) = find(table, random, READY) else { return };
    let name = table.name(job).load(Ordering::Acquire);
    let Some(first) = BlockRef::unpack(name) else { return };
    if table.job(job).load(Ordering::Acquire) != seen || !store.arena().lives(first) {
        return; // the name may be another frame's; or it was moved before
    }
    table.on_disk(job).store(name, Ordering::Release);
    (0..random.below(2000)).for_each(|_| std::hint::spin_loop()); // it takes a while to write: the job may be claimed meanwhile
    if !store.arena().begin_move(first) {
        return;
    }
    fence(Ordering::SeqCst); // pairs with the reader's, behind its claim
    if table.job(job).load(Ordering::Acquire) == seen {
        assert!(store.arena().end_move(owner, first), "it was moving");
        table.count(MOVED, 1);
    } else {
        assert!(store.arena().abandon_move(first), "it was moving");
    }
}

fn keep(store: &Store, table: &Table<'_>, owner: Owner, random: &mut Random) {
    move_out(store, table, owner, random);
    let swept = store.sweep(owner, || table.named(), |owner| table.is_alive(owner));
    table.count(SWEPT, swept);
}

fn work(store: &Store, table: &Table<'_>, owner: Owner, random: &mut Random) {
    bring(store, table, owner, random);
    take(store, table, owner, random);
}

fn spawn(store: &Store, table: &Table<'_>, entry: usize, owner: Owner) -> Pid {
    table.0[entry].store(u64::from(owner), Ordering::Release);
    // SAFETY: this process has one thread.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("prctl");
            let (store, mut random) = (store.in_child(), Random(u64::from(owner)));
            if entry == 0 {
                store.arena().settle_moves(); // of the one before
            }
            loop {
                if entry == 0 {
                    keep(&store, table, owner, &mut random);
                } else {
                    work(&store, table, owner, &mut random);
                }
            }
        }
    }
}

fn main() {
    let seconds = std::env::var("STORM_SECONDS").map_or(4, |text| text.parse().expect("STORM_SECONDS is a number"));
    let mut random = Random(1);
    let store = Store::new(ArenaKind::Images, BLOCKS, 0);
    let words = Shared::new(WORDS);
    let table = Table(&words);
    let mut next_owner: Owner = 1;
    let mut start_one = |entry| {
        next_owner += 1;
        spawn(&store, &table, entry, next_owner)
    };
    let mut pids: Vec<Pid> = (0..OWNERS).map(&mut start_one).collect();
    let (start, mut kills, mut with_job) = (Instant::now(), 0, 0);
    let enough = || [MOVED, READ_ON_DISK, SWEPT].iter().all(|counter| words[*counter].load(Ordering::Relaxed) > 0);
    let goes_on = |kills: usize, with_job: usize| {
        let was_one = kills > 20 && with_job > 0 && enough();
        start.elapsed() < Duration::from_secs(seconds) || !was_one && start.elapsed() < PATIENCE
    };
    while goes_on(kills, with_job) {
        std::thread::sleep(Duration::from_micros(300 + random.next() % 3000)); // the storm's pace; nothing waits for it
        let entry = random.below(OWNERS);
        kill(pids[entry], Signal::SIGKILL).expect("kill");
        let end = waitpid(pids[entry], None).expect("wait");
        let was_killed = matches!(end, nix::sys::wait::WaitStatus::Signaled(_, Signal::SIGKILL, _));
        assert!(was_killed, "entry {entry} (0: the keeper) has found a fault: {end:?}");
        let dead = table.0[entry].swap(0, Ordering::AcqRel);
        with_job += (0..JOBS).filter(|job| table.job(*job).load(Ordering::Acquire) >> 8 & 0xffff == dead).count();
        table.recover();
        kills += 1;
        pids[entry] = start_one(entry);
    }
    for (entry, pid) in pids.iter().enumerate() {
        kill(*pid, Signal::SIGKILL).expect("kill");
        waitpid(*pid, None).expect("wait");
        table.0[entry].store(0, Ordering::Release);
    }
    table.recover();
    store.arena().settle_moves();
    const LAST: Owner = 1;
    table.0[0].store(u64::from(LAST), Ordering::Release);
    keep(&store, &table, LAST, &mut random);
    while (0..JOBS).any(|job| state(table.job(job).load(Ordering::Acquire)) == READY) {
        take(&store, &table, LAST, &mut random);
    }
    store.sweep(LAST, HashSet::new, |_| false);
    store.assert_all_free("after the storm");
    let [held, read, moved, on_disk, swept] =
        [HELD, READ, MOVED, READ_ON_DISK, SWEPT].map(|counter| table.0[counter].load(Ordering::Relaxed));
    assert!(kills > 20 && with_job > 0 && enough(), "the storm was one");
    println!(
        "test result: ok. {held} chains held, {read} read in place, {moved} moved, {on_disk} found on disk, {swept} blocks swept, \
         in {seconds} s under {kills} kill -9 ({with_job} jobs in hand): no byte wrong, nothing lost or leaked"
    );
}
