//! `framepipe up`: everything made in order, then supervised, then taken down.

use std::{path::PathBuf, process::ExitCode, thread};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use framepipe_pipeline::{
    Config, Device, Instance, LogFormat, Mps, Overrides, PROCESSES_MAX, Plan, Profile, log::Level,
};

use nix::{
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{Pid, getppid},
};

use rustix::event::{EventfdFlags, eventfd};
use tracing::{info, warn};

use crate::{
    activation::Inherited,
    cgroup::Groups,
    control::{Answer, Control},
    cpus::Pins,
    deaths::Repairs,
    doctor,
    drain::Farewell,
    first,
    gpu::Gpu,
    house::{self, House},
    log, logs, open_files,
    orders::Desk,
    reload::Source,
    start_up::StartUp,
    status::{self, BatchMax},
    supervisor::{End, Supervisor, take_signals},
    swap::{Shared, Swapper},
};

/// Of which pipeline, and what it is told over its configuration: of a start, and of who looks whether that can be.
#[derive(Args, Clone)]
pub struct StartArgs {
    #[command(flatten)]
    instance: Instance,
    /// TCP address (IP:PORT) of the gRPC listener, instead of the configuration's; "" for none.
    #[arg(long, value_name = "ADDRESS")]
    tcp: Option<String>,
    /// Folder in which clients store images, instead of the configuration's; may be repeated.
    #[arg(long, value_name = "DIR")]
    inbox: Vec<PathBuf>,
    /// TCP address (IP:PORT) of the HTTP listener for /metrics, /readyz and /livez, instead of the configuration's; "" for none.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// What the processes and threads of the stages are laid out for, where no number is given: throughput (as many
    /// detect processes as cores, of one thread each) or latency (one, whose engine uses all cores)
    /// [default: the configuration's, or throughput].
    #[arg(long, value_name = "AIM", value_parser = aims())]
    profile: Option<Profile>,
    /// The cores that they are laid out for [default: those that it may use].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cores: Option<u32>,
    /// Processes of the ingest stage, 1 to 64 [default: the configuration's, or 1].
    #[arg(long, value_name = "N", value_parser = processes())]
    ingest: Option<u32>,
    /// Processes of the preprocess stage, 1 to 64 [default: the configuration's, or by --profile].
    #[arg(long, value_name = "N", value_parser = processes())]
    preprocess: Option<u32>,
    /// Processes of the detect stage, 1 to 64 [default: the configuration's, or by --profile].
    #[arg(long, value_name = "N", value_parser = processes())]
    detect: Option<u32>,
    /// Processes of the postprocess stage, 1 to 64 [default: the configuration's, or 1].
    #[arg(long, value_name = "N", value_parser = processes())]
    postprocess: Option<u32>,
    /// Processes of the attribute stage, 1 to 64 [default: the configuration's, or by --profile].
    #[arg(long, value_name = "N", value_parser = processes())]
    attribute: Option<u32>,
    /// Where images and tensors lie on their way from stage to stage: cpu, memfd (a GPU's way of passing them, without a
    /// GPU: for tests), gpu (the first NVIDIA GPU) or a GPU's UUID [default: the configuration's, or cpu]. A GPU runs INT8
    /// models (QDQ) alone: another is refused at the start, with the name of the operator.
    #[arg(long, value_name = "DEVICE")]
    device: Option<Device>,
    /// Whether the processes on a GPU share it by NVIDIA's MPS, whose daemon is then started and quit with the pipeline:
    /// auto (where it can be started), off, or require. It is faster, but a fault of one process on the GPU ends all of them
    /// [default: the configuration's, or off].
    #[arg(long, value_name = "WHETHER", value_parser = sharing())]
    mps: Option<Mps>,
    /// A detection's score is above this, instead of the configuration's or the detector's manifest's.
    #[arg(long, value_name = "SCORE")]
    score_threshold: Option<f32>,
    /// Most crops of one frame, instead of the configuration's.
    #[arg(long, value_name = "N")]
    crops_max: Option<u32>,
    /// Let processes go to the stage that holds the others up, while the pipeline serves.
    #[arg(long)]
    auto: bool,
    /// The cores that the stages' processes may use together then [default: the configuration's, or as many as they have at
    /// the start].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    auto_cores: Option<u32>,
    /// The form of the log: human, json (a line each), journald, or auto (the journal's, where standard error is the journal;
    /// else human, with colours on a terminal) [default: the configuration's, or auto].
    #[arg(long, value_name = "FORMAT", value_parser = forms())]
    log: Option<LogFormat>,
    /// The least level that any process says: error, warn, info, debug or trace [default: $FRAMEPIPE_LOG, the configuration's,
    /// or info].
    #[arg(long, value_name = "LEVEL", value_parser = logs::level())]
    log_level: Option<Level>,
}

