//! A process's start under its launcher, and its end.

use std::{
    io::Write as _,
    os::fd::OwnedFd,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use framepipe_cache::{Area, Use};
use framepipe_shm::{HostSlab, Lost, ProcessEntry, ProcessState, Segment, Worker};
use ipc_channel::ipc::{self, IpcReceiver, IpcSender};
use nix::sys::signal::{SigHandler, Signal};
use tracing::error;

use crate::{
    Command, Generation, InheritedSlab, KEEPER, KEEPER_NICE, Pool, Protocol, Report, STAGES, Slab, StartOrder,
    cache_folder, gateway_access, gateway_cache_use, keeper_access,
    kept::Cache,
    log,
    slab::inherited,
    stage_loop::{self, LoopContext, Stage},
    stages::queue_before,
};

/// How a process ended. Its number is the exit status. A library that chokes on a frame may end a process with any
/// number: what the launcher holds for its own will is a [`Report::Failed`] before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// It was told to stop, and did.
    Done = 0,
    /// It could not start; it has told the launcher why. Starting it again would end the same way.
    Unusable = 2,
    /// The launcher had declared it dead.
    Lost = 3,
    /// The GPU is lost to it. Another process may have it again: it is started anew, and its frames are given to that. They are
    /// blamed as by any death: the fault may be a frame's.
    Device = 4,
    /// It was called by hand, without a launcher.
    Usage = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// A process that has its order.
pub struct Process {
    /// What it is to be.
    pub order: StartOrder,
    /// Set when it must stop.
    pub stop: Arc<AtomicBool>,
    segment: &'static Segment,
    area: &'static Area,
    slabs: Vec<Slab>,
    /// Taken by `take_listeners`.
    listeners: Mutex<Vec<(Protocol, OwnedFd)>>,
    reports: IpcSender<Report>,
    /// Taken by `hear_commands`.
    commands: Mutex<Option<IpcReceiver<Command>>>,
    started: Instant,
}

impl Process {
    /// Connects to the launcher (its address is the first argument, its pid the second), and opens the segment.
    ///
    /// # Errors
    /// The exit status, after having said why on standard error.
    pub fn start(about: &str) -> Result<Self, Exit> {
        let started = Instant::now();
        let mut arguments = std::env::args().skip(1);
        let (Some(address), Some(launcher)) = (arguments.next(), arguments.next()) else {
            // No log is begun: a person reads this. One who does not is no reason to panic.
            let _ = writeln!(std::io::stderr(), "{about}\n\nThis program is started by `framepipe up`, not by hand.");
            return Err(Exit::Usage);
        };
        log::start_in_process();
        Self::connect(started, &address, &launcher).map_err(|error| {
            error!("cannot start: {error}");
            log::end();
            Exit::Unusable
        })
    }

    fn connect(started: Instant, address: &str, launcher: &str) -> Result<Self, Box<dyn std::error::Error>> {
        abort_on_panic();
        // No orphan works on: the kernel kills this process when the launcher ends.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        let launcher: i32 = launcher.parse()?;
        if nix::unistd::getppid().as_raw() != launcher {
            return Err("the launcher ended before this process had started".into());
        }
        ignore_interrupts()?;
        let reports = IpcSender::connect(address.to_owned())?;
        let (sender, commands) = ipc::channel()?;
        reports.send(Report::Hello(sender))?;
        let Command::Start(order) =
            commands.recv().map_err(|error| format!("no order from the launcher: {error:?}"))?
        else {
            return Err("the launcher's first word was no order".into());
        };
        let of_stage = order.config.stages.get(order.stage).map(|stage| stage.nice);
        if let Some(nice) = of_stage.or((order.stage == KEEPER).then_some(KEEPER_NICE)) {
            // Before any thread is started: threads inherit it.
            rustix::process::setpriority_process(None, nice)?;
        }
        let (access, used) = match (STAGES.get(order.stage), order.stage) {
            (Some(row), _) => (row.access(), row.cache_use()),
            (None, KEEPER) => (keeper_access(), Use::ALL),
            (None, _) => (gateway_access(), gateway_cache_use()),
        };
        let listeners = order.listeners.iter().map(|it| (it.protocol, inherited(it.number))).collect();
        let slabs: Vec<Slab> = order.slabs.iter().map(InheritedSlab::take).collect();
        let in_host_memory: Vec<HostSlab<'_>> = slabs.iter().filter_map(Slab::in_host_memory).collect();
        let open = || {
            let mut segment = Segment::open(&order.segment, access)?;
            segment.map_slabs(&in_host_memory)?;
            Ok((segment, Area::open(&cache_folder(&order.segment), used)?))
        };
        let (segment, area) = match open() {
            Ok(opened) => opened,
            Err::<_, Box<dyn std::error::Error>>(error) => {
                reports.send(Report::Failed { message: error.to_string() })?;
                return Err(error);
            }
        };
        // They live as long as the process: nothing is gained by unmapping them before the end.
        let (segment, area) = (Box::leak(Box::new(segment)), Box::leak(Box::new(area)));
        let stop = Arc::new(AtomicBool::new(false));
        let (listeners, commands) = (Mutex::new(listeners), Mutex::new(Some(commands)));
        Ok(Self { order: *order, stop, segment, area, slabs, listeners, reports, commands, started })
    }

    /// The segment.
    pub fn segment(&self) -> &'static Segment {
        self.segment
    }

    /// The cache.
    pub fn area(&self) -> &'static Area {
        self.area
    }

    /// The slab of a handed pool that this stage reads or writes: for one that reaches its slots by other means than a mapping.
    pub fn slab(&self, pool: Pool) -> Option<&Slab> {
        self.slabs.iter().find(|slab| slab.pool == pool)
    }

    /// The listeners that the gateway inherited; none, from the second time on.
    pub fn take_listeners(&self) -> Vec<(Protocol, OwnedFd)> {
        std::mem::take(&mut *self.listeners.lock().expect("no holder of this lock panics"))
    }

    /// This process's entry in the table.
    pub fn entry(&self) -> &'static ProcessEntry {
        &self.segment.processes()[self.order.entry]
    }

    /// A worker of this process at a queue.
    pub fn worker(&self, queue: usize) -> Worker<'static> {
        Worker::new(self.segment, self.order.owner, queue)
    }

    /// Tells the launcher that this process takes frames.
    pub fn ready(&self) {
        self.entry().beat();
        self.entry().set_state(ProcessState::Ready);
        self.report(Report::Ready { ms: self.started.elapsed().as_millis() as u64 });
    }

    /// Tells the launcher that this process cannot go on.
    pub fn failed(&self, error: &dyn std::fmt::Display) -> Exit {
        self.ends_as(Exit::Unusable, error)
    }

    /// Tells the launcher that this process is held for dead, and so has nothing in hand any more.
    pub fn lost(&self, lost: &Lost) -> Exit {
        self.ends_as(Exit::Lost, lost)
    }

    fn ends_as(&self, exit: Exit, error: &dyn std::fmt::Display) -> Exit {
        error!("{error}");
        self.report(Report::Failed { message: error.to_string() });
        exit
    }

    /// Tells the launcher something. A launcher that is gone takes this process with it, so nothing else is done.
    pub fn report(&self, report: Report) {
        let _ = self.reports.send(report);
    }

    /// Starts the thread that hears commands: a stop sets the flag and wakes whoever sleeps; all others go to `hear`.
    pub fn hear_commands(&self, mut hear: impl FnMut(Command) + Send + 'static) {
        let commands = self.commands.lock().expect("no holder of this lock panics").take();
        let commands = commands.expect("commands are heard by one thread");
        let (stop, segment, entry) = (self.stop.clone(), self.segment, self.entry());
        let listen = move || {
            // Ends with the launcher, at the latest.
            while let Ok(command) = commands.recv() {
                if let Command::Stop = command {
                    entry.set_state(ProcessState::Stopping);
                    stop.store(true, Ordering::Release);
                    segment.wake_all();
                }
                hear(command);
            }
        };
        thread::Builder::new().name("control".into()).spawn(listen).expect("a thread can be started");
    }
}

