//! `framepipe plan`: how many frames a second a pipeline will serve on a machine, with how many processes of each stage, and what
//! binds. A model (docs/plan.md), of costs that were measured on one machine; and its check against this one.
//!
//! | file | what it holds |
//! |---|---|
//! | `model.rs` | **the model**: costs to limits, the lowest of which binds |
//! | `costs.rs`, `../costs.toml` | what a frame costs: the file, and the shipped one |
//! | `picture.rs` | what frames are asked for, and bytes of such to measure with |
//! | `measure.rs` | costs and frames a second of this machine, from a pipeline of this program's own |
//! | `report.rs` | what is said |

mod costs;
mod measure;
mod model;
mod picture;
mod report;

use std::{
    io::{ErrorKind, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use framepipe_pipeline::{Config, ConfigFile, Device, Overrides, Plan, Profile, STAGES, command_line};

use crate::{
    costs::{Costs, CostsError, CpuMs, DeviceMs, Frames, GPUS, Measured},
    measure::Setup,
    model::{Forecast, Machine, Part, forecast, parts, recommend},
    picture::{Asked, Encoded, Picture, variants},
    report::{Check, ImageNote, Report, disclaimer, rows},
};

/// Say how many frames a second a pipeline will serve on so many cores, with how many processes, and what binds: by a model.
#[derive(Parser)]
#[command(
    name = "framepipe plan",
    bin_name = "framepipe plan",
    version,
    after_help = "Examples:
  framepipe plan --pipeline street --cores 16
  framepipe plan --pipeline paper --cores 16 --gpu t4 --image raw --crops 2
  framepipe plan --pipeline faces --cores 8 --image 720p --crops 1 --measure
  framepipe plan --pipeline street --cores 16 --measure --photo camera.jpg --save costs.toml
  framepipe plan --pipeline street --cores 2 --costs costs.toml --check

It is a model: the sum of what a frame costs each process, the cores that there are, and what one
process can do. The shipped costs are those of one machine and of some pipelines; --measure takes
those of this machine and of any pipeline, with a pipeline of its own on --measure-cores cores, and
--check measures what the model expects. What was never measured it says.

Exit status: 0 said; 1 not, as the message says; 2 wrong usage."
)]
struct Cli {
    #[command(flatten)]
    file: ConfigFile,
    /// The machine's cores [default: those that this program may use].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    cores: Option<u32>,
    /// With such a GPU, under MPS.
    #[arg(long, value_name = "GPU", value_parser = GPUS, conflicts_with_all = ["measure", "check"])]
    gpu: Option<String>,
    /// What frames are: JPEGs of 480p, 720p, 1080p, 1440p or 4k; the JPEG of a file; or raw, RGB of the detector's size.
    #[arg(long, value_name = "WHAT", default_value = "1080p", value_parser = Asked::parse)]
    image: Asked,
    /// Crops of a frame, each described by every attribute model [default: 1 where there are such models, else 0].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1024))]
    crops: Option<u32>,
    /// Costs from this file, instead of the shipped ones.
    #[arg(long, value_name = "FILE", conflicts_with = "measure")]
    costs: Option<PathBuf>,
    /// Costs of this machine: bring the pipeline up and measure them now.
    #[arg(long)]
    measure: bool,
    /// The cores that they are measured on.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096), requires = "measure")]
    measure_cores: u32,
    /// Write the measured costs to this file, beside those of other pipelines that it has.
    #[arg(long, value_name = "FILE", requires = "measure")]
    save: Option<PathBuf>,
    /// Measure what the model expects: bring the pipeline up, as it is recommended, on --cores of this machine's cores.
    #[arg(long)]
    check: bool,
    /// The JPEG of which pictures of other sizes are made, to measure with.
    #[arg(long, value_name = "FILE", default_value = "photos/zidane.jpg")]
    photo: PathBuf,
    /// Length of each measured window.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match plan(&command_line::parse::<Cli>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("framepipe plan: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is planned.
struct Task<'a> {
    cli: &'a Cli,
    config: Config,
    plan: Plan,
    machine_cores: u32,
    crops: u32,
}

