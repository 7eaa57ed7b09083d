//! Models on the GPU alone: what they say against the CPU, and how fast they are.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use framepipe_gpu::{Ceilings, Device, GpuError, Int8Model};
use framepipe_infer::{CpuModel, ModelFile, Options, Runtime, Samples};
use framepipe_model::{AttributeHead, Detector, Manifest};
use framepipe_pipeline::{Config, Plan};
use serde::Serialize;

/// Least cosine of an output and the CPU's.
const COSINE_MIN: f64 = 0.999;
/// Samples that are compared.
const COMPARED: usize = 4;
const MEASURED: Duration = Duration::from_millis(300);
const ROUNDS: usize = 5;
/// Launches that are told.
const SLOWEST: usize = 12;

/// What came of one model.
#[derive(Serialize)]
pub struct Model {
    pub name: String,
    /// Why it does not run on the GPU.
    pub refused: Option<String>,
    /// 10^9 multiply-accumulates of a sample.
    pub gmacs: f64,
    /// Bytes of the device's memory that it takes, with room for its largest batch.
    pub device_bytes: usize,
    /// Seconds to open it: kernels compiled and chosen, launches recorded.
    pub open_s: f64,
    /// Least cosine of an output of a sample with the CPU's.
    pub cosine: f64,
    pub rates: Vec<Rate>,
    /// The slowest launches of the largest batch: what each does, and the milliseconds that it takes by itself.
    pub slowest: Vec<(String, f32)>,
}

/// How fast it is in batches of one size.
#[derive(Serialize)]
pub struct Rate {
    pub batch: usize,
    /// Samples in a second, the median of several rounds, input in the device's memory, outputs copied to the host.
    pub per_second: f64,
    /// The lowest and the highest round.
    pub from: f64,
    pub to: f64,
    /// Milliseconds of one batch alone, waited for.
    pub batch_ms: f64,
    /// Part of the INT8 products that the device can do at most.
    pub of_ceiling: f64,
}

/// Measures the models of a pipeline.
pub fn measure(config: &Config, device: &Device, ceilings: &Ceilings, batches: &[usize]) -> anyhow::Result<Vec<Model>> {
    let plan = Plan::of(config)?;
    let detector = Detector::new(&plan.detector)?;
    let mut models = vec![model(config, device, ceilings, batches, &plan.detector, &detector.outputs())?];
    for manifest in &plan.attributes {
        if models.iter().all(|model| model.name != manifest.name) {
            let head = AttributeHead::new(manifest)?;
            models.push(model(config, device, ceilings, batches, manifest, &head.outputs())?);
        }
    }
    Ok(models)
}

fn model(
    config: &Config,
    device: &Device,
    ceilings: &Ceilings,
    batches: &[usize],
    manifest: &Manifest,
    outputs: &[&str],
) -> anyhow::Result<Model> {
    let file = manifest.model_path();
    let batch_max = batches.iter().copied().max().unwrap_or(1);
    let start = Instant::now();
    let mut gpu = match Int8Model::open(device, &file, outputs, batch_max) {
        Err(GpuError::Model { reason, .. }) => return Ok(Model::refused(&manifest.name, reason)),
        opened => opened.with_context(|| file.display().to_string())?,
    };
    let open_s = start.elapsed().as_secs_f64();
    let inputs: Vec<Vec<f32>> = (1..=COMPARED as u64).map(|seed| numbers(seed, gpu.sample_bytes() / 4)).collect();
    let (buffer, addresses) = gpu.samples(batch_max)?;
    for sample in 0..batch_max {
        buffer.write(sample * gpu.sample_bytes(), &inputs[sample % COMPARED])?;
    }
    let cosine = agreement(config, manifest, outputs, &mut gpu, &inputs, &addresses)?;
    ensure!(
        cosine >= COSINE_MIN,
        "{}: an output's cosine with the CPU's is {cosine}, less than {COSINE_MIN}",
        manifest.name
    );
    alone_and_together(&mut gpu, outputs.len(), &addresses)?;
    let gmacs = gpu.macs() as f64 / 1e9;
    let mut rates = Vec::new();
    for batch in batches {
        rates.push(rate(device, &mut gpu, &addresses[..*batch], ceilings)?);
    }
    // Its input's addresses are those of the last run.
    let mut slowest = gpu.profile(batch_max)?;
    slowest.sort_by(|one, other| other.1.total_cmp(&one.1));
    slowest.truncate(SLOWEST);
    Ok(Model {
        name: manifest.name.clone(),
        refused: None,
        gmacs,
        device_bytes: gpu.device_bytes(),
        open_s,
        cosine,
        rates,
        slowest,
    })
}

