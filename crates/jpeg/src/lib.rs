//! JPEG, row by row: libjpeg-turbo's own interface (jpeglib.h) behind a C shim.
//!
//! TurboJPEG's simpler interface gives whole images only. Here rows are asked for one after another, and those that
//! nobody needs are left out, as are columns outside a region; a warning is an error at once, but for stray bytes that
//! harm no pixel; scans and CPU time have bounds. Pixels are those that TurboJPEG gives with its defaults.
//!
//! | file | what it holds |
//! |---|---|
//! | `shim.c`, `shim.h` | the calls of libjpeg; its errors, warnings and progress |
//! | `shim.rs` | the shim's functions as Rust sees them |
//! | `decompressor.rs` | [`Decompressor`] and [`Rows`]: sizes, lifetimes and states, checked |
//!
//! This crate may use `unsafe` (it calls C); each block names its invariant. libjpeg's jumps out of an error stay
//! within C.

#![deny(missing_docs)]
#![allow(unsafe_code, reason = "calls C")]

mod decompressor;
mod shim;

pub use decompressor::{Decompressor, Options, Pixels, Report, Rows, Scale};

// Its build script builds libjpeg-turbo; named, so that it is linked.
use turbojpeg_sys as _;

/// Why there are no pixels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JpegError {
    /// Bytes are missing or wrong, in libjpeg's words.
    #[error("{0}")]
    Corrupt(String),
    /// The image has more scans than [`Options::scans_max`].
    #[error("more than {max} scans")]
    TooManyScans {
        /// The bound.
        max: u32,
    },
    /// The image took more CPU time than [`Options::cpu_ms_max`].
    #[error("more than {cpu_ms_max} ms of CPU time")]
    OutOfTime {
        /// The bound.
        cpu_ms_max: u32,
    },
    /// libjpeg got no memory.
    #[error("no memory for a JPEG")]
    Memory,
}
