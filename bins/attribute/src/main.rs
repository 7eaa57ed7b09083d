//! The framepipe-attribute process.

fn main() {}
