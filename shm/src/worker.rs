//! A stage's steps on a job: claim it, take slots for its outputs, publish it to the next queue, or put it back.
//!
//! Killed at any instruction of these, a worker leaves words from which recovery puts everything back: the job is
//! CLAIMED with its old bank (it runs again), or READY with its new one (it goes on); a slot that neither bank lists
//! is freed by the sweep; a hint that was not pushed is pushed by the repair.

use std::time::Duration;

use crate::{
    geometry::POOL_COUNT_MAX,
    job::{Banked, Job, JobState},
    pool::{Class, Place, SlotRef},
    segment::Segment,
    word::{JobWord, Owner},
};

/// Size classes that a frame may take a slot of.
const CLASSES_TRIED: usize = 2;

/// Work was taken from this process: the launcher holds it for dead. It must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("job {job} is no longer this process's: its owner was declared dead")]
pub struct Lost {
    /// The job.
    pub job: u32,
}

/// Why no slot could be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// All slots that are large enough are in use: put the job back and wait for the pool.
    #[error("every slot of pool {pool} that is large enough is in use")]
    InUse {
        /// The pool to wait for.
        pool: usize,
    },
    /// No slot is ever large enough.
    #[error("{bytes} bytes exceed the largest slot of pool {pool}, {most} bytes")]
    TooLarge {
        /// The pool.
        pool: usize,
        /// Bytes asked for.
        bytes: usize,
        /// Bytes of its largest slot.
        most: usize,
    },
}

/// A slot that a worker writes into.
pub struct Output<'s> {
    slot: SlotRef,
    place: Place,
    /// The slot's bytes; none where it lies in a handed slab that this process has not mapped.
    pub bytes: &'s mut [u8],
    /// How many of them are in use; 0 gives the slot back at publish.
    pub used: usize,
}

/// A claimed job: its inputs, and the outputs taken for it. It ends with `publish`, `put_back` or the gateway's
/// `free`; dropped otherwise, it stays claimed until its process dies.
#[must_use = "a claimed job is published, put back or freed"]
pub struct Work<'s> {
    pub(crate) segment: &'s Segment,
    pub(crate) job: Job<'s>,
    pub(crate) word: JobWord,
    listed: [Option<Banked>; POOL_COUNT_MAX],
    outputs: [Option<Output<'s>>; POOL_COUNT_MAX],
}

/// Where a published job goes, and what it takes along.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'d> {
    /// The next queue.
    pub queue: usize,
    /// Bits of the pools whose slots are carried on; the job's other slots are freed.
    pub carry: u32,
    /// The frame's new descriptor.
    pub descriptor: &'d [u8],
}

/// A worker: a process that claims jobs from one queue.
#[derive(Clone, Copy)]
pub struct Worker<'s> {
    segment: &'s Segment,
    owner: Owner,
    queue: usize,
}

impl<'s> Worker<'s> {
    /// The worker of this owner id at this queue.
    pub fn new(segment: &'s Segment, owner: Owner, queue: usize) -> Self {
        Self { segment, owner, queue }
    }

