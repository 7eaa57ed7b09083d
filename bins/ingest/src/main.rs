//! The framepipe-ingest process: opens, checks and copies clients' bytes.
//!
//! | file | what it holds |
//! |---|---|
//! | `lookup.rs` | what is known of an image by its content |
//! | `stage.rs` | its step in the stage loop |

mod lookup;
mod stage;

use std::process::ExitCode;

use framepipe_pipeline::{STAGES, run_stage, stage_index};

fn main() -> ExitCode {
    let row = &STAGES[stage_index("ingest").expect("the stage table has this stage")];
    run_stage(row.about, stage::Ingest::open)
}
