//! The last lines, in memory: for `framepipe logs`. Who follows has a place among them and is never waited for: one who is so slow
//! that lines went out of memory before he took them is told how many, and that is all he gets.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use framepipe_pipeline::log::Line;

use super::form::bytes_of;

/// Memory of the lines that are kept.
const KEPT_BYTES: usize = 4 << 20;
/// Lines that a follower is given at once.
const BATCH: usize = 64;

/// The last lines.
pub struct Kept {
    lines: Mutex<Lines>,
    changed: Condvar,
}

struct Lines {
    kept: VecDeque<Arc<Line>>,
    bytes: usize,
    /// Number of the oldest that is kept, counted from the first that there was.
    oldest: u64,
    readers: usize,
    is_closed: bool,
}

/// What is new for a follower.
#[derive(Debug, PartialEq)]
pub enum News {
    /// Lines; none, where time is over.
    Lines(Vec<Arc<Line>>),
    /// So many lines are gone that he has not taken.
    Missed(u64),
    /// The launcher ends.
    End,
}

impl Kept {
    /// None yet.
    pub const fn new() -> Self {
        let lines = Lines { kept: VecDeque::new(), bytes: 0, oldest: 0, readers: 0, is_closed: false };
        Self { lines: Mutex::new(lines), changed: Condvar::new() }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a line, and forgets the oldest ones for it.
    pub fn add(&self, line: Arc<Line>) {
        let mut lines = self.lines();
        lines.bytes += bytes_of(&line);
        lines.kept.push_back(line);
        while lines.bytes > KEPT_BYTES
            && let Some(oldest) = lines.kept.pop_front()
        {
            lines.bytes -= bytes_of(&oldest);
            lines.oldest += 1;
        }
        if lines.readers > 0 {
            self.changed.notify_all();
        }
    }

    /// The last `count` lines that are wanted; and a follower's place, from which on none of them was seen.
    pub fn last(&self, count: usize, is_wanted: impl Fn(&Line) -> bool) -> (Vec<Arc<Line>>, u64) {
        let (all, next) = {
            let lines = self.lines();
            (lines.kept.iter().rev().cloned().collect::<Vec<_>>(), lines.oldest + lines.kept.len() as u64)
        };
        let mut last: Vec<_> = all.into_iter().filter(|line| is_wanted(line)).take(count).collect();
        last.reverse();
        (last, next)
    }

    /// Counts a reader, unless there are `most` already.
    pub fn read(&self, most: usize) -> Option<Reader<'_>> {
        let mut lines = self.lines();
        (lines.readers < most && !lines.is_closed).then(|| {
            lines.readers += 1;
            Reader { kept: self }
        })
    }

    /// No lines come any more: waits until all readers have left, or the patience is over.
    pub fn close(&self, patience: Duration) {
        let mut lines = self.lines();
        lines.is_closed = true;
        self.changed.notify_all();
        let _ = self.changed.wait_timeout_while(lines, patience, |lines| lines.readers > 0);
    }
}

/// One who is counted as a reader.
pub struct Reader<'k> {
    kept: &'k Kept,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.kept.lines().readers -= 1;
        self.kept.changed.notify_all();
    }
}

impl Reader<'_> {
    /// Waits for lines from a place on, `patience` at most, and moves the place behind them.
    pub fn next(&self, place: &mut u64, patience: Duration) -> News {
        let lines = self.kept.lines();
        let is_behind = |lines: &Lines, place: u64| lines.oldest + lines.kept.len() as u64 > place;
        let has_none = |lines: &mut Lines| !lines.is_closed && !is_behind(lines, *place);
        let (lines, _) =
            self.kept.changed.wait_timeout_while(lines, patience, has_none).unwrap_or_else(PoisonError::into_inner);
        if lines.oldest > *place {
            return News::Missed(lines.oldest - *place);
        }
        if lines.is_closed && !is_behind(&lines, *place) {
            return News::End;
        }
        let seen = (*place - lines.oldest) as usize;
        let new: Vec<_> = lines.kept.iter().skip(seen).take(BATCH).cloned().collect();
        *place += new.len() as u64;
        News::Lines(new)
    }
}

#[cfg(test)]
mod tests {
    use framepipe_pipeline::log::Level;

    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn add(kept: &Kept, level: Level, words: &str) {
        kept.add(Arc::new(Line::now(level, words)));
    }

    fn words(lines: &[Arc<Line>]) -> Vec<&str> {
        lines.iter().map(|line| line.message.as_str()).collect()
    }

    #[test]
    fn the_last_lines_that_are_wanted_come_in_their_order() {
        let kept = Kept::new();
        ["a", "b", "c"].iter().for_each(|one| add(&kept, Level::Info, one));
        add(&kept, Level::Debug, "d");
        let (last, place) = kept.last(2, |line| line.level <= Level::Info);
        assert_eq!((words(&last), place), (vec!["b", "c"], 4));
        assert!(kept.last(0, |_| true).0.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_slow_follower_is_told_what_he_missed() {
        let kept = Kept::new();
        let reader = kept.read(1).expect("there is room");
        assert!(kept.read(1).is_none(), "one at most");
        let (_, mut place) = kept.last(0, |_| true);
        assert_eq!(reader.next(&mut place, NOW), News::Lines(Vec::new()));
        add(&kept, Level::Info, "one");
        let News::Lines(lines) = reader.next(&mut place, NOW) else { panic!("there is a line") };
        assert_eq!((words(&lines), place), (vec!["one"], 1));
        let long = "x".repeat(1000);
        (0..2 * KEPT_BYTES / 1000).for_each(|_| add(&kept, Level::Info, &long));
        assert!(kept.lines().bytes <= KEPT_BYTES);
        assert_eq!(reader.next(&mut place, NOW), News::Missed(kept.lines().oldest - 1));
        drop(reader);
        assert!(kept.read(1).is_some());
    }

    #[test]
    fn a_follower_has_all_lines_before_the_end() {
        let kept: &'static Kept = Box::leak(Box::new(Kept::new()));
        let reader = kept.read(1).expect("there is room");
        let reading = std::thread::spawn(move || {
            let (mut place, mut got) = (0, 0);
            loop {
                match reader.next(&mut place, Duration::from_secs(60)) {
                    News::Lines(lines) => got += lines.len(),
                    news => break (got, news),
                }
            }
        });
        (0..1000).for_each(|_| add(kept, Level::Info, "one"));
        kept.close(Duration::from_secs(60));
        assert_eq!(kept.lines().readers, 0, "it was waited for");
        assert_eq!(reading.join().expect("no panic"), (1000, News::End));
        assert!(kept.read(1).is_none(), "it is over");
    }
}
