//! Other models while the pipeline serves: `framepipe model use`.
//!
//! Workers of the next generation are started beside those that serve, in places and at queues of the other parity. Once all
//! are warm, and the gateway can encode their results, one store leads new frames to them. When no frame is left at the old
//! generation's queues, its workers are told to end; when its last result is out, it is forgotten, and another change may
//! begin. A generation that does not get warm is ended before any frame saw it: nothing else has changed.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender};
use framepipe_frame::Request;
use framepipe_model::{Manifest, ModelRef};
use framepipe_pipeline::{Command, Config, Generation, Generations, Plan, queue_before, queues_of};
use framepipe_shm::Gate;

use crate::{
    control::Answer,
    log::say,
    supervisor::{Phase, Supervisor},
};

/// Name of the file, in the state folder, of the models that serve instead of the configuration's.
const CHOICES: &str = "models.json";

/// For a generation to get warm, and the gateway to be told of it.
const WARM_UP_MAX: Duration = Duration::from_secs(180);

/// The segment's generations, shared with who answers at the control socket. The launcher's loop alone changes them.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Generations>>);

impl Shared {
    /// Of these.
    pub fn new(generations: Generations) -> Self {
        Self(Arc::new(Mutex::new(generations)))
    }

    /// Looks at them.
    pub fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change that the launcher's loop is to make.
pub struct Order {
    /// The generation that shall serve.
    pub next: Generation,
    /// When it was wanted.
    since: Instant,
    said: Sender<Answer>,
}

/// The threads' side of a change: what may take time, before the launcher's loop is asked.
pub struct Swapper {
    config: Config,
    made: Plan,
    generations: Shared,
    orders: Sender<Order>,
    wake: OwnedFd,
}

impl Swapper {
    /// Of a pipeline whose segment was made for `made`; `wake` wakes the launcher's loop.
    pub fn new(config: Config, made: Plan, generations: Shared, orders: Sender<Order>, wake: OwnedFd) -> Self {
        Self { config, made, generations, orders, wake }
    }

    /// Puts `new` in the place of `old`, and says how it goes. One at a time.
    pub fn swap(&self, old: &str, new: &ModelRef, mut say: impl FnMut(Answer)) {
        let next = match self.prepare(old, new) {
            Ok(Some(next)) => next,
            Ok(None) => return say(Answer::Done(format!("{new} serves already"))),
            Err(error) => return say(Answer::Failed(format!("{error:#}"))),
        };
        let (said, hear) = crossbeam_channel::unbounded();
        let _ = self.orders.send(Order { next, since: Instant::now(), said });
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        hear.iter().for_each(say); // until the loop drops the order
    }

    /// The next generation, of models that were looked at; `None` where it would be the same.
    fn prepare(&self, old: &str, new: &ModelRef) -> anyhow::Result<Option<Generation>> {
        let manifest = Manifest::find(&self.config.models, new)?;
        manifest.verify()?;
        let generations = self.generations.lock().clone();
        let current = generations.current();
        let mut next = current.with(old, &manifest.reference()).with_context(|| {
            let serving: Vec<String> = current.models().map(ModelRef::to_string).collect();
            format!("no model {old} serves, but {}: name the one to replace with --replace", serving.join(", "))
        })?;
        if next.models().eq(current.models()) {
            return Ok(None);
        }
        next.number = generations.next_number();
        Plan::of(&next.applied_to(&self.config))?.check_fits(&self.made)?;
        Ok(Some(next))
    }
}

/// What the launcher's loop is at.
pub enum Swap {
    /// One generation serves.
    Idle,
    /// The next one's workers get warm.
    Warming(Order),
    /// New frames go to the current generation, and the old one finishes its own.
    Finishing {
        /// The old one.
        old: Generation,
        /// Its workers were told to end: it has no frame left.
        is_told: bool,
        /// Who wanted it.
        said: Option<Sender<Answer>>,
    },
}

impl Supervisor<'_> {
    /// Goes on with a change of models, or begins the next one.
    pub(crate) fn advance_swap(&mut self) -> anyhow::Result<()> {
        match &self.swap {
            Swap::Idle => {
                // Those of a generation that was given up may not be waited for yet.
                let is_clear = self.places.iter().all(|place| place.child.is_none() || self.is_wanted(place));
                if is_clear && let Ok(order) = self.orders.try_recv() {
                    self.begin(order);
                }
            }
            Swap::Warming(order) => {
                let parity = order.next.parity();
                let are_warm =
                    self.stage_places(parity).all(|place| place.child.as_ref().is_some_and(|it| it.is_ready));
                if are_warm && self.encodes == Some(order.next.number) {
                    self.lead_over()?;
                } else if order.since.elapsed() > WARM_UP_MAX {
                    self.give_up(&format!("it was not warm after {} s", WARM_UP_MAX.as_secs()));
                }
            }
            Swap::Finishing { old, is_told: false, .. } => {
                if self.segment.jobs_at(queues_of(old.parity())) == 0 {
                    self.retire(old.parity());
                    if let Swap::Finishing { is_told, .. } = &mut self.swap {
                        *is_told = true;
                    }
                }
            }
            Swap::Finishing { old, is_told: true, .. } => {
                let number = old.number;
                if self.stage_places(old.parity()).all(|place| place.child.is_none()) && !self.is_in_flight(number) {
                    self.forget(number)?;
                }
            }
        }
        Ok(())
    }

