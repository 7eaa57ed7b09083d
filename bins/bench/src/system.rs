//! The system alone, as a configuration says, under this client's load: how many frames a second, how long one takes, and what
//! each stage uses of the CPU for one.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use framepipe_model::Manifest;
use framepipe_pipeline::{Config, Overrides};
use serde_json::json;

use crate::{
    load::Workload,
    running::{Running, Window},
    statistics::{median, percentile},
    variant,
};

#[derive(Args)]
pub struct Arguments {
    /// The pipeline's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The device, instead of the configuration's.
    #[arg(long)]
    device: Option<String>,
    /// Whether processes share the GPU by MPS, instead of what the configuration says.
    #[arg(long)]
    mps: Option<String>,
    /// Who decodes JPEGs, instead of what the configuration says.
    #[arg(long)]
    jpeg: Option<String>,
    /// An encoded image, pushed again and again instead of raw frames of the detector's size.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Crops of each frame; 0: without attribute models.
    #[arg(long)]
    crops: u32,
    /// Frames in one push.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Most frames in flight.
    #[arg(long, default_value_t = 128)]
    in_flight: usize,
    /// Length of each measured window.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How many there are.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Measures it.
pub fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("framepipe-bench-config-").tempdir()?;
    let path = match arguments.crops {
        0 => variant::with(&arguments.config, "attributes", Vec::<String>::new().into(), folder.path())?,
        crops => variant::with(&arguments.config, "crops_max", crops.into(), folder.path())?,
    };
    let path = match &arguments.jpeg {
        Some(who) => variant::with(&path, "jpeg", who.clone().into(), folder.path())?,
        None => path,
    };
    let config = Config::load(&path, &Overrides::default())?;
    let input = Manifest::find(&config.models, &config.detector)?.input.plan;
    let workload = Workload {
        size: [input.width(), input.height()],
        batch: arguments.batch,
        in_flight_max: arguments.in_flight,
        crops: arguments.crops as usize,
        attributes: config.attributes.len(),
    };
    let given = [("--device", &arguments.device), ("--mps", &arguments.mps)];
    let given = given.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value.clone()?]));
    let up: Vec<String> = given.flatten().collect();
    let image = arguments.image.as_ref().map(|file| fs::read(file).with_context(|| file.display().to_string()));
    let image = image.transpose()?;
    let mut running = Running::start_with(&path, &up, &config.server.inbox[0], workload, image.as_deref())?;
    let window = Window { warm_up: Duration::from_secs(1), length: Duration::from_secs_f64(arguments.seconds) };
    let mut rates = Vec::new();
    let mut last = None;
    for _ in 0..arguments.rounds {
        let system = running.measure(window)?;
        rates.push(system.fps);
        last = Some(system);
    }
    running.stop()?;
    let system = last.context("--rounds: give at least 1")?;
    let frames = system.sample.completed.len() as f64;
    let cpu: Vec<_> = system.cpu_s.iter().map(|(stage, seconds)| json!([stage, seconds * 1e3 / frames])).collect();
    let stages: Vec<_> = system
        .sample
        .stage_ms
        .iter()
        .map(|(stage, waited, worked)| json!([stage, waited / frames, worked / frames]))
        .collect();
    let mut latencies = system.sample.latencies_ms.clone();
    latencies.sort_by(f64::total_cmp);
    println!(
        "{}",
        json!({
            "crops": arguments.crops,
            "in_flight": arguments.in_flight,
            "fps": median(&rates),
            "rounds": rates,
            "latency_p50_ms": percentile(&latencies, 0.5),
            "latency_p99_ms": percentile(&latencies, 0.99),
            "cpu_ms_per_frame": cpu,
            "stage_ms": stages,
        })
    );
    Ok(())
}
