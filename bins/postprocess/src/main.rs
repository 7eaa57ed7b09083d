//! The framepipe-postprocess process.

fn main() {}
