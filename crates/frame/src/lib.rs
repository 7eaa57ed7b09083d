//! The records that stages write for one another: what lies in a job's request, in its descriptor and in
//! its slots. Plain `repr(C)` data of fixed size, so that every process reads the same bytes; what another
//! process wrote is checked when it is read.
//!
//! | record | lies in | written by | read by |
//! |---|---|---|---|
//! | [`Request`] | the job's request part | gateway, before acceptance | every stage |
//! | [`Descriptor`] | the job's bank | each stage, at publish | the next stage, gateway |
//! | [`raw`] | the raw-output slot | detect | postprocess |
//! | [`detections`], [`masks`] | the detections slot | postprocess | attribute, gateway |
//! | [`attributes`] | the attributes slot | attribute | gateway |

pub mod attributes;
mod descriptor;
pub mod detections;
mod error;
pub mod masks;
pub mod raw;
mod request;
mod text;

pub use descriptor::{Descriptor, STAGE_COUNT_MAX, StageTimes, TensorMap};
pub use error::{ErrorCode, FrameError, RecordError};
pub use request::{
    KEY_BYTES_MAX, Kept, KeyRecord, NAME_BYTES_MAX, PATH_BYTES_MAX, RawFormat, RawFrame, Request, STREAM_BYTES_MAX,
    TraceParent,
};
pub use text::Text;
