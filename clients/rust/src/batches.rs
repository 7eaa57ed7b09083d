//! Which frames this client pushed and has no result of yet, and when their file may go.
//!
//! A blob is deleted when the last result of its batch has been received: the server reads a frame's bytes before it
//! answers. The blobs of unread frames stay, also when the client is dropped or dies: the server reads them later.
//!
//! Pushes and results may run at once, so a result can come before its push has returned.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::inbox::Blob;

/// An accepted push: its frames are numbered `first_frame`, `first_frame + 1`, … in the order of the images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The stream that takes the results.
    pub stream: String,
    /// Number of the first frame.
    pub first_frame: u64,
    /// Frames accepted: all of the batch.
    pub accepted: u32,
    /// The file in the inbox that holds them; `None` where the server reads the caller's own files.
    pub blob: Option<PathBuf>,
}

/// The blobs with frames whose results are still out.
#[derive(Debug, Default)]
pub struct Batches {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// Batches by their age; a frame leads to its batch.
    out: HashMap<u64, Out>,
    frames: HashMap<u64, u64>,
    age: u64,
    /// Calls of PushData under way, each with the newest frame known to be accepted when it began: its frames follow that
    /// one. And the frames that none of the known batches holds, received meanwhile.
    pushing: HashMap<u64, u64>,
    pushes: u64,
    newest: u64,
    early: HashSet<u64>,
    unconfirmed: HashMap<String, Blob>,
}

#[derive(Debug)]
struct Out {
    stream: String,
    blob: Blob,
    frames: HashSet<u64>,
}

/// A call of PushData is under way: results of its frames may come before it returns.
pub struct Pushing<'a>(&'a Batches, u64);

impl Drop for Pushing<'_> {
    fn drop(&mut self) {
        let mut books = self.0.books();
        books.pushing.remove(&self.1);
        match books.pushing.values().min().copied() {
            None => books.early.clear(),
            Some(least) => books.early.retain(|frame| *frame > least),
        }
    }
}

impl Batches {
    pub fn pushing(&self) -> Pushing<'_> {
        let mut books = self.books();
        books.pushes += 1;
        let (push, newest) = (books.pushes, books.newest);
        books.pushing.insert(push, newest);
        Pushing(self, push)
    }

    /// The server accepted a batch that lies in `blob`.
    pub fn accepted(&self, batch: &Batch, blob: Blob) {
        let mut books = self.books();
        books.age += 1;
        books.newest = frames_of(batch).last().map_or(books.newest, |last| last.max(books.newest));
        let age = books.age;
        let frames = frames_of(batch).filter(|frame| !books.early.contains(frame)).collect::<HashSet<_>>();
        books.frames.extend(frames.iter().map(|&frame| (frame, age)));
        let done = frames.is_empty();
        books.out.insert(age, Out { stream: batch.stream.clone(), blob, frames });
        if done {
            books.forget(age);
        }
    }

    /// The result of a frame is here; the last one of a batch deletes the blob. Repeats change nothing.
    pub fn received(&self, frame: u64) {
        let mut books = self.books();
        let Some(age) = books.frames.remove(&frame) else {
            if !books.pushing.is_empty() {
                books.early.insert(frame);
            }
            return;
        };
        let out = books.out.get_mut(&age).expect("a frame leads to a batch that is out");
        out.frames.remove(&frame);
        if out.frames.is_empty() {
            books.forget(age);
        }
    }

    /// The moment for `drained`: batches accepted up to here.
    pub fn now(&self) -> u64 {
        self.books().age
    }

    /// No result of the stream's batches accepted up to `until` can come any more: their blobs go.
    pub fn drained(&self, stream: &str, until: u64) {
        let mut books = self.books();
        let over = |(&age, out): (&u64, &Out)| (age <= until && out.stream == stream).then_some(age);
        let ages: Vec<u64> = books.out.iter().filter_map(over).collect();
        for age in ages {
            books.forget(age);
        }
    }

    /// Another reader has received the results of a batch: its blob goes.
    pub fn release(&self, batch: &Batch) {
        let mut books = self.books();
        if let Some(age) = frames_of(batch).find_map(|frame| books.frames.get(&frame).copied()) {
            books.forget(age);
        }
    }

    /// A push failed in a way that leaves open whether it was accepted: its blob waits for the retry.
    pub fn keep_unconfirmed(&self, key: String, blob: Blob) {
        self.books().unconfirmed.insert(key, blob);
    }

    /// The blob of an earlier push with this key, to be pushed again.
    pub fn take_unconfirmed(&self, key: &str) -> Option<Blob> {
        self.books().unconfirmed.remove(key)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Every change is complete before anything in it can panic.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Takes a batch off the books and deletes its blob.
    fn forget(&mut self, age: u64) {
        if let Some(out) = self.out.remove(&age) {
            for frame in &out.frames {
                self.frames.remove(frame);
            }
            // What cannot be deleted is left to who cleans the inbox: the results are not wrong for it.
            let _ = out.blob.delete();
        }
    }
}

fn frames_of(batch: &Batch) -> impl Iterator<Item = u64> {
    batch.first_frame..batch.first_frame + u64::from(batch.accepted)
}
