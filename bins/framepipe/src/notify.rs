//! What a service manager is told (`sd_notify`): when the pipeline serves, what it is at, that it drains or reloads, and, for
//! its watchdog, that it works.
//!
//! What shall be known is compared with what was told, every half second and whenever something happened; what could not be
//! said (the manager takes no more for the moment) is said at the next look. Nothing here ever waits. Without a manager
//! nothing is said.

use std::{
    env,
    io::{self, ErrorKind},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process::Command,
    time::{Duration, Instant},
};

use framepipe_pipeline::{GATEWAY, STAGES};
use framepipe_shm::monotonic_ns;
use sd_notify::NotifyState;
use tracing::warn;

use crate::{
    place::Place,
    supervisor::{Phase, Supervisor},
};

/// Where the manager listens.
const SOCKET: &str = "NOTIFY_SOCKET";
/// What a manager says to this process alone: no process of the pipeline shall take it for itself.
const VARIABLES: [&str; 6] = [SOCKET, "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
/// Names of processes in a status line.
const NAMES_MAX: usize = 8;

/// Hides from a process that is about to be started what the manager said to this one.
pub fn hide(command: &mut Command) {
    for name in VARIABLES {
        command.env_remove(name);
    }
}

/// The manager, and what it was told.
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// Between two signs of life: half of what the manager waits for one.
    interval: Option<Duration>,
    signed: Option<Instant>,
    is_told_ready: bool,
    is_reloading: bool,
    is_told_stopping: bool,
    status: String,
}

impl Notifier {
    /// Of the manager that started this process, where one did.
    pub fn of_environment() -> Self {
        let socket = env::var_os(SOCKET).map(|name| connect(name.as_bytes()));
        let socket = socket.and_then(|connected| {
            connected.inspect_err(|error| warn!("the service manager cannot be told anything: {error}")).ok()
        });
        let interval = sd_notify::watchdog_enabled().filter(|wait| !wait.is_zero()).map(|wait| wait / 2);
        Self {
            socket,
            interval,
            signed: None,
            is_told_ready: false,
            is_reloading: false,
            is_told_stopping: false,
            status: String::new(),
        }
    }

    /// Says that the configuration is being read again. What follows is told when it is done ([`Self::reloaded`]).
    pub fn reloading(&mut self) {
        let Ok(now) = NotifyState::monotonic_usec_now() else { return };
        if self.tell(&[NotifyState::Reloading, now]) {
            (self.is_told_ready, self.is_reloading) = (false, true);
        }
    }

    /// Says that it was.
    pub fn reloaded(&mut self) {
        self.is_reloading = false;
        if !self.is_told_ready {
            self.is_told_ready = self.tell(&[NotifyState::Ready]);
        }
    }

    /// Says what of this is news: that the pipeline serves, that it stops, and what it is at.
    fn update(&mut self, is_ready: bool, is_stopping: bool, status: String) {
        if is_ready && !self.is_told_ready && !self.is_reloading {
            self.is_told_ready = self.tell(&[NotifyState::Ready]);
        }
        if is_stopping && !self.is_told_stopping {
            self.is_told_stopping = self.tell(&[NotifyState::Stopping]);
        }
        if status != self.status && self.tell(&[NotifyState::Status(&status)]) {
            self.status = status;
        }
    }

    /// True when a sign of life is due.
    fn is_sign_due(&self) -> bool {
        let is_old = |interval| self.signed.is_none_or(|signed| signed.elapsed() >= interval);
        self.socket.is_some() && self.interval.is_some_and(is_old)
    }

    /// Gives a sign of life.
    fn sign(&mut self) {
        if self.tell(&[NotifyState::Watchdog]) {
            self.signed = Some(Instant::now());
        }
    }

    /// False where it could not be said. Without a manager there is nobody to miss it.
    fn tell(&self, states: &[NotifyState<'_>]) -> bool {
        let Some(socket) = &self.socket else { return true };
        let words: Vec<String> = states.iter().map(NotifyState::to_string).collect();
        socket.send(words.join("\n").as_bytes()).is_ok()
    }
}

/// A socket to the manager's, which may be a file or, by a leading `@`, an abstract name.
fn connect(name: &[u8]) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    let address = match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
        _ => {
            let words = format!("{SOCKET} = {} is neither a path nor an abstract name", name.escape_ascii());
            return Err(io::Error::new(ErrorKind::InvalidInput, words));
        }
    };
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Supervisor<'_> {
    /// Tells the manager what has changed, and gives it a sign of life where one is due and the pipeline works.
    pub(crate) fn tell_manager(&mut self) {
        if self.notifier.socket.is_none() {
            return;
        }
        let is_serving = self.phase == Phase::Running;
        let is_stopping = matches!(self.phase, Phase::Draining | Phase::Stopping { .. });
        let status = self.status_line();
        self.notifier.update(is_serving, is_stopping, status);
        if self.notifier.is_sign_due() && self.works() {
            self.notifier.sign();
        }
    }

    /// What the pipeline is at, in a line.
    fn status_line(&self) -> String {
        match self.phase {
            Phase::Starting | Phase::Running => {
                let wanted = || self.places.iter().enumerate().filter(|(index, place)| self.is_due(*index, place));
                let missing: Vec<&Place> = wanted().map(|(_, place)| place).filter(|place| !is_ready(place)).collect();
                let (ready, all) = (wanted().count() - missing.len(), wanted().count());
                match (self.phase, missing.as_slice()) {
                    (Phase::Starting, _) => format!("starting: {ready} of {all} processes are ready"),
                    (_, []) => format!("serving: {all} processes"),
                    (_, missing) => format!("serving: {ready} of {all} processes; not ready: {}", names(missing)),
                }
            }
            Phase::Draining => {
                let [free, writing, ..] = self.segment.job_census();
                format!("draining: {} frames are left", self.segment.frame_jobs() as usize - free - writing)
            }
            Phase::Stopping { .. } => "stopping".into(),
        }
    }

    /// True where a place shall have a process that serves: one of a generation that gets warm serves nothing yet.
    fn is_due(&self, index: usize, place: &Place) -> bool {
        self.is_wanted(place) && !self.is_warming(index)
    }

    /// True while each stage that is wanted, and the gateway, has a process that takes frames and has beaten since it would
    /// be held for hung. Frames pass without the keeper. Who stops has nothing to show any more: the manager bounds that.
    fn works(&self) -> bool {
        if matches!(self.phase, Phase::Stopping { .. }) {
            return true;
        }
        let lives = |place: &Place| is_ready(place) && self.silence(place, monotonic_ns()) <= self.silence_max(place);
        let groups = [0, 1].into_iter().flat_map(|parity| (0..STAGES.len()).map(move |stage| (parity, stage)));
        groups.chain([(0, GATEWAY)]).all(|group| {
            let due = || {
                let places = self.places.iter().enumerate().filter(|(index, place)| self.is_due(*index, place));
                places.map(|(_, place)| place).filter(|place| (place.parity, place.stage) == group)
            };
            due().next().is_none() || due().any(lives)
        })
    }
}

fn is_ready(place: &Place) -> bool {
    place.child.as_ref().is_some_and(|child| child.is_ready)
}

/// Names of a few.
fn names(places: &[&Place]) -> String {
    let mut names: Vec<String> = places.iter().take(NAMES_MAX).map(|place| place.name()).collect();
    if places.len() > NAMES_MAX {
        names.push(format!("and {} more", places.len() - NAMES_MAX));
    }
    names.join(", ")
}
