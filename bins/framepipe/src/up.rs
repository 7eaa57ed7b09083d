//! `framepipe up`: everything made in order, then supervised, then taken down.

use std::{process::ExitCode, thread};

use nix::{
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{Pid, getppid},
};

use framepipe_pipeline::{Config, Plan};
use rustix::event::{EventfdFlags, eventfd};

use crate::{
    control::Control,
    deaths::Repairs,
    gpu::Gpu,
    house::House,
    log::{self, say},
    open_files,
    start_up::StartUp,
    status,
    supervisor::{End, Supervisor, take_signals},
    swap::{Shared, Swapper},
};

/// Brings a pipeline up and supervises it to its end; that of `starter`, too, is taken for SIGTERM.
pub fn up(config: Config, discard: bool, starter: Option<Pid>, mut start_up: StartUp) -> anyhow::Result<ExitCode> {
    let signals = take_signals()?;
    if let Some(starter) = starter {
        set_pdeathsig(Signal::SIGTERM)?;
        // In this order: an end between the two would be missed.
        anyhow::ensure!(getppid() == starter, "--end-with {starter}: that is not the process that started this one");
    }
    log::start()?;
    open_files::raise_limit(&config)?;
    anyhow::ensure!(
        config.onnxruntime.is_file(),
        "{} is missing: run scripts/setup, or say where it lies (paths.onnxruntime; a relative path is relative to the \
         configuration's folder)",
        config.onnxruntime.display()
    );
    start_up.done("configuration");
    let house = House::make(&config, discard)?;
    start_up.done("memory and sockets");
    let (repairs, generations) = (Repairs::default(), Shared::new(house.generations.clone()));
    let (order, orders) = crossbeam_channel::unbounded();
    let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let made = Plan::of(&house.generations.made_for.applied_to(&config))?;
    let swapper = Swapper::new(config.clone(), made, generations.clone(), order, wake.try_clone()?);
    let answers = status::Answers::new(
        &config,
        house.gpu.as_ref().map(Gpu::note),
        (house.segment, house.area),
        repairs.clone(),
        generations.clone(),
    );
    let (control, socket) = (Control::new(answers, swapper), house.control.try_clone()?);
    // Spawned before any child, and never the parent of one: children are bound to the thread that spawns them.
    thread::Builder::new().name("control".into()).spawn(move || control.serve(&socket))?;
    let memory = (house.segment, house.area);
    let ended = Supervisor::new(&config, memory, house.handed(), signals, repairs, generations, (orders, wake))
        .and_then(|supervisor| supervisor.run(start_up));
    // What was accepted outlives a launcher that could not go on: the next one takes the segment over.
    let holds_frames = house.holds_frames();
    house.clear(holds_frames)?;
    let end = ended?;
    if holds_frames {
        say!("accepted frames are kept in memory: the next start finishes them");
    }
    Ok(if end == End::Drained && !holds_frames { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
