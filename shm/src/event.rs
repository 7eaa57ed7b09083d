//! A process-shared event: consumers spin briefly, then park on a futex; producers wake only sleepers.
//!
//! Publishing costs one fence and one load while nobody sleeps. A waiter that is killed leaves `waiters` one too high,
//! which costs spare wake-ups and nothing else; it may also have swallowed the only wake-up, so recovery wakes every
//! sleeper of every event ([`Event::wake_all`]), and no wait is longer than its timeout.

use std::time::Duration;

use crate::sync::{AtomicU32, Ordering, fence};

/// The words of an event. All zeroes is an event that nobody waits for.
#[repr(C, align(64))]
#[derive(Default)]
pub struct EventWords {
    sequence: AtomicU32,
    waiters: AtomicU32,
}

/// How often a waiter looks again before it parks.
const SPINS: u32 = 64;

/// A view of an event, wherever its words lie.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    words: &'a EventWords,
    #[cfg(loom)]
    futex: &'a model::Futex,
}

impl<'a> Event<'a> {
    /// The event of these words.
    #[cfg(not(loom))]
    pub fn new(words: &'a EventWords) -> Self {
        Self { words }
    }

    /// Wakes up to `count` sleepers, if there are any. What they wait for was published before.
    pub fn notify(&self, count: u32) {
        // Pairs with the waiter's fetch_add: either the waiter's look after it sees what was published before this
        // fence, or this load sees the waiter.
        fence(Ordering::SeqCst);
        if self.words.waiters.load(Ordering::Relaxed) != 0 {
            self.words.sequence.fetch_add(1, Ordering::Release);
            self.futex_wake(count);
        }
    }

    /// Wakes every sleeper, whatever the count says: after a death, and to stop.
    pub fn wake_all(&self) {
        self.words.sequence.fetch_add(1, Ordering::SeqCst);
        self.futex_wake(i32::MAX as u32);
    }

    /// Waits until `ready` yields something, a wake-up that brings nothing, or `timeout`; the last two give `None`,
    /// so that the caller looks at its other duties.
    pub fn wait<T>(&self, timeout: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        for _ in 0..SPINS {
            if let Some(found) = ready() {
                return Some(found);
            }
            std::hint::spin_loop();
        }
        self.park(timeout, ready)
    }

    /// [`Event::wait`] without the spinning.
    pub fn park<T>(&self, timeout: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        let sequence = self.words.sequence.load(Ordering::Acquire);
        self.words.waiters.fetch_add(1, Ordering::SeqCst);
        // The full fence that the RMW alone is not in the memory model: pairs with the fence of `notify`.
        fence(Ordering::SeqCst);
        let mut found = ready();
        if found.is_none() {
            self.futex_wait(sequence, timeout);
            found = ready();
        }
        self.words.waiters.fetch_sub(1, Ordering::Relaxed);
        found
    }

    /// Sleeps while the sequence is `sequence`. Any return is allowed: wake-up, signal, timeout, changed word.
    #[cfg(not(loom))]
    fn futex_wait(&self, sequence: u32, timeout: Duration) {
        use rustix::thread::futex;
        let timeout = futex::Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        // Not Flags::PRIVATE: waker and sleeper are different processes.
        let _ = futex::wait(&self.words.sequence, futex::Flags::empty(), sequence, Some(&timeout));
    }

    #[cfg(not(loom))]
    fn futex_wake(&self, count: u32) {
        use rustix::thread::futex;
        let _ = futex::wake(&self.words.sequence, futex::Flags::empty(), count);
    }
}

/// loom's stand-in for the kernel's futex. It knows no timeout: a lost wake-up is a deadlock, which loom reports.
#[cfg(loom)]
pub mod model {
    use super::*;
    use loom::sync::{Condvar, Mutex};

    /// The kernel's queue of sleepers of one word.
    #[derive(Default)]
    pub struct Futex {
        lock: Mutex<()>,
        sleepers: Condvar,
    }

    impl<'a> Event<'a> {
        /// The event of these words with its model futex.
        pub fn modelled(words: &'a EventWords, futex: &'a Futex) -> Self {
            Self { words, futex }
        }

        pub(super) fn futex_wait(&self, sequence: u32, _timeout: Duration) {
            let guard = self.futex.lock.lock().expect("no test panics with the lock");
            if self.words.sequence.load(Ordering::SeqCst) == sequence {
                drop(self.futex.sleepers.wait(guard));
            }
        }

        pub(super) fn futex_wake(&self, count: u32) {
            let _guard = self.futex.lock.lock().expect("no test panics with the lock");
            if count == 1 { self.futex.sleepers.notify_one() } else { self.futex.sleepers.notify_all() }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::AtomicU64;

    #[test]
    fn a_sleeper_is_woken_by_what_was_published() {
        let words = EventWords::default();
        let event = Event::new(&words);
        let published = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                loop {
                    let look = || Some(published.load(Ordering::Acquire)).filter(|value| *value != 0);
                    if let Some(value) = event.wait(Duration::from_secs(60), look) {
                        return value;
                    }
                }
            });
            while words.waiters.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            published.store(42, Ordering::Release);
            event.notify(1);
            assert_eq!(waiter.join().expect("the waiter returns"), 42);
        });
        assert_eq!(words.waiters.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_wait_ends_at_its_timeout() {
        let words = EventWords::default();
        assert_eq!(Event::new(&words).wait(Duration::from_millis(1), || None::<()>), None);
    }
}
