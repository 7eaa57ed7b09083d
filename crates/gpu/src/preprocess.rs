//! Frames that lie in the device's memory to tensors there, and boxes of them to crops: framepipe-vision's plans, run by
//! `kernels/preprocess.cu`. Which pixels a number is made of, and how much of each, is vision's own table; the kernel only sums.
//!
//! | file | what it holds |
//! |---|---|
//! | `view.rs` | [`DeviceView`]: where a frame's pixels lie, and which way up |
//! | `batch.rs` | what one launch reads, as the kernel lays it out |
//! | `sampler.rs` | the kernel, and the memory through which batches get to it |
//! | `frames.rs` | [`Preprocessor`]: whole frames |
//! | `crops.rs` | [`Cropper`]: what lies around detections |
//!
//! Nothing waits for the device, but for the copy of the batch before the last.

mod batch;
mod crops;
mod frames;
mod sampler;
mod view;

pub use crops::{Crop, Cropper};
pub use frames::{FrameTensor, Preprocessor};
pub use view::DeviceView;

#[cfg(test)]
mod tests;