impl Model {
    fn refused(name: &str, reason: String) -> Self {
        let refused = Some(reason);
        Self {
            name: name.to_owned(),
            refused,
            gmacs: 0.0,
            device_bytes: 0,
            open_s: 0.0,
            cosine: 0.0,
            rates: vec![],
            slowest: vec![],
        }
    }
}

/// Fails unless the largest batch gives each sample what it is given alone.
fn alone_and_together(gpu: &mut Int8Model, outputs: usize, addresses: &[u64]) -> anyhow::Result<()> {
    let mut alone = Vec::new();
    for sample in 0..COMPARED.min(addresses.len()) {
        // SAFETY: a sample of the model lies there.
        #[allow(unsafe_code, reason = "reads the device's memory")]
        unsafe {
            gpu.run(&addresses[sample..=sample])?;
        }
        alone.push((0..outputs).map(|output| gpu.output(output, 0).to_vec()).collect::<Vec<_>>());
    }
    // SAFETY: as above.
    #[allow(unsafe_code, reason = "reads the device's memory")]
    unsafe {
        gpu.run(addresses)?;
    }
    for sample in 0..addresses.len() {
        for (output, alone) in alone[sample % alone.len()].iter().enumerate() {
            let together = gpu.output(output, sample);
            ensure!(
                together == alone,
                "output {output} of sample {sample} of {} differs from it alone",
                addresses.len()
            );
        }
    }
    Ok(())
}

/// Numbers like those of a normalised image.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |index: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        1.2 * (index as f32 / 977.0).sin() + (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(&mut next).collect()
}

fn agreement(
    config: &Config,
    manifest: &Manifest,
    outputs: &[&str],
    gpu: &mut Int8Model,
    inputs: &[Vec<f32>],
    addresses: &[u64],
) -> anyhow::Result<f64> {
    let runtime = Runtime::load(&config.onnxruntime)?;
    let file = manifest.model_path();
    let file = ModelFile { path: &file, sha256: &manifest.sha256 };
    let threads = std::thread::available_parallelism()?.get().min(16);
    let mut cpu = CpuModel::open(&runtime, file, &manifest.input, outputs, Options { threads, batch_max: 1 })?;
    let mut least = 1.0f64;
    for (sample, input) in inputs.iter().enumerate().take(addresses.len()) {
        // SAFETY: a sample of the model lies there.
        #[allow(unsafe_code, reason = "reads the device's memory")]
        unsafe {
            gpu.run(&addresses[sample..=sample])?;
        }
        let expected = cpu.run(1, Samples::F32(input))?;
        for (output, name) in outputs.iter().enumerate() {
            let (ours, theirs) = (gpu.output(output, 0), expected.sample(output, 0).1);
            ensure!(ours.len() == theirs.len(), "{name}: {} numbers, not {}", ours.len(), theirs.len());
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let cosine = dot(ours, theirs) / (dot(ours, ours) * dot(theirs, theirs)).sqrt();
            ensure!(cosine.is_finite(), "{}: {name} is nothing but zeros, or no numbers", manifest.name);
            least = least.min(cosine);
        }
    }
    Ok(least)
}

fn rate(device: &Device, gpu: &mut Int8Model, samples: &[u64], ceilings: &Ceilings) -> anyhow::Result<Rate> {
    let mut run = |waits: bool| -> Result<(), GpuError> {
        // SAFETY: samples of the model lie there; what is copied out is not looked at, and the addresses do not change.
        #[allow(unsafe_code, reason = "reads the device's memory")]
        unsafe {
            gpu.start(samples)?;
        }
        if waits { device.synchronize() } else { Ok(()) }
    };
    let mut alone = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        run(true)?;
        alone.push(start.elapsed().as_secs_f64());
    }
    alone.sort_by(f64::total_cmp);
    let batch_s = alone[alone.len() / 2];
    let count = (MEASURED.as_secs_f64() / batch_s).ceil().max(1.0) as usize;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..count {
            run(false)?;
        }
        device.synchronize()?;
        rounds.push((count * samples.len()) as f64 / start.elapsed().as_secs_f64());
    }
    rounds.sort_by(f64::total_cmp);
    let per_second = rounds[ROUNDS / 2];
    Ok(Rate {
        batch: samples.len(),
        per_second,
        from: rounds[0],
        to: rounds[ROUNDS - 1],
        batch_ms: batch_s * 1e3,
        of_ceiling: per_second * gpu.macs() as f64 / ceilings.int8_macs,
    })
}