/// A panic, on whatever thread, is a death like any other: the launcher sees a signal, repairs, and holds the frames in
/// hand suspect. Without it the panic of one thread would leave half a process behind.
fn abort_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

/// Ctrl-C and a service manager's SIGTERM reach the whole process group; they are the launcher's to handle.
fn ignore_interrupts() -> nix::Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        ignore(signal)?;
    }
    Ok(())
}

#[allow(unsafe_code, reason = "signal(2) with SIG_IGN")]
fn ignore(signal: Signal) -> nix::Result<()> {
    // SAFETY: SIG_IGN runs no code of ours in a signal handler.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }.map(drop)
}

/// A stage's `main`: starts the process, opens the stage, and goes round its loop until it is told to stop.
pub fn run_stage<S: Stage, E: std::fmt::Display>(about: &str, open: impl FnOnce(&Process) -> Result<S, E>) -> ExitCode {
    let process = match Process::start(about) {
        Ok(process) => process,
        Err(exit) => return exit.into(),
    };
    let mut stage = match open(&process) {
        Ok(stage) => stage,
        Err(error) => return process.failed(&error).into(),
    };
    process.hear_commands(|_| {});
    process.ready();
    let parity = process.order.generations.first().map_or(0, Generation::parity);
    let context = LoopContext {
        worker: process.worker(queue_before(process.order.stage, parity)),
        cache: Cache { area: process.area, owner: process.order.owner },
        entry: process.entry(),
        stage: process.order.stage,
        parity,
        config: process.order.config.stages[process.order.stage].clone(),
        attempts_max: process.order.config.attempts_max,
        quarantine: process.order.config.quarantine.clone(),
        stop: &process.stop,
    };
    let exit = match stage_loop::run(&mut stage, &context) {
        Ok(()) => Exit::Done,
        Err(lost) => process.lost(&lost),
    };
    log::end();
    exit.into()
}
