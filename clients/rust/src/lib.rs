//! Rust client of framepipe, a vision-inference server for one host.
//!
//! ```no_run
//! use framepipe_client::{Client, PushRequest, ResultsOptions, StreamExt};
//!
//! # async fn first(jpeg: Vec<u8>) -> Result<(), framepipe_client::Error> {
//! let client = Client::connect("http://127.0.0.1:50051").await?; // or "unix:/run/framepipe/street/grpc.sock"
//! client.push(PushRequest::images([&jpeg]).names(["a.jpg"]).stream("cam-1")).await?;
//! let mut results = client.results("cam-1", ResultsOptions { until_drained: true, ..Default::default() });
//! while let Some(result) = results.next().await {
//!     println!("{:?}", result?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A map of the crate: `client` (the calls), `push` and `inbox` (what is pushed, and the file it travels in), `upload`,
//! `batches` (which frames are out, and when their file goes), `results` and `acknowledge` (the results, across
//! broken connections, and what the server may forget), `peer` (what is at an address that does not answer), `words` (results for people), `error`, `backoff`.

mod acknowledge;
mod backoff;
mod batches;
mod client;
mod error;
mod inbox;
mod peer;
mod push;
mod results;
mod upload;
pub mod words;

pub use batches::Batch;
pub use client::Client;
pub use error::Error;
pub use framepipe_proto::v1::{
    Attribute, Box as BoundingBox, Classification, Classifications, Detection, Detections, Embedding, ErrorCode,
    FrameError, FrameResult, Gap, Hold, Keypoint, Keypoints, Mask, PixelFormat, RawFrameFormat, StageTime, Text,
    attribute::Value, frame_result::Outcome,
};
pub use push::PushRequest;
pub use results::{Results, ResultsOptions};
pub use tokio_stream::{Stream, StreamExt};
