//! From two readings of the status to what each stage does a second.

use framepipe_pipeline::observe::Process;

use crate::status::Status;

/// What a line of the table says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The stage's name; "gateway"; "keeper".
    pub stage: String,
    /// Processes that take frames, of all generations.
    pub ready: usize,
    /// Processes that there shall be, of all generations.
    pub wanted: usize,
    /// Processes of one generation that there shall be: what scaling changes. None of gateway and keeper.
    pub scale: Option<u32>,
    /// Frames a second; the keeper's and what is known of no interval: none.
    pub rate: Option<f64>,
    /// The part of its processes' time that they work.
    pub busy: Option<f64>,
    /// Frames that wait for it.
    pub queue: Option<usize>,
    /// Milliseconds since the oldest of them was accepted.
    pub oldest_ms: Option<u64>,
    /// Frames in one batch, on average; and most.
    pub fill: Option<(f64, u32)>,
    /// Deaths.
    pub restarts: u64,
    /// Its processes' own memory.
    pub memory: u64,
}

/// What a process has done since the reading before.
#[derive(Clone, Copy, Default)]
struct Done {
    frames: u64,
    batches: u64,
    busy_s: f64,
}

/// The lines of a table, in the order of the pipeline. Without a reading before, or of another launcher's, no rate is known.
pub fn rows(now: &Status, before: Option<&Status>) -> Vec<Row> {
    let before = before.filter(|before| before.pid == now.pid && before.uptime_s < now.uptime_s);
    let queues = now.queues.iter().map(|queue| queue.stage.as_str());
    queues.chain(["keeper"]).map(|stage| row(now, before, stage)).collect()
}

fn row(now: &Status, before: Option<&Status>, stage: &str) -> Row {
    let processes: Vec<&Process> = now.processes.iter().filter(|process| process.stage == stage).collect();
    let note = now.stages.iter().find(|note| note.stage == stage);
    let ready = processes.iter().filter(|process| process.state == "ready").count();
    let done = before.map(|before| (done_since(before, &processes), now.uptime_s - before.uptime_s));
    let queue = now.queues.iter().find(|queue| queue.stage == stage);
    let fill = |(done, _): (Done, f64)| {
        let most = note?.batch_max;
        (done.batches > 0).then_some((done.frames as f64 / done.batches as f64, most))
    };
    Row {
        stage: stage.into(),
        ready,
        wanted: note.map_or(1, |note| note.wanted as usize * now.generations.len().max(1)),
        scale: note.map(|note| note.wanted),
        rate: done.filter(|_| queue.is_some()).map(|(done, seconds)| done.frames as f64 / seconds),
        busy: done.map(|(done, seconds)| (done.busy_s / seconds / ready.max(1) as f64).min(1.0)),
        queue: queue.map(|queue| queue.depth),
        oldest_ms: queue.and_then(|queue| queue.oldest_ms),
        fill: done.and_then(fill),
        restarts: processes.iter().map(|process| u64::from(process.restarts)).sum(),
        memory: now.memory.iter().filter(|note| note.owner == stage).map(|note| note.bytes).sum(),
    }
}

/// Counters belong to places, and outlive the processes in them: a place that was not there before tells nothing of this interval.
fn done_since(before: &Status, processes: &[&Process]) -> Done {
    let mut sum = Done::default();
    for process in processes {
        let is_same = |other: &&Process| {
            (&other.stage, other.instance, other.generation) == (&process.stage, process.instance, process.generation)
        };
        let Some(former) = before.processes.iter().find(is_same) else { continue };
        sum.frames += process.frames.saturating_sub(former.frames);
        sum.batches += process.batches.saturating_sub(former.batches);
        sum.busy_s += (process.busy_s - former.busy_s).max(0.0);
    }
    sum
}
