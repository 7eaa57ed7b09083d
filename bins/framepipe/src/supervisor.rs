//! The launcher's loop. Single-threaded: it alone spawns, waits, repairs and restarts.

use std::{
    os::fd::OwnedFd,
    process::ExitStatus,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender};
use framepipe_pipeline::{Command, Config, Exit, GATEWAY, GATEWAY_BINARY, Report, STAGES, StartOrder};
use framepipe_shm::{Blame, Segment, Sweeper};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::{
    child::{Child, Word},
    proc_stat::start_time,
};

/// Between two sweeps for what a lost hint or wake-up left behind.
const SWEEP: Duration = Duration::from_millis(500);
/// Wait before a second restart; doubled each time, up to the most.
const BACKOFF_LEAST: Duration = Duration::from_millis(100);
const BACKOFF_MOST: Duration = Duration::from_secs(10);
/// A process that has lived so long starts again at once.
const HEALTHY: Duration = Duration::from_secs(10);
/// For a process that was told to stop, to end by itself.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Takes SIGINT and SIGTERM from now on. To be called before any thread is started: a thread that does not block them
/// would be the one to die of them.
pub fn take_signals() -> anyhow::Result<SignalFd> {
    let mut mask = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM].into_iter().for_each(|signal| mask.add(signal));
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
enum Phase {
    /// Stages warm up; the gateway follows when all are ready.
    Starting,
    Running,
    /// New frames are refused, the accepted ones finished.
    Draining,
    Stopping {
        end: End,
        since: Instant,
    },
}

/// One place in the pipeline that a process fills.
struct Place {
    stage: usize,
    instance: usize,
    entry: usize,
    child: Option<Child>,
    started: Instant,
    restart_at: Option<Instant>,
    backoff: Duration,
    was_ready: bool,
    failure: Option<String>,
}

/// The supervisor of one pipeline.
pub struct Supervisor<'a> {
    config: &'a Config,
    segment: &'static Segment,
    listeners: &'a [OwnedFd],
    places: Vec<Place>,
    words: (Sender<Word>, Receiver<Word>),
    wake: OwnedFd,
    signals: SignalFd,
    phase: Phase,
    started: Instant,
    sweeper: Sweeper,
}

impl<'a> Supervisor<'a> {
    /// A supervisor; nothing is started yet.
    pub fn new(
        config: &'a Config,
        segment: &'static Segment,
        listeners: &'a [OwnedFd],
        signals: SignalFd,
    ) -> anyhow::Result<Self> {
        let instances = config.stages.iter().enumerate();
        let stages = instances.flat_map(|(stage, config)| (0..config.processes as usize).map(move |one| (stage, one)));
        let places = stages.chain([(GATEWAY, 0)]).enumerate();
        Ok(Self {
            places: places.map(|(entry, (stage, instance))| Place::new(stage, instance, entry)).collect(),
            config,
            segment,
            listeners,
            words: crossbeam_channel::unbounded(),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            signals,
            phase: Phase::Starting,
            started: Instant::now(),
            sweeper: Sweeper::default(),
        })
    }

    /// Starts everything, and goes round until the pipeline has ended.
    pub fn run(mut self) -> anyhow::Result<End> {
        let ended = self.supervise();
        if ended.is_err() {
            self.end_all();
        }
        ended
    }

    fn supervise(&mut self) -> anyhow::Result<End> {
        for place in 0..self.places.len() - 1 {
            self.spawn(place)?;
        }
        let mut next_sweep = Instant::now() + SWEEP;
        loop {
            self.wait(next_sweep)?;
            self.read_signals()?;
            while let Ok(word) = self.words.1.try_recv() {
                self.hear(word)?;
            }
            self.bury()?;
            self.restart_due();
            if Instant::now() >= next_sweep {
                next_sweep = Instant::now() + SWEEP;
                self.sweeper.sweep(self.segment);
            }
            if let Some(end) = self.advance()? {
                return Ok(end);
            }
        }
    }

    /// Sleeps until something happened, or is due.
    fn wait(&self, next_sweep: Instant) -> anyhow::Result<()> {
        let due = self.places.iter().filter_map(|place| place.restart_at).chain([next_sweep]).min();
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
        let _ = rustix::io::read(&self.wake, &mut [0; 8]); // empty: it was something else
        Ok(())
    }

