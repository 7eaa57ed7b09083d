//! The whole cascade, detector and attribute models, against the bare engine that does the same inferences. One pipeline
//! for each number of crops a frame: `pipeline.crops_max` is that number, and the load fails unless each frame has
//! exactly as many described objects. Each round measures the system, then the engine.

use std::time::Duration;

use anyhow::ensure;
use framepipe_model::Manifest;
use framepipe_pipeline::{Config, Overrides, StageConfig, stage_index};

use crate::{
    engine::{Bare, Engines, Work, bare},
    load::Workload,
    rounds::{Plan, say},
    running::{Running, System, Window},
    variant,
};

/// Crops a frame, one pipeline each.
pub const CROPS: [u32; 3] = [1, 2, 4];
/// Before each window, for each inference of a frame that is not batched away: the stages' queues find their lengths.
const WARM_UP: Duration = Duration::from_millis(1500);

/// What was measured of one number of crops a frame.
pub struct Cascade {
    pub crops: u32,
    /// Most crops in one run of an attribute model.
    pub crop_batch_max: u32,
    /// Processes of the bare engine.
    pub workers: u32,
    pub rounds: Vec<(System, Bare)>,
}

/// Measures each number of crops.
pub fn run(plan: &Plan<'_>) -> anyhow::Result<Vec<Cascade>> {
    CROPS.iter().map(|crops| measure(plan, *crops)).collect()
}

fn measure(plan: &Plan<'_>, crops: u32) -> anyhow::Result<Cascade> {
    let folder = tempfile::Builder::new().prefix("framepipe-bench-config-").tempdir()?;
    let path = variant::with(plan.cascade, "crops_max", crops.into(), folder.path())?;
    let config = Config::load(&path, &Overrides::default())?;
    let manifest = Manifest::find(&config.models, &config.detector)?;
    let stage = |name| -> &StageConfig { &config.stages[stage_index(name).expect("the stage table has this stage")] };
    let (detect, attribute) = (stage("detect"), stage("attribute"));
    ensure!(
        (detect.threads, attribute.threads, detect.nice) == (1, 1, attribute.nice),
        "{}: detect and attribute must have one thread and one nice value: the bare engine does the work of both",
        plan.cascade.display()
    );
    let mut running = Running::start(
        &path,
        &config.server.inbox[0],
        Workload {
            size: [manifest.input.plan.width(), manifest.input.plan.height()],
            batch: plan.batch,
            // Each attribute process finds a further batch waiting when it has done one.
            in_flight_max: plan.in_flight + (attribute.processes * attribute.batch_max) as usize,
            crops: crops as usize,
            attributes: config.attributes.len(),
        },
    )?;
    let workers = (detect.processes + attribute.processes).min(running.cores as u32);
    println!("{crops} crops a frame; starting the bare engines: {workers} of all five models");
    let work = Work {
        config: path,
        model: config.detector.clone(),
        attributes: config.attributes.clone(),
        crops,
        crop_batch: config.crop_batch_max,
        threads: 1,
        nice: running.nice_of("detect", detect.nice)?,
    };
    let mut engines = Engines::start(&work, workers)?;
    let window = Window { warm_up: WARM_UP * (1 + crops), length: plan.window };
    let mut rounds = Vec::with_capacity(plan.rounds);
    for number in 1..=plan.rounds {
        say(&format!("round {number} of {}: system ", plan.rounds))?;
        let system = running.measure(window)?;
        say(&format!("{:.2}/s, bare engine ", system.fps))?;
        let engine = bare(&mut engines, window, &running)?;
        say(&format!("{:.2}/s\n", engine.fps))?;
        rounds.push((system, engine));
    }
    drop(engines);
    running.stop()?;
    Ok(Cascade { crops, crop_batch_max: config.crop_batch_max, workers, rounds })
}
