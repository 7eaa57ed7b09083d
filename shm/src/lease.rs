//! Leases: slots whose first word names a block that lies elsewhere, and that may not go while they live. A lease is a slot like
//! any other: owned by its job, listed in its bank, swept by the same recovery.
//!
//! Who takes a lease writes its word and fences, **then** looks whether the block may still be had; who wants a block gone
//! says so and fences, **then** looks whether a lease names it ([`Segment::leases`]). One of them sees the other.

use crate::{
    POOL_COUNT_MAX,
    job::{Job, JobState},
    segment::Segment,
    sync::{AtomicU64, Ordering, fence},
    worker::{Output, Work},
};

/// What a job names, for whoever looks for what is still needed.
pub struct JobView<'s> {
    /// The frame's request. Of a job that is being written it may be torn.
    pub request: &'s [AtomicU64],
    /// Its queue; `None` where it does not wait in one, unclaimed.
    pub waits_in: Option<usize>,
    /// Bits of the pools of which its current bank lists a slot; 0 where that is not certain.
    pub lists: u32,
    /// Changes with each step of the job.
    pub stamp: u64,
}

impl Output<'_> {
    /// Makes the slot a lease of what `word` names. Look afterwards whether that may still be had.
    ///
    /// # Panics
    /// Where the slot lies in a slab.
    pub fn lease(&mut self, word: u64) {
        assert!(self.bytes.len() >= 8, "leases lie in no slab");
        // SAFETY: the slot begins at a page, has eight bytes, and is this worker's; others read the word as an atomic alone.
        let first = unsafe { AtomicU64::from_ptr(self.bytes.as_mut_ptr().cast()) };
        first.store(word, Ordering::Relaxed);
        self.used = 8;
        fence(Ordering::SeqCst); // pairs with the one of `Segment::leases`
    }
}

impl Work<'_> {
    /// The word of the job's lease in a pool; `None` where it has none.
    pub fn lease(&self, pool: usize) -> Option<u64> {
        let bytes = self.input(pool)?;
        Some(u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?))
    }
}

impl Segment {
    /// The words of all leases in a pool that this process maps. One that is just being taken shows its former word, or its
    /// own.
    pub fn leases(&self, pool: usize) -> impl Iterator<Item = u64> + '_ {
        fence(Ordering::SeqCst); // pairs with the one of `Output::lease`
        self.classes(pool).flat_map(move |class| {
            let slots: Vec<_> = class.used().collect();
            slots.into_iter().filter_map(move |(slot, _)| {
                let place = self.place(slot, 0)?;
                let start = self.pool(pool)?.at(place.offset, 8).cast::<AtomicU64>();
                // SAFETY: in bounds (`at` checked), at a page; whoever has the slot writes the word as an atomic.
                Some(unsafe { start.as_ref() }.load(Ordering::Relaxed))
            })
        })
    }

    /// A job, as it is at this moment; `None` where it is free.
    pub fn job_view(&self, index: u32) -> Option<JobView<'_>> {
        let job = Job::new(self, index);
        let word = job.word();
        if word.state() == JobState::Free {
            return None;
        }
        let banks_stand = matches!(word.state(), JobState::Ready | JobState::Claimed);
        let listed = |pool: &usize| job.banked(word.bank(), *pool).is_some();
        let mut lists = (0..POOL_COUNT_MAX).filter(listed).fold(0, |bits, pool| bits | 1 << pool);
        fence(Ordering::Acquire);
        if !banks_stand || job.word() != word {
            lists = 0; // the bank was another's, or is being written
        }
        let stride = self.layout().request_stride;
        // SAFETY: the layout places the job's request there, at a multiple of eight, as long as a multiple of eight; it is
        // read as atomics, whoever writes it.
        let request = unsafe { self.requests().table::<AtomicU64>(index as usize * stride, stride / 8) };
        let waits_in = (word.state() == JobState::Ready).then_some(word.queue());
        Some(JobView { request, waits_in, lists, stamp: word.0 })
    }

    /// True while a job has not moved since its view was taken. Fence before, where something was published that whoever
    /// claims the job looks for.
    pub fn stands(&self, index: u32, view: &JobView<'_>) -> bool {
        Job::new(self, index).word().0 == view.stamp
    }
}
