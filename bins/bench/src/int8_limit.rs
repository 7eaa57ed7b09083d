//! What the cores could do at most: scripts/peak_int8.c, once on each core that the engine uses, at once.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

/// What the cores could do at most.
pub struct Int8Limit {
    /// Multiply-accumulates a second, in 10^9, of all cores together.
    pub gmac_per_s: f64,
    /// The instructions that reach it.
    pub instructions: String,
}

/// Asks the program on `cores` cores at once.
pub fn measure(program: &Path, cores: u32) -> anyhow::Result<Int8Limit> {
    let start = |_| {
        let program = Command::new(program).stdout(Stdio::piped()).spawn();
        program.context("cannot start the program that measures the INT8 limit")
    };
    let children = (0..cores).map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let mut limit = Int8Limit { gmac_per_s: 0.0, instructions: String::new() };
    for child in children {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "the program that measures the INT8 limit ended with {}", output.status);
        let line = String::from_utf8_lossy(&output.stdout);
        let (of_core, instructions) =
            line.trim().split_once(' ').with_context(|| format!("the INT8 limit {line:?}"))?;
        limit.gmac_per_s += of_core.parse::<f64>().with_context(|| format!("the INT8 limit {line:?}"))?;
        limit.instructions = instructions.to_owned();
    }
    Ok(limit)
}
