//! The result journal: one append-only, checksummed log a stream.
//!
//! A result belongs to (run, frame) and gets the next sequence of its stream, without gaps. It passes
//! through four steps, and a process that is killed between any two of them loses and repeats nothing:
//! 1. [`Journals::reserve`] at acceptance: from then on the result has room in the books; where another program
//!    fills the disk all the same, its append fails and is repeated;
//! 2. [`Journals::append`]: the record is in the page cache, so that it outlives the process;
//! 3. the gateway frees the job, and then calls [`Journals::publish`]: readers see the record. A record can only
//!    be acknowledged, and so forgotten, once its job is free: whoever opens the journal after a death finds the
//!    record of every finished job that was appended and not freed by [`Journals::contains`];
//! 4. [`Journals::acknowledge`]: the record is forgotten.
//!
//! After [`Journals::open`] nothing is visible: the new gateway first frees the jobs whose results are here, takes
//! [`Journals::reserve_accepted`] for those in flight, and then publishes every stream.
//!
//! A stream begins with sequence 1, or, once idle streams were dropped to make room, behind the last sequence of all of
//! them (the *floor*): a name that comes back never repeats a sequence, so that a reader who resumes it with a position
//! from before acknowledges nothing that it never read.
//!
//! It holds for the death of the process at any instruction, not for power loss: nothing calls fsync. Exactly one
//! process opens a journal (a lock says so). In it, [`Journals`] wants `&mut self` and belongs behind one mutex: an
//! append is one write, a read one read a record, both from the page cache, so that no one waits long for it.
//!
//! Where things are:
//! - `journals.rs`: the directory, the table of streams, and which frames are kept;
//! - `lock.rs`: one process a journal;
//! - `memory.rs`: the part of it in tmpfs, and its budget;
//! - `stream.rs`: one stream: append, publish, read, acknowledge, reserve;
//! - `recover.rs`: a stream's folder as a dead process left it;
//! - `segment.rs`, `record.rs`, `position.rs`: the format on disk, each at its top;
//! - `id.rs`, `options.rs`, `report.rs`, `error.rs`: the types at the edge.
//!
//! ```text
//! DIR/lock                                    held by the process that has the journal open; names its pid
//! DIR/floor                                   the last sequence that a dropped stream may have given out
//! DIR/streams/ID/00000000000000000001.log     segments, named by the first sequence that they may hold
//! DIR/streams/ID/acknowledged                 the sequence up to which readers have acknowledged
//! DIR/streams/ID/dropped                      the sequence up to which records were dropped for their age, if any were
//! MEMORY/ID/00000000000000000001.log          segments within the memory's budget
//! MEMORY/owner                                names DIR
//! DIR/streams/.partial-ID/                    a stream half made or half removed; gone after the next open
//! ```
//!
//! A segment begins in memory (a folder in tmpfs) while the budget there lasts, and on disk otherwise; records stay where they
//! are. [`Journals::close`] moves what is in memory to the disk; after a death it stays there for the next opening.
//!
//! Bounds: [`Options`]. On disk a stream holds at most its kept records and two segments' bytes of acknowledged
//! ones. In memory it holds about 100 bytes a kept record. One file descriptor a stream stays open.

mod error;
mod id;
mod journals;
mod lock;
mod memory;
mod options;
mod position;
mod record;
mod recover;
mod report;
mod segment;
mod stream;

pub use error::JournalError;
pub use id::{STREAM_ID_BYTES_MAX, StreamId, StreamIdError};
pub use journals::Journals;
pub use options::{Options, RESULT_BYTES_LIMIT, SEGMENT_BYTES_LIMIT};
pub use report::{Cut, Damage, OpenReport};
pub use stream::{Kept, Record, Totals};
