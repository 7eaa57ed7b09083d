//! `framepipe up`: everything made in order, then supervised, then taken down.

use std::{process::ExitCode, thread};

use nix::{
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{Pid, getppid},
};

use framepipe_pipeline::Plan;
use rustix::event::{EventfdFlags, eventfd};
use tracing::{info, warn};

use crate::{
    activation::Inherited,
    cgroup::Groups,
    control::{Answer, Control},
    cpus::Pins,
    deaths::Repairs,
    drain::Farewell,
    gpu::Gpu,
    house::House,
    log, open_files,
    orders::Desk,
    reload::Source,
    start_up::StartUp,
    status,
    supervisor::{End, Supervisor, take_signals},
    swap::{Shared, Swapper},
};

/// Brings a pipeline up, as the configuration says that comes from `source`, and supervises it to its end; that of `starter`, too, is
/// taken for SIGTERM.
pub fn up(source: Source, discard: bool, starter: Option<Pid>, mut start_up: StartUp) -> anyhow::Result<ExitCode> {
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
    start_up.done("memory and sockets");
    let (repairs, generations) = (Repairs::default(), Shared::new(house.generations.clone()));
    let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let (desk, orders) = Desk::open(wake.try_clone()?, source, config.cores);
    let made = Plan::of(&house.generations.made_for.applied_to(&config))?;
    let swapper = Swapper::new(config.clone(), made, generations.clone());
    let answers = status::Answers::new(
        &config,
        house.gpu.as_ref().map(Gpu::note),
        (house.segment, house.area),
        repairs.clone(),
        generations.clone(),
    );
    let farewell = Farewell::new(house.segment);
    let control = Control::new(answers, swapper, desk.clone(), farewell.clone());
    let socket = house.control.try_clone()?;
    // Spawned before any child, and never the parent of one: children are bound to the thread that spawns them.
    thread::Builder::new().name("control".into()).spawn(move || control.serve(&socket))?;
    let memory = (house.segment, house.area);
    let told = (desk, orders, wake);
    let ended = Supervisor::new((config, pins), memory, house.handed(&groups), signals, repairs, generations, told)
        .run(start_up);
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
