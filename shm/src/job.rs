//! The job table: each job's word and its two banks of slots and descriptor; and, in a file of their own that stages map
//! to be read alone, the requests.
//!
//! The **current bank** (the word's bit says which) is what the frame is now. Whoever has claimed the job writes the
//! other bank and makes it current with the same compare-and-swap that hands the job on: killed before it, the old
//! bank still stands; killed after it, the new one does.

use crate::{
    pool::SlotRef,
    segment::Segment,
    sync::{AtomicU64, Ordering},
    word::JobWord,
};

pub use crate::word::JobState;

/// Head of a job in the table; two banks follow.
#[repr(C, align(128))]
pub(crate) struct JobHead {
    /// The [`JobWord`].
    pub word: AtomicU64,
    /// The frame's number while the gateway writes the job: below `accepted` it was accepted. [`NO_TICKET`] otherwise.
    pub ticket: AtomicU64,
}

/// The ticket of a job whose frame has no number yet.
pub(crate) const NO_TICKET: u64 = u64::MAX;

/// One slot as a bank lists it.
#[repr(C)]
pub(crate) struct BankEntry {
    /// A packed [`SlotRef`], or 0.
    pub slot: AtomicU64,
    /// Bytes of it in use.
    pub bytes: AtomicU64,
}

impl BankEntry {
    /// Lists a slot, or none. A word that says so already is left alone: to write it would take its cache line from the
    /// process that reads it next.
    pub fn set(&self, banked: Option<Banked>) {
        let (slot, bytes) = banked.map_or((0, 0), |banked| (banked.slot.pack(), banked.bytes as u64));
        for (word, value) in [(&self.slot, slot), (&self.bytes, bytes)] {
            if word.load(Ordering::Relaxed) != value {
                word.store(value, Ordering::Relaxed);
            }
        }
    }
}

/// A slot listed in a bank, and how many of its bytes are in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Banked {
    /// The slot.
    pub slot: SlotRef,
    /// Bytes in use.
    pub bytes: usize,
}

/// A view of one job.
#[derive(Clone, Copy)]
pub(crate) struct Job<'s> {
    segment: &'s Segment,
    /// The job's number.
    pub index: u32,
}

impl<'s> Job<'s> {
    /// The job of this number, which is below the geometry's.
    pub fn new(segment: &'s Segment, index: u32) -> Self {
        assert!(u64::from(index) < segment.geometry().jobs, "job {index} of {}", segment.geometry().jobs);
        Self { segment, index }
    }

    fn offset(&self) -> usize {
        self.segment.layout().jobs + self.index as usize * self.segment.layout().job_stride
    }

    pub fn head(&self) -> &'s JobHead {
        // SAFETY: the layout places a JobHead, atomics alone, at each job's offset.
        let heads = unsafe { self.segment.control().table::<JobHead>(self.offset(), 1) };
        &heads[0]
    }

    /// The word, as it is at this moment.
    pub fn word(&self) -> JobWord {
        JobWord(self.head().word.load(Ordering::Acquire))
    }

    /// The one way in which a job's state changes. AcqRel: who sees `to` sees what was written before it.
    pub fn swap(&self, from: JobWord, to: JobWord) -> bool {
        self.head().word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn bank_offset(&self, bank: usize) -> usize {
        let layout = self.segment.layout();
        self.offset() + layout.banks + bank * layout.bank_stride
    }

    pub(crate) fn entries(&self, bank: usize) -> &'s [BankEntry] {
        // SAFETY: the layout places the entries, atomics alone, at the head of each bank.
        unsafe { self.segment.control().table(self.bank_offset(bank), crate::POOL_COUNT_MAX) }
    }

    /// The slot of `pool` that a bank lists. What another process wrote is checked: an impossible one reads as none.
    pub fn banked(&self, bank: usize, pool: usize) -> Option<Banked> {
        self.checked(&self.entries(bank)[pool], pool)
    }

    /// [`Job::banked`], of an entry of one of the job's banks.
    pub fn checked(&self, entry: &BankEntry, pool: usize) -> Option<Banked> {
        let slot = SlotRef::unpack(entry.slot.load(Ordering::Relaxed))?;
        let bytes = usize::try_from(entry.bytes.load(Ordering::Relaxed)).ok()?;
        (slot.pool == pool && self.segment.slot_bytes(slot).is_some_and(|most| bytes <= most))
            .then_some(Banked { slot, bytes })
    }

    /// Lists (or, with `None`, unlists) a pool's slot in a bank that is not current, or of a job being written.
    pub fn set_banked(&self, bank: usize, pool: usize, banked: Option<Banked>) {
        self.entries(bank)[pool].set(banked);
    }

    fn bytes(&self, offset: usize, length: usize) -> std::ptr::NonNull<u8> {
        self.segment.control().at(offset, length)
    }

    /// Copies a bank's descriptor out. For whoever has claimed the job.
    pub fn read_descriptor(&self, bank: usize, into: &mut [u8]) {
        let length = self.segment.geometry().descriptor_bytes as usize;
        assert_eq!(into.len(), length, "a descriptor has the geometry's size");
        let from = self.bytes(self.bank_offset(bank) + self.segment.layout().descriptor, length);
        // SAFETY: in bounds; the claim (an AcqRel swap of the word) makes this process the only one that touches the
        // job's banks, and orders their bytes before this read.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr(), length) };
    }

    /// Writes the descriptor of a bank that is not current, or of a job being written.
    pub fn write_descriptor(&self, bank: usize, from: &[u8]) {
        let length = self.segment.geometry().descriptor_bytes as usize;
        assert_eq!(from.len(), length, "a descriptor has the geometry's size");
        let into = self.bytes(self.bank_offset(bank) + self.segment.layout().descriptor, length);
        // SAFETY: in bounds; only the process that has the job (WRITING or CLAIMED) writes its banks.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), into.as_ptr(), length) };
    }

    /// Copies the descriptor of one bank to the other, which is not current.
    pub fn copy_descriptor(&self, from: usize, to: usize) {
        assert_ne!(from, to, "there are two banks");
        let length = self.segment.geometry().descriptor_bytes as usize;
        let [from, to] =
            [from, to].map(|bank| self.bytes(self.bank_offset(bank) + self.segment.layout().descriptor, length));
        // SAFETY: in bounds, and the layout places the banks apart; nobody but who repairs the job touches its banks.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), length) };
    }

    fn request_bytes(&self, length: usize) -> std::ptr::NonNull<u8> {
        self.segment.requests().at(self.index as usize * self.segment.layout().request_stride, length)
    }

    /// The request. For whoever has claimed the job: it is immutable from acceptance until the job is freed.
    pub fn request(&self) -> &'s [u8] {
        let length = self.segment.geometry().request_bytes as usize;
        let start = self.request_bytes(length);
        // SAFETY: in bounds; written before the swap that made the job READY, and not until it is freed again, which
        // only the gateway does, having claimed it.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), length) }
    }

    /// Writes the request of a job being written.
    pub fn write_request(&self, from: &[u8]) {
        let length = self.segment.geometry().request_bytes as usize;
        assert_eq!(from.len(), length, "a request has the geometry's size");
        let into = self.request_bytes(length);
        // SAFETY: in bounds; the job is WRITING and this process's, which is the gateway and maps the requests to be
        // written, so that nobody reads its request.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), into.as_ptr(), length) };
    }
}
