//! The framepipe-gateway process.

fn main() {}
