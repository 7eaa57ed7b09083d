//! The framepipe-preprocess process: decodes, resizes, normalises.
//!
//! | file | what it holds |
//! |---|---|
//! | `jpegs.rs` | who decodes a JPEG, where there is a GPU |
//! | `on_gpu.rs` | the tensor made on a GPU |
//! | `stage.rs` | its step in the stage loop |
//! | `tensors.rs` | tensors that were made before |

mod jpegs;
mod on_gpu;
mod stage;
mod tensors;

use std::process::ExitCode;

use framepipe_pipeline::{STAGES, run_stage, stage_index};

fn main() -> ExitCode {
    let row = &STAGES[stage_index("preprocess").expect("the stage table has this stage")];
    run_stage(row.about, stage::Preprocess::open)
}
