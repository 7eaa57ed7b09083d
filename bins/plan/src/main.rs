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

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use framepipe_pipeline::{Config, ConfigFile, Device, Overrides, Plan, Profile, STAGES, command_line};

use crate::{
    costs::{Costs, CostsError, CpuMs, DeviceMs, Frames, GPUS, Measured},
    measure::Setup,
    model::{Forecast, Machine, Part, forecast, further_core, parts, recommend},
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
those of this machine and of any pipeline, with a pipeline of its own, on one core and on
--measure-cores cores, and --check measures what the model expects. What was never measured it says.

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
    /// Measure on so many cores, too, beside one: it tells what each further core adds [default: --cores, or those that this program
    /// may use, where they are fewer].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096), requires = "measure")]
    measure_cores: Option<u32>,
    /// Write the measured costs to this file, beside those of other pipelines that it has. Its comments are lost.
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
    measure_cores: u32,
    crops: u32,
}

/// What a frame costs, on which machine, and where that is from.
struct Known {
    parts: Vec<Part>,
    machine: Machine,
    origin: String,
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
    let known = match &encoded {
        Some(encoded) if cli.measure => task.measured(encoded)?,
        _ => task.said(&picture)?,
    };
    let forecast = forecast(&known.parts, known.machine, &recommend(&known.parts, known.machine));
    let check = match (&encoded, cli.check) {
        (Some(encoded), true) => Some(task.check(encoded, &forecast)?),
        _ => None,
    };
    let report = task.report(&known, &picture, &forecast, check);
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
        let measure_cores = cli.measure_cores.unwrap_or(machine_cores.min(may_use));
        for (option, cores) in
            [("--cores", cli.check.then_some(machine_cores)), ("--measure-cores", cli.measure.then_some(measure_cores))]
        {
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
        Ok(Self { cli, config, plan, machine_cores, measure_cores, crops })
    }

    /// What a file says, or what is shipped.
    fn said(&self, picture: &Picture) -> anyhow::Result<Known> {
        let (costs, file) = match &self.cli.costs {
            Some(path) => (Costs::read(path)?, path.display().to_string()),
            None => (Costs::shipped(), "what is shipped".to_owned()),
        };
        match &self.cli.gpu {
            Some(gpu) => self.with_gpu(gpu, &costs, picture, &file),
            None => self.on_cpu(costs.of(&self.config, self.cli.image.frames(), &file)?, picture, &file),
        }
    }

    fn on_cpu(&self, measured: &Measured, picture: &Picture, file: &str) -> anyhow::Result<Known> {
        let ms = &measured.cpu_ms;
        let attribute = ms.attribute.of(self.crops);
        let attribute = attribute.ok_or_else(|| CostsError::NoCrops { source_of: file.to_owned() })?;
        Ok(Known {
            parts: self.parts(ms, ms.preprocess.of(picture), attribute, DeviceMs::default()),
            machine: self.machine(measured.further_core, measured.upkeep_cores.cores()),
            origin: measured.origin(),
        })
    }

    fn with_gpu(&self, gpu: &str, costs: &Costs, picture: &Picture, file: &str) -> anyhow::Result<Known> {
        let known = costs.gpu.as_ref().context("a file without GPUs has those that are shipped")?;
        let ms = &known.cpu_ms;
        // JPEGs are decoded on the CPU: what pixels and bytes cost there.
        let (decode, decoding) = match self.cli.image.frames() {
            Frames::Raw => (ms.preprocess, String::new()),
            Frames::Jpeg => {
                let measured = costs.of(&self.config, Frames::Jpeg, file)?;
                (measured.cpu_ms.preprocess, format!("; decoding on {}", measured.origin()))
            }
        };
        let preprocess = ms.preprocess.frame + decode.of(picture) - decode.frame;
        let estimated = match known.estimated.iter().any(|one| one == gpu) {
            true => format!("; the {gpu} was never measured, its times are estimated from those"),
            false => String::new(),
        };
        let device = known.device_ms(gpu, &self.config, self.crops)?;
        Ok(Known {
            parts: self.parts(ms, preprocess, ms.attribute.frame, device),
            machine: self.machine(None, 0.0),
            origin: format!("{}{estimated}{decoding}", known.machine),
        })
    }

