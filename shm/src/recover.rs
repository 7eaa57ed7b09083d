//! Recovery: puts back what the dead had. The launcher's step, after `waitpid`, while the living work on; idempotent.
//!
//! Who is dead is one question: an owner id that no entry of the process table bears. The launcher enters a process
//! before it starts it and vacates the entry only after it has waited for its death.

use crate::{
    geometry::POOL_COUNT_MAX,
    job::{Job, JobState, NO_TICKET},
    segment::Segment,
    sync::{Ordering, fence},
    word::{JobWord, Owner, SlotWord},
};

/// What a death says of the frames that the dead process had claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// It may have been a frame's fault: claimed among others they become suspects, and run alone from then on; claimed
    /// as a suspect, alone, it was that frame's attempt.
    Frames,
    /// Nothing: the operator or the launcher's own end killed it.
    Nobody,
}

/// What a recovery did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Repair {
    /// Jobs put back from CLAIMED. The reserved one is put back, and not counted, as below.
    pub reclaimed: usize,
    /// Jobs that lost a slot with its slab, and start again.
    pub restarted: usize,
    /// Jobs that a dead gateway was writing: accepted ones made READY.
    pub accepted: usize,
    /// Jobs that a dead gateway was writing: others freed.
    pub freed: usize,
    /// Slots that no job listed, freed.
    pub slots: usize,
    /// Hints pushed again.
    pub hints: usize,
}

/// Where a job starts again whose slots of handed pools are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restart {
    /// The queue before the first stage that writes such a slot.
    pub queue: usize,
    /// Bits of the pools that the stages before that one write: what the job keeps. Its other slots are freed, as the stages
    /// that it comes to take new ones: waits for slots point downstream only.
    pub keep: u32,
}

/// A job that a dead process had claimed, as it left it: for the launcher, before [`Segment::recover`].
pub struct Casualty<'s> {
    segment: &'s Segment,
    job: Job<'s>,
    word: JobWord,
}

impl<'s> Casualty<'s> {
    /// The job's word: its owner is the dead process.
    pub fn word(&self) -> JobWord {
        self.word
    }

    /// True of the reserved job, which is no frame's.
    pub fn is_reserved(&self) -> bool {
        self.segment.is_reserved(self.job.index)
    }

    /// The frame's request.
    pub fn request(&self) -> &'s [u8] {
        self.job.request()
    }

    /// The bytes in the job's slot of `pool`; `None` when it has none.
    pub fn input(&self, pool: usize) -> Option<&'s [u8]> {
        crate::Work::new(self.segment, self.job, self.word).input(pool)
    }
}

