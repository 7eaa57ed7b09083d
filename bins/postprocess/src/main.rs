//! The framepipe-postprocess process: turns raw outputs into boxes.
//!
//! | file | what it holds |
//! |---|---|
//! | `stage.rs` | its step in the stage loop |

mod stage;

use std::process::ExitCode;

use framepipe_pipeline::{STAGES, run_stage, stage_index};

fn main() -> ExitCode {
    let row = &STAGES[stage_index("postprocess").expect("the stage table has this stage")];
    run_stage(row.about, stage::Postprocess::open)
}
