//! One bad member must not fail its neighbours: a batch that fails as a whole is run again, one by one.

use std::ops::Range;

/// Runs `0..count` together; where that fails, each alone. Returns those that failed alone, with their errors.
pub fn run_or_each_alone<E>(count: usize, mut run: impl FnMut(Range<usize>) -> Result<(), E>) -> Vec<(usize, E)> {
    match run(0..count) {
        Ok(()) => Vec::new(),
        Err(error) if count == 1 => vec![(0, error)],
        Err(_) => (0..count).filter_map(|index| Some((index, run(index..index + 1).err()?))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `count` of which `bad` fail; returns the failures and the runs.
    fn run(count: usize, bad: &[usize]) -> (Vec<(usize, String)>, Vec<Range<usize>>) {
        let mut runs = Vec::new();
        let failures = run_or_each_alone(count, |range| {
            runs.push(range.clone());
            if range.clone().any(|index| bad.contains(&index)) { Err(format!("{range:?}")) } else { Ok(()) }
        });
        (failures, runs)
    }

    #[test]
    fn a_batch_that_succeeds_is_run_once() {
        let (failures, runs) = run(3, &[]);
        assert_eq!((failures.len(), runs.len(), runs[0].clone()), (0, 1, 0..3));
    }

    #[test]
    fn of_a_failed_batch_only_the_bad_fail() {
        let (failures, runs) = run(3, &[1]);
        assert_eq!(failures, [(1, "1..2".to_owned())]);
        assert_eq!(runs, [0..3, 0..1, 1..2, 2..3]);
    }

    #[test]
    fn one_alone_is_not_run_twice() {
        let (failures, runs) = run(1, &[0]);
        assert_eq!(failures, [(0, "0..1".to_owned())]);
        assert_eq!(runs.len(), 1);
    }
}
