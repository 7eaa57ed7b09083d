//! What is said: a table for people, JSON for programs.

use std::fmt;

use serde::Serialize;

use crate::model::{Forecast, Machine, Part};

/// What comes out of the model, and of its check.
#[derive(Debug, Serialize)]
pub struct Report {
    pub pipeline: String,
    pub cores: u32,
    /// What each core beyond the first adds, as a part of the first; none: it was not measured.
    pub further_core: Option<f64>,
    pub gpu: Option<String>,
    pub image: ImageNote,
    pub crops: u32,
    /// Frames a second, expected.
    pub fps: f64,
    /// What binds, and what would next.
    pub binds: &'static str,
    pub next: &'static str,
    pub next_fps: f64,
    pub rows: Vec<Row>,
    /// Cores that keeper and launcher use, whatever frames come.
    pub upkeep_cores: f64,
    /// The command that starts it so.
    pub up: String,
    /// That it is a model, and of what.
    pub model: String,
    pub check: Option<Check>,
}

/// What frames are.
#[derive(Debug, Serialize)]
pub struct ImageNote {
    pub frames: &'static str,
    pub width: u32,
    pub height: u32,
    pub bytes: u64,
    pub decoded_megapixels: f64,
}

/// One kind of process.
#[derive(Debug, Serialize)]
pub struct Row {
    pub name: &'static str,
    /// None: as many as there are always.
    pub processes: Option<u32>,
    pub cpu_ms: f64,
    pub device_ms: f64,
    /// Of the CPU time of a frame.
    pub cpu_share: f64,
    /// Frames a second that it could do at most; none: it limits nothing.
    pub fps_max: Option<f64>,
}

/// What was measured with these numbers of processes.
#[derive(Debug, Serialize)]
pub struct Check {
    /// Frames a second.
    pub fps: f64,
    /// Part of the cores that other programs used meanwhile.
    pub others: f64,
    /// Frames a second that the model expects of what was left of them.
    pub expected: f64,
    /// The model's error, as a part of what was measured: above 0, it expected too many.
    pub error: f64,
}

impl Check {
    /// Compares.
    pub fn new(fps: f64, others: f64, forecast: f64) -> Self {
        let expected = forecast * (1.0 - others);
        Self { fps, others, expected, error: expected / fps - 1.0 }
    }
}

/// A row for each kind of process.
pub fn rows(parts: &[Part], forecast: &Forecast) -> Vec<Row> {
    let sum: f64 = parts.iter().map(|part| part.cpu_ms).sum();
    let mut processes = forecast.processes.iter().copied();
    let row = |part: &Part| Row {
        name: part.name,
        processes: if part.is_stage { processes.next() } else { None },
        cpu_ms: part.cpu_ms,
        device_ms: part.device_ms,
        cpu_share: if sum > 0.0 { part.cpu_ms / sum } else { 0.0 },
        fps_max: forecast.limits.iter().find(|limit| limit.what == part.name).map(|limit| limit.fps),
    };
    parts.iter().map(row).filter(|row| row.processes.is_some() || row.cpu_ms > 0.0).collect()
}

/// The line that is always there.
pub fn disclaimer(source: &str, of: Machine) -> String {
    let cores = match (of.cores, of.further_core) {
        (1, _) => String::new(),
        (_, Some(part)) => format!("; each further core counts as {part:.2} of the first"),
        (_, None) => "; each further core counts as the first, which was not measured".to_owned(),
    };
    format!("a model, not a measurement: costs of {source}{cores}; docs/plan.md says what it leaves out")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImageNote { frames, width, height, bytes, .. } = self.image;
        let gpu = self.gpu.as_ref().map(|gpu| format!(" and one {gpu}")).unwrap_or_default();
        let cores = if self.cores == 1 { "core" } else { "cores" };
        let crops = if self.crops == 1 { "crop" } else { "crops" };
        writeln!(
            f,
            "{} on {} {cores}{gpu}: {frames} frames of {width}x{height}, {} KiB, {} {crops}",
            self.pipeline,
            self.cores,
            bytes.div_ceil(1024),
            self.crops
        )?;
        let (fps, next_fps) = (Rate(self.fps), Rate(self.next_fps));
        writeln!(
            f,
            "expected {fps} frames/s; what binds: {}; the next limit: {}, at {next_fps}\n",
            self.binds, self.next
        )?;
        let has_gpu = self.rows.iter().any(|row| row.device_ms > 0.0);
        let gpu_title = if has_gpu { "   GPU ms" } else { "" };
        writeln!(
            f,
            "{:<12}{:>9}{:>9}{gpu_title}{:>12}{:>15}",
            "process", "count", "CPU ms", "CPU share", "at most fps"
        )?;
        for Row { name, processes, cpu_ms, device_ms, cpu_share, fps_max } in &self.rows {
            let count = processes.map_or_else(|| "1".to_owned(), |count| count.to_string());
            let gpu = if has_gpu { format!("{device_ms:>9.3}") } else { String::new() };
            let most = fps_max.filter(|most| most.is_finite()).map(|most| Rate(most).to_string()).unwrap_or("-".into());
            writeln!(f, "{name:<12}{count:>9}{cpu_ms:>9.2}{gpu}{:>10.1} %{most:>15}", cpu_share * 100.0)?;
        }
        if self.upkeep_cores > 0.0 {
            writeln!(f, "keeper and launcher use {:.4} of a core, whatever frames come", self.upkeep_cores)?;
        }
        writeln!(f, "\n{}\n\n{}", self.up, self.model)?;
        if let Some(Check { fps, others, expected, error }) = &self.check {
            writeln!(
                f,
                "\nmeasured {} frames/s, while other programs used {:.1} % of these cores; the model expects {} of the rest: error {:+.1} %",
                Rate(*fps),
                others * 100.0,
                Rate(*expected),
                error * 100.0
            )?;
        }
        Ok(())
    }
}

/// Three digits at least, and no more of them than mean something.
struct Rate(f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            rate if rate < 100.0 => write!(f, "{rate:.1}"),
            rate => write!(f, "{rate:.0}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_expects_what_others_left() {
        let check = Check::new(80.0, 0.1, 100.0);
        assert!((check.expected - 90.0).abs() < 1e-9 && (check.error - 0.125).abs() < 1e-9, "{check:?}");
    }

    #[test]
    fn it_always_says_that_it_is_a_model_and_what_further_cores_are_taken_for() {
        for (cores, further_core, words) in [
            (1, None, "(2026-01-01); docs/plan.md"),
            (2, Some(0.9), "each further core counts as 0.90 of the first;"),
            (2, None, "not measured;"),
        ] {
            let said = disclaimer("here (2026-01-01)", Machine { cores, further_core, upkeep_cores: 0.0 });
            assert!(said.starts_with("a model, not a measurement: costs of here (2026-01-01)"), "{said}");
            assert!(said.contains(words), "{said}");
        }
    }
}
