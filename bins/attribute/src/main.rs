//! The framepipe-attribute process: crops each object and runs the attribute models.
//!
//! | file | what it holds |
//! |---|---|
//! | `backend.rs` | what makes crops and runs models, on the CPU or on a GPU |
//! | `crops.rs` | which detections are cropped for which models, and where their entries go |
//! | `model.rs` | one attribute model with the crops that wait for its next run |
//! | `pixels.rs` | where a frame's pixels lie |
//! | `waiting.rs` | crops of several frames that wait for one model's next run |
//! | `stage.rs` | its step in the stage loop |

mod backend;
mod crops;
mod model;
mod pixels;
mod stage;
mod waiting;

use std::process::ExitCode;

use framepipe_pipeline::{STAGES, run_stage, stage_index};

fn main() -> ExitCode {
    let row = &STAGES[stage_index("attribute").expect("the stage table has this stage")];
    run_stage(row.about, stage::Attribute::open)
}
