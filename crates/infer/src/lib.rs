//! Inference backends: a model file, tensors in, tensors out.
//!
//! | file | what it is |
//! |---|---|
//! | `runtime` | the ONNX Runtime library, loaded once a process |
//! | `contract` | what a caller expects of a model, compared with the model when it is opened |
//! | `cpu` | [`CpuModel`]: a model on CPU threads |
//! | `graph_cache` | optimised graphs on disk |
//! | `describe` | what a model file says of itself |
//! | `outputs` | what a run put out, as f32: lent without a copy, or converted and filled up |
//! | `retry` | a batch that fails is run again, one by one |
//!
//! Nothing here panics on what a model file or the engine does: every fault is an [`InferError`].

mod contract;
mod cpu;
mod describe;
mod error;
mod graph_cache;
mod outputs;
mod retry;
mod runtime;

pub use cpu::{CpuModel, ModelFile, Options, Samples};
pub use describe::{Description, Tensor};
pub use error::InferError;
pub use outputs::Outputs;
pub use retry::run_or_each_alone;
pub use runtime::Runtime;
