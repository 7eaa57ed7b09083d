//! Rates of what is completed one by one, or in bursts.

/// Per second: how much was completed from `begin` to `end`. `completed` are the times in ns of what was completed,
/// before and after the window too; what was under way at an edge counts by its share, so that a window of 200
/// inferences is not wrong by one of them.
fn rate(completed: &[u64], begin: u64, end: u64) -> f64 {
    let share = |pair: &[u64]| {
        let (from, to) = (pair[0], pair[1]);
        if to == from {
            return f64::from(u8::from(begin < to && to <= end));
        }
        to.min(end).saturating_sub(from.max(begin)) as f64 / (to - from) as f64
    };
    completed.windows(2).map(share).sum::<f64>() / ((end - begin) as f64 / 1e9)
}

/// The rate of what is completed in bursts, a batch at a time: the mean over windows of 4/5 of the length, from the
/// earliest to the latest, so that it makes little difference whether a burst lies before or behind an edge.
pub fn steady_rate(completed: &[u64], begin: u64, end: u64) -> f64 {
    const WINDOWS: u64 = 100;
    let room = (end - begin) / 5;
    let rates = (0..=WINDOWS).map(|number| {
        let shift = room * number / WINDOWS;
        rate(completed, begin + shift, end - room + shift)
    });
    rates.sum::<f64>() / (WINDOWS + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_same_wherever_the_window_begins() {
        let completed: Vec<u64> = (0..100).map(|n| n * 100_000_000).collect();
        for begin in [500_000_000, 510_000_000, 599_999_999] {
            assert!((rate(&completed, begin, begin + 2_000_000_000) - 10.0).abs() < 1e-9);
        }
        assert!((rate(&[0, 5, 5, 10], 0, 10) - 3e8).abs() < 1e-3, "two at the same time are two");
        assert!((rate(&[0, 5, 5, 10], 5, 10) - 2e8).abs() < 1e-3, "one at the edge belongs to one window");
    }

    #[test]
    fn a_steady_rate_hardly_depends_on_where_bursts_lie() {
        // Four at a time, each second: 4 a second.
        for offset in (0..1000).step_by(37) {
            let completed: Vec<u64> = (0..80).map(|n| (n / 4 * 1000 + offset + n % 4) * 1_000_000).collect();
            let found = steady_rate(&completed, 5_000_000_000, 14_700_000_000);
            assert!((found - 4.0).abs() < 0.05, "{found} with bursts at {offset} ms");
        }
    }
}
