//! What the acceptance found, as JSON and as Markdown.

use std::{fmt, fs, path::Path};

use anyhow::Context as _;
use framepipe_gpu::{Ceilings, Gpu};
use serde::Serialize;

use super::{
    models::Model,
    pipeline::{Run, TARGETS, Target},
    preprocess::{Difference, Preprocess, Row},
    slabs::Slabs,
};

#[derive(Serialize)]
pub struct Report {
    pub version: &'static str,
    pub gpu: String,
    pub compute_capability: String,
    pub multiprocessors: u32,
    pub memory_bytes: usize,
    /// 10^12 multiply-accumulates of INT8 in a second.
    pub int8_tmacs: f64,
    /// 10^9 bytes in a second, read and written.
    pub device_gbs: f64,
    pub host_to_device_gbs: f64,
    pub device_to_host_gbs: f64,
    pub slabs: Option<Slabs>,
    pub models: Vec<Model>,
    pub preprocess: Option<Preprocess>,
    pub pipeline: Vec<Run>,
}

impl Report {
    pub fn new(gpu: &Gpu, ceilings: &Ceilings) -> Self {
        let (major, minor) = gpu.compute_capability;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            gpu: gpu.name.clone(),
            compute_capability: format!("{major}.{minor}"),
            multiprocessors: gpu.multiprocessors,
            memory_bytes: gpu.memory_bytes,
            int8_tmacs: ceilings.int8_macs / 1e12,
            device_gbs: ceilings.device_bytes / 1e9,
            host_to_device_gbs: ceilings.host_to_device_bytes / 1e9,
            device_to_host_gbs: ceilings.device_to_host_bytes / 1e9,
            slabs: None,
            models: Vec::new(),
            preprocess: None,
            pipeline: Vec::new(),
        }
    }

    /// True for the GPU that the targets are for.
    pub fn is_t4(&self) -> bool {
        self.gpu.ends_with("T4")
    }

    /// What a T4 has to reach, as far as it was measured: the better of the two ways to share the GPU.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        TARGETS.into_iter().filter_map(|(crops, least)| {
            let raw = self.pipeline.iter().filter(|run| run.way.is_raw() && run.crops == crops);
            let found = raw.filter_map(|run| Some(run.measured.as_ref()?.fps)).reduce(f64::max)?;
            Some(Target { crops, least, found })
        })
    }

    /// Writes what there is by now into a folder.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())
        };
        write("report.json", serde_json::to_string_pretty(self)?)?;
        write("report.md", self.to_string())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# {}\n", self.gpu)?;
        let (gpu, mib) = (&self.compute_capability, self.memory_bytes >> 20);
        writeln!(
            f,
            "Compute capability {gpu}, {} multiprocessors, {mib} MiB; framepipe {}.\n",
            self.multiprocessors, self.version
        )?;
        writeln!(f, "| what it can do at most, measured | |\n|---|---|")?;
        writeln!(f, "| INT8 products (`mma.sync` from registers) | {:.1} TMAC/s |", self.int8_tmacs)?;
        writeln!(f, "| copy within its memory, read and written | {:.0} GB/s |", self.device_gbs)?;
        writeln!(f, "| from pinned memory | {:.1} GB/s |", self.host_to_device_gbs)?;
        writeln!(f, "| to pinned memory | {:.1} GB/s |\n", self.device_to_host_gbs)?;
        if let Some(slabs) = &self.slabs {
            writeln!(
                f,
                "A slab of {} MiB was made by a process that ended ({:.0} ms), filled by one that was killed while it wrote on, \
                 and found whole by a third. {} times a tensor of 2 MiB was written by one process and found whole by another, \
                 in {:.0} us each.\n",
                slabs.bytes >> 20,
                slabs.made_ms,
                slabs.handed_over,
                slabs.hand_over_us
            )?;
        }
        for model in &self.models {
            match &model.refused {
                Some(reason) => writeln!(f, "**{}** does not run on the GPU: {reason}\n", model.name)?,
                None => model.fmt(f)?,
            }
        }
        if let Some(preprocess) = &self.preprocess {
            preprocess.fmt(f)?;
        }
        if !self.pipeline.is_empty() {
            writeln!(f, "The whole pipeline, from files in tmpfs to results over gRPC:\n")?;
            writeln!(
                f,
                "| frames | crops a frame | frames a second | rounds | latency p50, p99, ms | CPU ms a frame, by stage |\n|---|---|---|---|---|---|"
            )?;
            self.pipeline.iter().try_for_each(|run| run.fmt(f))?;
            writeln!(f, "\n{}:\n", if self.is_t4() { "Wanted of a T4" } else { "Wanted of a T4, which this is not" })?;
            for target in self.targets() {
                writeln!(f, "- {}: {target}", if target.is_met() { "met" } else { "missed" })?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "**{}**: {:.2} GMAC, {} MiB of the GPU's memory, opened in {:.1} s; least cosine with the CPU's outputs {:.6}.\n",
            self.name,
            self.gmacs,
            self.device_bytes >> 20,
            self.open_s,
            self.cosine
        )?;
        writeln!(f, "| batch | a second | rounds | one batch, ms | of the INT8 limit |\n|---|---|---|---|---|")?;
        for rate in &self.rates {
            writeln!(
                f,
                "| {} | {:.0} | {:.0} to {:.0} | {:.3} | {:.3} |",
                rate.batch, rate.per_second, rate.from, rate.to, rate.batch_ms, rate.of_ceiling
            )?;
        }
        writeln!(f)?;
        if !self.slowest.is_empty() {
            writeln!(f, "Its slowest launches in the largest batch, each by itself:\n\n| | ms |\n|---|---|")?;
            self.slowest.iter().try_for_each(|(what, milliseconds)| writeln!(f, "| {what} | {milliseconds:.3} |"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "From images to tensors; the image is a JPEG of 1920x1080, {} bytes:\n", self.jpeg_bytes)?;
        writeln!(f, "| | | CPU ms each |\n|---|---|---|")?;
        for Row { what, value, unit, cpu_ms } in &self.rows {
            let cpu_ms = cpu_ms.map_or(String::new(), |ms| format!("{ms:.2}"));
            writeln!(f, "| {what} | {value:.1} {unit} | {cpu_ms} |")?;
        }
        writeln!(f, "\n| grey levels off the CPU's | largest | mean |\n|---|---|---|")?;
        for Difference { what, largest, mean, .. } in &self.differences {
            writeln!(f, "| {what} | {largest:.3} | {mean:.4} |")?;
        }
        for why in &self.no_nvjpeg {
            writeln!(f, "\nNo figures of nvJPEG, {why}")?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { way, crops, measured, refused } = self;
        let Some(measured) = measured else {
            return writeln!(f, "| {way} | {crops} | not measured: {} | | | |", refused.as_deref().unwrap_or_default());
        };
        let rounds: Vec<String> = measured.rounds.iter().map(|fps| format!("{fps:.0}")).collect();
        let cpu: Vec<String> = measured.cpu_ms_per_frame.iter().map(|(stage, ms)| format!("{stage} {ms:.2}")).collect();
        writeln!(
            f,
            "| {way} | {} | {:.0} | {} | {:.1}, {:.1} | {} |",
            crops,
            measured.fps,
            rounds.join(", "),
            measured.latency_p50_ms,
            measured.latency_p99_ms,
            cpu.join(", ")
        )
    }
}
