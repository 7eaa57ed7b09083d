//! New processes in place of those that run, one after the other, while frames flow: `framepipe restart`.
//!
//! A worker's replacement starts in a vacant place of its stage and gets warm there; then the old one is told to stop, finishes what
//! it has claimed, and ends. So each stage has at any moment as many warm processes as it shall. One that does not get warm is ended,
//! and the old one serves on. There is one gateway, and one keeper: it is told to stop, and the next one starts at once, with the
//! listeners that the launcher has: clients connect anew.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use framepipe_pipeline::{GATEWAY, GATEWAY_ENTRY, KEEPER, KEEPER_ENTRY, STAGES, entries_of, process_name};

use crate::{
    log::LAUNCHER,
    orders::{RestartWhat, Said},
    supervisor::{STOP_WAIT, Supervisor},
    work::Step,
};

/// A restart that is being made.
pub struct Restarting {
    since: Instant,
    /// Those that are still to be replaced: place and pid.
    left: VecDeque<(usize, u32)>,
    at: At,
    /// How many were replaced.
    replaced: usize,
}

/// What it is at.
enum At {
    /// Between two.
    Next,
    /// The new process gets warm.
    Warming { old: usize, new: usize, since: Instant },
    /// The old one finishes what it has.
    Ending { old: usize },
    /// The gateway, or the keeper: its last process ends, and the next one starts.
    Again { place: usize, pid: u32, since: Instant },
}

impl Restarting {
    /// Of the processes of these places and pids.
    pub fn of(left: impl Iterator<Item = (usize, u32)>) -> Self {
        Self { since: Instant::now(), left: left.collect(), at: At::Next, replaced: 0 }
    }

    /// The places whose processes were not replaced.
    pub fn places_left(&self) -> impl Iterator<Item = usize> {
        let at = match &self.at {
            At::Next => None,
            At::Warming { old, .. } | At::Ending { old } => Some(*old),
            At::Again { place, .. } => Some(*place),
        };
        at.into_iter().chain(self.left.iter().map(|(place, _)| *place))
    }

    /// True where a place has its process by this change.
    pub fn has_started(&self, place: usize) -> bool {
        matches!(&self.at, At::Warming { new, .. } if *new == place)
    }
}

/// The names of all that can be restarted: stages, gateway, keeper.
pub fn names() -> impl Iterator<Item = &'static str> {
    (0..=KEEPER).map(process_name)
}

/// Whose name it is: a stage's number, or what stands in its place.
pub fn named(name: &str) -> Result<usize, String> {
    let all = || names().collect::<Vec<_>>().join(", ");
    names().position(|known| known == name).ok_or_else(|| match name {
        LAUNCHER => {
            "the launcher starts anew by framepipe drain, and framepipe up then; drain finishes what was accepted"
                .into()
        }
        _ => format!("there is no stage {name:?}: give {}, one of a stage's (detect[0]), or a pid", all()),
    })
}

impl Supervisor<'_> {
    /// Begins to restart what is meant.
    pub(crate) fn begin_restart(&mut self, what: &RestartWhat) -> Result<Restarting, String> {
        let parity = self.parity();
        let places: Vec<usize> = match what {
            RestartWhat::All => (0..STAGES.len()).flat_map(|stage| entries_of(stage, parity)).collect(),
            RestartWhat::Stage(name) => match named(name)? {
                GATEWAY => vec![GATEWAY_ENTRY],
                KEEPER => vec![KEEPER_ENTRY],
                stage => entries_of(stage, parity).collect(),
            },
            RestartWhat::Pid(pid) if *pid == std::process::id() => {
                return Err(format!("pid {pid} is the launcher: {}", named(LAUNCHER).expect_err("it is no stage")));
            }
            RestartWhat::Pid(pid) => {
                let is_his = |place: &usize| self.places[*place].child.as_ref().is_some_and(|child| child.pid == *pid);
                let place = (0..self.places.len()).find(is_his);
                vec![
                    place.ok_or_else(|| {
                        format!("no process of this pipeline has the pid {pid}: see framepipe status")
                    })?,
                ]
            }
        };
        let with_pid = |place: usize| Some((place, self.places[place].child.as_ref()?.pid));
        Ok(Restarting::of(places.into_iter().filter_map(with_pid)))
    }

    pub(crate) fn advance_restart(&mut self, restarting: &mut Restarting, said: &Said) -> Step {
        match &restarting.at {
            At::Next => self.replace_next(restarting),
            At::Warming { old, new, since } => {
                if let Some(why) = self.are_late(&[*new], *since) {
                    return Step::Failed(why);
                }
                if !self.is_ready(*new) {
                    return Step::Waits;
                }
                let (old, title) = (*old, self.places[*old].title());
                said.progress(&format!("{} takes the place of {title}", self.places[*new].title()));
                self.dismiss(old);
                restarting.at = At::Ending { old };
                Step::Goes
            }
            At::Ending { old } if self.places[*old].child.is_some() => Step::Waits,
            At::Ending { .. } => {
                restarting.replaced += 1;
                restarting.at = At::Next;
                Step::Goes
            }
            At::Again { place, pid, since } => {
                let (place, pid, since) = (*place, *pid, *since);
                if self.places[place].child.as_ref().is_some_and(|child| child.pid == pid) {
                    // Who takes much to the disk, or finishes a move, beats meanwhile.
                    if since.elapsed().min(self.silence_of(place)) > STOP_WAIT {
                        self.places[place].child.iter_mut().for_each(|child| child.kill());
                    }
                    return Step::Waits;
                }
                if let Some(why) = self.are_late(&[place], since) {
                    return Step::Failed(why);
                }
                if !self.is_ready(place) {
                    return Step::Waits;
                }
                restarting.replaced += 1;
                restarting.at = At::Next;
                Step::Goes
            }
        }
    }

    fn replace_next(&mut self, restarting: &mut Restarting) -> Step {
        let Some((place, pid)) = restarting.left.pop_front() else {
            let took = Duration::from_millis(restarting.since.elapsed().as_millis() as u64);
            let processes = if restarting.replaced == 1 { "process" } else { "processes" };
            return Step::Over(format!("restarted {} {processes} in {took:?}", restarting.replaced));
        };
        if self.places[place].child.as_ref().is_none_or(|child| child.pid != pid) {
            return Step::Goes; // it has died meanwhile: the next one is new, or will be
        }
        let since = Instant::now();
        if !self.places[place].is_worker() {
            self.places[place].child.iter_mut().for_each(|child| child.stop());
            restarting.at = At::Again { place, pid, since };
            return Step::Goes;
        }
        let (stage, parity) = (self.places[place].stage, self.places[place].parity);
        let Some(new) = entries_of(stage, parity).find(|place| self.is_vacant(*place)) else {
            return Step::Failed(format!("{} has no vacant place", process_name(stage)));
        };
        self.engage(new);
        restarting.at = At::Warming { old: place, new, since };
        Step::Goes
    }

    /// Ends a replacement that is not warm, and says what is then.
    pub(crate) fn undo_restart(&mut self, restarting: &Restarting) -> String {
        let serves = match &restarting.at {
            At::Warming { old, new, .. } => {
                self.dismiss(*new);
                format!("{} serves on; ", self.places[*old].title())
            }
            At::Again { place, .. } => format!("the launcher goes on to start {}; ", self.places[*place].title()),
            At::Ending { .. } | At::Next => String::new(),
        };
        format!(
            "{serves}{} processes were replaced, {} were not",
            restarting.replaced,
            restarting.places_left().count()
        )
    }
}
