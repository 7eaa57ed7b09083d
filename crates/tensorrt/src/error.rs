//! What can go wrong between a model and its outputs on TensorRT.

use std::{io, path::PathBuf};

use crate::library::Version;

/// Why TensorRT cannot be used, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum TrtError {
    /// The build found no headers of TensorRT.
    #[error(
        "this build of framepipe cannot use TensorRT, because its headers were not there: run scripts/setup, then build again"
    )]
    NotBuilt,
    /// There is no TensorRT.
    #[error(
        "there is no TensorRT here (looked for {}): install TensorRT 10 or 11 for this CUDA version, from NVIDIA's Debian \
         packages (libnvinfer and libnvonnxparsers) or its Python wheel, and name the folder of libnvinfer.so", looked.join(", ")
    )]
    NotFound {
        /// Each file that was looked for, and the loader's words.
        looked: Vec<String>,
    },
    /// A library is there that cannot be loaded.
    #[error("cannot load {path}: {reason}. Install TensorRT again, for this machine")]
    CannotLoad {
        /// The library.
        path: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// A library that is loaded is not TensorRT's.
    #[error(
        "{path} is not TensorRT's libnvinfer: it lacks {symbol}. Name the folder of libnvinfer.so.10 or libnvinfer.so.11"
    )]
    NotTensorRt {
        /// The library.
        path: PathBuf,
        /// What it lacks.
        symbol: &'static str,
    },
    /// A TensorRT of another major version.
    #[error("{path} is TensorRT {found}, and this build understands 10 and 11: install one of these")]
    OtherVersion {
        /// The library.
        path: PathBuf,
        /// Its version.
        found: Version,
    },
    /// There is no CUDA driver, or it sees no GPU.
    #[error(
        "there is no GPU to run TensorRT on: {reason}. Install NVIDIA's driver, or give the container its GPUs; `nvidia-smi` \
         must list one"
    )]
    NoDriver {
        /// What was asked, and the answer.
        reason: String,
    },
    /// The library runs engines, but makes none.
    #[error(
        "TensorRT {version} can build no engine here: {reason}. Install the whole of TensorRT, with libnvonnxparser"
    )]
    CannotBuild {
        /// The library's version.
        version: Version,
        /// What is missing.
        reason: String,
    },
    /// FP16 by flag, which only TensorRT 10 knows.
    #[error(
        "TensorRT {version} takes a model's precision from the model alone: convert it to FP16, and ask for the precision of the \
         model; or install TensorRT 10"
    )]
    Fp16Flag {
        /// The library's version.
        version: Version,
    },
    /// A shape that TensorRT cannot have.
    #[error("{sizes:?} is no shape: give 8 sizes at most, each 0 or more, or -1 where it is not fixed")]
    Shape {
        /// Its sizes.
        sizes: Vec<i64>,
    },
    /// Shapes that are no profile.
    #[error(
        "shapes {shapes} are no profile of input {input:?}: give sizes of 1 or more, as many each time, \
         none of which shrinks"
    )]
    Profile {
        /// The input's name.
        input: String,
        /// From the smallest to the largest.
        shapes: String,
    },
    /// A tensor that the engine does not have.
    #[error("there is no tensor {index}: the engine has {count}")]
    NoTensor {
        /// The index asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// TensorRT did not do it.
    #[error("TensorRT cannot {what}{}{}", if lines.is_empty() { "" } else { "; it says: " }, lines.join(" | "))]
    Refused {
        /// What it was asked, with what to do about it where one can know.
        what: &'static str,
        /// Its warnings and errors meanwhile, the last ones.
        lines: Vec<String>,
    },
    /// The cache of engines cannot be used.
    #[error(
        "the engine cache cannot use {path}: {source}. Make its folder one that framepipe may write, with room for engines"
    )]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}
