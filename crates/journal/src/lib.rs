//! The result journal: one append-only log a stream.
