//! Where the next process should go: pure, so that it can be tried on pipelines that are not there.
//!
//! A stage is the bottleneck where its processes have hardly a moment without work ([`BUSY`]) and at least one frame a process
//! waits before them. It gets a process where the budget has room for one; else from a stage that would have time to spare without
//! it ([`SPARE`]). Between the two shares lies what keeps the pipeline from going to and fro: a stage that has just got a process,
//! because its n were busy, is still busier with n + 1 than one may be that gives a process away.

/// Share of their time that processes work, above which they are the bottleneck, if frames wait before them.
pub const BUSY: f64 = 0.85;
/// Share of their time that a stage's processes would work without one of them, below which it may give that away.
pub const SPARE: f64 = 0.6;

/// How a stage did over a while.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StageLoad {
    /// Its processes.
    pub processes: u32,
    /// The cores that one of them may use: the threads of its engine.
    pub threads: u32,
    /// Share of their time that they worked, 0 to 1.
    pub busy: f64,
    /// Frames that waited before it, on average.
    pub depth: f64,
}

impl StageLoad {
    fn cores(&self) -> u32 {
        self.processes * self.threads
    }

    /// The share with one process less.
    fn busy_without_one(&self) -> f64 {
        match self.processes {
            0 | 1 => f64::INFINITY,
            processes => self.busy * f64::from(processes) / f64::from(processes - 1),
        }
    }

    fn is_bottleneck(&self) -> bool {
        self.busy >= BUSY && self.depth >= f64::from(self.processes)
    }
}

/// A process that goes. One of the two at least is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// The stage that gives one away.
    pub from: Option<usize>,
    /// The stage that gets one.
    pub to: Option<usize>,
}

/// The next move, if there should be any. All processes together may use `cores` cores, but that each stage has one; and none has
/// more than `most`.
pub fn next_move(stages: &[StageLoad], cores: u32, most: u32) -> Option<Move> {
    let used: u32 = stages.iter().map(StageLoad::cores).sum();
    let least_busy = |may_give: &dyn Fn(usize) -> bool| {
        let givers = (0..stages.len()).filter(|stage| stages[*stage].processes > 1 && may_give(*stage));
        givers.min_by(|a, b| stages[*a].busy_without_one().total_cmp(&stages[*b].busy_without_one()))
    };
    if used > cores {
        return least_busy(&|_| true).map(|from| Move { from: Some(from), to: None });
    }
    let bottlenecks =
        (0..stages.len()).filter(|stage| stages[*stage].is_bottleneck() && stages[*stage].processes < most);
    let share = |stage: usize| (stages[stage].busy, stages[stage].depth / f64::from(stages[stage].processes));
    let to = bottlenecks.max_by(|a, b| share(*a).partial_cmp(&share(*b)).unwrap_or(std::cmp::Ordering::Equal))?;
    if used + stages[to].threads <= cores {
        return Some(Move { from: None, to: Some(to) });
    }
    let is_enough = |from: usize| used - stages[from].threads + stages[to].threads <= cores;
    let has_time = |from: usize| stages[from].busy_without_one() < SPARE;
    let from = least_busy(&|from| from != to && has_time(from) && is_enough(from))?;
    Some(Move { from: Some(from), to: Some(to) })
}

#[cfg(test)]
#[path = "policy/tests.rs"]
mod tests;
