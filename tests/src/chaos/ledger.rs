//! What was pushed, and what came back: each frame once, as its own image's result.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

/// What a result must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The frame's name.
    pub name: String,
    /// The image's size in pixels.
    pub size: (u32, u32),
}

/// What a result said: its image, or its error.
pub type Said = Result<Image, String>;

/// Most faults that are told.
const FAULTS_TOLD: usize = 20;

/// Counted at the end.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Frames of the calls that the server accepted.
    pub accepted: u64,
    /// Frames of the calls that it refused.
    pub refused: u64,
    /// Results, each frame's once.
    pub results: u64,
    /// Accepted frames that have no result, and never will.
    pub lost: u64,
    /// Results of frames that had one, under a sequence of their own.
    pub repeated: u64,
    /// Of the results, those that are an error: every image is a good one.
    pub failed: u64,
    /// Of the results, those of another image than was pushed.
    pub mixed_up: u64,
    /// Results of frames that nobody pushed.
    pub phantoms: u64,
    /// Results that came again and were dropped by the client, by stream and sequence.
    pub repeats_dropped: u64,
    /// Seconds of the run.
    pub seconds: usize,
    /// Seconds without a strike at the launcher.
    pub seconds_with_launcher: usize,
    /// Those of them in which results came.
    pub seconds_with_results: usize,
    /// From each kill of a process until the next result, whosever, reached a reader, in milliseconds.
    pub next_result_ms: Vec<f64>,
}

/// The ledger.
#[derive(Default)]
pub struct Ledger {
    /// From here on seconds are counted.
    start: OnceLock<Instant>,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    counts: Counts,
    /// Frames pushed whose results are still out.
    expected: HashMap<u64, Image>,
    /// Results whose push has not been told yet.
    early: HashMap<u64, Said>,
    settled: HashSet<u64>,
    last_sequence: HashMap<String, u64>,
    results_in: Vec<u32>,
    launcher_struck_in: HashSet<usize>,
    /// Kills since the last result.
    kills: Vec<Instant>,
    faults: Vec<String>,
}

impl Books {
    fn fault(&mut self, words: String) {
        if self.faults.len() < FAULTS_TOLD {
            self.faults.push(words);
        }
    }

