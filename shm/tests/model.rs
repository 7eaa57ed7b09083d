//! Random histories of a small pipeline (accept, claim, acquire, publish, put back, deliver, deaths, recoveries) against
//! a naive twin that only knows where each frame must be. After every step the segment and the twin agree; at the end
//! everything comes out once and everything is free.

mod support;

use std::collections::BTreeMap;

use framepipe_shm::{Blame, Gate, Work, Worker};
use proptest::prelude::*;
use support::{A, B, Bench, GATEWAY, frame_of};

/// Where the twin has a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Queue(usize),
    Claimed(usize, Hand),
}

/// Who has a claimed frame: a worker by its place, each with an owner id of its own.
type Hand = usize;

#[derive(Clone, Debug)]
enum Step {
    Accept(usize),
    /// A gateway that dies before it accepts.
    Draft(usize),
    Claim(Hand),
    /// The hand takes a slot for its frame, and writes nothing yet.
    Acquire(Hand),
    Publish(Hand),
    PutBack(Hand),
    Deliver,
    Die(Hand),
    Recover,
    Sweep,
    /// All die, and what lay in the slab with them; the next launcher takes over.
    TakeOver,
}

const HANDS: usize = 4;
const JOBS: u64 = 6;

/// Hands 0 and 1 work for stage A, 2 and 3 for stage B.
fn queue_of(hand: Hand) -> usize {
    if hand < 2 { A } else { B }
}

fn step() -> impl Strategy<Value = Step> {
    let hand = 0..HANDS;
    prop_oneof![
        2 => (1..4usize).prop_map(Step::Accept),
        1 => (1..4usize).prop_map(Step::Draft),
        4 => hand.clone().prop_map(Step::Claim),
        2 => hand.clone().prop_map(Step::Acquire),
        4 => hand.clone().prop_map(Step::Publish),
        1 => hand.clone().prop_map(Step::PutBack),
        3 => Just(Step::Deliver),
        1 => hand.prop_map(Step::Die),
        1 => Just(Step::Recover),
        1 => Just(Step::Sweep),
        1 => Just(Step::TakeOver),
    ]
}

struct Twin {
    frames: BTreeMap<u64, At>,
    accepted: u64,
}

impl Twin {
    fn at(&self, at: At) -> usize {
        self.frames.values().filter(|place| **place == at).count()
    }

    fn held_by(&self, hand: Hand) -> Option<u64> {
        self.frames
            .iter()
            .find(|(_, at)| matches!(at, At::Claimed(_, holder) if *holder == hand))
            .map(|(frame, _)| *frame)
    }
}

struct Run<'b> {
    bench: &'b Bench,
    twin: Twin,
    works: [Option<Work<'b>>; HANDS],
    dead: [bool; HANDS],
}

impl<'b> Run<'b> {
    fn new(bench: &'b Bench) -> Self {
        for hand in 0..HANDS {
            bench.segment.processes()[hand + 1].occupy(bench.segment.new_owner(), queue_of(hand), hand);
        }
        let twin = Twin { frames: BTreeMap::new(), accepted: 0 };
        Self { bench, twin, works: Default::default(), dead: [false; HANDS] }
    }

