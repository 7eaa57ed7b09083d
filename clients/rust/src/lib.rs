//! Rust client of framepipe.
