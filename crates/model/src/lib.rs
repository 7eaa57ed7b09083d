//! Model manifests and families: what a model file is, and what its raw numbers mean. No inference engine here.
//!
//! | module | what it is |
//! |---|---|
//! | `manifest` | `manifest.toml`, read, checked and compared with its model file |
//! | `detector` | from raw outputs to candidate boxes, one file a head, one table that names them |
//! | `activation` | from logits to scores |
//! | `attributes` | from raw outputs to classes, numbers, embeddings, points and text, one file a kind, one table that names them |
//!
//! A new detector family is one file in `detector/` and one row in [`detector::HeadSpec`]; a new kind of attribute one in
//! `attributes/` and one in [`OutputKind`].

mod activation;
pub mod attributes;
pub mod detector;
mod manifest;
mod model_ref;

pub use activation::Activation;
pub use attributes::{AttributeHead, AttributesSpec, OutputKind, OutputSpec, Turner};
pub use detector::{Detector, DetectorSpec};
pub use manifest::{AGREEMENT_MIN, MANIFEST_FILE, Manifest, ManifestError, Measure, Quantized, Target, Task};
pub use model_ref::{ModelRef, ModelRefError};