    fn worker(&self, hand: Hand) -> Worker<'b> {
        Worker::new(&self.bench.segment, self.bench.segment.processes()[hand + 1].owner(), queue_of(hand))
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Accept(count) => self.accept(count),
            Step::Draft(count) => {
                let fits = self.twin.frames.len() + count <= JOBS as usize;
                assert_eq!(Gate::new(&self.bench.segment, 1).draft(count).is_some(), fits, "a draft fits or not");
            }
            Step::Claim(hand) if self.works[hand].is_none() && !self.dead[hand] => self.claim(hand),
            Step::Acquire(hand) => {
                let (worker, queue) = (self.worker(hand), queue_of(hand));
                if let Some(work) = &mut self.works[hand]
                    && work.output(queue).is_none()
                {
                    let _ = worker.acquire(work, queue, 8); // in use, or taken: both are a state to go on from
                }
            }
            Step::Publish(hand) => self.publish(hand),
            Step::PutBack(hand) => {
                if let Some(work) = self.works[hand].take() {
                    let frame = frame_of(&work);
                    self.worker(hand).put_back(work).expect("the hand lives");
                    self.twin.frames.insert(frame, At::Queue(queue_of(hand)));
                }
            }
            Step::Deliver => {
                let waits = self.twin.at(At::Queue(GATEWAY));
                let before = self.delivered();
                assert_eq!(self.bench.deliver(1), waits > 0, "{waits} finished frames wait");
                let after = self.delivered();
                for frame in after.iter().filter(|frame| !before.contains(frame)) {
                    assert_eq!(self.twin.frames.remove(frame), Some(At::Queue(GATEWAY)), "frame {frame}");
                }
            }
            Step::Die(hand) if !self.dead[hand] => {
                self.dead[hand] = true;
                self.works[hand] = None; // dropped without a step: as a kill leaves it
                self.bench.segment.processes()[hand + 1].vacate();
            }
            Step::Recover => self.recover(),
            Step::TakeOver => self.take_over(),
            Step::Sweep => drop(self.bench.segment.repair_hints()),
            Step::Claim(_) | Step::Die(_) => {}
        }
    }

    fn delivered(&self) -> Vec<u64> {
        (0..self.twin.accepted).filter(|frame| self.bench.ledger.has(*frame)).collect()
    }

    fn accept(&mut self, count: usize) {
        let fits = self.twin.frames.len() + count <= JOBS as usize;
        assert_eq!(self.bench.accept(1, count), fits, "{count} more beside {}", self.twin.frames.len());
        if fits {
            for frame in self.twin.accepted..self.twin.accepted + count as u64 {
                self.twin.frames.insert(frame, At::Queue(A));
            }
            self.twin.accepted += count as u64;
        }
    }

    fn claim(&mut self, hand: Hand) {
        let queue = queue_of(hand);
        let claimed = self.worker(hand).claim();
        assert_eq!(claimed.is_some(), self.twin.at(At::Queue(queue)) > 0, "a frame waits at queue {queue}, or none");
        if let Some(work) = claimed {
            let frame = frame_of(&work);
            let before = self.twin.frames.insert(frame, At::Claimed(queue, hand));
            assert_eq!(before, Some(At::Queue(queue)), "frame {frame}");
            self.works[hand] = Some(work);
        }
    }

    fn publish(&mut self, hand: Hand) {
        let Some(mut work) = self.works[hand].take() else { return };
        let frame = frame_of(&work);
        work.release_outputs();
        let done = self.bench.finish(&self.worker(hand), work, queue_of(hand));
        let queue = queue_of(hand) + usize::from(done); // put back, where no slot was free
        self.twin.frames.insert(frame, At::Queue(queue));
    }

    fn recover(&mut self) {
        let repair = self.bench.segment.recover(Blame::Frames);
        let dead: Vec<Hand> = (0..HANDS).filter(|hand| self.dead[*hand]).collect();
        let lost: Vec<u64> = dead.iter().filter_map(|hand| self.twin.held_by(*hand)).collect();
        assert_eq!(repair.reclaimed, lost.len(), "what the dead held is put back");
        for frame in lost {
            let Some(At::Claimed(queue, _)) = self.twin.frames.get(&frame).copied() else { unreachable!() };
            self.twin.frames.insert(frame, At::Queue(queue));
        }
        for hand in dead {
            self.dead[hand] = false;
            self.bench.segment.processes()[hand + 1].occupy(self.bench.segment.new_owner(), queue_of(hand), hand);
        }
    }

    fn take_over(&mut self) {
        for hand in 0..HANDS {
            self.apply(&Step::Die(hand));
        }
        self.bench.lose_slab();
        let repair = self.bench.take_over();
        let at_b = |at: &At| matches!(at, At::Queue(B) | At::Claimed(B, _));
        assert_eq!(
            repair.restarted,
            self.twin.frames.values().filter(|at| at_b(at)).count(),
            "frames that lost a slot"
        );
        for at in self.twin.frames.values_mut().filter(|at| **at != At::Queue(GATEWAY)) {
            *at = At::Queue(A);
        }
        assert_eq!(self.bench.segment.pool_use(2).0, 0, "nobody has a slot of the slab");
        for hand in 0..HANDS {
            self.dead[hand] = false;
            self.bench.segment.processes()[hand + 1].occupy(self.bench.segment.new_owner(), queue_of(hand), hand);
        }
    }

    fn check(&self) {
        let claimed = self.twin.frames.values().filter(|at| matches!(at, At::Claimed(..))).count();
        let ready = self.twin.frames.len() - claimed;
        assert_eq!(self.bench.segment.job_census(), [JOBS as usize - ready - claimed, 0, ready, claimed]);
    }

    fn end(mut self) {
        for hand in 0..HANDS {
            self.works[hand] = None;
            self.dead[hand] = true;
            self.bench.segment.processes()[hand + 1].vacate();
        }
        self.bench.segment.recover(Blame::Nobody);
        self.bench.drain();
        assert_eq!(self.delivered().len() as u64, self.twin.accepted, "every accepted frame comes out");
        self.bench.assert_clean("at the end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_segment_agrees_with_a_naive_twin(steps in prop::collection::vec(step(), 1..120), slots in 1u64..5) {
        let bench = Bench::new(JOBS, slots);
        let mut run = Run::new(&bench);
        for step in &steps {
            run.apply(step);
            run.check();
        }
        run.end();
    }
}