    fn settle(&mut self, frame: u64, expected: &Image, said: &Said) {
        if said.as_ref() != Ok(expected) {
            let count = if said.is_ok() { &mut self.counts.mixed_up } else { &mut self.counts.failed };
            *count += 1;
            self.fault(format!("frame {frame}: {expected:?} was pushed, and its result is {said:?}"));
        }
        self.counts.results += 1;
        self.settled.insert(frame);
    }
}

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to count seconds, at the latest when the first result comes.
    pub fn begin(&self) {
        self.start.get_or_init(Instant::now);
    }

    fn second(&self) -> usize {
        self.start.get_or_init(Instant::now).elapsed().as_secs() as usize
    }

    /// A call was accepted: these are its frames, from `first` on.
    pub fn accepted(&self, first: u64, images: Vec<Image>) {
        let mut books = self.books();
        books.counts.accepted += images.len() as u64;
        for (frame, image) in (first..).zip(images) {
            match books.early.remove(&frame) {
                Some(said) => books.settle(frame, &image, &said),
                None if books.settled.contains(&frame) || books.expected.contains_key(&frame) => {
                    books.counts.lost += 1; // one of them gets the other's result
                    books.fault(format!("frame {frame} was given to two pushes"));
                }
                None => drop(books.expected.insert(frame, image)),
            }
        }
    }

    /// A call was refused.
    pub fn refused(&self, frames: usize) {
        self.books().counts.refused += frames as u64;
    }

    /// A result came.
    pub fn result(&self, stream: &str, sequence: u64, frame: u64, said: Said) {
        let second = self.second();
        let mut books = self.books();
        let kills = std::mem::take(&mut books.kills);
        books.counts.next_result_ms.extend(kills.iter().map(|killed| killed.elapsed().as_secs_f64() * 1e3));
        let last = books.last_sequence.entry(stream.to_owned()).or_default();
        if sequence <= *last {
            books.counts.repeats_dropped += 1;
            return;
        }
        let expected = *last + 1;
        *last = sequence;
        if sequence != expected {
            books.fault(format!("stream {stream}: result {sequence} came where {expected} was next"));
        }
        if books.results_in.len() <= second {
            books.results_in.resize(second + 1, 0);
        }
        books.results_in[second] += 1;
        if books.settled.contains(&frame) || books.early.contains_key(&frame) {
            books.counts.repeated += 1;
            books.fault(format!("frame {frame} has a second result, {sequence} of stream {stream}: {said:?}"));
        } else if let Some(image) = books.expected.remove(&frame) {
            books.settle(frame, &image, &said);
        } else {
            books.early.insert(frame, said);
        }
    }

    /// The last sequence that a reader of the stream has had.
    pub fn last_sequence(&self, stream: &str) -> u64 {
        self.books().last_sequence.get(stream).copied().unwrap_or(0)
    }

    /// A process is killed now.
    pub fn killed(&self) {
        self.books().kills.push(Instant::now());
    }

    /// The launcher is struck in this second.
    pub fn launcher_struck(&self) {
        let second = self.second();
        self.books().launcher_struck_in.insert(second);
    }

    /// Something that must not be was seen.
    pub fn fault(&self, words: String) {
        self.books().fault(words);
    }

    /// Results so far, and frames whose results are still out.
    pub fn progress(&self) -> (u64, usize) {
        let books = self.books();
        (books.counts.results, books.expected.len())
    }

    /// Closes the books after so many seconds of strikes: the counts, and what does not come out even.
    pub fn close(&self, seconds: usize) -> (Counts, Vec<String>) {
        let mut books = self.books();
        let (expected, early) = (books.expected.len(), books.early.len());
        books.counts.lost += expected as u64;
        books.counts.phantoms += early as u64;
        if expected > 0 {
            let lost = format!("{expected} frames have no result, such as {:?}", books.expected.iter().next());
            books.fault(lost);
        }
        if early > 0 {
            let phantoms =
                format!("{early} results are of frames that nobody pushed, such as {:?}", books.early.iter().next());
            books.fault(phantoms);
        }
        let with_launcher: Vec<usize> = (0..seconds).filter(|one| !books.launcher_struck_in.contains(one)).collect();
        let came = |second: &&usize| books.results_in.get(**second).is_some_and(|count| *count > 0);
        let seconds_with_results = with_launcher.iter().filter(came).count();
        let counts = Counts {
            seconds,
            seconds_with_launcher: with_launcher.len(),
            seconds_with_results,
            ..books.counts.clone()
        };
        (counts, std::mem::take(&mut books.faults))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str) -> Image {
        Image { name: name.into(), size: (1, 2) }
    }

    fn closed(act: impl FnOnce(&Ledger)) -> (Counts, Vec<String>) {
        let ledger = Ledger::default();
        act(&ledger);
        ledger.close(1)
    }

    /// What must be none: lost, repeated, failed, mixed up, of nobody.
    fn wrong(counts: &Counts) -> [u64; 5] {
        [counts.lost, counts.repeated, counts.failed, counts.mixed_up, counts.phantoms]
    }

    #[test]
    fn a_ledger_that_comes_out_even_counts_nothing_wrong() {
        let (counts, faults) = closed(|ledger| {
            ledger.accepted(1, vec![image("a"), image("b")]);
            ledger.result("s", 1, 2, Ok(image("b")));
            ledger.result("s", 1, 2, Ok(image("b"))); // the client drops it
            ledger.result("s", 2, 3, Ok(image("c")));
            ledger.killed();
            ledger.result("s", 3, 1, Ok(image("a")));
            ledger.accepted(3, vec![image("c")]);
            ledger.refused(2);
            ledger.killed(); // no result came any more
        });
        assert_eq!((wrong(&counts), faults), ([0; 5], vec![]));
        let Counts { accepted, results, refused, repeats_dropped, seconds_with_results, .. } = counts;
        assert_eq!((accepted, results, refused, repeats_dropped, seconds_with_results), (3, 3, 2, 1, 1));
        assert_eq!(counts.next_result_ms.len(), 1);
    }

    #[test]
    fn what_does_not_come_out_even_is_counted_and_told() {
        let (counts, faults) = closed(|ledger| ledger.accepted(1, vec![image("a"), image("b")]));
        assert_eq!(wrong(&counts), [2, 0, 0, 0, 0]);
        assert!(faults[0].contains("2 frames have no result"), "{faults:?}");

        let (counts, faults) = closed(|ledger| ledger.result("s", 1, 1, Ok(image("a"))));
        assert_eq!(wrong(&counts), [0, 0, 0, 0, 1]);
        assert!(faults[0].contains("nobody pushed"), "{faults:?}");

        let (counts, faults) = closed(|ledger| {
            ledger.accepted(1, vec![image("a")]);
            ledger.result("s", 1, 1, Ok(image("a")));
            ledger.result("s", 2, 1, Ok(image("a")));
        });
        assert_eq!(wrong(&counts), [0, 1, 0, 0, 0]);
        assert!(faults[0].contains("a second result"), "{faults:?}");

        let (counts, faults) = closed(|ledger| {
            ledger.accepted(1, vec![image("a")]);
            ledger.result("s", 2, 1, Ok(image("a")));
        });
        assert_eq!(wrong(&counts), [0; 5]);
        assert!(faults[0].contains("where 1 was next"), "{faults:?}");

        let (counts, faults) = closed(|ledger| {
            ledger.accepted(1, vec![image("a"), image("b")]);
            ledger.result("s", 1, 1, Err("poison".into()));
            ledger.result("s", 2, 2, Ok(image("c")));
        });
        assert_eq!(wrong(&counts), [0, 0, 1, 1, 0]);
        assert!(faults[0].contains("poison") && faults.len() == 2, "{faults:?}");

        let (counts, faults) = closed(|ledger| {
            ledger.accepted(1, vec![image("a")]);
            ledger.accepted(1, vec![image("a")]);
            ledger.result("s", 1, 1, Ok(image("a")));
        });
        assert_eq!(wrong(&counts), [1, 0, 0, 0, 0]);
        assert!(faults[0].contains("two pushes"), "{faults:?}");
    }

    #[test]
    fn seconds_without_results_count_and_those_with_a_strike_at_the_launcher_do_not() {
        let ledger = Ledger::default();
        ledger.launcher_struck();
        let (counts, _) = ledger.close(10);
        assert_eq!((counts.seconds, counts.seconds_with_launcher, counts.seconds_with_results), (10, 9, 0));
    }
}
