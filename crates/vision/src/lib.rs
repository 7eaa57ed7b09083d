//! From an image's bytes to a tensor, and from boxes to crops: everything that framepipe does to pixels on the
//! CPU. Pure functions and reusable state; no files, no shared memory, no threads.
//!
//! | step | here | used by |
//! |---|---|---|
//! | what is done to an image, checked and compiled | [`graph`], [`Plan`] | every user of a model |
//! | what the bytes are, how large, which way up | [`probe()`], [`Header`], [`Limits`] | ingest, preprocess |
//! | bytes to RGB8 | [`Decoder`] | preprocess |
//! | some rows of a JPEG, or a part of it | [`JpegRows`], [`Region`] | preprocess, attribute |
//! | pixels where they lie: decoded or raw | [`FrameView`], [`RawView`], [`Rows`] | preprocess, attribute |
//! | planar video frames to RGB8 | [`YuvView`] | preprocess, attribute |
//! | pixels to the detector's tensor | [`Preprocessor`] | preprocess |
//! | boxes to the boxes worth keeping | [`nms`](nms()), [`iou`], [`clamp_to`] | model |
//! | a box's mask to its pixels | [`paste_mask`], [`Window`] | model |
//! | a box's pixels to an attribute model's tensor | [`Cropper`], [`crop_rect`] | attribute |
//! | the same passes as tables | [`Plan::sample_frame`], [`Plan::sample_crop`], [`Plan::mix`] | gpu |
//! | a graph's operators one by one | [`graph::steps`] | inspect |
//!
//! Inside, [`Preprocessor`] and [`Cropper`] share one fused kernel (`sample.rs`): both are a rectangle of the
//! source, sampled into a rectangle of the tensor (`aim.rs`).
//!
//! **Coordinates** are continuous, with pixel edges at the integers: pixel 0 spans 0 to 1, its centre is 0.5.

mod aim;
mod crop;
mod decode;
mod frame_view;
#[cfg(any(test, feature = "generators"))]
pub mod generate;
pub mod graph;
mod limits;
mod mask;
mod nms;
mod probe;
mod region;
mod resize;
mod rows;
mod sample;
mod yuv;

pub use crop::{CropShape, CropSpec, Cropper, Rect, crop_rect};
pub use decode::{DecodeScale, Decoder, JpegRows, ScalePolicy, upright_steps};
pub use frame_view::{FrameView, PixelOrder, RawView, ViewError};
pub use graph::{DataType, Graph, GraphError, Input, InputSpec, Layout, Plan};
pub use limits::Limits;
pub use mask::{Window, paste as paste_mask};
pub use nms::{clamp_to, iou, nms};
pub use probe::{Format, Header, JpegColor, probe};
pub use region::Region;
pub use resize::Preprocessor;
pub use rows::Rows;
pub use sample::{Kernel, Mix, SampleTables, Sampling, Span};
pub use yuv::YuvView;
