//! NVIDIA GPUs, by the driver alone: no toolkit is needed to build this or to run it.
//!
//! | file | what it is |
//! |---|---|
//! | `gate` | whether there is a GPU that can be used, and which; nothing else here is reached without it |
//! | `device` | [`Device`]: one GPU of this process, and the stream on which all its work is ordered |
//! | `memory` | memory of the device, and memory of the host that it copies from and to |
//! | `module` | kernels, loaded from PTX that is part of this crate, and their launch |
//! | `slab` | memory of a device that processes share by a file descriptor |
//! | `ceilings` | what a device can do at most, measured |
//! | `event` | marks in the device's work, to wait for and to measure by |
//! | `preprocess` | [`Preprocessor`] and [`Cropper`]: framepipe-vision's plans, from frames in the device's memory to tensors there |
//! | `nvjpeg` | [`JpegDecoder`]: JPEGs decoded on the device, by NVIDIA's library |
//! | `stage` | what a pipeline's stage needs of all this |
//! | `upload` | frames of the host on their way to the device |
//! | `int8` | [`Int8Model`]: quantised ONNX graphs by kernels of our own |
//!
//! Nothing here panics on what a driver, a device or a model file does: every fault is a [`GpuError`].
//!
//! This crate may use `unsafe` (it calls the driver); each block names its invariant.

#![deny(missing_docs)]
#![allow(unsafe_code, reason = "calls the driver")]

mod ceilings;
mod device;
mod error;
mod event;
mod gate;
mod int8;

mod memory;
mod module;
mod nvjpeg;
mod preprocess;
mod slab;
mod stage;
mod upload;

pub use ceilings::Ceilings;
pub use device::Device;
pub use error::{GpuError, Unavailable};
pub use event::Event;
pub use gate::{Choice, Gpu, gpus};
pub use int8::Int8Model;

pub use memory::{Buffer, Pinned};
pub use module::{Function, Module};
pub use nvjpeg::{Backend, JpegDecoder, JpegFault, NvJpegError};
pub use preprocess::{Crop, Cropper, DeviceView, FrameTensor, Preprocessor};
pub use slab::Slab;
pub use stage::{StageDevice, frame_error, within_memory};
pub use upload::Upload;
