//! From an image's bytes to a tensor, and from boxes to crops: everything that framepipe does to pixels on the
//! CPU. Pure functions and reusable state; no files, no shared memory, no threads.
//!
//! | step | here | used by |
//! |---|---|---|
//! | what the bytes are, how large, which way up | [`probe()`], [`Header`], [`Limits`] | ingest, preprocess |
//! | bytes to upright RGB8 | [`Decoder`] | preprocess |
//! | some rows of a JPEG, or a part of it | [`JpegRows`], [`Region`] | no stage yet |
//! | pixels where they lie: decoded or raw | [`FrameView`], [`RawView`] | preprocess, attribute |
//! | planar video frames to RGB8 | [`YuvView`] | preprocess, attribute |
//! | pixels to the detector's tensor | [`Preprocessor`], [`InputSpec`] | preprocess |
//! | boxes to the boxes worth keeping | [`nms`](nms()), [`iou`], [`clamp_to`] | postprocess |
//! | a box's pixels to an attribute model's tensor | [`Cropper`], [`CropSpec`], [`crop_rect`] | attribute |
//!
//! Inside, [`Preprocessor`] and [`Cropper`] share one fused kernel (`sample.rs`): both are a rectangle of the
//! source, sampled bilinearly into a rectangle of the tensor (`placement.rs`).
//!
//! **Coordinates** are continuous, with pixel edges at the integers: pixel 0 spans 0 to 1, its centre is 0.5.

mod crop;
mod decode;
mod frame_view;
mod input;
mod limits;
mod nms;
mod placement;
mod probe;
mod resize;
mod sample;
mod yuv;

pub use crop::{CropShape, CropSpec, CropSpecError, Cropper, Rect, crop_rect};
pub use decode::{DecodeScale, Decoder, JpegRows, Region, ScalePolicy};
pub use frame_view::{FrameView, PixelOrder, RawView, ViewError};
pub use input::{Color, DataType, InputSpec, InputSpecError, Layout, ResizePolicy, SIDE_MAX};
pub use limits::Limits;
pub use nms::{clamp_to, iou, nms};
pub use probe::{Format, Header, JpegColor, probe};
pub use resize::Preprocessor;
pub use yuv::YuvView;
