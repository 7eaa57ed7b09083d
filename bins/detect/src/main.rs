//! The framepipe-detect process: runs the detector on batches of tensors.
//!
//! | file | what it holds |
//! |---|---|
//! | `engine.rs` | what runs the detector, on the CPU or on a GPU |
//! | `gather.rs` | several tensors as one batch |
//! | `stage.rs` | its step in the stage loop |

mod engine;
mod gather;
mod stage;

use std::process::ExitCode;

use framepipe_pipeline::{STAGES, run_stage, stage_index};

fn main() -> ExitCode {
    let row = &STAGES[stage_index("detect").expect("the stage table has this stage")];
    run_stage(row.about, stage::Detect::open)
}
