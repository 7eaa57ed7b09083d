//! Changes of the processes while they serve, one after the other: numbers of them (`scale.rs`), and new ones in place of those
//! that run (`restart.rs`). A change of the models (`swap.rs`) is one of these changes too: nothing else begins before it is over.
//!
//! A process that dies meanwhile is handled as any other (`deaths.rs`), unless it is one that the change has started and that was
//! never warm: then the change may be given up, and what served before still does.

use std::{collections::BTreeMap, time::Instant};

use framepipe_pipeline::Exit;
use tracing::info;

use crate::{
    deaths::Death,
    orders::{Order, Said, What},
    place::WARM_UP_MAX,
    reload::Reloading,
    restart::Restarting,
    scale::Scaling,
    supervisor::{Phase, Supervisor},
    swap::Swap,
};

/// A change that is being made.
pub struct Work {
    said: Said,
    change: Change,
}

/// Which.
pub enum Change {
    /// Other numbers of processes.
    Scale(Scaling),
    /// New ones in place of those that run.
    Restart(Restarting),
    /// What the configuration says by now.
    Reload(Box<Reloading>),
}

/// How far a change is after a step.
pub enum Step {
    /// It waits for processes.
    Waits,
    /// It went on: look again.
    Goes,
    /// It is made, as the words say.
    Over(String),
    /// It cannot be made, as the words say.
    Failed(String),
}

impl Supervisor<'_> {
    /// Goes on with the change that is being made, or begins the next one. True: there may be more to do at once.
    pub(crate) fn advance_work(&mut self) -> bool {
        let Some(mut work) = self.work.take() else { return self.begin_next() };
        let step = match &mut work.change {
            Change::Scale(scaling) => self.advance_scaling(scaling),
            Change::Restart(restarting) => self.advance_restart(restarting, &work.said),
            Change::Reload(reloading) => self.advance_reload(reloading, &work.said),
        };
        match step {
            Step::Waits | Step::Goes => self.work = Some(work),
            Step::Over(ref words) => self.end(work, |said| said.done(words)),
            Step::Failed(ref why) => self.fail(work, why),
        }
        !matches!(step, Step::Waits)
    }

    fn begin_next(&mut self) -> bool {
        // Those that a former change has told to end may not be waited for yet.
        let is_clear = self.places.iter().all(|place| place.child.is_none() || self.is_wanted(place));
        if !matches!(self.swap, Swap::Idle) || !is_clear {
            return false;
        }
        let Ok(Order { what, since, said }) = self.orders.try_recv() else { return false };
        if self.phase != Phase::Running {
            said.failed("the pipeline is starting or stopping: try again");
            return true;
        }
        let begun = match what {
            What::Generation(next) => {
                self.begin_swap(next, since, said);
                return true;
            }
            What::Processes(processes) => self.begin_scaling(&processes, &said).map(Change::Scale),
            What::Restart(what) => self.begin_restart(&what).map(Change::Restart),
            What::Reload(read) => {
                self.reload_begins();
                let begun = self.begin_reload(read, &said).map(|reloading| Change::Reload(Box::new(reloading)));
                begun.inspect_err(|_| self.reload_ends())
            }
        };
        match begun {
            Ok(change) => self.work = Some(Work { said, change }),
            Err(why) => said.failed(&why),
        }
        true
    }

    /// Says how a change ended.
    fn end(&mut self, work: Work, say: impl FnOnce(&Said)) {
        if let Change::Reload(_) = work.change {
            self.reload_ends();
        }
        say(&work.said);
    }

    /// Begins to change numbers of processes that nobody has asked for.
    pub(crate) fn scale_by_itself(&mut self, processes: &BTreeMap<String, u32>) {
        let said = Said::to_the_log();
        match self.begin_scaling(processes, &said).map(Change::Scale) {
            Ok(change) => self.work = Some(Work { said, change }),
            Err(why) => said.failed(&why),
        }
    }

    /// True while something changes, or is about to.
    pub(crate) fn is_changing(&self) -> bool {
        self.work.is_some() || !matches!(self.swap, Swap::Idle) || !self.orders.is_empty()
    }

    /// Gives up whatever change is being made: the pipeline stops.
    pub(crate) fn give_up_work(&mut self, why: &str) {
        self.give_up(why);
        if let Some(work) = self.work.take() {
            self.fail(work, why);
        }
    }

    /// Gives up a change where the death of a process that it has started asks for it.
    pub(crate) fn fails_with(&mut self, death: &Death, why: &str) -> bool {
        let place = &self.places[death.place];
        let is_unusable = death.status.code() == Some(Exit::Unusable as i32);
        let is_trial = match self.work.as_ref().map(|work| &work.change) {
            _ if place.was_ready => false,
            None => false,
            // Others start again: whoever was killed may live the next time.
            Some(Change::Scale(scaling)) => is_unusable && scaling.has_started(death.place),
            Some(Change::Restart(restarting)) => restarting.has_started(death.place),
            Some(Change::Reload(reloading)) => {
                let (scaling, restarting) = reloading.parts();
                restarting.has_started(death.place)
                    || (is_unusable && scaling.is_some_and(|scaling| scaling.has_started(death.place)))
            }
        };
        let why = format!("{} cannot start: {why}", place.title_of(death.child.pid));
        if is_trial && let Some(work) = self.work.take() {
            self.fail(work, &why);
        }
        is_trial
    }

    fn fail(&mut self, work: Work, why: &str) {
        let undone = match &work.change {
            Change::Scale(scaling) => self.undo_scaling(scaling),
            Change::Restart(restarting) => self.undo_restart(restarting),
            Change::Reload(reloading) => self.undo_reload(reloading),
        };
        self.end(work, |said| said.failed(&format!("{why}. {undone}")));
    }

    /// A reload begins: from here on the configuration that was read is compared, and done.
    fn reload_begins(&mut self) {
        info!("reloads its configuration");
        self.notifier.reloading();
    }

    /// A reload is over, whether it was done or not.
    fn reload_ends(&mut self) {
        info!("the reload is over");
        self.notifier.reloaded();
    }

    /// Ends the process of a place that shall have none.
    pub(crate) fn dismiss(&mut self, place: usize) {
        let place = &mut self.places[place];
        place.is_wanted = false;
        place.restart_at = None;
        place.child.iter_mut().for_each(|child| child.stop());
    }

    /// True where the process of a place takes frames.
    pub(crate) fn is_ready(&self, place: usize) -> bool {
        self.places[place].child.as_ref().is_some_and(|child| child.is_ready)
    }

    /// What is amiss with those of these places that are not warm after so long; `None`: nothing, or there is time left.
    pub(crate) fn are_late(&self, places: &[usize], since: Instant) -> Option<String> {
        let late =
            places.iter().copied().find(|place| !self.is_ready(*place)).filter(|_| since.elapsed() > WARM_UP_MAX)?;
        let place = &self.places[late];
        let why = place.failure.as_ref().map_or(String::new(), |why| format!(": {why}"));
        Some(format!("{} was not warm after {} s{why}", place.title(), WARM_UP_MAX.as_secs()))
    }
}
