//! The job word and the slot word: all that must change at once, in 64 bits each.

/// Who holds a job or a slot: the id under which the launcher started a process. 0 is nobody.
pub type Owner = u16;

/// The largest owner id; an id is used again only when no word and no process bears it.
pub const OWNER_MAX: Owner = Owner::MAX;

/// Where a job stands in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobState {
    /// Nobody's. Its hint lies in the free ring.
    Free,
    /// The gateway writes its request.
    Writing,
    /// Waits in the queue `queue`. Its hint lies in that queue's ring.
    Ready,
    /// A worker of the queue's stage has it.
    Claimed,
}

/// A job's state word. Every step of a job's life is one compare-and-swap of it.
///
/// `sequence:34 | owner:16 | queue:5 | attempts:4 | suspect:1 | bank:1 | state:3`; the sequence grows with each step,
/// so that a word never comes back while somebody may still compare with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JobWord(pub(crate) u64);

impl JobWord {
    /// Most times that `attempts` counts.
    pub const ATTEMPTS_MAX: u8 = 15;

    pub(crate) const FREE: JobWord = JobWord(0);

    /// Where the job stands.
    pub fn state(self) -> JobState {
        match self.0 & 7 {
            1 => JobState::Writing,
            2 => JobState::Ready,
            3 => JobState::Claimed,
            _ => JobState::Free,
        }
    }

    /// Which of the job's two banks is current.
    pub fn bank(self) -> usize {
        (self.0 >> 3 & 1) as usize
    }

    /// True after a process died with the job among others: it is claimed alone from then on.
    pub fn is_suspect(self) -> bool {
        self.0 >> 4 & 1 == 1
    }

    /// Deaths of processes that had claimed the job alone, at this stage.
    pub fn attempts(self) -> u8 {
        (self.0 >> 5 & 15) as u8
    }

    /// The queue that the job is written for, waits in or was claimed from.
    pub fn queue(self) -> usize {
        (self.0 >> 9 & 31) as usize
    }

    /// Who has the job; 0 where nobody has.
    pub fn owner(self) -> Owner {
        (self.0 >> 14) as Owner
    }

    fn next(self, state: u64, owner: Owner, queue: usize, attempts: u8, suspect: bool, bank: usize) -> Self {
        let sequence = (self.0 >> 30).wrapping_add(1);
        Self(
            sequence << 30
                | u64::from(owner) << 14
                | (queue as u64 & 31) << 9
                | u64::from(attempts.min(Self::ATTEMPTS_MAX)) << 5
                | u64::from(suspect) << 4
                | (bank as u64) << 3
                | state,
        )
    }

    /// FREE → WRITING: the gateway takes the job, for a queue; and WRITING → WRITING for another one.
    pub(crate) fn written_by(self, owner: Owner, queue: usize) -> Self {
        self.next(1, owner, queue, 0, false, 0)
    }

    /// → FREE.
    pub(crate) fn freed(self) -> Self {
        self.next(0, 0, 0, 0, false, 0)
    }

    /// READY → CLAIMED.
    pub(crate) fn claimed_by(self, owner: Owner) -> Self {
        self.next(3, owner, self.queue(), self.attempts(), self.is_suspect(), self.bank())
    }

    /// WRITING → READY, and CLAIMED → READY at the next queue with the other bank: a new stage, a clean record.
    pub(crate) fn ready_at(self, queue: usize, bank: usize) -> Self {
        self.next(2, 0, queue, 0, false, bank)
    }

    /// READY → READY at an earlier queue with the other bank, which lists less. No stage has succeeded: the record of deaths
    /// stays.
    pub(crate) fn again_at(self, queue: usize, bank: usize) -> Self {
        self.next(2, 0, queue, self.attempts(), self.is_suspect(), bank)
    }

    /// CLAIMED → READY where it was: put back by its worker, or by recovery with what the death says of it.
    pub(crate) fn back(self, attempts: u8, suspect: bool) -> Self {
        self.next(2, 0, self.queue(), attempts, suspect, self.bank())
    }
}

impl std::fmt::Debug for JobWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let suspect = if self.is_suspect() { " suspect" } else { "" };
        write!(f, "{:?} queue {} owner {} bank {}", self.state(), self.queue(), self.owner(), self.bank())?;
        write!(f, " attempts {}{suspect}", self.attempts())
    }
}

/// A slot's word: `generation:31 | owner:16 | job:16 | used:1`. The generation grows with each step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotWord(pub(crate) u64);

impl SlotWord {
    /// True while the slot belongs to a job.
    pub fn is_used(self) -> bool {
        self.0 & 1 == 1
    }

    /// The job that the slot was taken for.
    pub fn job(self) -> u32 {
        u32::from((self.0 >> 1) as u16)
    }

    /// Who took the slot.
    pub fn owner(self) -> Owner {
        (self.0 >> 17) as Owner
    }

    /// Counts the slot's lives.
    pub fn generation(self) -> u32 {
        (self.0 >> 33) as u32
    }

    fn next(self, owner: Owner, job: u32, used: bool) -> Self {
        debug_assert!(job <= u32::from(u16::MAX));
        let generation = u64::from(self.generation().wrapping_add(1));
        Self(generation << 33 | u64::from(owner) << 17 | u64::from(job as u16) << 1 | u64::from(used))
    }

    pub(crate) fn taken(self, owner: Owner, job: u32) -> Self {
        self.next(owner, job, true)
    }

    pub(crate) fn freed(self) -> Self {
        self.next(0, 0, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_word_keeps_its_fields_apart() {
        let word = JobWord(u64::MAX).written_by(OWNER_MAX, 0).ready_at(31, 1).claimed_by(0xabcd);
        assert_eq!((word.state(), word.owner(), word.queue(), word.bank()), (JobState::Claimed, 0xabcd, 31, 1));
        let back = word.back(3, true);
        assert_eq!((back.state(), back.owner(), back.queue(), back.bank()), (JobState::Ready, 0, 31, 1));
        assert_eq!((back.attempts(), back.is_suspect()), (3, true));
        let claimed = back.claimed_by(1);
        assert_eq!((claimed.attempts(), claimed.is_suspect()), (3, true), "a claim keeps the record");
        let again = back.again_at(4, 0);
        assert_eq!((again.state(), again.queue(), again.bank()), (JobState::Ready, 4, 0));
        assert_eq!((again.attempts(), again.is_suspect()), (3, true), "what is done again has its record");
        let next = claimed.ready_at(2, 0);
        assert_eq!((next.attempts(), next.is_suspect(), next.bank()), (0, false, 0), "a stage clears it");
        assert_eq!(next.freed().state(), JobState::Free);
        assert_ne!(next.back(0, false), next, "every step changes the word");
    }

    #[test]
    fn a_slot_word_keeps_its_fields_apart() {
        let word = SlotWord(0).taken(OWNER_MAX, 65_535);
        assert_eq!((word.is_used(), word.owner(), word.job(), word.generation()), (true, OWNER_MAX, 65_535, 1));
        let freed = word.freed();
        assert_eq!((freed.is_used(), freed.generation()), (false, 2));
        assert_eq!(SlotWord(u64::MAX).freed().generation(), 0, "the generation wraps around");
    }
}
