//! The policy on pipelines that are not there: a stage of n processes, each of which takes `cost` seconds a frame, does n / cost
//! frames a second at most; what is offered beyond that waits before it.

use super::*;

const MOST: u32 = 64;

struct Pipeline {
    /// Seconds that one process takes for a frame.
    costs: Vec<f64>,
    threads: Vec<u32>,
    processes: Vec<u32>,
    /// Frames a second that clients offer.
    offered: f64,
    /// Frames in flight, which all wait before the slowest stage where it is slower than what is offered.
    in_flight: f64,
}

impl Pipeline {
    fn of(costs: &[f64], offered: f64) -> Self {
        let (threads, processes) = (vec![1; costs.len()], vec![1; costs.len()]);
        Self { costs: costs.to_vec(), threads, processes, offered, in_flight: 64.0 }
    }

    fn rate_of(&self, stage: usize) -> f64 {
        f64::from(self.processes[stage]) / self.costs[stage]
    }

    fn rate(&self) -> f64 {
        (0..self.costs.len()).map(|stage| self.rate_of(stage)).fold(self.offered, f64::min)
    }

    fn load(&self) -> Vec<StageLoad> {
        let rate = self.rate();
        let slowest = (0..self.costs.len()).find(|stage| self.rate_of(*stage) <= rate && rate < self.offered);
        let load = |stage: usize| StageLoad {
            processes: self.processes[stage],
            threads: self.threads[stage],
            busy: rate / self.rate_of(stage),
            depth: if slowest == Some(stage) { self.in_flight } else { 0.0 },
        };
        (0..self.costs.len()).map(load).collect()
    }

    fn used(&self) -> u32 {
        self.processes.iter().zip(&self.threads).map(|(processes, threads)| processes * threads).sum()
    }

    /// Moves until nothing moves any more. Fails where it goes on for ever, leaves the budget, or takes a stage its last process.
    fn settle(&mut self, cores: u32) -> usize {
        for moves in 0..200 {
            let Some(step) = next_move(&self.load(), cores, MOST) else { return moves };
            let before = self.used();
            step.from.into_iter().for_each(|from| self.processes[from] -= 1);
            step.to.into_iter().for_each(|to| self.processes[to] += 1);
            assert!(
                self.processes.iter().all(|processes| (1..=MOST).contains(processes)),
                "{step:?}: {:?}",
                self.processes
            );
            assert!(self.used() <= cores.max(before), "{step:?} leaves the budget: {:?}", self.processes);
        }
        panic!("it never settles: {:?}", self.processes);
    }
}

#[test]
fn processes_go_to_the_bottleneck_while_the_budget_has_room() {
    let mut pipeline = Pipeline::of(&[0.001, 0.004, 0.020, 0.001, 0.010], f64::INFINITY);
    let before = pipeline.rate();
    assert_eq!(pipeline.settle(16), 11, "the budget is used");
    assert_eq!(pipeline.used(), 16);
    // 11 free processes are worth most as 2, 8 and 4: 400 frames a second, held up by all three at once, take 0.4 + 8 + 4 ...
    assert!(pipeline.rate() >= 350.0 && before == 50.0, "{:?}: {}", pipeline.processes, pipeline.rate());
    assert_eq!(pipeline.settle(16), 0, "at steady load nothing moves any more");
}

#[test]
fn a_full_budget_moves_processes_from_where_they_have_time_to_spare() {
    let mut pipeline = Pipeline::of(&[0.001, 0.002, 0.010, 0.001, 0.010], f64::INFINITY);
    pipeline.processes = vec![1, 6, 1, 6, 1];
    let before = pipeline.rate();
    pipeline.settle(15);
    assert_eq!(pipeline.used(), 15);
    assert!(pipeline.rate() >= 4.0 * before, "{:?}: {} after {before}", pipeline.processes, pipeline.rate());
    assert_eq!(pipeline.settle(15), 0);
}

#[test]
fn nothing_moves_where_nothing_waits_or_no_stage_can_spare_a_process() {
    let mut idle = Pipeline::of(&[0.001, 0.004, 0.020, 0.001, 0.010], 10.0);
    idle.processes = vec![1, 2, 8, 1, 4];
    assert_eq!(idle.settle(64), 0, "a calm hour takes nothing away");
    let mut full = Pipeline::of(&[0.010, 0.010, 0.010], f64::INFINITY);
    full.processes = vec![2, 2, 2];
    assert_eq!(full.settle(6), 0, "all are as busy");
    let mut least = Pipeline::of(&[0.001, 0.100], f64::INFINITY);
    assert_eq!(least.settle(1), 0, "each stage has one process, whatever the budget says");
}

#[test]
fn a_budget_that_is_left_is_come_back_to_from_the_least_busy_stages() {
    let mut pipeline = Pipeline::of(&[0.001, 0.010, 0.001], f64::INFINITY);
    pipeline.processes = vec![3, 5, 4];
    assert!(pipeline.settle(7) >= 5);
    assert_eq!((pipeline.used(), pipeline.processes[1]), (7, 5));
}

#[test]
fn a_process_with_threads_takes_as_many_cores() {
    let mut pipeline = Pipeline::of(&[0.001, 0.010, 0.001], f64::INFINITY);
    pipeline.threads = vec![1, 4, 1];
    assert_eq!(pipeline.settle(13), 1, "two of four threads and two others: a third would be one core too many");
    assert_eq!(pipeline.processes, [1, 2, 1]);
}

/// Every small pipeline, at loads from nothing to more than it can do: the moves end, the budget holds, and then the rate is no
/// worse than at first.
#[test]
fn whatever_the_pipeline_it_settles_and_is_no_slower_then() {
    let costs = [0.001, 0.003, 0.010, 0.033];
    for (a, b, c) in (0..64).map(|n| (costs[n / 16], costs[n / 4 % 4], costs[n % 4])) {
        for offered in [1.0, 50.0, 90.0, 200.0, 1000.0, f64::INFINITY] {
            for processes in [[1, 1, 1], [4, 1, 1], [1, 4, 4], [2, 3, 2]] {
                let mut pipeline = Pipeline::of(&[a, b, c], offered);
                pipeline.processes = processes.to_vec();
                let (before, cores) = (pipeline.rate(), pipeline.used().max(9));
                pipeline.settle(cores);
                assert!(pipeline.rate() >= before * 0.999, "{a} {b} {c} at {offered} from {processes:?}");
            }
        }
    }
}
