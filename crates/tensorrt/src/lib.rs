//! TensorRT: a library that is looked for at run time, engines built from ONNX models, kept on disk, and run.
//!
//! | file | what it holds |
//! |---|---|
//! | `shim/shim.cpp` | TensorRT's C++ interface as C functions, compiled once for each major version |
//! | `shim/` | these functions as Rust sees them; without TensorRT's headers there are none |
//! | `dynamic.rs` | dlopen and dlsym |
//! | `driver.rs` | [`Driver`]: the proof that there is a CUDA driver and a GPU |
//! | `library.rs` | [`Library`]: found, its version understood |
//! | `log.rs` | what TensorRT says, handed on, and kept for errors |
//! | `runtime.rs` | [`Runtime`], [`Engine`], [`Context`]: a plan made ready, and run |
//! | `builder.rs` | [`BuildRequest`] to [`Plan`] |
//! | `shape.rs` | [`Shape`], [`Profile`]: sizes, checked |
//! | `cache.rs` | [`EngineCache`]: plans and timings on disk |
//! | `error.rs` | [`TrtError`] |
//!
//! Nothing of TensorRT is linked, and nothing of it is called before a [`Driver`] is there: without one it returns pointers to
//! nothing. This crate may use `unsafe` (it calls C++); each block names its invariant.

#![deny(missing_docs)]
#![allow(unsafe_code, reason = "calls C++")]

mod builder;
mod cache;
mod driver;
mod dynamic;
mod error;
mod library;
mod log;
mod runtime;
mod shape;
mod shim;

pub use builder::{BuildRequest, Plan, Precision};
pub use cache::{EngineCache, EngineKey, Entry, Gpu};
pub use driver::Driver;
pub use error::TrtError;
pub use library::{Library, Version};
pub use log::Severity;
pub use runtime::{Context, DataType, Engine, Mode, Runtime, Tensor};
pub use shape::{Profile, RANK_MAX, Shape};