fn plan(cli: &Cli) -> anyhow::Result<()> {
    let task = Task::new(cli)?;
    let encoded = match cli.measure || cli.check {
        true => Some(cli.image.encode(&cli.photo, &task.config, &task.plan)?),
        false => None,
    };
    let picture = match &encoded {
        Some(encoded) => encoded.picture,
        None => cli.image.picture(&task.config, &task.plan)?,
    };
    let costs = task.costs(encoded.as_ref())?;
    let machine = task.machine(&costs);
    let parts = task.parts(&costs, &picture)?;
    let forecast = forecast(&parts, machine, &recommend(&parts, machine));
    let check = match (&encoded, cli.check) {
        (Some(encoded), true) => Some(task.check(encoded, &forecast.processes, forecast.fps())?),
        _ => None,
    };
    let report = task.report(&costs, &picture, &parts, &forecast, check);
    let text = if cli.json { format!("{}\n", serde_json::to_string_pretty(&report)?) } else { report.to_string() };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(()), // whoever closed the pipe has read enough
    }
}

impl<'a> Task<'a> {
    fn new(cli: &'a Cli) -> anyhow::Result<Self> {
        let overrides = Overrides { profile: Some(Profile::Throughput), ..Overrides::default() };
        let config = Config::load(&cli.file.config, &overrides)?;
        let plan = Plan::of(&config)?;
        ensure!(
            cli.gpu.is_some() || !matches!(config.device, Device::Gpu(_)),
            "{} runs on a GPU (pipeline.device): say which one with --gpu; --help lists those that are known",
            config.name
        );
        let has_models = !config.attributes.is_empty();
        let crops = cli.crops.unwrap_or(u32::from(has_models));
        ensure!(
            crops == 0 || has_models,
            "--crops {crops}: {} has no attribute models (pipeline.attributes)",
            config.name
        );
        let may_use = u32::try_from(std::thread::available_parallelism()?.get())?;
        let machine_cores = cli.cores.unwrap_or(may_use);
        for (option, cores) in [
            ("--cores", cli.check.then_some(machine_cores)),
            ("--measure-cores", cli.measure.then_some(cli.measure_cores)),
        ] {
            let cores = cores.unwrap_or(0);
            ensure!(cores <= may_use, "{option} {cores}: this program may use {may_use}, and no more can be measured");
        }
        if cli.measure || cli.check {
            ensure!(
                crops > 0 || !has_models,
                "--crops 0: {} has attribute models, which would run: give the crops of a frame",
                config.name
            );
        }
        Ok(Self { cli, config, plan, machine_cores, crops })
    }

    fn costs(&self, encoded: Option<&Encoded>) -> anyhow::Result<Costs> {
        match (encoded, &self.cli.costs) {
            (Some(encoded), _) if self.cli.measure => self.measure(encoded),
            (_, Some(path)) => Ok(Costs::read(path)?),
            (_, None) => Ok(Costs::shipped()),
        }
    }

    fn parts(&self, costs: &Costs, picture: &Picture) -> anyhow::Result<Vec<Part>> {
        let source = self.cli.costs.as_ref().map_or("what is shipped".to_owned(), |path| path.display().to_string());
        let frames = self.cli.image.frames();
        let on_cpu = || costs.of(&self.config, frames, &source);
        let (ms, device, decode): (CpuMs, _, f64) = match (&self.cli.gpu, &costs.gpu) {
            (Some(gpu), Some(known)) => {
                // JPEGs are decoded on the CPU: what pixels and bytes cost there.
                let decode = if frames == Frames::Jpeg { on_cpu()?.preprocess } else { known.cpu_ms.preprocess };
                let decode = decode.of(picture) - decode.frame;
                (known.cpu_ms, known.device_ms(gpu, &self.config, self.crops)?, decode)
            }
            _ => (on_cpu()?, DeviceMs::default(), 0.0),
        };
        let (preprocess, attribute) = match self.cli.gpu {
            Some(_) => (ms.preprocess.frame + decode, ms.attribute.frame),
            None => {
                let attribute = ms.attribute.of(self.crops);
                (ms.preprocess.of(picture), attribute.ok_or(CostsError::NoCrops { source_of: source })?)
            }
        };
        let threads: Vec<u32> = self.config.stages.iter().map(|stage| stage.threads).collect();
        Ok(parts(&ms, preprocess, attribute, device, &threads))
    }

