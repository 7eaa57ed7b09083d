//! What a start takes, step by step: said once the pipeline is ready.

use std::time::{Duration, Instant};

/// A start under way.
pub struct StartUp {
    began: Instant,
    /// When the last step was done.
    last: Instant,
    steps: Vec<(String, Duration)>,
}

impl StartUp {
    /// One that begins now.
    pub fn begin() -> Self {
        let now = Instant::now();
        Self { began: now, last: now, steps: Vec::new() }
    }

    /// A step is done: it took the time since the one before.
    pub fn done(&mut self, step: impl Into<String>) {
        let now = Instant::now();
        self.steps.push((step.into(), now - self.last));
        self.last = now;
    }

    /// All that it took, and of that each step, in milliseconds.
    pub fn words(&self) -> String {
        let steps: Vec<String> = self.steps.iter().map(|(step, took)| format!("{step} {}", took.as_millis())).collect();
        format!("{} ms ({})", (self.last - self.began).as_millis(), steps.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_are_told_in_order_and_are_all_of_it() {
        let mut start = StartUp::begin();
        let began = start.began;
        for (step, ms) in [("memory", 130), ("stages", 20)] {
            start.last = Instant::now() - Duration::from_millis(ms);
            start.done(step);
        }
        start.last = began + Duration::from_millis(150);
        assert_eq!(start.words(), "150 ms (memory 130, stages 20)");
    }
}
