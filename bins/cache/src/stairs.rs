//! The level that is said: up at once, down only when less has been enough for a while, so that it does not flap. Pure.

use framepipe_cache::Level;

/// For less to have been enough before it is said, milliseconds.
const CALM_MS: u64 = 1000;
/// Between two lines of the log, milliseconds.
const LINES_MS: u64 = 1000;

/// The level that is said, and how it came to it.
#[derive(Debug, Default)]
pub struct Stairs {
    level: Level,
    /// Since when less has been enough.
    calm_since: Option<u64>,
    logged: Level,
    logged_at: Option<u64>,
}

impl Stairs {
    /// Beginning with what is said already.
    pub fn at(level: Level) -> Self {
        Self { level, logged: level, ..Self::default() }
    }

    /// The level to be said where `wanted` is what the numbers of this moment ask for.
    pub fn step(&mut self, wanted: Level, now_ms: u64) -> Level {
        if wanted >= self.level || now_ms - *self.calm_since.get_or_insert(now_ms) >= CALM_MS {
            (self.level, self.calm_since) = (wanted, None);
        }
        self.level
    }

    /// The last level that was logged, where it is time to log another one.
    pub fn log_due(&mut self, now_ms: u64) -> Option<Level> {
        let is_early = self.logged_at.is_some_and(|at| now_ms - at < LINES_MS);
        if self.level == self.logged || is_early {
            return None;
        }
        self.logged_at = Some(now_ms);
        Some(std::mem::replace(&mut self.logged, self.level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_up_at_once_and_down_when_less_has_been_enough_for_a_while() {
        let mut stairs = Stairs::default();
        assert_eq!(stairs.step(Level::CopyOnRead, 5), Level::CopyOnRead);
        assert_eq!(stairs.step(Level::Spill, 6), Level::Spill);
        assert_eq!(stairs.step(Level::InPlace, 10), Level::Spill);
        assert_eq!(stairs.step(Level::Spill, 900), Level::Spill, "not calm after all");
        assert_eq!(stairs.step(Level::InPlace, 1000), Level::Spill);
        assert_eq!(stairs.step(Level::CopyOnRead, 1999), Level::Spill);
        assert_eq!(stairs.step(Level::CopyOnRead, 2000), Level::CopyOnRead);
        assert_eq!(stairs.step(Level::Refuse, 2001), Level::Refuse);
    }

    #[test]
    fn a_line_a_second_tells_where_it_stands_in_the_end() {
        let mut stairs = Stairs::default();
        assert_eq!(stairs.log_due(1), None);
        stairs.step(Level::CopyOnRead, 1);
        assert_eq!(stairs.log_due(1), Some(Level::InPlace));
        stairs.step(Level::Spill, 2);
        stairs.step(Level::Refuse, 3);
        assert_eq!(stairs.log_due(3), None);
        assert_eq!(stairs.log_due(1001), Some(Level::CopyOnRead));
        assert_eq!(stairs.log_due(9999), None, "it was said");
    }
}