    fn measure(&self, encoded: &Encoded) -> anyhow::Result<Costs> {
        let variants = match self.cli.image.frames() {
            Frames::Jpeg => Some(variants(encoded, &self.config, &self.plan)?),
            Frames::Raw => None,
        };
        let pictures: Vec<&Encoded> = std::iter::once(encoded).chain(variants.iter().flatten()).collect();
        let cores = self.cli.measure_cores;
        let arguments = vec!["--cores".to_owned(), cores.to_string()];
        let windows = measure::measure(&self.setup(cores, arguments), &pictures)?;
        let measured = Measured {
            detector: self.config.detector.name.clone(),
            attributes: self.config.attributes.iter().map(|model| model.name.clone()).collect(),
            frames: self.cli.image.frames(),
            cpu_ms: measure::costs(&windows, &pictures, self.crops)?,
        };
        let (machine, date) = (processor(cores), today());
        if let Some(path) = &self.cli.save {
            Costs::save(path, machine.clone(), date.clone(), measured.clone())?;
        }
        Ok(Costs { machine, date, pipelines: vec![measured], ..Costs::shipped() })
    }

    fn check(&self, encoded: &Encoded, processes: &[u32], expected: f64) -> anyhow::Result<Check> {
        let arguments = self.flags(processes);
        let windows = measure::measure(&self.setup(self.machine_cores, arguments), &[encoded])?;
        let window = windows.first().context("nothing was measured")?;
        Ok(Check::new(window.fps, window.others, expected))
    }

    fn setup(&self, cores: u32, mut arguments: Vec<String>) -> Setup<'_> {
        if self.crops > 0 {
            arguments.extend(["--crops-max".to_owned(), self.crops.to_string()]);
        }
        Setup {
            file: &self.cli.file.config,
            config: &self.config,
            arguments,
            cores,
            frames: self.cli.image.frames(),
            crops: self.crops,
            window: Duration::from_secs(self.cli.seconds.into()),
        }
    }

    fn report(&self, costs: &Costs, picture: &Picture, parts: &[Part], of: &Forecast, check: Option<Check>) -> Report {
        let Self { cli, config, .. } = self;
        let on_cpu = format!("{} ({})", costs.machine, costs.date);
        let source = match (&cli.gpu, &costs.gpu) {
            (Some(gpu), Some(known)) => {
                let is_estimated = known.estimated.contains(gpu);
                let estimated = format!("; the {gpu} was never measured, its times are estimated from those");
                let decoding = if cli.image == Asked::Raw { String::new() } else { format!("; decoding on {on_cpu}") };
                format!("{}{}{decoding}", known.machine, if is_estimated { estimated } else { String::new() })
            }
            _ => on_cpu,
        };
        let [binds, next] = [&of.limits[0], &of.limits[1]];
        let Picture { width, height, bytes, decoded_megapixels } = *picture;
        Report {
            pipeline: config.name.clone(),
            cores: self.machine_cores,
            gpu: cli.gpu.clone(),
            image: ImageNote { frames: cli.image.frames().name(), width, height, bytes, decoded_megapixels },
            crops: self.crops,
            fps: of.fps(),
            binds: binds.what,
            next: next.what,
            next_fps: next.fps,
            rows: rows(parts, of),
            up: self.up(&of.processes).join(" "),
            model: disclaimer(&source, self.machine(costs)),
            check,
        }
    }

    /// The one that is planned for.
    fn machine(&self, costs: &Costs) -> Machine {
        Machine { cores: self.machine_cores, further_core: costs.further_core }
    }

    /// Options of `framepipe up` for these numbers of processes.
    fn flags(&self, processes: &[u32]) -> Vec<String> {
        let cores = [("cores", self.machine_cores)];
        let stages = STAGES.iter().map(|stage| stage.name).zip(processes.iter().copied());
        cores.into_iter().chain(stages).flat_map(|(name, count)| [format!("--{name}"), count.to_string()]).collect()
    }

    fn up(&self, processes: &[u32]) -> Vec<String> {
        let mut words = vec!["framepipe up --config".to_owned(), self.cli.file.config.display().to_string()];
        words.extend(self.flags(processes));
        if self.cli.gpu.is_some() {
            words.push("--device gpu --mps auto".to_owned());
        }
        words
    }
}

/// This machine, as the kernel calls its processor.
fn processor(cores: u32) -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    let name = name.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    format!("{name}, measured on {cores} of its cores")
}

/// In UTC: YYYY-MM-DD.
fn today() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string().chars().take_while(|one| *one != 'T').collect()
}
