//! What takes time and is done by the launcher's loop, one at a time. Whoever wants it waits for his turn at the desk, and hears
//! how it goes.

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use crossbeam_channel::{Receiver, Sender};
use framepipe_pipeline::Generation;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::{
    control::Answer,
    reload::{Read, Source},
};

/// Those who want something that takes time, at once: one has his turn, the others wait.
pub const WAITING_MAX: usize = 16;

/// Which processes a restart is of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartWhat {
    /// Those of every stage.
    All,
    /// Those of this stage; the gateway; the keeper.
    Stage(String),
    /// The one of this pid.
    Pid(u32),
}

/// What the loop is asked for.
pub enum What {
    /// Another generation of models.
    Generation(Generation),
    /// Other numbers of processes, by stage.
    Processes(BTreeMap<String, u32>),
    /// New processes in place of those that run.
    Restart(RestartWhat),
    /// What the configuration says by now, or what is wrong with it.
    Reload(Result<Box<Read>, String>),
}

/// A change that the loop is to make.
pub struct Order {
    /// What shall change.
    pub what: What,
    /// When it was wanted.
    pub since: Instant,
    /// Who wanted it.
    pub said: Said,
}

/// Who hears how a change goes. The log hears it in any case.
pub struct Said(Option<Sender<Answer>>);

impl Said {
    /// The log alone.
    pub fn to_the_log() -> Self {
        Self(None)
    }

    /// Says what is done meanwhile.
    pub fn progress(&self, words: &str) {
        info!("{words}");
        self.answer(Answer::Progress(words.to_owned()));
    }

    /// Says that it is done.
    pub fn done(&self, words: &str) {
        info!("{words}");
        self.answer(Answer::Done(words.to_owned()));
    }

    /// Says that it is not done.
    pub fn failed(&self, words: &str) {
        warn!("{words}");
        self.answer(Answer::Failed(words.to_owned()));
    }

    fn answer(&self, answer: Answer) {
        if let Some(said) = &self.0 {
            let _ = said.send(answer); // who asked may have gone: it is done all the same
        }
    }
}

/// Where changes are asked for.
pub struct Desk {
    orders: Sender<Order>,
    wake: OwnedFd,
    turn: Mutex<()>,
    waiting: AtomicUsize,
    wants_drain: AtomicBool,
    source: Source,
    /// What the pipeline was laid out for.
    cores: u32,
}

impl Desk {
    /// A desk, and where the loop takes its orders; `wake` wakes it. The configuration comes from `source`, for `cores`.
    pub fn open(wake: OwnedFd, source: Source, cores: u32) -> (Arc<Self>, Receiver<Order>) {
        let (orders, taken) = crossbeam_channel::unbounded();
        let (turn, waiting, wants_drain) = (Mutex::default(), AtomicUsize::new(0), AtomicBool::new(false));
        (Arc::new(Self { orders, wake, turn, waiting, wants_drain, source, cores }), taken)
    }

    /// Does something on a thread of its own, when all that came before is done. False: too many wait already.
    pub fn in_turn(self: &Arc<Self>, act: impl FnOnce(&Self) + Send + 'static) -> io::Result<bool> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Ok(false);
        }
        let desk = self.clone();
        let wait_and_act = move || {
            {
                let _turn = desk.turn.lock().unwrap_or_else(PoisonError::into_inner);
                act(&desk);
            }
            desk.waiting.fetch_sub(1, Ordering::Relaxed);
        };
        let started = thread::Builder::new().name("order".into()).spawn(wait_and_act);
        let started = started.inspect_err(|_| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        });
        started.map(|_| true)
    }

    /// Has the loop make a change, and says how it goes until it is made, or is not. For whoever has his turn.
    pub fn order(&self, what: What, say: impl FnMut(Answer)) {
        let (said, hear) = crossbeam_channel::unbounded();
        let _ = self.orders.send(Order { what, since: Instant::now(), said: Said(Some(said)) });
        self.wake();
        hear.iter().for_each(say); // until the loop drops the order
    }

    /// Reads the configuration again, and has the loop do what it says.
    pub fn reload(&self, say: impl FnMut(Answer)) {
        self.order(What::Reload(Read::again(&self.source, self.cores)), say);
    }

    /// Has the pipeline drain, as SIGTERM does. Nobody waits for a turn with that.
    pub fn drain(&self) {
        self.wants_drain.store(true, Ordering::Release);
        self.wake();
    }

    /// True, once, where it shall drain.
    pub fn take_drain(&self) -> bool {
        self.wants_drain.swap(false, Ordering::AcqRel)
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes()); // full: it is awake
    }
}