/// How it is brought up.
#[derive(Args, Clone)]
#[command(after_help = "Examples:
  framepipe up --config config/street.toml
  framepipe up --config config/street.toml --profile latency
  framepipe up --config config/faces.toml --detect 1 --attribute 2 --tcp 0.0.0.0:50051

Exit status: 0 drained and stopped; 1 could not start or was forced to stop; 2 wrong usage.")]
pub struct UpArgs {
    #[command(flatten)]
    start: StartArgs,
    /// Drain and stop, as on SIGTERM, when the process of this pid ends, which must be the one that starts this one.
    #[arg(long, value_name = "PID")]
    end_with: Option<i32>,
    /// Throw away a segment that a dead launcher left and that cannot be taken over; its frames get an error as result.
    #[arg(long)]
    discard: bool,
}

impl StartArgs {
    /// Of which pipeline.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// All that it says over the configuration.
    pub fn overrides(&self) -> Overrides {
        let counts = [
            ("ingest", self.ingest),
            ("preprocess", self.preprocess),
            ("detect", self.detect),
            ("postprocess", self.postprocess),
            ("attribute", self.attribute),
        ];
        let mut overrides = self.instance.over(Overrides {
            profile: self.profile,
            cores: self.cores,
            tcp: self.tcp.clone(),
            http: self.http.clone(),
            inbox: self.inbox.clone(),
            device: self.device.clone(),
            auto: self.auto,
            auto_cores: self.auto_cores,
            mps: self.mps,
            score_threshold: self.score_threshold,
            crops_max: self.crops_max,
            log_level: self.log_level,
            log_format: self.log,
            ..Overrides::default()
        });
        for (stage, count) in counts {
            count.into_iter().for_each(|count| overrides.set_processes(stage, count));
        }
        overrides
    }
}

impl UpArgs {
    /// Loads the configuration, for so many cores, where it is loaded again.
    fn load(&self, cores: Option<u32>) -> anyhow::Result<Config> {
        let cores = cores.or(self.start.cores);
        let load =
            |cores| Config::load(&self.start.instance.file.config, &Overrides { cores, ..self.start.overrides() });
        let config = load(cores)?;
        log::choose(config.log);
        // What a dead launcher left is taken over as it is laid out, however many cores there are by now.
        match house::cores_of_left(&config) {
            Some(left) if cores.is_none() && left != config.cores => {
                let there_are = config.cores;
                tracing::info!(
                    "laid out for {left} cores, like what the launcher before has left; there are {there_are}"
                );
                Ok(load(Some(left))?)
            }
            _ => Ok(config),
        }
    }
}

/// Reads how many processes a stage shall have.
fn processes() -> impl TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(1..=PROCESSES_MAX.into())
}

/// Reads a word of `--mps`.
fn sharing() -> impl TypedValueParser<Value = Mps> {
    let names = PossibleValuesParser::new(Mps::ALL.map(|(name, _)| name));
    names.map(|said| Mps::ALL.into_iter().find(|(name, _)| *name == said).expect("one of the names").1)
}

/// Reads the name of a form of the log.
fn forms() -> impl TypedValueParser<Value = LogFormat> {
    let names = PossibleValuesParser::new(LogFormat::ALL.map(|(name, _)| name));
    names.map(|said| LogFormat::ALL.into_iter().find(|(name, _)| *name == said).expect("one of the names").1)
}

