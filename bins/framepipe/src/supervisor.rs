//! The launcher's loop. Single-threaded: it alone spawns, waits, repairs and restarts.

use std::{
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender};
use framepipe_cache::Area;
use framepipe_pipeline::{
    Command, Config, Device, GATEWAY, GATEWAY_BINARY, GATEWAY_ENTRY, Generation, Generations, KEEPER, KEEPER_BINARY,
    KEEPER_ENTRY, Report, STAGES, StartOrder, entries_of, process_name,
};
use framepipe_shm::{Segment, Sweeper, monotonic_ns};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::event::{PollFd, PollFlags, poll};
use tracing::{error, info, warn};

use crate::{
    auto::Auto,
    child::{Child, Handed, WORDS_MAX, Word},
    cpus::Pins,
    deaths::Repairs,
    notify::Notifier,
    orders::{Desk, Order, Said, WAITING_MAX},
    place::{Place, work_of},
    proc_stat::start_time,
    start_up::StartUp,
    status::BatchMax,
    swap::{Shared, Swap},
    work::Work,
};

/// Between two sweeps for what a lost hint or wake-up left behind.
const SWEEP: Duration = Duration::from_millis(500);
/// Between two looks for an old generation's last frame, or for the end of those who shared a GPU that had a fault.
const LOOK: Duration = Duration::from_millis(10);
/// Of a signal that the kernel sends by itself: `SI_KERNEL`.
const SI_KERNEL: i32 = 0x80;
/// For a process that was told to stop, to end by itself, without a sign of life.
pub const STOP_WAIT: Duration = Duration::from_secs(10);

/// Takes SIGINT, SIGTERM and SIGHUP from now on. To be called before any thread is started: a thread that does not block them
/// would be the one to die of them.
pub fn take_signals() -> anyhow::Result<SignalFd> {
    let mut mask = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|signal| mask.add(signal));
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// How a pipeline ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Drained: every accepted frame has its result.
    Drained,
    /// Forced by a second signal: frames are left in the segment for a later launcher.
    Forced,
}

/// What the pipeline is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The keeper starts, and stages warm up; the gateway follows when all are ready.
    Starting,
    /// All serve.
    Running,
    /// New frames are refused, the accepted ones finished.
    Draining,
    /// All were told to end.
    Stopping {
        /// How the pipeline ended.
        end: End,
        /// Since when.
        since: Instant,
    },
}

/// The supervisor of one pipeline.
pub struct Supervisor<'a> {
    /// Its stages are as they shall be by now.
    pub(crate) config: Config,
    /// As it was read last, but for what waits for the next start.
    pub(crate) loaded: Config,
    pub(crate) pins: Pins,
    pub(crate) auto: Option<Auto>,
    pub(crate) segment: &'static Segment,
    pub(crate) area: &'static Area,
    pub(crate) handed: Handed<'a>,
    /// By entry in the process table.
    pub(crate) places: Vec<Place>,
    pub(crate) generations: Shared,
    /// The configuration with the models that the segment was made for.
    made_for: Config,
    /// By parity, the generation whose workers shall run.
    pub(crate) serving: [Option<Generation>; 2],
    pub(crate) swap: Swap,
    pub(crate) desk: Arc<Desk>,
    pub(crate) orders: Receiver<Order>,
    pub(crate) work: Option<Work>,
    /// The newest generation whose results the gateway can encode.
    pub(crate) encodes: Option<u64>,
    words: (Sender<Word>, Receiver<Word>),
    wake: OwnedFd,
    signals: SignalFd,
    pub(crate) phase: Phase,
    pub(crate) repairs: Repairs,
    batch_max: BatchMax,
    /// When the launcher last woke up.
    pub(crate) woken_ns: u64,
    /// When it last looked for hung processes, and since when it has done so without a standstill of its own.
    pub(crate) looked_ns: u64,
    pub(crate) awake_since_ns: u64,
    /// What the start takes, until the pipeline is ready.
    start_up: StartUp,
    /// Whose process got ready last, of those before the gateway.
    last_ready: String,
    sweeper: Sweeper,
    pub(crate) notifier: Notifier,
}

