//! One hop between two processes, measured alike over framepipe's shared memory and its peers.
//!
//! A message of 128 bytes goes from a producer to a consumer, real processes on two CPUs. The **hop** is one way: the producer
//! reads CLOCK_MONOTONIC into the message, the room for which it has in hand, and sends it; the consumer has the message, has
//! compared all its bytes, and reads the clock again. What gives the room back comes after, and counts in throughput alone.
//!
//! One message is on its way at a time, and is sent when the consumer waits for it: where it spins, [`producer::SPIN_GAP`]
//! after it has said that it took the last one; where it is parked, once the kernel says that it sleeps, and
//! [`producer::PARKED_GAP`] have passed. Every peer says it with the same word of the same page ([`Control`]), which is no
//! part of the hop.
//!
//! **Throughput** is the consumer's time from the first message to the last, while the producer sends as fast as it may.
//!
//! | file | what it holds |
//! |---|---|
//! | `cases.rs` | the table of what is measured |
//! | `peers/` | one file a peer: its room, its send, its receive |
//! | `message.rs`, `control.rs` | the 128 bytes; the page by which the two processes keep in step |
//! | `producer.rs`, `consumer.rs` | the two ends of one measurement |
//! | `machine.rs` | CPUs, whether a process sleeps, what other processes took |
//! | `leftovers.rs` | what runs have in /dev/shm |
//! | `report.rs` | rounds become figures |
//! | `figures.rs` | the tests' own: a table for people, one flat JSON object |

pub mod cases;
pub mod consumer;
pub mod control;
#[path = "../../../tests/src/figures.rs"]
pub mod figures;
pub mod leftovers;
pub mod machine;
pub mod message;
pub mod peers;
pub mod producer;
pub mod report;

use std::path::Path;

pub use control::Control;

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("bench/hop lies two below the root")
}
