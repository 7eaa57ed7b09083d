//! Deaths: the dead are waited for, what they had is put back, and then it is said, and settled when each starts again.

use std::{
    collections::VecDeque,
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use framepipe_frame::Request;
use framepipe_pipeline::{Exit, GATEWAY, KEEPER, process_name};
use framepipe_shm::{Blame, Counter, monotonic_ns};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::{
    child::Child,
    gpu::Gpu,
    isolate,
    place::work_of,
    supervisor::{Phase, Supervisor},
};

/// Repairs that `status` shows.
const REPAIRS_SHOWN: usize = 256;
/// For the last words and reports of a dead process to be heard.
const WORDS_PATIENCE: Duration = Duration::from_millis(200);

/// One death, and the repair of what it left.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RepairNote {
    /// The process's stage, "gateway" or "keeper".
    pub stage: String,
    /// Its number in the stage.
    pub instance: usize,
    /// Its pid.
    pub pid: u32,
    /// When the launcher noticed its death, CLOCK_MONOTONIC, nanoseconds.
    pub noticed_ns: u64,
    /// When all that it had could be claimed again, and every sleeper was woken.
    pub repaired_ns: u64,
    /// Frames that the process had in hand.
    pub frames: usize,
}

/// The newest repairs, shared with who answers `status`.
#[derive(Clone, Default)]
pub struct Repairs(Arc<Mutex<VecDeque<RepairNote>>>);

impl Repairs {
    fn note(&self, note: RepairNote) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() == REPAIRS_SHOWN {
            notes.pop_front();
        }
        notes.push_back(note);
    }

    /// The newest repairs, the oldest of them first.
    pub fn newest(&self) -> Vec<RepairNote> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Who died, and how.
pub struct Death {
    /// Index of its place.
    pub place: usize,
    /// The dead process.
    pub child: Child,
    /// How it ended.
    pub status: ExitStatus,
}

