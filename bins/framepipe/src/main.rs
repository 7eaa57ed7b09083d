//! The launcher and command line of framepipe.

fn main() {}