    /// Claims the oldest job of the queue. Stale hints are dropped on the way.
    pub fn claim(&self) -> Option<Work<'s>> {
        self.claim_if(&mut None, |_| true)
    }

    /// Claims the oldest job of the queue if it `may` be claimed now. If not, it stays READY and its hint is `kept`, to be
    /// looked at first when this is called again: so that the job keeps its turn. Its worker's death loses no more than a
    /// hint, which recovery pushes again.
    pub fn claim_if(&self, kept: &mut Option<u32>, may: impl Fn(JobWord) -> bool) -> Option<Work<'s>> {
        let ring = self.segment.queue(self.queue);
        while let Some(hint) = kept.take().or_else(|| ring.pop()) {
            if u64::from(hint) >= self.segment.geometry().jobs {
                continue; // no hint of ours
            }
            let job = Job::new(self.segment, hint);
            let seen = job.word();
            if seen.state() != JobState::Ready || seen.queue() != self.queue {
                continue;
            }
            if !may(seen) {
                *kept = Some(hint);
                return None;
            }
            let claimed = seen.claimed_by(self.owner);
            if job.swap(seen, claimed) {
                return Some(Work::new(self.segment, job, claimed));
            }
        }
        None
    }

    /// True when the queue holds a hint.
    pub fn has_work(&self) -> bool {
        !self.segment.queue(self.queue).is_empty()
    }

    /// Waits until the queue holds a hint, or `timeout`; true when it does.
    pub fn wait(&self, timeout: Duration, mut stop: impl FnMut() -> bool) -> bool {
        let ready = || (self.has_work() || stop()).then_some(());
        self.segment.queue_event(self.queue).wait(timeout, ready).is_some()
    }

    /// True when a slot of the pool for `bytes` bytes may be free, or the pool has none at all.
    pub fn has_slot(&self, pool: usize, bytes: usize) -> bool {
        let mut fitting = self.segment.classes(pool).filter(|class| class.slot_bytes >= bytes).take(CLASSES_TRIED);
        fitting.any(|class| !class.is_exhausted()) || self.segment.classes(pool).next().is_none()
    }

    /// Waits until [`Self::has_slot`], or `timeout`; true when it has.
    pub fn wait_for_slot(&self, pool: usize, bytes: usize, timeout: Duration, mut stop: impl FnMut() -> bool) -> bool {
        let ready = || (self.has_slot(pool, bytes) || stop()).then_some(());
        self.segment.pool_event(pool).wait(timeout, ready).is_some()
    }

    /// Takes a slot of `pool` for at least `bytes` bytes, from the smallest class that holds them, or the next larger
    /// one: no further, or small frames would keep the few largest slots from the frames that need them.
    ///
    /// # Errors
    /// [`Shortage`].
    pub fn acquire(&self, work: &mut Work<'s>, pool: usize, bytes: usize) -> Result<(), Shortage> {
        let most = self.segment.geometry().pools[pool].slot_bytes_max() as usize;
        if bytes > most {
            return Err(Shortage::TooLarge { pool, bytes, most });
        }
        let mut fitting = self.segment.classes(pool).filter(|class| class.slot_bytes >= bytes).take(CLASSES_TRIED);
        let taken = fitting.find_map(|class| class.take(self.owner, work.job.index));
        let slot = taken.ok_or(Shortage::InUse { pool })?;
        let place = self.segment.place(slot, 0).expect("it was taken from this geometry's");
        let bytes = match self.segment.slot_memory(&place) {
            // SAFETY: the slot word says that this worker has the slot; until the job is published nobody else touches
            // its bytes, and `Work` hands them out once.
            Some(start) => unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), place.slot_bytes) },
            None => {
                assert!(self.segment.geometry().is_handed(pool), "a worker maps the pools that it writes");
                &mut []
            }
        };
        work.outputs[pool] = Some(Output { slot, place, bytes, used: 0 });
        Ok(())
    }

    /// Hands the job on: lists its slots and descriptor in the other bank, makes that bank current and the job READY
    /// at the next queue, all with one swap; then frees what the new bank does not list, and wakes a worker.
    ///
    /// # Errors
    /// [`Lost`]: this process was declared dead and must end.
    pub fn publish(&self, work: Work<'s>, outcome: Outcome<'_>) -> Result<(), Lost> {
        let queue = outcome.queue;
        self.publish_quietly(work, outcome)?;
        self.segment.queue_event(queue).notify(1);
        Ok(())
    }

    /// [`Worker::publish`] without the wake-up: for a batch, which wakes once ([`Worker::notify`]).
    ///
    /// # Errors
    /// [`Lost`].
    pub fn publish_quietly(&self, work: Work<'s>, outcome: Outcome<'_>) -> Result<(), Lost> {
        let bank = 1 - work.word.bank();
        for (pool, entry) in work.job.entries(bank).iter().enumerate() {
            entry.set(work.passed_on(pool, outcome.carry));
        }
        work.job.write_descriptor(bank, outcome.descriptor);
        if !work.job.swap(work.word, work.word.ready_at(outcome.queue, bank)) {
            return Err(Lost { job: work.job.index });
        }
        self.segment.queue(outcome.queue).push(work.job.index);
        (0..POOL_COUNT_MAX).for_each(|pool| work.free_all_but(pool, work.passed_on(pool, outcome.carry)));
        Ok(())
    }

    /// Wakes up to `count` workers of a queue.
    pub fn notify(&self, queue: usize, count: u32) {
        self.segment.queue_event(queue).notify(count);
    }

    /// Puts a job back as it was claimed: no attempt is counted, its outputs are freed.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn put_back(&self, mut work: Work<'s>) -> Result<(), Lost> {
        work.release_outputs();
        if !work.job.swap(work.word, work.word.back(work.word.attempts(), work.word.is_suspect())) {
            return Err(Lost { job: work.job.index });
        }
        self.segment.queue(self.queue).push(work.job.index);
        self.segment.queue_event(self.queue).notify(1);
        Ok(())
    }
}

