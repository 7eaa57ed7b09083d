//! The page by which producer and consumer keep in step, and where the consumer leaves what it measured. It carries no
//! message.
//!
//! `open, taken, first_ns, last_ns | hop_ns of each message`: words of 64 bits, the first ones on cache lines of their own.
#![allow(unsafe_code, reason = "a table in a shared mapping")]

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use framepipe_shm::Mapping;

/// Two cache lines, in words, as the prefetcher fetches them in pairs.
const APART: usize = 16;
const OPEN: usize = 0;
const TAKEN: usize = APART;
const FIRST_NS: usize = 2 * APART;
const LAST_NS: usize = 2 * APART + 1;
const HOPS: usize = 3 * APART;

/// The page, mapped.
pub struct Control {
    mapping: Mapping,
}

impl Control {
    /// Makes the page of so many messages.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn create(path: &Path, messages: usize) -> Result<Self> {
        let mapping = Mapping::create(path, (HOPS + messages) * 8).context("the control page")?;
        Ok(Self { mapping })
    }

    /// Opens the page that the producer made.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { mapping: Mapping::open(path, true).context("the control page")? })
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the page is atomics alone, from its start to its end.
        unsafe { self.mapping.table(0, self.mapping.len() / 8) }
    }

    /// The consumer says that it can receive.
    pub fn set_open(&self) {
        self.words()[OPEN].store(1, Ordering::Release);
    }

    /// True once the consumer can receive.
    pub fn is_open(&self) -> bool {
        self.words()[OPEN].load(Ordering::Acquire) != 0
    }

    /// The consumer says how many messages it has received, and given their room back.
    pub fn set_taken(&self, messages: u64) {
        self.words()[TAKEN].store(messages, Ordering::Release);
    }

    /// Messages received.
    pub fn taken(&self) -> u64 {
        self.words()[TAKEN].load(Ordering::Acquire)
    }

    /// Notes the hop of a message, nanoseconds.
    pub fn note(&self, message: usize, hop_ns: u64) {
        self.words()[HOPS + message].store(hop_ns, Ordering::Relaxed);
    }

    /// The hops noted from message `first` on, nanoseconds.
    pub fn hops_ns(&self, first: usize) -> Vec<f64> {
        self.words()[HOPS + first..].iter().map(|word| word.load(Ordering::Relaxed) as f64).collect()
    }

    /// Notes when the first and the last message came, CLOCK_MONOTONIC.
    pub fn note_times(&self, first_ns: u64, last_ns: u64) {
        self.words()[FIRST_NS].store(first_ns, Ordering::Relaxed);
        self.words()[LAST_NS].store(last_ns, Ordering::Relaxed);
    }

    /// Nanoseconds from the first message to the last.
    pub fn elapsed_ns(&self) -> u64 {
        let at = |word: usize| self.words()[word].load(Ordering::Relaxed);
        at(LAST_NS).saturating_sub(at(FIRST_NS))
    }
}
