//! What was pushed, and what came back: each frame once, as its own image's result.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde::Serialize;

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
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Frames of the calls that the server accepted.
    pub accepted: u64,
    /// Frames of the calls that it refused.
    pub refused: u64,
    /// Results, each frame's once.
    pub results: u64,
    /// Results that came again and were dropped by the client, by stream and sequence.
    pub repeats: u64,
    /// Seconds of the run.
    pub seconds: usize,
    /// Seconds without a strike at the launcher.
    pub seconds_with_launcher: usize,
    /// Those of them in which results came.
    pub seconds_with_results: usize,
}

/// The ledger.
pub struct Ledger {
    start: Instant,
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
            self.fault(format!("frame {frame}: {expected:?} was pushed, and its result is {said:?}"));
        }
        self.counts.results += 1;
        self.settled.insert(frame);
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self { start: Instant::now(), books: Mutex::default() }
    }
}

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn second(&self) -> usize {
        self.start.elapsed().as_secs() as usize
    }

    /// A call was accepted: these are its frames, from `first` on.
    pub fn accepted(&self, first: u64, images: Vec<Image>) {
        let mut books = self.books();
        books.counts.accepted += images.len() as u64;
        for (frame, image) in (first..).zip(images) {
            match books.early.remove(&frame) {
                Some(said) => books.settle(frame, &image, &said),
                None if books.settled.contains(&frame) || books.expected.contains_key(&frame) => {
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
        let last = books.last_sequence.entry(stream.to_owned()).or_default();
        if sequence <= *last {
            books.counts.repeats += 1;
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

    fn faults(act: impl FnOnce(&Ledger)) -> Vec<String> {
        let ledger = Ledger::default();
        act(&ledger);
        ledger.close(1).1
    }

    #[test]
    fn what_does_not_come_out_even_is_told() {
        let good = faults(|ledger| {
            ledger.accepted(1, vec![image("a"), image("b")]);
            ledger.result("s", 1, 2, Ok(image("b")));
            ledger.result("s", 1, 2, Ok(image("b"))); // the client drops it
            ledger.result("s", 2, 3, Ok(image("c")));
            ledger.result("s", 3, 1, Ok(image("a")));
            ledger.accepted(3, vec![image("c")]);
        });
        assert_eq!(good, [""; 0]);
        let lost = faults(|ledger| ledger.accepted(1, vec![image("a")]));
        assert!(lost[0].contains("1 frames have no result"), "{lost:?}");
        let phantom = faults(|ledger| ledger.result("s", 1, 1, Ok(image("a"))));
        assert!(phantom[0].contains("nobody pushed"), "{phantom:?}");
        let twice = faults(|ledger| {
            ledger.accepted(1, vec![image("a")]);
            ledger.result("s", 1, 1, Ok(image("a")));
            ledger.result("s", 2, 1, Ok(image("a")));
        });
        assert!(twice[0].contains("a second result"), "{twice:?}");
        let gap = faults(|ledger| {
            ledger.accepted(1, vec![image("a")]);
            ledger.result("s", 2, 1, Ok(image("a")));
        });
        assert!(gap[0].contains("where 1 was next"), "{gap:?}");
        let wrong = faults(|ledger| {
            ledger.accepted(1, vec![image("a")]);
            ledger.result("s", 1, 1, Err("poison".into()));
        });
        assert!(wrong[0].contains("poison"), "{wrong:?}");
    }
}
