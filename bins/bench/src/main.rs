//! The framepipe-bench process.

fn main() {}
