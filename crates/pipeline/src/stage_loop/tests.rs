//! The order in which frames are taken; slots that are not mapped.

use std::{
    path::PathBuf,
    sync::{atomic::AtomicU32, mpsc},
};

use framepipe_cache::{Area, Use};
use framepipe_shm::{Blame, Gate, Geometry, PoolGeometry, Segment};

use super::*;
use crate::QUEUES;

const JOBS: u64 = 8;
const LIMIT: Duration = Duration::from_secs(30);
/// Owner ids: of the stage's process and of one that dies.
const LIVING: u16 = 1;
const DYING: u16 = 2;

/// A stage that needs nothing and notes nothing.
struct Idle;

impl Stage for Idle {
    type Plan = ();

    fn plan(&mut self, _: &mut Frame<'_>) -> Result<(Needs, ()), FrameError> {
        Ok((Needs::NONE, ()))
    }

    fn process(&mut self, _: &mut [Item<'_, ()>]) {}
}

struct Bench(Segment, Area);

impl Bench {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(format!("/dev/shm/framepipe-test-loop-{}-{number}", std::process::id()));
        let mut pools = [PoolGeometry::default(); POOL_COUNT_MAX];
        pools[Pool::Tensor as usize] = PoolGeometry::new(&[(4096, 2)]);
        let geometry = Geometry {
            pipeline: 0,
            jobs: JOBS,
            reserved: 0,
            queues: QUEUES as u64,
            processes: 2,
            request_bytes: size_of::<Request>() as u64,
            descriptor_bytes: size_of::<Descriptor>() as u64,
            keys: 0,
            key_bytes: 0,
            handed: 1 << Pool::Tensor as usize,
            pools,
        };
        let segment = Segment::create(&folder, geometry, 1, 0).expect("a small segment fits");
        segment.processes()[0].occupy(LIVING, 0, 0);
        let area = folder.join("cache");
        Area::make(&area, framepipe_cache::Geometry::default()).expect("a small area fits");
        let area = Area::open(&area, Use::NONE).expect("it was made");
        Self(segment, area)
    }

    fn cache(&self) -> Cache<'_> {
        Cache { area: &self.1, owner: LIVING }
    }

    /// Of a process of the first stage.
    fn context<'s>(&'s self, batch_max: u32, stop: &'s AtomicBool) -> LoopContext<'s> {
        LoopContext {
            worker: Worker::new(&self.0, LIVING, 0),
            cache: self.cache(),
            entry: &self.0.processes()[0],
            stage: 0,
            parity: 0,
            config: StageConfig {
                processes: 1,
                threads: 1,
                batch_max,
                batch_wait_us_max: 0,
                nice: 0,
                hang_ms_max: 1000,
                pinning: Default::default(),
            },
            attempts_max: 9,
            quarantine: QuarantineConfig { entries_max: 0, bytes_max: 0 },
            stop,
        }
    }

    /// Accepts frames of these names.
    fn accept(&self, frames: &[u64]) {
        let gate = Gate::new(&self.0, LIVING);
        for frame in frames {
            let mut draft = gate.draft(1).expect("a job is free");
            let request = Request { frame: *frame, ..Request::zeroed() };
            draft.write(0, bytemuck::bytes_of(&request), bytemuck::bytes_of(&Descriptor::zeroed()));
            gate.accept(draft, None).expect("the gateway lives");
        }
    }

    /// Lets a process die with the queue's oldest frame in hand, which becomes a suspect.
    fn die_with_one(&self) {
        self.0.processes()[1].occupy(DYING, 0, 1);
        let _claimed = Worker::new(&self.0, DYING, 0).claim().expect("a frame waits");
        self.0.processes()[1].vacate();
        self.0.recover(Blame::Frames);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = Segment::remove(self.0.folder());
    }
}