impl Segment {
    /// The jobs that the dead had claimed.
    pub fn casualties(&self) -> impl Iterator<Item = Casualty<'_>> {
        let live = Living::of(self);
        (0..self.geometry().jobs as u32).filter_map(move |index| {
            let job = Job::new(self, index);
            let word = job.word();
            let is_one = word.state() == JobState::Claimed && live.is_dead(word.owner());
            is_one.then_some(Casualty { segment: self, job, word })
        })
    }

    /// Puts back what the dead had: jobs, slots and hints; then wakes all sleepers, since the dead may have swallowed
    /// a wake-up that was another's.
    pub fn recover(&self, blame: Blame) -> Repair {
        self.repair(blame, |_| None)
    }

    /// [`Self::recover`] for a launcher that takes the segment over, while nobody lives and before anybody starts: the slabs
    /// of handed pools have died with the processes that had them. A job whose current bank lists a slot of one starts again
    /// where `start_again` says for the queue that it waits in; with `None` it goes on without the slot.
    pub fn recover_without_slabs(&self, start_again: impl Fn(usize) -> Option<Restart>) -> Repair {
        self.repair(Blame::Nobody, start_again)
    }

    fn repair(&self, blame: Blame, start_again: impl Fn(usize) -> Option<Restart>) -> Repair {
        let live = Living::of(self);
        let mut repair = Repair::default();
        for index in 0..self.geometry().jobs as u32 {
            let job = Job::new(self, index);
            self.recover_job(job, &live, blame, &mut repair);
            repair.restarted += usize::from(self.restart_job(job, &start_again));
        }
        repair.slots = self.sweep_slots(&live);
        repair.hints = self.repair_hints();
        self.wake_all();
        repair
    }

    fn recover_job(&self, job: Job<'_>, live: &Living, blame: Blame, repair: &mut Repair) {
        let word = job.word();
        if !live.is_dead(word.owner()) {
            return; // nobody's, or a living process's, who alone changes it
        }
        let is_frames = !self.is_reserved(job.index);
        match word.state() {
            JobState::Claimed => {
                repair.reclaimed += usize::from(job.swap(word, after_death(word, blame)) && is_frames);
            }
            JobState::Writing => {
                // Pairs with `Gate::accept`: the ticket was stored before `accepted` was raised.
                let accepted = job.head().ticket.load(Ordering::Acquire) < self.next_frame();
                let to = if accepted { word.ready_at(word.queue(), word.bank()) } else { word.freed() };
                if !accepted {
                    job.head().ticket.store(NO_TICKET, Ordering::Release); // or a later life would bear it
                }
                let swapped = usize::from(job.swap(word, to) && is_frames);
                if accepted { repair.accepted += swapped } else { repair.freed += swapped }
            }
            JobState::Free | JobState::Ready => {}
        }
    }

    /// Writes the other bank with what the job keeps, and makes it current with the swap that leads it back: killed before it,
    /// the job still lists what is lost, and the next launcher leads it back; killed after it, the sweep frees the rest.
    fn restart_job(&self, job: Job<'_>, start_again: &impl Fn(usize) -> Option<Restart>) -> bool {
        let word = job.word();
        let bank = word.bank();
        let Some(restart) = start_again(word.queue()).filter(|_| word.state() == JobState::Ready) else { return false };
        let is_lost = |pool: &usize| self.geometry().is_handed(*pool) && job.banked(bank, *pool).is_some();
        if !(0..POOL_COUNT_MAX).any(|pool| is_lost(&pool)) {
            return false;
        }
        for pool in 0..POOL_COUNT_MAX {
            let kept = restart.keep >> pool & 1 == 1 && !self.geometry().is_handed(pool);
            job.set_banked(1 - bank, pool, job.banked(bank, pool).filter(|_| kept));
        }
        job.copy_descriptor(bank, 1 - bank);
        job.swap(word, word.again_at(restart.queue, 1 - bank))
    }

    /// Frees each slot that is neither listed by its job nor being written by a living worker that has it claimed.
    fn sweep_slots(&self, live: &Living) -> usize {
        let mut freed = 0;
        for pool in 0..POOL_COUNT_MAX {
            for class in self.classes(pool) {
                for (slot, slot_word) in class.used() {
                    if u64::from(slot_word.job()) < self.geometry().jobs && self.is_in_use(pool, slot, slot_word, live)
                    {
                        continue;
                    }
                    self.free_slot(slot);
                    freed += 1;
                }
            }
        }
        freed
    }

    fn is_in_use(&self, pool: usize, slot: crate::SlotRef, slot_word: SlotWord, live: &Living) -> bool {
        let job = Job::new(self, slot_word.job());
        loop {
            // The slot's word was read before the job's: a worker claims before it takes a slot, so its claim is seen.
            let word = job.word();
            let banks_stand = matches!(word.state(), JobState::Ready | JobState::Claimed);
            let listed = banks_stand && job.banked(word.bank(), pool).is_some_and(|banked| banked.slot == slot);
            let being_written = word.state() == JobState::Claimed
                && word.owner() == slot_word.owner()
                && !live.is_dead(slot_word.owner());
            fence(Ordering::Acquire);
            if job.word() == word {
                return listed || being_written;
            } // else the job moved on while its bank was read: look again
        }
    }

    /// Pushes every hint that its ring does not hold. A hint that is on its way is doubled, which is harmless.
    pub fn repair_hints(&self) -> usize {
        let jobs = self.geometry().jobs as usize;
        // The reserved job is given out by its number, and has no hint among the free ones.
        let free = |word: JobWord| word.state() == JobState::Free;
        let mut pushed = self.repair_ring(self.free_jobs(), self.frame_jobs() as usize, free);
        for queue in 0..self.geometry().queues as usize {
            let waits = |word: JobWord| word.state() == JobState::Ready && word.queue() == queue;
            pushed += self.repair_ring(self.queue(queue), jobs, waits);
        }
        for pool in 0..POOL_COUNT_MAX {
            pushed += self.classes(pool).map(|class| class.repair_hints()).sum::<usize>();
        }
        pushed
    }

    fn repair_ring(&self, ring: crate::HintRing<'_>, jobs: usize, belongs: impl Fn(JobWord) -> bool) -> usize {
        let mut hinted = vec![false; jobs];
        ring.for_each(|hint| {
            if let Some(hinted) = hinted.get_mut(hint as usize) {
                *hinted = true;
            }
        });
        let missing = |index: &u32| !hinted[*index as usize] && belongs(Job::new(self, *index).word());
        (0..jobs as u32).filter(missing).filter(|index| ring.push(*index)).count()
    }

    /// Wakes every sleeper of every event.
    pub fn wake_all(&self) {
        (0..self.geometry().queues as usize).for_each(|queue| self.queue_event(queue).wake_all());
        (0..POOL_COUNT_MAX).for_each(|pool| self.pool_event(pool).wake_all());
    }

    /// How many jobs that frames may have are in each state: free, writing, ready, claimed.
    pub fn job_census(&self) -> [usize; 4] {
        let mut census = [0; 4];
        for index in 0..self.frame_jobs() {
            census[Job::new(self, index).word().state() as usize] += 1;
        }
        census
    }
}

fn after_death(word: JobWord, blame: Blame) -> JobWord {
    match blame {
        Blame::Nobody => word.back(word.attempts(), word.is_suspect()),
        Blame::Frames if word.is_suspect() => word.back(word.attempts() + 1, true),
        Blame::Frames => word.back(word.attempts(), true),
    }
}

/// The owner ids of the living.
struct Living(Vec<Owner>);

impl Living {
    fn of(segment: &Segment) -> Self {
        Self(segment.processes().iter().map(|entry| entry.owner()).filter(|owner| *owner != 0).collect())
    }

    fn is_dead(&self, owner: Owner) -> bool {
        owner != 0 && !self.0.contains(&owner)
    }
}

/// The periodic sweep, for hints that are missing though nobody died: in the hands of a process that is stopped, kept for a
/// suspect's turn, or pushed into a full ring. It acts on what has stood still between two looks, so that it does not double
/// the hints of a busy pipeline.
#[derive(Default)]
pub struct Sweeper {
    last: Vec<JobWord>,
}

impl Sweeper {
    /// Looks again; repairs when some job that waits for a worker has not moved since the last look.
    pub fn sweep(&mut self, segment: &Segment) -> usize {
        let now: Vec<JobWord> = (0..segment.geometry().jobs as u32).map(|job| Job::new(segment, job).word()).collect();
        let stands = |(then, now): (&JobWord, &JobWord)| then == now && now.state() == JobState::Ready;
        let stuck = self.last.len() == now.len() && self.last.iter().zip(&now).any(stands);
        self.last = now;
        if stuck { segment.repair_hints() } else { 0 }
    }
}