    fn read_signals(&mut self) -> anyhow::Result<()> {
        while let Some(signal) = self.signals.read_signal()? {
            let name = Signal::try_from(signal.ssi_signo as i32).map_or("a signal", Signal::as_str);
            match self.phase {
                Phase::Starting | Phase::Running => {
                    framepipe_pipeline::say!(
                        "{name}: finishing what was accepted, refusing new frames; once more to stop at once"
                    );
                    self.phase = Phase::Draining;
                    self.command_gateway(Command::Drain);
                }
                Phase::Draining => {
                    framepipe_pipeline::say!(
                        "{name} again: stopping at once; frames in flight are kept for the next start"
                    );
                    self.stop(End::Forced);
                }
                Phase::Stopping { .. } => {}
            }
        }
        Ok(())
    }

    fn command_gateway(&self, command: Command) {
        if let Some(child) = self.places.last().and_then(|place| place.child.as_ref()) {
            child.command(command);
        }
    }

    fn stop(&mut self, end: End) {
        self.phase = Phase::Stopping { end, since: Instant::now() };
        for place in &mut self.places {
            place.restart_at = None;
            if let Some(child) = &mut place.child {
                if child.is_ready { child.command(Command::Stop) } else { child.kill() }
            }
        }
    }

    fn hear(&mut self, word: Word) -> anyhow::Result<()> {
        let is_his = |place: &&mut Place| place.child.as_ref().is_some_and(|child| child.pid == word.pid);
        let Some(place) = self.places.iter_mut().find(is_his) else { return Ok(()) }; // said before it died
        let Some(child) = &mut place.child else { return Ok(()) };
        match word.report {
            Report::Hello(commands) => child.introduced(commands),
            Report::Ready { ms } => {
                child.is_ready = true;
                place.was_ready = true;
                match self.phase {
                    Phase::Draining if place.stage == GATEWAY => child.command(Command::Drain),
                    Phase::Stopping { .. } => child.command(Command::Stop),
                    _ => framepipe_pipeline::say!("{} is ready after {ms} ms", place.title()),
                }
            }
            Report::Failed { message } => place.failure = Some(message),
            Report::Drained => {
                if self.phase == Phase::Draining {
                    self.stop(End::Drained);
                }
            }
        }
        Ok(())
    }