impl Supervisor<'_> {
    /// Waits for the dead, repairs what they had, and settles when each starts again.
    pub(crate) fn bury(&mut self) -> anyhow::Result<()> {
        let mut deaths = Vec::new();
        // One after the other: until it is waited for, a dead process counts as living, and one's blame is no other's.
        while let Some(death) = self.next_death()? {
            if let Some(blame) = self.blame(&death) {
                self.repair(&death, blame);
            }
            self.condemn_sharers(&death);
            deaths.push(death);
        }
        deaths.iter().try_for_each(|death| self.settle(death))
    }

    /// Puts back what a dead process had.
    fn repair(&self, death: &Death, blame: Blame) {
        let in_hand = self.segment.casualties().filter(|casualty| !casualty.is_reserved()).count();
        if blame == Blame::Frames {
            self.isolate_poison(death);
        }
        let repair = self.segment.recover(blame);
        let (noticed_ns, repaired_ns) = (self.woken_ns, monotonic_ns());
        let place = &self.places[death.place];
        let entry = &self.segment.processes()[place.entry];
        entry.count(Counter::Recoveries, 1);
        entry.count(Counter::RecoveryNs, repaired_ns - noticed_ns);
        entry.count(Counter::RecoveredFrames, in_hand as u64);
        let stage = process_name(place.stage).to_owned();
        let (instance, pid) = (place.instance, death.child.pid);
        self.repairs.note(RepairNote { stage, instance, pid, noticed_ns, repaired_ns, frames: in_hand });
        let us = (repaired_ns - noticed_ns) / 1000;
        let frames = repair.reclaimed + repair.accepted;
        info!("repaired in {us} µs: {frames} frames go back into their queues");
    }

    /// Waits for one who is dead. From then on nobody bears its owner id.
    fn next_death(&mut self) -> anyhow::Result<Option<Death>> {
        for index in 0..self.places.len() {
            let Some(child) = &mut self.places[index].child else { continue };
            let mut fds = [PollFd::from_borrowed_fd(child.pidfd(), PollFlags::IN)];
            if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
                continue;
            }
            let status = child.wait()?;
            if status.code().is_some() {
                child.hear_out(WORDS_PATIENCE); // whether it ended by its own will, its last report says
                self.hear_all();
            }
            let place = &mut self.places[index];
            let Some(child) = place.child.take() else { continue };
            let entry = &self.segment.processes()[place.entry];
            entry.vacate();
            return Ok(Some(Death { place: index, child, status }));
        }
        Ok(None)
    }

    /// Where a death tells of a fault of a GPU that processes share by MPS, ends the others that have it open: its server takes
    /// no new ones until all have, and one that has nothing to do does not notice.
    fn condemn_sharers(&mut self, death: &Death) {
        let is_fault = death.status.code() == Some(Exit::Device as i32) && !death.child.is_condemned;
        if !is_fault || !self.places[death.place].uses_gpu() || !self.handed.gpu.is_some_and(Gpu::is_shared) {
            return;
        }
        for place in self.places.iter_mut().filter(|place| place.uses_gpu()) {
            let Some(child) = &mut place.child else { continue };
            child.is_condemned = true;
            child.kill();
            place.failure.get_or_insert_with(|| "the GPU that it shares had a fault".into());
        }
    }

    /// Whom a death blames: nobody, where the process ended by its own will, the launcher told it to end or killed it for
    /// another's fault of the GPU, or it had not begun to work; else the frames that it had in hand. `None`: it ended as it was told to, with nothing in hand.
    fn blame(&self, death: &Death) -> Option<Blame> {
        let place = &self.places[death.place];
        // Calls of a gateway that another one follows may have been cut short: there is a recovery between two.
        let has_nothing = place.is_worker() || matches!(self.phase, Phase::Stopping { .. });
        let is_done = death.child.is_told && has_nothing && death.status.code() == Some(Exit::Done as i32);
        // Told to end, too, it may have ended by a library's exit(0), with frames in hand.
        if is_done && self.segment.casualties().next().is_none() {
            return None;
        }
        // Its exit status proves no will: a library that chokes on a frame may call exit() with any number.
        let own_will = death.child.has_failed;
        let is_told = death.child.is_told || death.child.is_condemned;
        // A gateway that takes stock has many frames claimed, none of which it works on; the keeper claims none.
        let at_work = death.child.is_ready && place.stage != KEEPER;
        Some(if own_will || is_told || !at_work { Blame::Nobody } else { Blame::Frames })
    }

    /// Puts the frames that will be given up for this death into quarantine. A failure is said, and hinders nothing.
    fn isolate_poison(&self, death: &Death) {
        for casualty in self.segment.casualties() {
            let word = casualty.word();
            if casualty.is_reserved() || !word.is_suspect() || word.attempts() + 1 < self.config.attempts_max {
                continue;
            }
            let place = &self.places[death.place];
            let request: Request = bytemuck::pod_read_unaligned(casualty.request());
            let story = isolate::Story {
                stage: process_name(place.stage),
                pid: death.child.pid,
                death: place.failure.clone().unwrap_or_else(|| death.status.to_string()),
                attempts: u32::from(word.attempts()) + 1,
                last_words: death.child.last_words.take(WORDS_PATIENCE),
            };
            if isolate::enter(&self.config, self.area, &casualty, request, story) {
                self.segment.processes()[place.entry].count(Counter::Quarantined, 1);
            }
        }
    }

    /// Says how a process died, and when the next one starts in its place.
    fn settle(&mut self, death: &Death) -> anyhow::Result<()> {
        if self.places[death.place].stage == GATEWAY {
            self.encodes = None; // the next one says what it can
        }
        death.child.last_words.hear_out(WORDS_PATIENCE); // they come before its end, and none is lost
        let place = &mut self.places[death.place];
        let title = place.title_of(death.child.pid);
        let why = place.failure.take().unwrap_or_else(|| death.status.to_string());
        if self.is_warming(death.place) {
            self.give_up(&format!("{title} cannot start: {why}"));
            return Ok(());
        }
        if self.fails_with(death, &why) {
            return Ok(());
        }
        if matches!(self.phase, Phase::Stopping { .. }) || !self.is_wanted(&self.places[death.place]) {
            return Ok(());
        }
        let place = &mut self.places[death.place];
        if death.child.is_told {
            info!("{title} ended as it was told to; the next one starts");
            place.restart_at = Some(Instant::now());
            return Ok(());
        }
        if !place.was_ready && death.status.code() == Some(Exit::Unusable as i32) {
            anyhow::bail!("{title} cannot start: {why}"); // it never could: starting it again would end the same way
        }
        let entry = &self.segment.processes()[place.entry];
        place.forgive(work_of(entry));
        let wait = place.postpone();
        entry.set_restarts(entry.restarts() + 1);
        entry.count(Counter::Deaths, 1);
        warn!("{title} died ({why}); it starts again in {} ms", wait.as_millis());
        Ok(())
    }
}
