//! The framepipe-ingest process: opens, checks and copies clients' bytes.
//!
//! | file | what it holds |
//! |---|---|
//! | `source.rs` | a client's file: opened without trust, read once, compared with what was accepted |
//! | `stage.rs` | its step in the stage loop |

mod source;
mod stage;

use std::process::ExitCode;

use framepipe_pipeline::{STAGES, run_stage, stage_index};

fn main() -> ExitCode {
    let row = &STAGES[stage_index("ingest").expect("the stage table has this stage")];
    run_stage(row.about, stage::Ingest::open)
}