#[test]
fn a_suspect_is_taken_alone_when_its_turn_comes_however_many_follow() {
    let bench = Bench::new();
    bench.accept(&[13]);
    bench.die_with_one();
    bench.accept(&[1]);
    let worker = Worker::new(&bench.0, LIVING, 0);
    worker.put_back(worker.claim().expect("the suspect waits")).expect("it lives"); // behind the healthy one
    bench.accept(&[2, 3]);
    let stop = AtomicBool::new(false);
    let context = bench.context(8, &stop);
    let (mut suspect, mut wakes) = (None, Wakes::default());
    let mut take = || {
        let mut batch = Vec::new();
        collect(&mut Idle, &context, 8, &mut suspect, &mut batch, &mut wakes).expect("it lives");
        let frames: Vec<u64> = batch.iter().map(|item| item.frame.request().frame).collect();
        publish(&context, &mut batch, &mut wakes).expect("it lives");
        frames
    };
    assert_eq!(take(), [1]);
    bench.accept(&[4]);
    assert_eq!(take(), [13]);
    assert_eq!(take(), [2, 3, 4]);
}

/// A stage that tells when nothing waits for it.
struct Tells(mpsc::Sender<()>);

impl Stage for Tells {
    type Plan = ();

    fn plan(&mut self, _: &mut Frame<'_>) -> Result<(Needs, ()), FrameError> {
        Ok((Needs::NONE, ()))
    }

    fn process(&mut self, _: &mut [Item<'_, ()>]) {}

    fn idle(&mut self) {
        let _ = self.0.send(()); // an error: the test has heard enough
    }
}

#[test]
fn whoever_sleeps_behind_a_quick_stage_is_woken_before_the_stage_sleeps() {
    let bench = Bench::new();
    let stop = AtomicBool::new(false);
    let context = bench.context(1, &stop);
    let next = queue_before(1, 0);
    // It looks once when it counts as a sleeper, and not again until it is woken.
    let (looks, looked) = mpsc::channel();
    let slept = std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            let start = Instant::now();
            bench.0.queue_event(next).park(2 * LIMIT, || {
                let _ = looks.send(());
                Worker::new(&bench.0, LIVING, next).has_work().then_some(())
            });
            start.elapsed()
        });
        looked.recv().expect("it looks");
        bench.accept(&[1, 2, 3]);
        let (tells, told) = mpsc::channel();
        let running = scope.spawn(|| run(&mut Tells(tells), &context));
        told.recv().expect("it becomes idle");
        let slept = sleeper.join().expect("no panic");
        stop.store(true, Ordering::Release);
        running.join().expect("no panic").expect("it lives");
        slept
    });
    assert!(slept < LIMIT, "nobody woke it for {slept:?}");
}

#[test]
fn a_slot_that_is_not_mapped_is_written_and_read_by_its_place() {
    let bench = Bench::new();
    bench.accept(&[1, 2]);
    let worker = Worker::new(&bench.0, LIVING, 0);
    for offset in [0, 4096] {
        let mut frame = Frame::new(worker.claim().expect("two frames wait"), bench.cache());
        assert!(frame.output_place(Pool::Tensor).is_err(), "no slot was planned");
        worker.acquire(&mut frame.work, Pool::Tensor as usize, 5).expect("slots are free");
        let place = Place { pool: Pool::Tensor as usize, offset, slot_bytes: 4096, used: 0 };
        assert_eq!(frame.output_place(Pool::Tensor), Ok(place));
        let error = frame.write_output(Pool::Tensor, |_| Ok((5, ()))).expect_err("it is not mapped");
        assert!(error.message.contains("the tensor slot lies on a device"), "{error:?}");
        let error = frame.set_used(Pool::Tensor, 4097).expect_err("the slot is smaller");
        assert!(error.message.contains("4097 bytes were written to a tensor slot of 4096"), "{error:?}");
        frame.set_used(Pool::Tensor, 5).expect("it was planned");
        let outcome = Outcome { queue: 1, carry: 0, descriptor: bytemuck::bytes_of(&frame.descriptor) };
        worker.publish(frame.work, outcome).expect("it lives");

        let next = Frame::new(Worker::new(&bench.0, LIVING, 1).claim().expect("it was published"), bench.cache());
        assert_eq!(next.input_place(Pool::Tensor), Ok(Place { used: 5, ..place }));
        assert!(next.has_input(Pool::Tensor) && !next.has_input(Pool::Encoded));
        let error = next.input(Pool::Tensor).expect_err("it is not mapped");
        assert!(error.message.contains("lies on a device"), "{error:?}");
    }
}
