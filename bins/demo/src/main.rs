//! The framepipe-demo process.

fn main() {}
