//! The framepipe-preprocess process.

fn main() {}
