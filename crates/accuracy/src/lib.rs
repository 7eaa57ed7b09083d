//! Labelled images, and how well detections agree with them: pure, and quick to test.
//!
//! | file | what it holds |
//! |---|---|
//! | `labels.rs` | labels as they are meant, and what is wrong with those that cannot be read |
//! | `coco.rs` | COCO's JSON |
//! | `voc.rs` | a folder of Pascal VOC's XML |
//! | `precision.rs` | average precision, as COCO defines it |

mod coco;
mod labels;
mod precision;
mod voc;

pub use labels::{Counting, Labelled, Labels, LabelsError, Object};
pub use precision::{Accuracy, ClassAccuracy, DETECTIONS_MAX, Found, accuracy};