    /// Waits for the dead, repairs what they had, and says when each starts again.
    fn bury(&mut self) -> anyhow::Result<()> {
        let mut blame = None;
        for index in 0..self.places.len() {
            let Some(child) = &mut self.places[index].child else { continue };
            let mut fds = [PollFd::from_borrowed_fd(child.pidfd(), PollFlags::IN)];
            if poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
                continue;
            }
            let status = child.wait()?;
            let place = &mut self.places[index];
            place.child = None;
            self.segment.processes()[place.entry].vacate();
            let done = status.code() == Some(Exit::Done as i32);
            if done && matches!(self.phase, Phase::Stopping { .. }) {
                continue;
            }
            if blame != Some(Blame::Frames) {
                blame = Some(self.blame(status));
            }
            self.died(index, status)?;
        }
        // One repair for all who died by now.
        if let Some(blame) = blame {
            let start = Instant::now();
            let repair = self.segment.recover(blame);
            let frames = repair.reclaimed + repair.accepted;
            let us = start.elapsed().as_micros();
            framepipe_pipeline::say!("launcher: repaired in {us} µs: {frames} frames go back into their queues");
        }
        Ok(())
    }

    /// Whom a death blames: nobody, where the process ended by its own will or the launcher killed it; else the frames
    /// that it had in hand.
    fn blame(&self, status: ExitStatus) -> Blame {
        let own_will = [Exit::Done, Exit::Unusable, Exit::Lost].iter().any(|exit| status.code() == Some(*exit as i32));
        if own_will || matches!(self.phase, Phase::Stopping { .. }) { Blame::Nobody } else { Blame::Frames }
    }

    fn died(&mut self, index: usize, status: ExitStatus) -> anyhow::Result<()> {
        let place = &mut self.places[index];
        let title = place.title();
        let why = place.failure.take().unwrap_or_else(|| status.to_string());
        if !place.was_ready && status.code() == Some(Exit::Unusable as i32) {
            anyhow::bail!("{title} cannot start: {why}"); // it never could: starting it again would end the same way
        }
        if matches!(self.phase, Phase::Stopping { .. }) {
            return Ok(());
        }
        if place.started.elapsed() >= HEALTHY {
            place.backoff = Duration::ZERO;
        }
        let wait = place.postpone();
        let entry = &self.segment.processes()[place.entry];
        entry.set_restarts(entry.restarts() + 1);
        framepipe_pipeline::say!("launcher: {title} died ({why}); it starts again in {} ms", wait.as_millis());
        Ok(())
    }

    fn restart_due(&mut self) {
        let now = Instant::now();
        for index in 0..self.places.len() {
            if self.places[index].restart_at.is_some_and(|when| when <= now) {
                self.places[index].restart_at = None;
                if let Err(error) = self.spawn(index) {
                    // No memory, say, or no process: it may pass, and the others live.
                    let wait = self.places[index].postpone();
                    framepipe_pipeline::say!("launcher: {error:#}; another try in {} ms", wait.as_millis());
                }
            }
        }
    }

    fn spawn(&mut self, index: usize) -> anyhow::Result<()> {
        let place = &mut self.places[index];
        let owner = self.segment.new_owner();
        let entry = &self.segment.processes()[place.entry];
        entry.occupy(owner, place.stage, place.instance);
        let (binary, listeners) = match STAGES.get(place.stage) {
            Some(row) => (row.binary, &[][..]),
            None => (GATEWAY_BINARY, self.listeners),
        };
        let order = StartOrder {
            config: self.config.clone(),
            segment: self.segment.folder().to_owned(),
            owner,
            entry: place.entry,
            stage: place.stage,
            listeners: Vec::new(),
        };
        let child = Child::spawn(binary, order, listeners, self.words.0.clone(), self.wake.try_clone()?);
        let child = child.inspect_err(|_| entry.vacate())?;
        entry.started(child.pid, start_time(child.pid).unwrap_or(0));
        place.child = Some(child);
        place.started = Instant::now();
        Ok(())
    }

    /// Goes on to the next phase when its time has come; the end, when all have ended.
    fn advance(&mut self) -> anyhow::Result<Option<End>> {
        let is_ready = |place: &Place| place.child.as_ref().is_some_and(|child| child.is_ready);
        let gateway = self.places.len() - 1;
        match self.phase {
            // The gateway comes last: a client that finds it served finds a warm pipeline.
            Phase::Starting => {
                if self.places[gateway].child.is_none()
                    && self.places[gateway].restart_at.is_none()
                    && self.places[..gateway].iter().all(is_ready)
                {
                    self.spawn(gateway)?;
                } else if self.places.iter().all(is_ready) {
                    self.phase = Phase::Running;
                    framepipe_pipeline::say!(
                        "{} is ready after {} ms",
                        self.config.name,
                        self.started.elapsed().as_millis()
                    );
                }
                Ok(None)
            }
            Phase::Running => Ok(None),
            Phase::Draining => {
                let idle = self.places[gateway].child.is_none() && self.places[gateway].restart_at.is_none();
                let [free, writing, ..] = self.segment.job_census();
                if idle && free + writing == self.segment.geometry().jobs as usize {
                    self.stop(End::Drained); // no gateway was started yet, and no frame is in the segment
                } else if idle {
                    self.spawn(gateway)?; // frames that were taken over need one
                }
                Ok(None)
            }
            Phase::Stopping { end, since } => {
                if since.elapsed() > STOP_WAIT {
                    self.places.iter_mut().filter_map(|place| place.child.as_mut()).for_each(Child::kill);
                }
                Ok(self.places.iter().all(|place| place.child.is_none()).then_some(end))
            }
        }
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

impl Place {
    fn new(stage: usize, instance: usize, entry: usize) -> Self {
        Self {
            stage,
            instance,
            entry,
            child: None,
            started: Instant::now(),
            restart_at: None,
            backoff: Duration::ZERO,
            was_ready: false,
            failure: None,
        }
    }

    /// Puts the next start off, longer each time.
    fn postpone(&mut self) -> Duration {
        let wait = self.backoff;
        self.backoff = (wait * 2).clamp(BACKOFF_LEAST, BACKOFF_MOST);
        self.restart_at = Some(Instant::now() + wait);
        wait
    }

    fn title(&self) -> String {
        match (STAGES.get(self.stage), &self.child) {
            (Some(row), Some(child)) => format!("{}[{}] (pid {})", row.name, self.instance, child.pid),
            (Some(row), None) => format!("{}[{}]", row.name, self.instance),
            (None, _) => "gateway".into(),
        }
    }
}
