//! Other models while the pipeline serves: `framepipe model use`.
//!
//! Workers of the next generation are started beside those that serve, in places and at queues of the other parity. Once all
//! are warm, and the gateway can encode their results, one store leads new frames to them. When no frame is left at the old
//! generation's queues, its workers are told to end; when its last result is out, it is forgotten, and another change may
//! begin. A generation that does not get warm is ended before any frame saw it: nothing else has changed.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use anyhow::Context as _;
use framepipe_frame::Request;
use framepipe_model::{Manifest, ModelRef};
use framepipe_pipeline::{
    Command, Config, GATEWAY_ENTRY, Generation, Generations, Plan, queue_before, queues_of, worker_entries,
};
use framepipe_shm::Gate;
use tracing::error;

use crate::{
    control::Answer,
    orders::{Desk, Said, What},
    place::WARM_UP_MAX,
    supervisor::Supervisor,
};

/// Name of the file, in the state folder, of the models that serve instead of the configuration's.
const CHOICES: &str = "models.json";

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

/// A generation that gets warm.
pub struct Next {
    /// It.
    pub generation: Generation,
    /// When it was wanted.
    since: Instant,
    said: Said,
}

/// The threads' side of a change: what may take time, before the launcher's loop is asked.
pub struct Swapper {
    config: Config,
    made: Plan,
    generations: Shared,
}

impl Swapper {
    /// Of a pipeline whose segment was made for `made`.
    pub fn new(config: Config, made: Plan, generations: Shared) -> Self {
        Self { config, made, generations }
    }

    /// Puts `new` in the place of `old`, and says how it goes. One at a time.
    pub fn swap(&self, old: &str, new: &ModelRef, desk: &Desk, mut say: impl FnMut(Answer)) {
        let next = match self.prepare(old, new) {
            Ok(Some(next)) => next,
            Ok(None) => return say(Answer::Done(format!("{new} serves already"))),
            Err(error) => return say(Answer::Failed(format!("{error:#}"))),
        };
        desk.order(What::Generation(next), say);
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
    Warming(Next),
    /// New frames go to the current generation, and the old one finishes its own.
    Finishing {
        /// The old one.
        old: Generation,
        /// Its workers were told to end: it has no frame left.
        is_told: bool,
        /// Who wanted it.
        said: Said,
    },
}

impl Supervisor<'_> {
    /// Goes on with a change of models.
    pub(crate) fn advance_swap(&mut self) -> anyhow::Result<()> {
        match &self.swap {
            Swap::Idle => {}
            Swap::Warming(next) => {
                let mut wanted = worker_entries(next.generation.parity()).filter(|place| self.places[*place].is_wanted);
                if wanted.all(|place| self.is_ready(place)) && self.encodes == Some(next.generation.number) {
                    self.lead_over()?;
                } else if next.since.elapsed() > WARM_UP_MAX {
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
                let have_ended = worker_entries(old.parity()).all(|place| self.places[place].child.is_none());
                if have_ended && !self.is_in_flight(number) {
                    self.forget(number);
                }
            }
        }
        Ok(())
    }

    /// True where the loop must look again soon, though nobody may wake it.
    pub(crate) fn watches_frames(&self) -> bool {
        matches!(self.swap, Swap::Finishing { .. })
    }

    /// Has the workers of the next generation start, as many as those that serve.
    pub(crate) fn begin_swap(&mut self, next: Generation, since: Instant, said: Said) {
        let (number, parity) = (next.number, next.parity());
        let models: Vec<String> = next.models().map(ModelRef::to_string).collect();
        said.progress(&format!("generation {number} gets warm: {}", models.join(", ")));
        let noted = self.note(|generations| {
            generations.last = number;
            generations.living.push(next.clone());
        });
        self.serving[parity] = Some(next.clone());
        self.encodes = None;
        if let Some(gateway) = self.places[GATEWAY_ENTRY].child.as_ref().filter(|it| it.is_ready) {
            gateway.command(Command::Encode(Box::new(next.clone())));
        } // else the next one is told as it starts
        self.swap = Swap::Warming(Next { generation: next, since, said });
        self.want_as_configured(parity);
        let mut wanted =
            worker_entries(parity).filter(|place| self.places[*place].is_wanted).collect::<Vec<_>>().into_iter();
        let started = noted.and_then(|()| wanted.try_for_each(|place| self.spawn(place)));
        if let Err(error) = started {
            self.give_up(&format!("{error:#}"));
        }
    }

    /// Wants as many processes of each stage as it shall have, in places that know of no former ones.
    pub(crate) fn want_as_configured(&mut self, parity: usize) {
        for place in worker_entries(parity) {
            let place = &mut self.places[place];
            place.renew();
            place.is_wanted = place.instance < self.config.stages[place.stage].processes as usize;
        }
    }

    /// Leads new frames to the next generation.
    fn lead_over(&mut self) -> anyhow::Result<()> {
        let Swap::Warming(next) = std::mem::replace(&mut self.swap, Swap::Idle) else { return Ok(()) };
        let old = self.generations.lock().before(next.generation.number);
        self.segment.lead_to(queue_before(0, next.generation.parity()));
        next.said.progress(&format!("new frames go to generation {}", next.generation.number));
        let configured = self.generations.lock().configured.clone();
        if let Err(error) = remember(&self.config.state, &configured, &next.generation) {
            error!("the next start will serve the configuration's models: {error:#}");
        }
        if let Some(old) = old {
            self.swap = Swap::Finishing { old, is_told: false, said: next.said };
        }
        Ok(())
    }

    /// Ends a generation that no frame has seen yet.
    pub(crate) fn give_up(&mut self, why: &str) {
        let Swap::Warming(next) = std::mem::replace(&mut self.swap, Swap::Idle) else { return };
        let number = next.generation.number;
        self.retire(next.generation.parity());
        let noted = self.note(|generations| generations.living.retain(|one| one.number != number));
        noted.unwrap_or_else(|error| error!("{error:#}")); // a later launcher sees that no frame was led there
        next.said.failed(&format!("generation {number} was given up: {why}. The models that served before still do"));
    }

    /// True where a place is one of a generation that gets warm.
    pub(crate) fn is_warming(&self, place: usize) -> bool {
        let place = &self.places[place];
        matches!(&self.swap, Swap::Warming(next) if place.is_worker() && place.parity == next.generation.parity())
    }

    fn forget(&mut self, number: u64) {
        if let Err(error) = self.note(|generations| generations.living.retain(|one| one.number != number)) {
            return error!("{error:#}"); // no room, say: it may pass, and is tried again
        }
        let Swap::Finishing { said, .. } = std::mem::replace(&mut self.swap, Swap::Idle) else { return };
        said.done(&format!("generation {} serves alone", self.generations.lock().current().number));
    }

    /// Tells a generation's workers to end: they have nothing left to do.
    fn retire(&mut self, parity: usize) {
        self.serving[parity] = None;
        worker_entries(parity).for_each(|place| self.dismiss(place));
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
    pub(crate) fn note(&self, change: impl FnOnce(&mut Generations)) -> anyhow::Result<()> {
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