    /// True where the loop must look again soon, though nobody may wake it.
    pub(crate) fn watches_frames(&self) -> bool {
        matches!(self.swap, Swap::Finishing { .. })
    }

    fn begin(&mut self, order: Order) {
        let (number, parity) = (order.next.number, order.next.parity());
        if self.phase != Phase::Running {
            let _ = order.said.send(Answer::Failed("the pipeline is starting or stopping: try again".into()));
            return;
        }
        let models: Vec<String> = order.next.models().map(ModelRef::to_string).collect();
        let words = format!("generation {number} gets warm: {}", models.join(", "));
        say!("launcher: {words}");
        let _ = order.said.send(Answer::Progress(words));
        let noted = self.note(|generations| {
            generations.last = number;
            generations.living.push(order.next.clone());
        });
        self.serving[parity] = Some(order.next.clone());
        self.encodes = None;
        if let Some(gateway) = self.places[self.gateway()].child.as_ref().filter(|it| it.is_ready) {
            gateway.command(Command::Encode(Box::new(order.next.clone())));
        } // else the next one is told as it starts
        self.swap = Swap::Warming(order);
        let places: Vec<usize> = self.stage_indices(parity).collect();
        for place in places.iter().copied() {
            self.places[place].renew();
        }
        let started = noted.and_then(|()| places.into_iter().try_for_each(|place| self.spawn(place)));
        if let Err(error) = started {
            self.give_up(&format!("{error:#}"));
        }
    }

    /// Leads new frames to the next generation.
    fn lead_over(&mut self) -> anyhow::Result<()> {
        let Swap::Warming(order) = std::mem::replace(&mut self.swap, Swap::Idle) else { return Ok(()) };
        let old = self.generations.lock().before(order.next.number);
        self.segment.lead_to(queue_before(0, order.next.parity()));
        let words = format!("new frames go to generation {}", order.next.number);
        say!("launcher: {words}");
        let _ = order.said.send(Answer::Progress(words));
        let configured = self.generations.lock().configured.clone();
        if let Err(error) = remember(&self.config.state, &configured, &order.next) {
            say!("launcher: the next start will serve the configuration's models: {error:#}");
        }
        if let Some(old) = old {
            self.swap = Swap::Finishing { old, is_told: false, said: Some(order.said) };
        }
        Ok(())
    }

