//! Idempotency keys: the same key within its window gets the first call's answer and enqueues nothing again. The answers
//! lie in the segment's table of keys (`shm/keys.rs`), each written with the acceptance of its frames, so that they
//! outlive this gateway; here is the index over them.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use framepipe_frame::{KeyRecord, Text};
use framepipe_proto::v1::PushDataResponse;
use framepipe_shm::{Gate, KeyEntry};

/// The answers of recent calls, by key; bounded in number and in age.
pub struct Answers {
    /// With its place in the table: the entry of a key that was used anew outlives it there, and says nothing of it.
    answers: HashMap<String, (usize, PushDataResponse)>,
    /// Expiry, place in the table and key: the oldest first.
    order: VecDeque<(u64, usize, String)>,
    free: Vec<usize>,
    window_ns: u64,
}

/// Where the answer to a new key will lie, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its place in the table.
    pub place: usize,
    /// When it is forgotten, CLOCK_MONOTONIC, nanoseconds.
    pub expires_ns: u64,
}

impl Answers {
    /// Takes over what a former gateway remembered. Each key is remembered for `window`, and at most as many as the table
    /// has places: beyond, the oldest is forgotten.
    pub fn take_over(gate: &Gate<'_>, keys_max: usize, window: Duration) -> Self {
        let mut found = Vec::new();
        gate.take_over_keys(|place, entry, record| found.push((place, entry, bytemuck::pod_read_unaligned(record))));
        Self::of(found, keys_max, window)
    }

    fn of(mut found: Vec<(usize, KeyEntry, KeyRecord)>, keys_max: usize, window: Duration) -> Self {
        found.sort_by_key(|(_, entry, _)| entry.expires_ns);
        let mut is_free = vec![true; keys_max];
        found.iter().for_each(|(place, ..)| is_free[*place] = false);
        let free = (0..keys_max).rev().filter(|place| is_free[*place]).collect();
        let window_ns = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        let mut this = Self { answers: HashMap::new(), order: VecDeque::new(), free, window_ns };
        for (place, entry, record) in found {
            let (stream, accepted) = (record.stream.as_str().into_owned(), entry.count as u32);
            let answer = PushDataResponse { stream, first_frame: entry.first, accepted };
            this.put(&record.key.as_str(), Slot { place, expires_ns: entry.expires_ns }, answer);
        }
        this
    }

    /// The first answer to this key.
    pub fn get(&mut self, key: &str, now_ns: u64) -> Option<PushDataResponse> {
        while self.order.front().is_some_and(|(expires_ns, ..)| *expires_ns < now_ns) {
            self.forget_oldest();
        }
        self.answers.get(key).map(|(_, answer)| answer.clone())
    }

    /// A slot for a new key; the oldest one gives way.
    pub fn slot(&mut self, now_ns: u64) -> Option<Slot> {
        if self.free.is_empty() {
            self.forget_oldest();
        }
        let place = *self.free.last()?;
        Some(Slot { place, expires_ns: now_ns.saturating_add(self.window_ns) })
    }

    /// Remembers the answer to a new key, whose entry was written in this slot.
    pub fn put(&mut self, key: &str, slot: Slot, answer: PushDataResponse) {
        if self.free.last() == Some(&slot.place) {
            self.free.pop();
        }
        self.order.push_back((slot.expires_ns, slot.place, key.to_owned()));
        self.answers.insert(key.to_owned(), (slot.place, answer));
    }

    fn forget_oldest(&mut self) {
        if let Some((_, place, key)) = self.order.pop_front() {
            if self.answers.get(&key).is_some_and(|(its_place, _)| *its_place == place) {
                self.answers.remove(&key);
            }
            self.free.push(place);
        }
    }
}

/// The record of a key, which the checks found to fit.
pub fn record(key: &str, stream: &str) -> KeyRecord {
    KeyRecord { key: Text::truncated(key), stream: Text::truncated(stream) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn answer(frame: u64) -> PushDataResponse {
        PushDataResponse { stream: "s".into(), first_frame: frame, accepted: 1 }
    }

    fn put(answers: &mut Answers, key: &str, frame: u64, now_ns: u64) {
        let slot = answers.slot(now_ns).expect("there are places");
        answers.put(key, slot, answer(frame));
    }

    #[test]
    fn a_key_is_remembered_for_its_window_and_while_there_is_room() {
        let mut answers = Answers::of(Vec::new(), 2, Duration::from_secs(10));
        put(&mut answers, "a", 1, 0);
        put(&mut answers, "b", 2, 5 * SECOND);
        assert_eq!(answers.get("a", 10 * SECOND), Some(answer(1)));
        assert_eq!(answers.get("a", 11 * SECOND), None, "its window is over");
        assert_eq!(answers.get("b", 11 * SECOND), Some(answer(2)));
        put(&mut answers, "c", 3, 12 * SECOND);
        put(&mut answers, "d", 4, 12 * SECOND);
        assert_eq!(answers.get("b", 12 * SECOND), None, "two keys at most");
        assert_eq!(answers.get("d", 12 * SECOND), Some(answer(4)));
    }

    #[test]
    fn a_key_that_was_used_anew_outlives_its_former_entry() {
        let entry = |first, expires_ns| KeyEntry { first, count: 1, expires_ns };
        let found = vec![(0, entry(5, 3 * SECOND), record("key", "s")), (1, entry(7, 9 * SECOND), record("key", "s"))];
        let mut answers = Answers::of(found, 2, Duration::from_secs(10));
        assert_eq!(answers.get("key", 4 * SECOND), Some(answer(7)), "the former entry has expired");
        assert_eq!(answers.get("key", 10 * SECOND), None);
    }

    #[test]
    fn what_a_former_gateway_remembered_counts_and_its_places_are_not_free() {
        let entry = |first, expires_ns| KeyEntry { first, count: 1, expires_ns };
        let found =
            vec![(2, entry(7, 9 * SECOND), record("late", "s")), (0, entry(5, 3 * SECOND), record("soon", "s"))];
        let mut answers = Answers::of(found, 3, Duration::from_secs(10));
        assert_eq!(answers.get("late", SECOND), Some(answer(7)));
        assert_eq!(answers.get("soon", SECOND), Some(answer(5)));
        assert_eq!(answers.slot(SECOND).map(|slot| slot.place), Some(1));
        put(&mut answers, "new", 8, SECOND);
        assert_eq!(answers.slot(SECOND).map(|slot| slot.place), Some(0), "the one that expires first gives way");
        assert_eq!(answers.get("soon", SECOND), None);
    }
}
