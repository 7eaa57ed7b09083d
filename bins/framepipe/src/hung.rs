//! Processes that hang: who gives no sign of life for longer than it may is killed, and buried as any other.

use std::time::Duration;

use framepipe_shm::monotonic_ns;

use crate::{
    place::{Place, START_MAX},
    supervisor::{Phase, Supervisor},
};

/// The launcher itself stood still, if it did not look for so long.
const STANDSTILL_NS: u64 = 2_000_000_000;

impl Supervisor<'_> {
    /// Kills each process that does not go round its loop. What it had is taken back only once it is dead.
    pub(crate) fn kill_hung(&mut self) {
        if matches!(self.phase, Phase::Stopping { .. }) {
            return; // who does not end is killed anyway
        }
        let now_ns = monotonic_ns();
        if now_ns - self.looked_ns > STANDSTILL_NS {
            self.awake_since_ns = now_ns; // Ctrl-Z stops all of us: nobody beats meanwhile, and nobody hangs
        }
        self.looked_ns = now_ns;
        for index in 0..self.places.len() {
            let place = &self.places[index];
            let (silence, most) = (self.silence(place, now_ns), self.silence_max(place));
            let place = &mut self.places[index];
            let Some(child) = &mut place.child else { continue };
            let (age, most, what) = if child.is_ready {
                (silence, most, "no heartbeat")
            } else {
                // A gateway that reads a large journal beats meanwhile; who loads a model cannot.
                (silence.min(place.started.elapsed()), most.max(START_MAX), "not ready")
            };
            if age > most {
                let hung = || format!("hung, {what} for {} ms, and was killed", age.as_millis());
                place.failure.get_or_insert_with(hung);
                child.kill();
            }
        }
    }

    /// How long a place's process has given no sign of life, while the launcher looked.
    pub(crate) fn silence(&self, place: &Place, now_ns: u64) -> Duration {
        let beat_ns = self.segment.processes()[place.entry].heartbeat_ns();
        Duration::from_nanos(now_ns.saturating_sub(beat_ns.max(self.awake_since_ns)))
    }

    /// How long it may.
    pub(crate) fn silence_max(&self, place: &Place) -> Duration {
        let of_stage = self.config.stages.get(place.stage).map(|stage| stage.hang_ms_max);
        Duration::from_millis(of_stage.unwrap_or(self.config.server.hang_ms_max))
    }

    /// For how long the process of a place has given no sign of life.
    pub(crate) fn silence_of(&self, place: usize) -> Duration {
        self.silence(&self.places[place], monotonic_ns())
    }
}
