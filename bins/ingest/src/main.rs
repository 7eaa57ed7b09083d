//! The framepipe-ingest process: opens, checks and copies clients' bytes. Its step in the stage loop is `stage.rs`.

mod stage;

use std::process::ExitCode;

use framepipe_pipeline::{STAGES, run_stage, stage_index};

fn main() -> ExitCode {
    let row = &STAGES[stage_index("ingest").expect("the stage table has this stage")];
    run_stage(row.about, stage::Ingest::open)
}