    /// Ends a generation that no frame has seen yet.
    pub(crate) fn give_up(&mut self, why: &str) {
        let Swap::Warming(order) = std::mem::replace(&mut self.swap, Swap::Idle) else { return };
        let (number, parity) = (order.next.number, order.next.parity());
        self.serving[parity] = None;
        let places: Vec<usize> = self.stage_indices(parity).collect();
        for place in places {
            let place = &mut self.places[place];
            place.restart_at = None;
            place.child.as_mut().into_iter().for_each(|child| child.kill());
        }
        let noted = self.note(|generations| generations.living.retain(|one| one.number != number));
        noted.unwrap_or_else(|error| say!("launcher: {error:#}")); // a later launcher sees that no frame was led there
        say!("launcher: generation {number} was given up: {why}");
        let _ = order.said.send(Answer::Failed(format!("{why}. The models that served before still do")));
    }

    /// True where a place is one of a generation that gets warm.
    pub(crate) fn is_warming(&self, place: usize) -> bool {
        let place = &self.places[place];
        matches!(&self.swap, Swap::Warming(order) if place.is_worker() && place.parity == order.next.parity())
    }

    fn forget(&mut self, number: u64) -> anyhow::Result<()> {
        let Swap::Finishing { said, .. } = std::mem::replace(&mut self.swap, Swap::Idle) else { return Ok(()) };
        self.note(|generations| generations.living.retain(|one| one.number != number))?;
        let words = format!("generation {} serves alone", self.generations.lock().current().number);
        say!("launcher: {words}");
        said.into_iter().for_each(|said| drop(said.send(Answer::Done(words.clone()))));
        Ok(())
    }

    /// Tells a generation's workers to end: they have nothing left to do.
    fn retire(&mut self, parity: usize) {
        self.serving[parity] = None;
        let places: Vec<usize> = self.stage_indices(parity).collect();
        for place in places {
            let place = &mut self.places[place];
            place.restart_at = None;
            if let Some(child) = &mut place.child {
                if child.is_ready { child.command(Command::Stop) } else { child.kill() }
            }
        }
    }

    /// True while a frame that was accepted for a generation has no result in the journal.
    fn is_in_flight(&self, number: u64) -> bool {
        let mut found = false;
        Gate::new(self.segment, 0).for_each_accepted(|request| {
            found |= bytemuck::pod_read_unaligned::<Request>(request).generation == number;
        });
        found
    }

    /// Changes what is known of the generations, on disk as well.
    fn note(&self, change: impl FnOnce(&mut Generations)) -> anyhow::Result<()> {
        let mut generations = self.generations.lock();
        change(&mut generations);
        let folder = self.segment.folder();
        generations.write(folder).with_context(|| format!("cannot note the generations in {}", folder.display()))
    }
}

/// The configured models, or what an operator put in their places while the pipeline served.
///
/// # Errors
/// Where the file of these cannot be read, or names a model that is not there.
pub fn first_generation(config: &Config) -> anyhow::Result<Generation> {
    let path = config.state.join(CHOICES);
    let choices: BTreeMap<ModelRef, ModelRef> = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        read => read
            .map_err(anyhow::Error::from)
            .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
            .with_context(|| path.display().to_string())?,
    };
    let chosen = |model: &ModelRef| choices.get(model).unwrap_or(model).clone();
    let chosen = Config {
        detector: chosen(&config.detector),
        attributes: config.attributes.iter().map(chosen).collect(),
        ..config.clone()
    };
    Generation::first(&chosen).map_err(|error| match choices.is_empty() {
        true => error.into(),
        false => {
            anyhow::anyhow!("{error} ({} says what serves in place of the configuration's models)", path.display())
        }
    })
}

/// Remembers, beyond the segment, which models serve in place of the configuration's.
pub fn remember(state: &Path, configured: &[ModelRef], serving: &Generation) -> anyhow::Result<()> {
    let choices: BTreeMap<&ModelRef, &ModelRef> = configured.iter().zip(serving.models()).collect();
    let (path, aside) = (state.join(CHOICES), state.join(format!("{CHOICES}.new")));
    fs::write(&aside, serde_json::to_vec_pretty(&choices)?).with_context(|| aside.display().to_string())?;
    fs::rename(&aside, &path).with_context(|| path.display().to_string())
}

/// Where the loop hears of changes.
pub type Orders = Receiver<Order>;
