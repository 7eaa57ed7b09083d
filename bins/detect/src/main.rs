//! The framepipe-detect process.

fn main() {}
