//! What the cores could do at most: scripts/peak_int8.c, once on each core that the engine uses, at once.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

/// Multiply-accumulates per second, in 10^9, of `cores` cores together.
pub fn measure(program: &Path, cores: u32) -> anyhow::Result<f64> {
    let start = |_| {
        let program = Command::new(program).stdout(Stdio::piped()).spawn();
        program.context("cannot start the program that measures the INT8 limit")
    };
    let children = (0..cores).map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let mut sum = 0.0;
    for child in children {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "the program that measures the INT8 limit ended with {}", output.status);
        let words = String::from_utf8_lossy(&output.stdout);
        let of_core: f64 = words.trim().parse().with_context(|| format!("the INT8 limit {:?}", words.trim()))?;
        sum += of_core;
    }
    Ok(sum)
}