impl<'s> Work<'s> {
    pub(crate) fn new(segment: &'s Segment, job: Job<'s>, word: JobWord) -> Self {
        // Another process wrote the list: a slot that is not, or no longer, this job's is none.
        let lives = |banked: &Banked| {
            let class = Class::new(segment, banked.slot.pool, banked.slot.class);
            class.is_some_and(|class| class.lives_for(banked.slot, job.index))
        };
        let mut listed = [None; POOL_COUNT_MAX];
        for ((pool, listed), entry) in listed.iter_mut().enumerate().zip(job.entries(word.bank())) {
            if let Some(banked) = job.checked(entry, pool)
                && lives(&banked)
            {
                *listed = Some(banked); // no copy of what is none: most are
            }
        }
        Self { segment, job, word, listed, outputs: Default::default() }
    }

    /// The job's number.
    pub fn job(&self) -> u32 {
        self.job.index
    }

    /// True of the reserved job: what it bears is the gateway's own, and counts nowhere as a frame.
    pub fn is_reserved(&self) -> bool {
        self.segment.is_reserved(self.job.index)
    }

    /// Deaths of processes that had claimed this job alone, at this stage.
    pub fn attempts(&self) -> u8 {
        self.word.attempts()
    }

    /// True when the job must be processed alone.
    pub fn is_suspect(&self) -> bool {
        self.word.is_suspect()
    }

    /// The frame's request.
    pub fn request(&self) -> &'s [u8] {
        self.job.request()
    }

    /// Copies the frame's descriptor out.
    pub fn read_descriptor(&self, into: &mut [u8]) {
        self.job.read_descriptor(self.word.bank(), into);
    }

    /// The bytes in the job's slot of `pool`; `None` when it has none, or this process has not mapped it.
    pub fn input(&self, pool: usize) -> Option<&'s [u8]> {
        let place = self.input_place(pool)?;
        let start = self.segment.slot_memory(&place)?;
        // SAFETY: the current bank of a job that this process has claimed lists the slot, so that nobody writes it or
        // frees it; `place` checked that the bytes lie within it.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), place.used) })
    }

    /// Where the job's slot of `pool` lies, mapped or not; `None` when it has none.
    pub fn input_place(&self, pool: usize) -> Option<Place> {
        let banked = self.listed[pool]?;
        self.segment.place(banked.slot, banked.bytes)
    }

    /// The slot of `pool` that was taken for this job's output.
    pub fn output(&mut self, pool: usize) -> Option<&mut Output<'s>> {
        self.outputs[pool].as_mut()
    }

    /// Takes an output out of the work, to write several at once; give it back with [`Work::return_output`].
    pub fn take_output(&mut self, pool: usize) -> Option<Output<'s>> {
        self.outputs[pool].take()
    }

    /// Gives back what [`Work::take_output`] took.
    pub fn return_output(&mut self, output: Output<'s>) {
        let pool = output.slot.pool;
        self.outputs[pool] = Some(output);
    }

    /// Frees the outputs taken so far.
    pub fn release_outputs(&mut self) {
        for output in self.outputs.iter_mut().filter_map(Option::take) {
            self.segment.free_slot(output.slot);
        }
    }

    /// What the next bank lists of a pool: the output, where one was written, or else what is carried on.
    fn passed_on(&self, pool: usize, carry: u32) -> Option<Banked> {
        match &self.outputs[pool] {
            Some(output) if output.used > 0 => Some(Banked { slot: output.slot, bytes: output.used }),
            _ if carry >> pool & 1 == 1 => self.listed[pool],
            _ => None,
        }
    }

    /// Frees the slots of a pool, taken or listed, but the one that is passed on.
    fn free_all_but(&self, pool: usize, passed_on: Option<Banked>) {
        let taken = self.outputs[pool].as_ref().map(|output| output.slot);
        let listed = self.listed[pool].map(|banked| banked.slot);
        let passed_on = passed_on.map(|banked| banked.slot);
        for slot in [taken, listed].into_iter().flatten().filter(|slot| Some(*slot) != passed_on) {
            self.segment.free_slot(slot);
        }
    }

    /// The slots that the current bank lists.
    pub(crate) fn listed(&self) -> impl Iterator<Item = SlotRef> + '_ {
        self.listed.iter().flatten().map(|banked| banked.slot)
    }
}

impl Output<'_> {
    /// Where the slot lies, mapped or not.
    pub fn place(&self) -> Place {
        Place { used: self.used, ..self.place }
    }
}

