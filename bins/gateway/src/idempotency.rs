//! Idempotency keys: the same key within its window gets the first call's answer and enqueues nothing again. Kept in
//! the gateway's memory: a gateway's own death forgets them.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use framepipe_proto::v1::PushDataResponse;

/// The answers of recent calls, by key; bounded in number and in age.
pub struct Answers {
    answers: HashMap<String, PushDataResponse>,
    order: VecDeque<(Instant, String)>,
    window: Duration,
    keys_max: usize,
}

impl Answers {
    /// Remembers each key for `window`, and at most `keys_max` of them: beyond, the oldest is forgotten.
    pub fn new(window: Duration, keys_max: usize) -> Self {
        Self { answers: HashMap::new(), order: VecDeque::new(), window, keys_max }
    }

    /// The first answer to this key.
    pub fn get(&mut self, key: &str, now: Instant) -> Option<PushDataResponse> {
        while let Some((when, _)) = self.order.front()
            && now.duration_since(*when) > self.window
        {
            self.forget_oldest();
        }
        self.answers.get(key).cloned()
    }

    /// Remembers an answer. The key is new: `get` did not know it.
    pub fn put(&mut self, key: String, answer: PushDataResponse, now: Instant) {
        if self.order.len() >= self.keys_max {
            self.forget_oldest();
        }
        self.order.push_back((now, key.clone()));
        self.answers.insert(key, answer);
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.answers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_remembered_for_its_window_and_while_there_is_room() {
        let answer = |frame| PushDataResponse { first_frame: frame, ..Default::default() };
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut answers = Answers::new(10 * second, 2);
        answers.put("a".into(), answer(1), start);
        answers.put("b".into(), answer(2), start + 5 * second);
        assert_eq!(answers.get("a", start + 10 * second), Some(answer(1)));
        assert_eq!(answers.get("a", start + 11 * second), None, "its window is over");
        assert_eq!(answers.get("b", start + 11 * second), Some(answer(2)));
        answers.put("c".into(), answer(3), start + 12 * second);
        answers.put("d".into(), answer(4), start + 12 * second);
        assert_eq!(answers.get("b", start + 12 * second), None, "two keys at most");
        assert_eq!(answers.get("d", start + 12 * second), Some(answer(4)));
    }
}
