//! The keeper of the cache: the one process that writes the index, moves kept images to the disk, says how short memory is, and
//! gives back what nobody names any more. No frame waits for it: where it is dead, or slow, images are read where they lie,
//! and nothing new is remembered.
//!
//! | file | what it does |
//! |---|---|
//! | `keeper.rs` | what is due, and when |
//! | `books.rs` | what the index names, and what goes for it: one LRU-K a kind |
//! | `jobs.rs` | what frames in flight name; blocks that nobody names are given back |
//! | `pressure.rs` | how much memory and disk there is: tmpfs, cgroup, disk |
//! | `stairs.rs` | the level that is said: up at once, down after a while |
//! | `moves.rs` | images whose turn is last, moved to the disk |
//! | `audit.rs` | index and blocks compared; checksums verified, a slice at a time |
//! | `spilled.rs` | the files on disk: how much they take; those that nobody names, removed |
//! | `inbox.rs` | clients' files in tmpfs, removed for their age |
//! | `opened.rs` | when such a file was last opened |

mod audit;
#[cfg(test)]
mod bench;
mod books;
mod inbox;
mod jobs;
mod keeper;
mod moves;
mod opened;
mod pressure;
mod spilled;
mod stairs;

use std::{process::ExitCode, sync::atomic::Ordering, thread};

use framepipe_pipeline::{Exit, Process, log};

use crate::keeper::Keeper;

const ABOUT: &str = "framepipe-cache: the keeper of a pipeline's cache.";

fn main() -> ExitCode {
    let process = match Process::start(ABOUT) {
        Ok(process) => process,
        Err(exit) => return exit.into(),
    };
    let mut keeper = Keeper::open(&process);
    let this = thread::current();
    process.hear_commands(move |_| this.unpark());
    process.ready();
    while !process.stop.load(Ordering::Acquire) {
        process.entry().beat();
        thread::park_timeout(keeper.round()); // a stop ends it
    }
    log::end();
    Exit::Done.into()
}
