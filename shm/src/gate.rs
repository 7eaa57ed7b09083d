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
    sync::Ordering,
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
}

impl<'s> Gate<'s> {
    /// The gateway of this owner id.
    pub fn new(segment: &'s Segment, owner: Owner) -> Self {
        Self { segment, owner }
    }

    /// Takes `count` free jobs; `None` when there are not as many. One thread drafts at a time.
    pub fn draft(&self, count: usize) -> Option<Draft<'s>> {
        let mut draft = Draft { gate: *self, jobs: Vec::with_capacity(count), first: self.segment.next_frame() };
        while draft.jobs.len() < count {
            draft.jobs.push(self.take()?); // on `None` the draft is dropped, which frees what it has
        }
        Some(draft)
    }

    fn take(&self) -> Option<(Job<'s>, JobWord)> {
        while let Some(hint) = self.segment.free_jobs().pop() {
            if u64::from(hint) >= self.segment.geometry().jobs {
                continue;
            }
            let job = Job::new(self.segment, hint);
            let seen = job.word();
            let writing = seen.written_by(self.owner);
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
            if !job.swap(*word, word.ready_at(0, word.bank())) {
                return Err(Lost { job: job.index });
            }
            self.segment.queue(0).push(job.index);
        }
        self.segment.queue_event(0).notify(jobs.len() as u32);
        Ok(())
    }

    /// Frees a job that this gateway claimed, with its slots: its result stands in the journal.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn free(&self, work: Work<'s>) -> Result<(), Lost> {
        work.job.head().ticket.store(NO_TICKET, Ordering::Release);
        if !work.job.swap(work.word, work.word.freed()) {
            return Err(Lost { job: work.job.index });
        }
        work.listed().for_each(|slot| self.segment.free_slot(slot));
        self.segment.free_jobs().push(work.job.index);
        Ok(())
    }

    /// Calls `f` with the request of every accepted job that is not freed yet: for a new gateway that takes stock,
    /// while no other one lives.
    pub fn for_each_accepted(&self, mut f: impl FnMut(&[u8])) {
        for index in 0..self.segment.geometry().jobs as u32 {
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
            if job.swap(word, word.freed()) {
                self.gate.segment.free_jobs().push(job.index);
            }
        }
    }
}
