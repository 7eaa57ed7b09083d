//! What can go wrong between a model file and its outputs.

use std::path::PathBuf;

use framepipe_frame::{ErrorCode, FrameError};

/// Why a model cannot be opened or run.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum InferError {
    /// The ONNX Runtime library is not there.
    #[error("there is no ONNX Runtime library at {path}: run scripts/setup, or name the path of libonnxruntime.so")]
    MissingLibrary {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The ONNX Runtime library cannot be loaded.
    #[error("cannot load the ONNX Runtime library {path}: {reason}. Run scripts/setup to fetch the right one")]
    Library {
        /// The library.
        path: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// A process can load one library only.
    #[error("cannot load {asked}: the process already uses {loaded}. Name the same library everywhere")]
    OtherLibrary {
        /// The library in use.
        loaded: PathBuf,
        /// The library asked for.
        asked: PathBuf,
    },
    /// A number of [`crate::Options`] that cannot be right.
    #[error("{option} = {value}: give 1 to {max}")]
    Option {
        /// Its name.
        option: &'static str,
        /// Its value.
        value: usize,
        /// Its largest value.
        max: usize,
    },
    /// The model file is not there.
    #[error("there is no model file {file}: run scripts/setup")]
    MissingModel {
        /// Where it was looked for.
        file: PathBuf,
    },
    /// The engine cannot make a session of the file.
    #[error(
        "cannot open the model {file}: {}. It must be an ONNX file of operators and an opset that ONNX Runtime has: export it \
         again, or fetch it again",
        reason.trim_end_matches(['.', '\n'])
    )]
    Open {
        /// The model file.
        file: PathBuf,
        /// The engine's words.
        reason: String,
    },
    /// A tensor that the model does not have.
    #[error("{file} has no {side} {tensor:?}, but {found}: correct the name in the manifest")]
    NoTensor {
        /// The model file.
        file: PathBuf,
        /// "input" or "output".
        side: &'static str,
        /// The name asked for.
        tensor: String,
        /// The names there are.
        found: String,
    },
    /// A model that wants more than one image tensor.
    #[error("{file} has several inputs, {found}: framepipe feeds one, so export the others as constants")]
    SeveralInputs {
        /// The model file.
        file: PathBuf,
        /// Their names.
        found: String,
    },
    /// A tensor of another type or shape than the manifest says.
    #[error(
        "{file}: the {side} {tensor:?} is {actual}, not {expected}: correct the manifest or export the model again"
    )]
    Contract {
        /// The model file.
        file: PathBuf,
        /// "input" or "output".
        side: &'static str,
        /// Its name.
        tensor: String,
        /// What the manifest makes of it.
        expected: String,
        /// What the model has.
        actual: String,
    },
    /// A batch that is empty, or larger than the model was opened for.
    #[error("a batch of {batch}: the model takes 1 to {batch_max}")]
    Batch {
        /// The batch.
        batch: usize,
        /// The largest.
        batch_max: usize,
    },
    /// Numbers of another type or count than the batch has.
    #[error("a batch of {batch} needs {expected}, got {actual}")]
    Samples {
        /// The batch.
        batch: usize,
        /// What it needs.
        expected: String,
        /// What it got.
        actual: String,
    },
    /// The engine failed, or put out something other than the model promised.
    #[error("{file}: the run failed: {reason}")]
    Run {
        /// The model file.
        file: PathBuf,
        /// The engine's words.
        reason: String,
    },
}

impl From<InferError> for FrameError {
    fn from(error: InferError) -> Self {
        FrameError::new(ErrorCode::Inference, error.to_string())
    }
}