impl<'a> Supervisor<'a> {
    /// A supervisor; nothing is started yet. `wake` wakes its loop.
    pub fn new(
        (loaded, pins): (Config, Pins),
        (segment, area): (&'static Segment, &'static Area),
        handed: Handed<'a>,
        signals: SignalFd,
        (repairs, generations, batch_max): (Repairs, Shared, BatchMax),
        (desk, orders, wake): (Arc<Desk>, Receiver<Order>, OwnedFd),
    ) -> Self {
        let stages = (0..2).flat_map(|parity| (0..STAGES.len()).map(move |stage| (stage, parity)));
        let workers = stages.flat_map(|(stage, parity)| {
            entries_of(stage, parity)
                .enumerate()
                .map(move |(instance, entry)| Place::new(stage, instance, parity, entry))
        });
        let others =
            [(GATEWAY, GATEWAY_ENTRY), (KEEPER, KEEPER_ENTRY)].map(|(stage, entry)| Place::new(stage, 0, 0, entry));
        let places: Vec<Place> = workers.chain(others).collect();
        debug_assert!(places.iter().enumerate().all(|(index, place)| index == place.entry));
        // What a dead launcher left goes on with as many processes as it had by then.
        let config = generations.lock().in_force(&loaded);
        let Generations { living, made_for, .. } = generations.lock().clone();
        let swap = match living.as_slice() {
            [old, _] => Swap::Finishing { old: old.clone(), is_told: false, said: Said::to_the_log() },
            _ => Swap::Idle,
        };
        let mut serving = [None, None];
        living.into_iter().for_each(|one| serving[one.parity()] = Some(one.clone()));
        let mut supervisor = Self {
            places,
            made_for: made_for.applied_to(&config),
            auto: Auto::of(&config),
            config,
            loaded,
            pins,
            generations,
            serving,
            swap,
            desk,
            orders,
            work: None,
            encodes: None,
            segment,
            area,
            handed,
            words: crossbeam_channel::bounded(WORDS_MAX),
            wake,
            signals,
            phase: Phase::Starting,
            repairs,
            batch_max,
            woken_ns: 0,
            looked_ns: 0,
            awake_since_ns: 0,
            start_up: StartUp::begin(),
            last_ready: String::new(),
            sweeper: Sweeper::default(),
            notifier: Notifier::of_environment(),
        };
        (0..2).for_each(|parity| supervisor.want_as_configured(parity));
        supervisor
    }

    /// Starts everything, and goes round until the pipeline has ended. The start began before, as `start_up` knows.
    pub fn run(mut self, start_up: StartUp) -> anyhow::Result<End> {
        self.start_up = start_up;
        let ended = self.supervise();
        if ended.is_err() {
            self.end_all();
        }
        ended
    }