impl Segment {
    /// Address of a slot, of all its bytes; `None` where this process has not mapped its pool.
    fn slot_memory(&self, place: &Place) -> Option<std::ptr::NonNull<u8>> {
        Some(self.pool(place.pool)?.at(place.offset, place.slot_bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{Blame, Gate, Geometry, PoolGeometry, sync::Ordering};

    struct Bench(Segment);

    impl Bench {
        fn new() -> Self {
            let folder = PathBuf::from(format!("/dev/shm/framepipe-test-scribble-{}", std::process::id()));
            let mut pools = [PoolGeometry::default(); POOL_COUNT_MAX];
            pools[0] = PoolGeometry::new(&[(4096, 4)]);
            let geometry = Geometry {
                pipeline: 0,
                jobs: 2,
                reserved: 0,
                queues: 2,
                processes: 2,
                request_bytes: 8,
                descriptor_bytes: 8,
                keys: 0,
                key_bytes: 0,
                handed: 0,
                pools,
            };
            let segment = Segment::create(&folder, geometry, 1, 0).expect("a small segment fits");
            segment.processes()[0].occupy(1, 0, 0);
            Self(segment)
        }

        fn worker(&self, queue: usize) -> Worker<'_> {
            Worker::new(&self.0, 1, queue)
        }

        /// Accepts a frame, and lets the first stage write its job's number into a slot.
        fn bring(&self) {
            let gate = Gate::new(&self.0, 1);
            let mut draft = gate.draft(1).expect("a job is free");
            draft.write(0, &[0; 8], &[0; 8]);
            gate.accept(draft, None).expect("the gateway lives");
            let worker = self.worker(0);
            let mut work = worker.claim().expect("a frame waits");
            worker.acquire(&mut work, 0, 8).expect("slots are free");
            let number = work.job() as u8;
            let output = work.output(0).expect("it was acquired");
            (output.bytes[0], output.used) = (number, 8);
            worker.publish(work, Outcome { queue: 1, carry: 0, descriptor: &[0; 8] }).expect("the worker lives");
        }

        fn finish(&self, work: Work<'_>) {
            let outcome = Outcome { queue: 1, carry: 1, descriptor: &[0; 8] };
            self.worker(1).publish(work, outcome).expect("the worker lives");
            let work = self.worker(1).claim().expect("it was published");
            Gate::new(&self.0, 1).free(work).expect("the gateway lives");
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            let _ = Segment::remove(self.0.folder());
        }
    }

    /// Whatever a scribbling worker wrote into a job's bank: no other job's slot is read or freed for it, nothing lies out
    /// of bounds, and nothing leaks once recovery has swept.
    #[test]
    fn a_scribbled_bank_harms_its_own_job_alone() {
        let bench = Bench::new();
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..20_000 {
            bench.bring();
            bench.bring();
            let mut next = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random
            };
            let (victim, other) = (Job::new(&bench.0, 0), Job::new(&bench.0, 1));
            let others = other.banked(other.word().bank(), 0).expect("its slot is listed");
            let (slot, bytes) = match round % 4 {
                0 => (next(), next()),
                1 => (others.slot.pack(), 8), // another job's slot, in its right life
                2 => (others.slot.pack() ^ 1 << (next() % 64), next() % 8192),
                _ => (victim.banked(victim.word().bank(), 0).expect("listed").slot.pack(), next() % 8192),
            };
            let entry = &victim.entries(victim.word().bank())[0];
            entry.slot.store(slot, Ordering::Relaxed);
            entry.bytes.store(bytes, Ordering::Relaxed);
            for _ in 0..2 {
                let work = bench.worker(1).claim().expect("two frames wait");
                let input = work.input(0).map(<[u8]>::to_vec);
                let place = work.input_place(0);
                assert!(
                    place.is_none_or(|place| place.offset % 4096 == 0 && place.offset + place.slot_bytes <= 4 * 4096)
                );
                assert_eq!(place.map(|place| place.used), input.as_ref().map(Vec::len), "round {round}");
                let own = input.iter().flatten().next().is_none_or(|first| *first == work.job() as u8);
                assert!(own, "round {round}: job {} reads another's bytes", work.job());
                assert!(work.job() == 0 || input.is_some(), "round {round}: the other lost its input");
                bench.finish(work);
            }
            bench.0.recover(Blame::Nobody);
            assert_eq!(bench.0.pool_use(0).0, 0, "round {round}: a slot leaks");
        }
    }
}
