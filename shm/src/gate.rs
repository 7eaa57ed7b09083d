//! The gateway's steps: it alone allocates jobs and frees them.
//!
//! **Acceptance is one store**: `accepted += n` in the header. Killed before it, a batch's jobs go back to FREE, as if the
//! call had never been; killed after it, they go on to READY. The ticket in each job says which: it is written before the
//! store, and cleared before the job is freed, so that no job that is being written bears the ticket of a former life.
//! There is one gateway at a time, and a recovery between two: nobody raises `accepted` while a dead one's jobs are WRITING.

use crate::{
    geometry::POOL_COUNT_MAX,
    job::{Job, JobState, NO_TICKET},
    keys::{Key, KeyEntry, KeyNote},
    segment::Segment,
    sync::{Ordering, fence},
    word::{JobWord, Owner},
    worker::{Lost, Work},
};

/// The gateway's side of the job table.
#[derive(Clone, Copy)]
pub struct Gate<'s> {
    segment: &'s Segment,
    owner: Owner,
}

/// Jobs taken for a batch and not accepted yet. Dropped without [`Gate::accept`], they are free again.
pub struct Draft<'s> {
    gate: Gate<'s>,
    jobs: Vec<(Job<'s>, JobWord)>,
    first: u64,
    queue: usize,
}

impl<'s> Gate<'s> {
    /// The gateway of this owner id.
    pub fn new(segment: &'s Segment, owner: Owner) -> Self {
        Self { segment, owner }
    }

    /// Takes `count` free jobs; `None` when there are not as many. One thread drafts at a time.
    pub fn draft(&self, count: usize) -> Option<Draft<'s>> {
        let (jobs, first, queue) = (Vec::with_capacity(count), self.segment.next_frame(), self.segment.entry_queue());
        let mut draft = Draft { gate: *self, jobs, first, queue };
        while draft.jobs.len() < count {
            draft.jobs.push(self.take(queue)?); // on `None` the draft is dropped, which frees what it has
        }
        draft.follow();
        Some(draft)
    }

    fn take(&self, queue: usize) -> Option<(Job<'s>, JobWord)> {
        while let Some(hint) = self.segment.free_jobs().pop() {
            if hint >= self.segment.frame_jobs() {
                continue; // no hint of ours
            }
            let job = Job::new(self.segment, hint);
            let seen = job.word();
            let writing = seen.written_by(self.owner, queue);
            if seen.state() == JobState::Free && job.swap(seen, writing) {
                return Some((job, writing));
            }
        }
        None
    }

    /// Accepts a draft, whole: after this call, or a death within it past the store, every frame of it will have a
    /// result. `key` is remembered with it, if and only if it is accepted.
    ///
    /// # Errors
    /// [`Lost`]: this process was declared dead and must end.
    pub fn accept(&self, mut draft: Draft<'s>, key: Option<KeyNote<'_>>) -> Result<(), Lost> {
        let jobs = std::mem::take(&mut draft.jobs);
        assert!(draft.first != NO_TICKET, "the reserved job is sent, not accepted");
        if let Some(note) = key
            && let Some(key) = Key::at(self.segment, note.place)
        {
            let (first, count, expires_ns) = (draft.first, jobs.len() as u64, note.expires_ns);
            key.write(KeyEntry { first, count, expires_ns }, note.record);
        }
        for (place, (job, _)) in jobs.iter().enumerate() {
            job.head().ticket.store(draft.first + place as u64, Ordering::Release);
        }
        self.segment.accept(draft.first + jobs.len() as u64); // <- acceptance
        for (job, word) in &jobs {
            if !job.swap(*word, word.ready_at(draft.queue, word.bank())) {
                return Err(Lost { job: job.index });
            }
            self.segment.queue(draft.queue).push(job.index);
        }
        self.segment.queue_event(draft.queue).notify(jobs.len() as u32);
        Ok(())
    }

    /// Takes the reserved job, for what is the gateway's own; `None` while it is not free, or where there is none.
    pub fn draft_reserved(&self) -> Option<Draft<'s>> {
        let queue = self.segment.entry_queue();
        let (job, seen) = self.reserved()?;
        let writing = seen.written_by(self.owner, queue);
        if seen.state() != JobState::Free || !job.swap(seen, writing) {
            return None;
        }
        let mut draft = Draft { gate: *self, jobs: vec![(job, writing)], first: NO_TICKET, queue };
        draft.follow();
        Some(draft)
    }

    /// Sends the reserved job on its way. It is not accepted: until it is READY, a death gives it back, and nobody misses it.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn send_reserved(&self, mut draft: Draft<'s>) -> Result<(), Lost> {
        for (job, word) in std::mem::take(&mut draft.jobs) {
            assert!(self.segment.is_reserved(job.index), "a frame's job is accepted");
            if !job.swap(word, word.ready_at(draft.queue, word.bank())) {
                return Err(Lost { job: job.index });
            }
            self.segment.queue(draft.queue).push(job.index);
        }
        self.segment.queue_event(draft.queue).notify(1);
        Ok(())
    }

    /// True while the reserved job is on its way, whoever sent it.
    pub fn is_reserved_away(&self) -> bool {
        self.reserved().is_some_and(|(_, word)| word.state() != JobState::Free)
    }

    fn reserved(&self) -> Option<(Job<'s>, JobWord)> {
        let index = self.segment.frame_jobs();
        let job = (u64::from(index) < self.segment.geometry().jobs).then(|| Job::new(self.segment, index))?;
        Some((job, job.word()))
    }

    /// Frees a job that this gateway claimed, with its slots: its result stands in the journal, or it is the reserved one.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn free(&self, work: Work<'s>) -> Result<(), Lost> {
        work.job.head().ticket.store(NO_TICKET, Ordering::Release);
        if !work.job.swap(work.word, work.word.freed()) {
            return Err(Lost { job: work.job.index });
        }
        work.listed().for_each(|slot| self.segment.free_slot(slot));
        if !work.is_reserved() {
            self.segment.free_jobs().push(work.job.index);
        }
        Ok(())
    }

    /// Calls `f` with the request of every accepted job that is not freed yet: for a new gateway that takes stock,
    /// while no other one lives.
    pub fn for_each_accepted(&self, mut f: impl FnMut(&[u8])) {
        for index in 0..self.segment.frame_jobs() {
            let job = Job::new(self.segment, index);
            if matches!(job.word().state(), JobState::Ready | JobState::Claimed) {
                f(job.request()); // only a gateway frees a job, so the request stands
            }
        }
    }

    /// Calls `f` with place, numbers and record of every remembered key, and erases those whose frames were never
    /// accepted: what a new gateway does before it accepts any frame.
    pub fn take_over_keys(&self, mut f: impl FnMut(usize, KeyEntry, &[u8])) {
        let accepted = self.segment.next_frame();
        for place in 0..self.segment.geometry().keys as usize {
            let Some(key) = Key::at(self.segment, place) else { return };
            match key.read() {
                Some((entry, record)) if entry.first.saturating_add(entry.count) <= accepted => f(place, entry, record),
                Some(_) => key.erase(),
                None => {}
            }
        }
    }

    /// How many jobs are free, as far as the hints say.
    pub fn free_jobs(&self) -> usize {
        self.segment.free_jobs().len()
    }
}

