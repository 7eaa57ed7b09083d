//! The framepipe-ingest process.

fn main() {}
