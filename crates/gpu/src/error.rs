//! What can go wrong with a GPU.

use std::path::PathBuf;

use cudarc::driver::{DriverError, result, sys::CUresult};

/// Why no GPU can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The driver's library is not there.
    #[error(
        "no GPU: NVIDIA's driver is not installed (libcuda.so.1 is not found): install it, or in a container give it the GPU \
         (`docker run --gpus all`); or use --device cpu"
    )]
    NoDriver,
    /// The driver's library cannot work.
    #[error(
        "no GPU: NVIDIA's driver does not start ({0}): look at `nvidia-smi` and `dmesg`; the kernel module may be missing or of \
         another version than the library; or use --device cpu"
    )]
    DriverFails(String),
    /// The driver is older than what the kernels need.
    #[error(
        "no GPU: NVIDIA's driver knows CUDA {}.{} and framepipe needs 12.0 (driver 525) or newer: update it, or use --device cpu",
        .0 / 1000, .0 % 1000 / 10
    )]
    DriverTooOld(i32),
    /// The driver sees no device.
    #[error(
        "no GPU: NVIDIA's driver sees none (look at CUDA_VISIBLE_DEVICES and `nvidia-smi -L`); or use --device cpu"
    )]
    NoDevice,
    /// The device that was asked for is not among them.
    #[error("no GPU {wanted}: there are {}; or use --device cpu", .there.join(", "))]
    NotThatOne {
        /// What was asked for.
        wanted: String,
        /// UUIDs of those there are.
        there: Vec<String>,
    },
    /// The device is older than the kernels.
    #[error(
        "no GPU: {name} has compute capability {major}.{minor}, and framepipe needs 7.5 (Turing, T4) or newer; use --device cpu"
    )]
    DeviceTooOld {
        /// The device's name.
        name: String,
        /// Its compute capability.
        major: i32,
        /// The part behind the point.
        minor: i32,
    },
}

/// A fault of a GPU, or of what it was asked to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GpuError {
    /// There is none to use.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The device has no memory left.
    #[error(
        "the GPU has no memory for {what}{}: lower batch_max, processes or [pools], or end what else uses it",
        .free.map_or(String::new(), |[free, total]| format!(" ({free} of {total} bytes are free)"))
    )]
    OutOfMemory {
        /// What was asked for.
        what: String,
        /// Bytes that are free, and that there are, where the device says so.
        free: Option<[usize; 2]>,
    },
    /// The host has no memory left that can be pinned.
    #[error(
        "this machine has no {bytes} bytes of memory to pin for the GPU: look at its memory limits, or lower batch_max or processes"
    )]
    NoPinnedMemory {
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// The device, or this process's part of it, cannot be used any more. The process has to end.
    #[error("the GPU is lost to this process: {call} says {what}")]
    Lost {
        /// The driver's function.
        call: &'static str,
        /// Its answer.
        what: String,
    },
    /// Another error of the driver.
    #[error("the GPU's driver: {call} says {what}")]
    Driver {
        /// The driver's function.
        call: &'static str,
        /// Its answer.
        what: String,
    },
    /// A model that cannot be run here.
    #[error("{}: {reason}", .file.display())]
    Model {
        /// Which.
        file: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// An argument that cannot be.
    #[error("{0}")]
    Argument(String),
}

/// What a call of the driver came to.
pub(crate) fn check<T>(call: &'static str, answer: Result<T, DriverError>) -> Result<T, GpuError> {
    answer.map_err(|error| {
        if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return out_of_memory(format!("what {call} needs"));
        }
        let what = describe(error);
        if is_lost(error.0) { GpuError::Lost { call, what } } else { GpuError::Driver { call, what } }
    })
}

/// That the device has no memory for this.
pub(crate) fn out_of_memory(what: String) -> GpuError {
    let free = result::mem_get_info().ok().map(|(free, total)| [free, total]); // none: there is not even a context yet
    GpuError::OutOfMemory { what, free }
}

/// The driver's name of an error, and its words.
pub(crate) fn describe(error: DriverError) -> String {
    let words = |answer: Result<&std::ffi::CStr, DriverError>| {
        answer.map_or_else(|_| format!("error {}", error.0 as u32), |text| text.to_string_lossy().into_owned())
    };
    format!("{} ({})", words(error.error_name()), words(error.error_string()))
}

/// True for answers after which every further call of this process gives the same one.
fn is_lost(answer: CUresult) -> bool {
    /// CUDA_ERROR_CONTAINED, which older drivers do not know.
    const CONTAINED: u32 = 226;
    use CUresult::*;
    if answer as u32 == CONTAINED {
        return true;
    }
    matches!(
        answer,
        CUDA_ERROR_DEINITIALIZED
            | CUDA_ERROR_DEVICE_UNAVAILABLE
            | CUDA_ERROR_ECC_UNCORRECTABLE
            | CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUDA_ERROR_ILLEGAL_ADDRESS
            | CUDA_ERROR_LAUNCH_TIMEOUT
            | CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUDA_ERROR_ASSERT
            | CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUDA_ERROR_MISALIGNED_ADDRESS
            | CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUDA_ERROR_INVALID_PC
            | CUDA_ERROR_LAUNCH_FAILED
            | CUDA_ERROR_MPS_CONNECTION_FAILED
            | CUDA_ERROR_MPS_RPC_FAILURE
            | CUDA_ERROR_MPS_SERVER_NOT_READY
            | CUDA_ERROR_MPS_CLIENT_TERMINATED
            | CUDA_ERROR_EXTERNAL_DEVICE
            | CUDA_ERROR_UNKNOWN
    )
}