impl Draft<'_> {
    /// Goes where new frames are led, should that have changed since the jobs were taken: whoever led them away may have
    /// looked for jobs before. A job that recovery took meanwhile is left to it, and found lost when the draft is accepted.
    fn follow(&mut self) {
        loop {
            fence(Ordering::SeqCst); // see `Segment::jobs_at`
            let queue = self.gate.segment.entry_queue();
            if queue == self.queue {
                return;
            }
            self.queue = queue;
            for (job, word) in &mut self.jobs {
                let moved = word.written_by(self.gate.owner, queue);
                if job.swap(*word, moved) {
                    *word = moved;
                }
            }
        }
    }

    /// The queue that the draft's frames will enter.
    pub fn queue(&self) -> usize {
        self.queue
    }

    /// Number of the draft's first frame; the others follow on.
    pub fn first_frame(&self) -> u64 {
        self.first
    }

    /// Writes the request and the first descriptor of the draft's frame at `place`.
    pub fn write(&mut self, place: usize, request: &[u8], descriptor: &[u8]) {
        let (job, word) = &self.jobs[place];
        job.write_request(request);
        job.write_descriptor(word.bank(), descriptor);
        for pool in 0..POOL_COUNT_MAX {
            job.set_banked(word.bank(), pool, None);
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        for (job, word) in self.jobs.drain(..) {
            if job.swap(word, word.freed()) && !self.gate.segment.is_reserved(job.index) {
                self.gate.segment.free_jobs().push(job.index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, sync::atomic::AtomicBool, thread};

    use super::*;
    use crate::{Geometry, PoolGeometry, Worker};

    /// A segment of two jobs for frames, and the reserved one.
    fn with_reserved(name: &str) -> Segment {
        let folder = PathBuf::from(format!("/dev/shm/framepipe-test-{name}-{}", std::process::id()));
        let mut pools = [PoolGeometry::default(); POOL_COUNT_MAX];
        pools[0] = PoolGeometry::new(&[(4096, 1)]);
        let geometry = Geometry {
            pipeline: 0,
            jobs: 3,
            reserved: 1,
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
        Segment::remove(&folder).expect("the test's own");
        segment.processes()[0].occupy(1, 0, 0);
        segment
    }

    #[test]
    fn the_reserved_job_has_room_in_a_full_table_and_counts_nowhere() {
        let segment = with_reserved("reserved");
        let (gate, worker) = (Gate::new(&segment, 1), Worker::new(&segment, 1, 0));
        assert_eq!(segment.frame_jobs(), 2);
        assert!(gate.draft(3).is_none(), "it is no frame's");
        let draft = gate.draft(2).expect("two are free");
        gate.accept(draft, None).expect("the gateway lives");
        assert!(!gate.is_reserved_away());
        gate.send_reserved(gate.draft_reserved().expect("it is free")).expect("the gateway lives");
        assert!(gate.is_reserved_away() && gate.draft_reserved().is_none(), "one at a time");
        assert_eq!((segment.accepted(), segment.job_census(), segment.queue_depth(0)), (2, [0, 0, 2, 0], 2));
        let mut seen = 0;
        gate.for_each_accepted(|_| seen += 1);
        assert_eq!((seen, segment.jobs_at(0..1)), (2, 3), "who leads frames away waits for it, too");
        let mut works: Vec<_> = std::iter::from_fn(|| worker.claim()).collect();
        assert_eq!(works.iter().map(Work::is_reserved).collect::<Vec<_>>(), [false, false, true]);
        worker.acquire(&mut works[2], 0, 8).expect("a slot is free");
        assert_eq!(segment.pool_use(0), (0, 1), "no frame's slot");
        works[2].release_outputs();
        works.into_iter().for_each(|work| gate.free(work).expect("the gateway lives"));
        assert_eq!((segment.job_census(), segment.repair_hints()), ([2, 0, 0, 0], 0));
        assert!(!gate.is_reserved_away() && gate.draft(3).is_none() && gate.draft(2).is_some());
    }

    #[test]
    fn the_reserved_job_of_the_dead_is_given_back_or_goes_on_and_is_no_casualty_of_frames() {
        let segment = with_reserved("reserved-dead");
        let (living, dead) = (Gate::new(&segment, 1), Gate::new(&segment, 7));
        std::mem::forget(dead.draft_reserved().expect("it is free"));
        assert_eq!(segment.recover(crate::Blame::Frames), crate::Repair::default(), "nothing is counted");
        living.send_reserved(living.draft_reserved().expect("it is free again")).expect("the gateway lives");
        let _ = Worker::new(&segment, 7, 0).claim().expect("it waits"); // which its death leaves claimed
        assert!(segment.casualties().all(|casualty| casualty.is_reserved()));
        assert_eq!(segment.recover(crate::Blame::Frames).reclaimed, 0);
        let again = Worker::new(&segment, 1, 0).claim().expect("it waits again");
        assert!(again.is_reserved() && again.is_suspect());
        living.free(again).expect("the gateway lives");
        assert!(!living.is_reserved_away());
    }

    /// A launcher that leads frames away from a queue, and then finds no job there, may end that queue's workers.
    #[test]
    fn no_frame_comes_to_a_queue_that_was_found_empty_after_frames_were_led_away() {
        const ROUNDS: usize = 20_000;
        const LOOKS: usize = 50;
        let folder = PathBuf::from(format!("/dev/shm/framepipe-test-lead-{}", std::process::id()));
        let mut pools = [PoolGeometry::default(); POOL_COUNT_MAX];
        pools[0] = PoolGeometry::new(&[(4096, 1)]);
        let geometry = Geometry {
            pipeline: 0,
            jobs: 4,
            reserved: 0,
            queues: 2,
            processes: 1,
            request_bytes: 8,
            descriptor_bytes: 8,
            keys: 0,
            key_bytes: 0,
            handed: 0,
            pools,
        };
        let segment = Segment::create(&folder, geometry, 1, 0).expect("a small segment fits");
        Segment::remove(&folder).expect("the test's own");
        let waits = |word: JobWord, queue: usize| {
            matches!(word.state(), JobState::Ready | JobState::Claimed) && word.queue() == queue
        };
        let over = AtomicBool::new(false);
        let late = thread::scope(|scope| {
            scope.spawn(|| {
                let gate = Gate::new(&segment, 1);
                while !over.load(Ordering::Relaxed) {
                    let mut draft = gate.draft(2).expect("jobs are free");
                    (0..2).for_each(|place| draft.write(place, &[0; 8], &[0; 8]));
                    let worker = Worker::new(&segment, 1, draft.queue());
                    gate.accept(draft, None).expect("the gateway lives");
                    (0..2).for_each(|_| gate.free(worker.claim().expect("it was accepted")).expect("it lives"));
                }
            });
            let mut late = 0;
            for round in 0..ROUNDS {
                let (from, to) = (round % 2, (round + 1) % 2);
                segment.lead_to(to);
                while segment.jobs_at(from..from + 1) > 0 {
                    std::hint::spin_loop();
                }
                let words = || (0..4).map(|job| Job::new(&segment, job).word());
                late += (0..LOOKS).map(|_| words().filter(|word| waits(*word, from)).count()).sum::<usize>();
            }
            over.store(true, Ordering::Relaxed);
            late
        });
        assert_eq!(late, 0, "jobs that wait at a queue that had none left");
    }
}