    /// The costs of this machine, measured now.
    fn measured(&self, encoded: &Encoded) -> anyhow::Result<Known> {
        let variants = match self.cli.image.frames() {
            Frames::Jpeg => Some(variants(encoded, &self.config, &self.plan)?),
            Frames::Raw => None,
        };
        // The one that is asked for comes last: nearest to what is measured next.
        let pictures: Vec<&Encoded> = variants.iter().flatten().chain(std::iter::once(encoded)).collect();
        let alone = measure::measure(&self.setup(1, &[1; STAGES.len()]), &pictures)?;
        let (cpu_ms, upkeep_cores) = measure::costs(&alone, &pictures, self.crops)?;
        let mut measured = Measured {
            machine: processor(self.measure_cores),
            date: today(),
            detector: self.config.detector.name.clone(),
            attributes: self.config.attributes.iter().map(|model| model.name.clone()).collect(),
            frames: self.cli.image.frames(),
            further_core: None,
            upkeep_cores,
            cpu_ms,
        };
        let file = "what was measured";
        if self.measure_cores > 1 {
            let known = self.on_cpu(&measured, &encoded.picture, file)?;
            let processes = recommend(&known.parts, Machine { cores: self.measure_cores, ..known.machine });
            let together = measure::measure(&self.setup(self.measure_cores, &processes), &[encoded])?;
            let [.., alone] = &alone[..] else { bail!("nothing was measured") };
            let [together] = &together[..] else { bail!("nothing was measured") };
            let busy_cores = together.busy_cores(self.measure_cores);
            measured.further_core = further_core(alone.frame_ms(), together.frame_ms(), self.measure_cores, busy_cores);
        }
        let known = self.on_cpu(&measured, &encoded.picture, file)?;
        if let Some(path) = &self.cli.save {
            Costs::save(path, measured)?;
        }
        Ok(known)
    }

    fn check(&self, encoded: &Encoded, of: &Forecast) -> anyhow::Result<Check> {
        let windows = measure::measure(&self.setup(self.machine_cores, &of.processes), &[encoded])?;
        let window = windows.first().context("nothing was measured")?;
        Ok(Check::new(window.fps, window.others, of.fps()))
    }

    fn setup(&self, cores: u32, processes: &[u32]) -> Setup<'_> {
        let mut arguments = flags(cores, processes);
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

    fn parts(&self, cpu: &CpuMs, preprocess_ms: f64, attribute_ms: f64, device: DeviceMs) -> Vec<Part> {
        let threads: Vec<u32> = self.config.stages.iter().map(|stage| stage.threads).collect();
        parts(cpu, preprocess_ms, attribute_ms, device, &threads)
    }

    /// The one that is planned for.
    fn machine(&self, further_core: Option<f64>, upkeep_cores: f64) -> Machine {
        Machine { cores: self.machine_cores, further_core, upkeep_cores }
    }

    fn report(&self, known: &Known, picture: &Picture, of: &Forecast, check: Option<Check>) -> Report {
        let Self { cli, config, .. } = self;
        let [binds, next] = [&of.limits[0], &of.limits[1]];
        let Picture { width, height, bytes, decoded_megapixels } = *picture;
        Report {
            pipeline: config.name.clone(),
            cores: self.machine_cores,
            further_core: known.machine.further_core,
            gpu: cli.gpu.clone(),
            image: ImageNote { frames: cli.image.frames().name(), width, height, bytes, decoded_megapixels },
            crops: self.crops,
            fps: of.fps(),
            binds: binds.what,
            next: next.what,
            next_fps: next.fps,
            rows: rows(&known.parts, of),
            upkeep_cores: known.machine.upkeep_cores,
            up: self.up(&of.processes).join(" "),
            model: disclaimer(&known.origin, known.machine),
            check,
        }
    }

    fn up(&self, processes: &[u32]) -> Vec<String> {
        let mut words = vec!["framepipe up --config".to_owned(), self.cli.file.config.display().to_string()];
        words.extend(flags(self.machine_cores, processes));
        if self.cli.gpu.is_some() {
            words.push("--device gpu --mps auto".to_owned());
        }
        words
    }
}

/// Options of `framepipe up` for these numbers of processes: what the model is of, whatever the configuration says.
fn flags(cores: u32, processes: &[u32]) -> Vec<String> {
    let stages = STAGES.iter().map(|stage| stage.name).zip(processes.iter().copied());
    let counts = [("cores", cores)].into_iter().chain(stages);
    let counts = counts.flat_map(|(name, count)| [format!("--{name}"), count.to_string()]);
    ["--profile".to_owned(), "throughput".to_owned()].into_iter().chain(counts).collect()
}

/// This machine, as the kernel calls its processor.
fn processor(cores: u32) -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    let name = name.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    let further = if cores > 1 { format!(" and on {cores}") } else { String::new() };
    format!("{name}, measured on 1 of its cores{further}")
}

/// In UTC: YYYY-MM-DD.
fn today() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string().chars().take_while(|one| *one != 'T').collect()
}