    fn supervise(&mut self) -> anyhow::Result<End> {
        for place in [KEEPER_ENTRY].into_iter().chain(0..GATEWAY_ENTRY) {
            if self.is_wanted(&self.places[place]) {
                self.spawn(place)?;
            }
        }
        let mut next_sweep = Instant::now() + SWEEP;
        loop {
            self.show_wanted();
            self.wait(next_sweep)?;
            self.read_signals()?;
            if self.desk.take_drain() {
                self.drain("framepipe drain");
            }
            self.hear_all();
            self.bury()?;
            self.restart_due();
            if Instant::now() >= next_sweep {
                next_sweep = Instant::now() + SWEEP;
                self.sweeper.sweep(self.segment);
                self.kill_hung();
                self.look_at_load();
            }
            self.advance_swap()?;
            while self.advance_work() {}
            let end = self.advance()?;
            self.tell_manager();
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    /// Sleeps until something happened, or is due.
    fn wait(&mut self, next_sweep: Instant) -> anyhow::Result<()> {
        let look = self.watches_frames().then(|| Instant::now() + LOOK);
        let due = self.places.iter().filter_map(|place| place.restart_at).chain(look).chain([next_sweep]).min();
        let left = due.unwrap_or(next_sweep).saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let children = self.places.iter().filter_map(|place| place.child.as_ref());
        let mut fds: Vec<PollFd<'_>> =
            vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
        fds.extend(children.map(|child| PollFd::from_borrowed_fd(child.pidfd(), PollFlags::IN)));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the processes"),
        }
        self.woken_ns = monotonic_ns();
        let _ = rustix::io::read(&self.wake, &mut [0; 8]); // empty: it was something else
        Ok(())
    }

    fn read_signals(&mut self) -> anyhow::Result<()> {
        while let Some(signal) = self.signals.read_signal()? {
            let name = Signal::try_from(signal.ssi_signo as i32).map_or("a signal", Signal::as_str);
            // The kernel itself sends it where the terminal is gone that the launcher was started from, which is no wish to reload.
            if name == Signal::SIGHUP.as_str() && signal.ssi_code != SI_KERNEL {
                self.reload_by_signal();
                continue;
            }
            match self.phase {
                Phase::Starting | Phase::Running => self.drain(name),
                Phase::Draining => {
                    warn!("{name} again: stopping at once; frames in flight are kept for the next start");
                    self.stop(End::Forced);
                }
                Phase::Stopping { .. } => {}
            }
        }
        Ok(())
    }

    fn reload_by_signal(&self) {
        match self.desk.in_turn(|desk| desk.reload(drop)) {
            Ok(true) => {}
            Ok(false) => warn!("SIGHUP: {WAITING_MAX} changes wait for their turn already: it is not heeded"),
            Err(error) => error!("SIGHUP: the configuration is not read again: {error}"),
        }
    }

    /// Refuses new frames, finishes what was accepted, and ends then.
    fn drain(&mut self, why: &str) {
        if !matches!(self.phase, Phase::Starting | Phase::Running) {
            return;
        }
        info!("{why}: finishing what was accepted, refusing new frames; SIGTERM or SIGINT from now on stops at once");
        self.phase = Phase::Draining;
        self.give_up_work("the pipeline stops");
        // One that is not ready has not counted the frames yet, and is told when it is.
        let gateway = self.places[GATEWAY_ENTRY].child.as_ref();
        gateway.filter(|child| child.is_ready).into_iter().for_each(|child| child.command(Command::Drain));
    }

    fn stop(&mut self, end: End) {
        self.phase = Phase::Stopping { end, since: Instant::now() };
        for place in &mut self.places {
            place.restart_at = None;
            place.child.iter_mut().for_each(|child| child.stop());
        }
    }

    /// Says in the process table which entries shall have a process, and what batches may be, for those who read it.
    fn show_wanted(&self) {
        self.batch_max.show(&self.config.stages);
        for place in &self.places {
            let (entry, is_wanted) = (&self.segment.processes()[place.entry], self.is_wanted(place));
            if entry.is_wanted() != is_wanted {
                entry.set_wanted(is_wanted);
            }
        }
    }

    /// Hears what processes have reported by now; of one that goes on reporting, the rest at the next round.
    pub(crate) fn hear_all(&mut self) {
        let words: Vec<Word> = self.words.1.try_iter().take(WORDS_MAX).collect();
        words.into_iter().for_each(|word| self.hear(word));
    }

    fn hear(&mut self, word: Word) {
        let is_his = |place: &&mut Place| place.child.as_ref().is_some_and(|child| child.pid == word.pid);
        let Some(place) = self.places.iter_mut().find(is_his) else { return }; // said before it died
        let Some(child) = &mut place.child else { return };
        match word.report {
            Report::Hello(commands) => child.introduced(commands),
            Report::Ready { ms } => {
                child.is_ready = true;
                place.was_ready = true;
                if place.stage != GATEWAY && self.phase == Phase::Starting {
                    self.last_ready = format!("{}[{}]", process_name(place.stage), place.instance);
                }
                if place.stage == GATEWAY {
                    self.encodes = child.encodes;
                    if let Swap::Warming(next) = &self.swap
                        && self.encodes != Some(next.generation.number)
                    {
                        child.command(Command::Encode(Box::new(next.generation.clone()))); // it began before the generation did
                    }
                }
                match self.phase {
                    Phase::Draining if place.stage == GATEWAY => child.command(Command::Drain),
                    Phase::Stopping { .. } => child.stop(),
                    _ => info!("{} is ready after {ms} ms", place.title()),
                }
            }
            Report::Encodes { generation } if place.stage == GATEWAY => self.encodes = Some(generation),
            Report::Failed { message } => {
                child.has_failed = true;
                place.failure = Some(message);
            }
            Report::Drained if place.stage == GATEWAY && self.phase == Phase::Draining => self.stop(End::Drained),
            Report::Drained | Report::Encodes { .. } => {} // said too late, or by one who cannot know
        }
    }

    fn restart_due(&mut self) {
        let now = Instant::now();
        let is_condemned = |place: &Place| place.child.as_ref().is_some_and(|child| child.is_condemned);
        if self.places.iter().any(is_condemned) {
            // The GPU takes new processes when all that met its fault have ended.
            let are_due = |place: &&mut Place| place.uses_gpu() && place.restart_at.is_some_and(|when| when <= now);
            self.places.iter_mut().filter(are_due).for_each(|place| place.restart_at = Some(now + LOOK));
        }
        for index in 0..self.places.len() {
            if self.places[index].restart_at.is_some_and(|when| when <= now) {
                self.places[index].restart_at = None;
                if let Err(error) = self.spawn(index) {
                    // No memory, say, or no process: it may pass, and the others live.
                    let wait = self.places[index].postpone();
                    error!("{error:#}; another try in {} ms", wait.as_millis());
                }
            }
        }
    }

    pub(crate) fn spawn(&mut self, index: usize) -> anyhow::Result<()> {
        let wake = self.wake.try_clone()?; // first: from the entry on, what fails vacates it
        let place = &mut self.places[index];
        let owner = self.segment.new_owner();
        let entry = &self.segment.processes()[place.entry];
        entry.occupy(owner, place.stage, place.instance);
        let (binary, handed) = match STAGES.get(place.stage) {
            Some(row) => (row.binary, self.handed.of_stage(row)),
            None if place.stage == KEEPER => (KEEPER_BINARY, self.handed.of_keeper()),
            None => (GATEWAY_BINARY, self.handed.of_gateway()),
        };
        let handed = handed.bound_to(self.pins.of_stage(place.stage));
        let (config, generations) = match &self.serving[place.parity] {
            Some(generation) if place.is_worker() => (generation.applied_to(&self.config), vec![generation.clone()]),
            _ => {
                let mut config = Config { stages: self.config.stages.clone(), ..self.made_for.clone() };
                if let Some(gpu) = self.handed.gpu {
                    config.device = Device::Gpu(Some(gpu.uuid().into())); // which one it is, for its figures
                }
                (config, self.generations.lock().living.clone())
            }
        };
        let encodes = generations.last().map(|generation| generation.number);
        let title = place.name();
        let order = StartOrder {
            config,
            generations,
            segment: self.segment.folder().to_owned(),
            owner,
            entry: place.entry,
            stage: place.stage,
            listeners: Vec::new(),
            slabs: Vec::new(),
        };
        let child = Child::spawn((binary, title), order, &handed, self.words.0.clone(), wake);
        let mut child = child.inspect_err(|_| entry.vacate())?;
        entry.started(child.pid, start_time(child.pid).unwrap_or(0));
        // Before it has its order, and with that anything to take memory for.
        self.handed.groups.admit(process_name(place.stage), child.pid);
        child.encodes = encodes;
        place.child = Some(child);
        place.started = Instant::now();
        place.failure = None;
        place.work_before = work_of(entry);
        Ok(())
    }

    /// Goes on to the next phase when its time has come; the end, when all have ended.
    fn advance(&mut self) -> anyhow::Result<Option<End>> {
        let is_ready = |place: &Place| place.child.as_ref().is_some_and(|child| child.is_ready);
        // A keeper that died holds nothing up: frames pass without it.
        let is_dead_keeper = |place: &Place| place.stage == KEEPER && place.child.is_none();
        let is_wanting = |place: &Place| self.is_wanted(place) && !is_ready(place) && !is_dead_keeper(place);
        let gateway = GATEWAY_ENTRY;
        match self.phase {
            // The gateway comes last: a client that finds it served finds a warm pipeline.
            Phase::Starting => {
                if self.places[gateway].child.is_none()
                    && self.places[gateway].restart_at.is_none()
                    && !self.places.iter().filter(|place| place.stage != GATEWAY).any(is_wanting)
                {
                    self.start_up.done(format!("stages up to {}", self.last_ready));
                    self.spawn(gateway)?;
                } else if !self.places.iter().any(is_wanting) {
                    self.phase = Phase::Running;
                    self.start_up.done("gateway");
                    info!("{} is ready after {}", self.config.name, self.start_up.words());
                }
                Ok(None)
            }
            Phase::Running => Ok(None),
            Phase::Draining => {
                let idle = self.places[gateway].child.is_none() && self.places[gateway].restart_at.is_none();
                let [free, writing, ..] = self.segment.job_census();
                if idle && free + writing == self.segment.frame_jobs() as usize {
                    self.stop(End::Drained); // no gateway was started yet, and no frame is in the segment
                } else if idle {
                    // Frames that were taken over need one. At the next round, which tries again where it cannot start.
                    self.places[gateway].restart_at = Some(Instant::now());
                }
                Ok(None)
            }
            Phase::Stopping { end, since } => {
                for place in 0..self.places.len() {
                    // A gateway that takes many results to the disk beats meanwhile.
                    if since.elapsed().min(self.silence_of(place)) > STOP_WAIT {
                        self.places[place].child.as_mut().into_iter().for_each(Child::kill);
                    }
                }
                Ok(self.places.iter().all(|place| place.child.is_none()).then_some(end))
            }
        }
    }

    /// True where a process shall fill a place.
    pub(crate) fn is_wanted(&self, place: &Place) -> bool {
        !place.is_worker() || (place.is_wanted && self.serving[place.parity].is_some())
    }

    /// Kills all that still live, and waits for them.
    fn end_all(&mut self) {
        for child in self.places.iter_mut().filter_map(|place| place.child.as_mut()) {
            child.kill();
        }
        for place in &mut self.places {
            if let Some(mut child) = place.child.take() {
                let _ = child.wait(); // the failure that brought us here is the one to tell
                self.segment.processes()[place.entry].vacate();
            }
        }
    }
}
