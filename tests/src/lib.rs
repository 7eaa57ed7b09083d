//! Whole-system tests of framepipe.