/// Reads the name of a profile.
fn aims() -> impl TypedValueParser<Value = Profile> {
    let names = PossibleValuesParser::new(Profile::ALL.map(|(name, _)| name));
    names.map(|said| Profile::ALL.into_iter().find(|(name, _)| *name == said).expect("one of the names").1)
}

/// `framepipe up`.
pub fn run(arguments: UpArgs) -> anyhow::Result<ExitCode> {
    if first::is_first() {
        return first::stand_by();
    }
    let start_up = StartUp::begin();
    let (discard, starter) = (arguments.discard, arguments.end_with.map(Pid::from_raw));
    up(Box::new(move |cores| arguments.load(cores)), discard, starter, start_up)
}

/// Brings a pipeline up, as the configuration says that comes from `source`, and supervises it to its end; that of `starter`, too, is
/// taken for SIGTERM.
fn up(source: Source, discard: bool, starter: Option<Pid>, mut start_up: StartUp) -> anyhow::Result<ExitCode> {
    // First of all: what is opened from here on must not get their numbers.
    let inherited = Inherited::take()?;
    let config = source(None)?;
    let signals = take_signals()?;
    if let Some(starter) = starter {
        set_pdeathsig(Signal::SIGTERM)?;
        // In this order: an end between the two would be missed.
        anyhow::ensure!(getppid() == starter, "--end-with {starter}: that is not the process that started this one");
    }
    log::start()?;
    let groups = Groups::take();
    open_files::raise_limit(&config)?;
    anyhow::ensure!(
        config.onnxruntime.is_file(),
        "{} is missing: run scripts/setup, or say where it lies (paths.onnxruntime; a relative path is relative to the \
         configuration's folder)",
        config.onnxruntime.display()
    );
    let pins = Pins::of(&config)?;
    start_up.done("configuration");
    let house = House::make(&config, discard, inherited)?;
    doctor::inboxes_on_disk(&config).iter().for_each(|inbox| warn!("{inbox}"));
    start_up.done("memory and sockets");
    let (repairs, generations) = (Repairs::default(), Shared::new(house.generations.clone()));
    let batch_max = BatchMax::default();
    batch_max.show(&config.stages);
    let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let (desk, orders) = Desk::open(wake.try_clone()?, source, config.cores);
    let made = Plan::of(&house.generations.made_for.applied_to(&config))?;
    let swapper = Swapper::new(config.clone(), made, generations.clone());
    let answers = status::Answers::new(
        &config,
        house.gpu.as_ref().map(Gpu::note),
        (house.segment, house.area),
        repairs.clone(),
        (generations.clone(), batch_max.clone()),
    );
    let segment = house.segment;
    let farewell = Farewell::new(move || {
        let [_, writing, ready, claimed] = segment.job_census();
        writing + ready + claimed
    });
    let control = Control::new(answers, swapper, desk.clone(), farewell.clone());
    let socket = house.control.try_clone()?;
    // Spawned before any child, and never the parent of one: children are bound to the thread that spawns them.
    thread::Builder::new().name("control".into()).spawn(move || control.serve(&socket))?;
    let memory = (house.segment, house.area);
    let told = (desk, orders, wake);
    let shown = (repairs, generations, batch_max);
    let ended = Supervisor::new((config, pins), memory, house.handed(&groups), signals, shown, told).run(start_up);
    // What was accepted outlives a launcher that could not go on: the next one takes the segment over.
    let holds_frames = house.holds_frames();
    let cleared = house.clear(holds_frames);
    let is_drained = matches!(ended, Ok(End::Drained)) && cleared.is_ok() && !holds_frames;
    farewell.end(&match (is_drained, &ended) {
        (true, _) => Answer::Done("drained and ended: every accepted frame has its result".into()),
        (false, Err(error)) => Answer::Failed(format!("{error:#}")),
        (false, Ok(_)) => Answer::Failed("it was stopped before it had drained: see its log".into()),
    });
    cleared?;
    ended?;
    if holds_frames {
        warn!("accepted frames are kept in memory: the next start finishes them");
    } else if is_drained {
        info!("all accepted frames are answered; stopped");
    }
    Ok(if is_drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
