//! `up --auto`: processes go to the bottleneck while the pipeline serves, within a budget of cores. This file looks, `policy.rs`
//! decides, and `scale.rs` does it, as if an operator had said it; while one does, nothing is moved.

mod policy;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use framepipe_pipeline::{Config, PROCESSES_MAX, STAGES, entries_of, queue_before};
use framepipe_shm::Counter;

use self::policy::{Move, StageLoad, next_move};
use tracing::info;

use crate::supervisor::{Phase, Supervisor};

/// What is looked at before something is moved: long enough that one slow batch is not a load.
const WINDOW: Duration = Duration::from_secs(10);

/// What was seen since a window began.
pub struct Auto {
    /// The cores that the stages' processes may use together.
    cores: u32,
    window: Option<Window>,
}

struct Window {
    began: Instant,
    parity: usize,
    /// By stage: processes, and nanoseconds that they had worked when it began.
    before: Vec<(u32, u64)>,
    /// By stage: the sum of the depths of its queue that were seen.
    depths: Vec<usize>,
    looks: usize,
}

impl Auto {
    /// As a configuration wants it; none: it does not.
    pub fn of(config: &Config) -> Option<Self> {
        let laid_out = || {
            config.stages.iter().zip(&STAGES).map(|(stage, row)| stage.processes * threads(row, stage.threads)).sum()
        };
        config.auto.enabled.then(|| Self { cores: config.auto.cores.unwrap_or_else(laid_out), window: None })
    }
}

fn threads(row: &framepipe_pipeline::StageRow, threads: u32) -> u32 {
    if row.runs_engine { threads } else { 1 }
}

impl Supervisor<'_> {
    /// Looks how the stages do, and moves a process when it is time. To be called now and then.
    pub(crate) fn look_at_load(&mut self) {
        let Some(mut auto) = self.auto.take() else { return };
        let window = self.look_back(auto.window.take());
        auto.window = self.look(&auto, window);
        self.auto = Some(auto);
    }

    /// The window, with one more look in it; none, where it is over because something has changed.
    fn look_back(&self, window: Option<Window>) -> Option<Window> {
        if self.phase != Phase::Running || self.is_changing() {
            return None;
        }
        let is_same = |window: &Window| {
            let counts = window.before.iter().map(|(processes, _)| *processes);
            window.parity == self.parity() && counts.eq(self.config.stages.iter().map(|stage| stage.processes))
        };
        let mut window = window.filter(is_same).unwrap_or_else(|| Window {
            began: Instant::now(),
            parity: self.parity(),
            before: (0..STAGES.len()).map(|stage| (self.config.stages[stage].processes, self.busy_ns(stage))).collect(),
            depths: vec![0; STAGES.len()],
            looks: 0,
        });
        window.looks += 1;
        for (stage, depth) in window.depths.iter_mut().enumerate() {
            *depth += self.segment.queue_depth(queue_before(stage, window.parity));
        }
        Some(window)
    }

    /// Moves a process where the window is over and says so.
    fn look(&mut self, auto: &Auto, window: Option<Window>) -> Option<Window> {
        let window = window?;
        let passed = window.began.elapsed();
        if passed < WINDOW {
            return Some(window);
        }
        let load = |stage: usize| {
            let (processes, before_ns) = window.before[stage];
            let worked = self.busy_ns(stage).saturating_sub(before_ns) as f64;
            StageLoad {
                processes,
                threads: threads(&STAGES[stage], self.config.stages[stage].threads),
                busy: (worked / (passed.as_nanos() as f64 * f64::from(processes))).min(1.0),
                depth: window.depths[stage] as f64 / window.looks as f64,
            }
        };
        let loads: Vec<StageLoad> = (0..STAGES.len()).map(load).collect();
        let next = next_move(&loads, auto.cores, PROCESSES_MAX)?;
        info!("auto: {}", reason(next, &loads, auto.cores));
        let by = |stage: usize, change: i64| {
            (STAGES[stage].name.to_owned(), (i64::from(loads[stage].processes) + change) as u32)
        };
        let counts: BTreeMap<String, u32> =
            next.from.map(|from| by(from, -1)).into_iter().chain(next.to.map(|to| by(to, 1))).collect();
        self.scale_by_itself(&counts);
        None
    }

    /// Nanoseconds that processes of a stage have worked since the segment was made.
    fn busy_ns(&self, stage: usize) -> u64 {
        let entries = entries_of(stage, self.parity());
        entries.map(|entry| self.segment.processes()[entry].counted(Counter::BusyNs)).fold(0, u64::wrapping_add)
    }
}

/// Why, for the log.
fn reason(next: Move, loads: &[StageLoad], cores: u32) -> String {
    let of = |stage: usize| {
        let StageLoad { busy, depth, .. } = loads[stage];
        format!("{} was busy {:.0} % of the time, with {depth:.1} frames waiting", STAGES[stage].name, busy * 100.0)
    };
    let from = next.from.map(|from| format!("{} gives one process: {}", STAGES[from].name, of(from)));
    let to = next.to.map(|to| format!("{} gets one process: {}", STAGES[to].name, of(to)));
    let said: Vec<String> = to.into_iter().chain(from).collect();
    format!("{} (budget: {cores} cores)", said.join("; "))
}
