//! Whether frames come out at the end. As long as results come, they do. Without one for a while, the gateway sends a frame of
//! its own, the canary: while that is on its way for too long, or has come back as an error, they do not. Pure: times are given.

use std::time::Duration;

/// What came out lately.
#[derive(Debug)]
pub struct Passage {
    /// Without a result for so long, a canary is sent; none: never.
    idle_ns: Option<u64>,
    /// For a canary, or any result, to come.
    most_ns: u64,
    /// When the last result of a frame came, and the last canary.
    result_ns: Option<u64>,
    canary_ns: Option<u64>,
    /// Since when a canary is on its way.
    sent_ns: Option<u64>,
    /// What the last canary came back with, if no result has come since.
    failure: Option<String>,
}

impl Passage {
    /// Nothing came yet. `idle` of zero: no canary is ever sent, and frames are believed to get through.
    pub fn new(idle: Duration, most: Duration) -> Self {
        let ns = |time: Duration| time.as_nanos() as u64;
        Self {
            idle_ns: (!idle.is_zero()).then(|| ns(idle)),
            most_ns: ns(most),
            result_ns: None,
            canary_ns: None,
            sent_ns: None,
            failure: None,
        }
    }

    /// A frame has its result.
    pub fn result_came(&mut self, now_ns: u64) {
        self.result_ns = Some(now_ns);
        self.failure = None;
    }

    /// The canary came back.
    pub fn canary_came(&mut self, now_ns: u64, failure: Option<String>) {
        self.sent_ns = None;
        self.canary_ns = Some(now_ns);
        self.failure = failure;
    }

    /// Says whether a canary is on its way, whoever sent it.
    pub fn is_away(&mut self, is_away: bool, now_ns: u64) {
        self.sent_ns = is_away.then_some(self.sent_ns.unwrap_or(now_ns));
    }

    /// True when it is time for a canary: nothing came for a while, and none is on its way.
    pub fn wants_canary(&self, now_ns: u64) -> bool {
        let silence = |came_ns: u64, idle_ns: u64| now_ns.saturating_sub(came_ns) >= idle_ns;
        let last_ns = self.result_ns.max(self.canary_ns);
        let is_due = |idle_ns: u64| last_ns.is_none_or(|came_ns| silence(came_ns, idle_ns));
        self.sent_ns.is_none() && self.idle_ns.is_some_and(is_due)
    }

    /// Why frames do not get through; none: they do, as far as is known.
    pub fn why_not(&self, now_ns: u64) -> Option<String> {
        self.idle_ns?;
        if let Some(failure) = &self.failure {
            return Some(format!("a frame of the gateway's own came back as an error: {failure}"));
        }
        if self.result_ns.max(self.canary_ns).is_none() {
            return Some("no frame has come through yet".into());
        }
        // Results that come show that frames get through, however long the canary waits behind others.
        let since_ns = self.sent_ns?.max(self.result_ns.unwrap_or(0));
        let waited_ms = now_ns.saturating_sub(since_ns) / 1_000_000;
        let words = || {
            format!("frames do not get through: one of the gateway's own is out, and nothing came for {waited_ms} ms")
        };
        (now_ns.saturating_sub(since_ns) > self.most_ns).then(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn passage() -> Passage {
        Passage::new(Duration::from_millis(1000), Duration::from_millis(5000))
    }

    /// Sends a canary, where it is wanted.
    fn send(passage: &mut Passage, now_ns: u64) -> bool {
        let wants = passage.wants_canary(now_ns);
        passage.is_away(wants || passage.sent_ns.is_some(), now_ns);
        wants
    }

    #[test]
    fn the_first_canary_is_sent_at_once_and_makes_it_ready() {
        let mut passage = passage();
        assert!(passage.why_not(0).is_some_and(|why| why.contains("yet")));
        assert!(send(&mut passage, 0) && !send(&mut passage, 2000 * MS), "one at a time");
        passage.canary_came(10 * MS, None);
        assert_eq!(passage.why_not(10 * MS), None);
        assert!(!passage.wants_canary(1009 * MS) && passage.wants_canary(1010 * MS));
    }

    #[test]
    fn one_that_does_not_come_back_makes_it_unready_until_it_or_a_result_does() {
        let mut passage = passage();
        passage.result_came(0);
        assert!(send(&mut passage, 1000 * MS));
        assert_eq!(passage.why_not(6000 * MS), None);
        assert!(passage.why_not(6001 * MS).is_some_and(|why| why.contains("nothing came for 5001 ms")));
        passage.result_came(7000 * MS);
        assert_eq!(passage.why_not(12_000 * MS), None);
        assert!(passage.why_not(12_001 * MS).is_some());
        passage.canary_came(13_000 * MS, None);
        assert_eq!(passage.why_not(13_000 * MS), None);
    }

    #[test]
    fn while_results_come_none_is_sent_and_one_that_waits_behind_frames_is_no_fault() {
        let mut passage = passage();
        for now_ns in (0..20_000).step_by(900).map(|ms| ms * MS) {
            passage.result_came(now_ns);
            assert!(!send(&mut passage, now_ns + 899 * MS));
        }
        // Slower than the canary is sent: it is out for long, and results come.
        assert!(send(&mut passage, 30_000 * MS));
        for now_ns in (30_000..60_000).step_by(3000).map(|ms| ms * MS) {
            passage.result_came(now_ns);
            assert_eq!(passage.why_not(now_ns + 2999 * MS), None);
        }
    }

    #[test]
    fn one_that_came_back_as_an_error_makes_it_unready_until_a_good_one_or_a_result() {
        let mut passage = passage();
        passage.canary_came(0, Some("Poison: it killed detect".into()));
        assert!(passage.why_not(1).is_some_and(|why| why.contains("killed detect")));
        assert!(passage.wants_canary(1000 * MS), "it is tried again");
        passage.result_came(2000 * MS);
        assert_eq!(passage.why_not(2000 * MS), None);
        passage.canary_came(4000 * MS, Some("again".into()));
        passage.canary_came(5000 * MS, None);
        assert_eq!(passage.why_not(5000 * MS), None);
    }

    #[test]
    fn one_of_a_dead_gateway_is_waited_for_like_one_s_own_and_without_canaries_frames_are_believed_to_get_through() {
        let mut passage = passage();
        passage.is_away(true, 0);
        assert!(!passage.wants_canary(2000 * MS));
        passage.is_away(false, 2000 * MS);
        assert!(passage.wants_canary(2000 * MS), "it is gone");
        let none = Passage::new(Duration::ZERO, Duration::from_millis(5000));
        assert!(!none.wants_canary(u64::MAX));
        assert_eq!(none.why_not(u64::MAX), None);
    }
}
