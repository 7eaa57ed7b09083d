//! The one loop: claim up to B frames, take the slots for their outputs, process them together, publish each, and say
//! that it lives. Every stage is this loop around its own step.

#[cfg(test)]
mod tests;
mod wakes;

use std::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use bytemuck::Zeroable;
use framepipe_cache::BlockRef;
use framepipe_frame::{Descriptor, ErrorCode, FrameError, Request, StageTimes};
use framepipe_shm::{
    Counter, Lost, Outcome, Output, POOL_COUNT_MAX, Place, ProcessEntry, Shortage, Work, Worker, monotonic_ns,
};

use crate::{
    GATEWAY, Pool, QuarantineConfig, STAGES, StageConfig,
    kept::{Cache, InPlace},
    stages::queue_before,
};
use wakes::Wakes;

/// Longest time that a stage sleeps before it beats again.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// Bytes of each output slot that a frame needs; 0: none of that pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs([usize; POOL_COUNT_MAX]);

impl Needs {
    /// No slot at all.
    pub const NONE: Needs = Needs([0; POOL_COUNT_MAX]);

    /// These, and a slot of `pool` for `bytes` bytes.
    pub fn and(mut self, pool: Pool, bytes: usize) -> Self {
        self.0[pool as usize] = bytes;
        self
    }

    /// All together.
    fn bytes(&self) -> usize {
        self.0.iter().sum()
    }
}

/// One step of the pipeline.
pub trait Stage {
    /// What [`Stage::plan`] found out of a frame and [`Stage::process`] needs.
    type Plan;

    /// Looks at a frame and says which output slots it needs.
    ///
    /// # Errors
    /// The frame's error, which becomes its result.
    fn plan(&mut self, frame: &mut Frame<'_>) -> Result<(Needs, Self::Plan), FrameError>;

    /// Processes a batch, all of whose slots were taken: writes outputs, or sets a frame's error.
    fn process(&mut self, batch: &mut [Item<'_, Self::Plan>]);

    /// Most frames that one batch may hold, where the stage knows better than the configuration.
    fn batch_max(&self) -> usize {
        usize::MAX
    }

    /// True where a batch may take far longer than the one before it: nobody waits meanwhile to be woken for that one's frames.
    fn may_take_long(&self, _: &[Item<'_, Self::Plan>]) -> bool {
        false
    }

    /// Gives back what it keeps from one frame to the next for their sake: no frame waits.
    fn idle(&mut self) {}
}

/// A claimed frame.
pub struct Frame<'s> {
    pub(crate) work: Work<'s>,
    /// Its facts so far.
    pub descriptor: Descriptor,
    /// Its error, if it has one by now.
    pub error: Option<FrameError>,
    /// Bytes of it that the stage copied.
    pub bytes_copied: u64,
    /// True where the stage has found its result: it goes on to the gateway.
    pub is_done: bool,
    pub(crate) cache: Cache<'s>,
    pub(crate) in_place: Cell<Option<InPlace>>,
    /// What is given back once it has gone on.
    pub(crate) release: Option<BlockRef>,
}

/// A frame of a batch, with its plan.
pub struct Item<'s, P> {
    /// The frame.
    pub frame: Frame<'s>,
    /// What the stage planned for it.
    pub plan: P,
}

impl<'s> Frame<'s> {
    fn new(work: Work<'s>, cache: Cache<'s>) -> Self {
        let mut descriptor = Descriptor::zeroed();
        work.read_descriptor(bytemuck::bytes_of_mut(&mut descriptor));
        let in_place = Cell::new(None);
        Self { work, descriptor, error: None, bytes_copied: 0, is_done: false, cache, in_place, release: None }
    }

    /// True of the gateway's own frame, which is processed as any and counted nowhere.
    pub fn is_canary(&self) -> bool {
        self.work.is_reserved()
    }

    /// What the client asked for.
    pub fn request(&self) -> Request {
        bytemuck::pod_read_unaligned(self.work.request())
    }

    /// The frame's bytes in a pool.
    ///
    /// # Errors
    /// An internal error where an earlier stage left none, or they are not mapped ([`Frame::input_place`]).
    pub fn input(&self, pool: Pool) -> Result<&'s [u8], FrameError> {
        self.input_place(pool)?;
        self.work.input(pool as usize).ok_or_else(|| not_mapped(pool))
    }

    /// Where the frame's bytes lie in a pool's slab: for a stage that has not mapped it, as it lies on a GPU. Within the slab,
    /// whatever other processes wrote; `used` of the slot's bytes were written by an earlier stage.
    ///
    /// # Errors
    /// An internal error where an earlier stage left none.
    pub fn input_place(&self, pool: Pool) -> Result<Place, FrameError> {
        let missing = || FrameError::new(ErrorCode::Internal, format!("the frame has no {} slot", pool.name()));
        self.work.input_place(pool as usize).ok_or_else(missing)
    }

    /// Where the output slot of a pool lies in its slab: for a stage that has not mapped it. [`Frame::set_used`] says how
    /// much of it was written.
    ///
    /// # Errors
    /// An internal error where no slot was planned.
    pub fn output_place(&mut self, pool: Pool) -> Result<Place, FrameError> {
        self.output(pool).map(|output| output.place())
    }

    /// Says that the first `used` bytes of a pool's output slot were written, by other means than [`Frame::write_output`].
    /// With 0, as it is while nothing is said, the slot goes back when the frame is published.
    ///
    /// # Errors
    /// An internal error where no slot was planned, or it is smaller.
    pub fn set_used(&mut self, pool: Pool, used: usize) -> Result<(), FrameError> {
        let output = self.output(pool)?;
        let most = output.place().slot_bytes;
        if used > most {
            let message = format!("{used} bytes were written to a {} slot of {most}", pool.name());
            return Err(FrameError::new(ErrorCode::Internal, message));
        }
        output.used = used;
        Ok(())
    }

    pub(crate) fn output(&mut self, pool: Pool) -> Result<&mut Output<'s>, FrameError> {
        self.work.output(pool as usize).ok_or_else(|| not_planned(pool))
    }

    /// True when an earlier stage left bytes in a pool.
    pub fn has_input(&self, pool: Pool) -> bool {
        self.work.input_place(pool as usize).is_some()
    }

    /// Lets `write` fill the output slot of a pool; it returns the bytes used.
    ///
    /// # Errors
    /// What `write` says; an internal error where no slot was planned, or it is not mapped ([`Frame::output_place`]).
    pub fn write_output<T>(
        &mut self,
        pool: Pool,
        write: impl FnOnce(&mut [u8]) -> Result<(usize, T), FrameError>,
    ) -> Result<T, FrameError> {
        let output = self.output(pool)?;
        let (used, result) = write(mapped(output, pool)?)?;
        output.used = used;
        Ok(result)
    }

    /// What was written to the output slot of a pool so far.
    ///
    /// # Errors
    /// As [`Frame::write_output`].
    pub fn written(&mut self, pool: Pool) -> Result<&[u8], FrameError> {
        let output = self.output(pool)?;
        let used = output.used;
        Ok(&mapped(output, pool)?[..used])
    }

    /// Lets `write` fill the output slots of two pools at once; it returns the bytes used of each.
    ///
    /// # Errors
    /// As [`Frame::write_output`].
    pub fn write_outputs<T>(
        &mut self,
        pools: [Pool; 2],
        write: impl FnOnce([&mut [u8]; 2]) -> Result<([usize; 2], T), FrameError>,
    ) -> Result<T, FrameError> {
        let mut first = self.work.take_output(pools[0] as usize).ok_or_else(|| not_planned(pools[0]))?;
        let written = self.output(pools[1]).and_then(|second| {
            let slots = [mapped(&mut first, pools[0])?, mapped(second, pools[1])?];
            let (used, result) = write(slots)?;
            (first.used, second.used) = (used[0], used[1]);
            Ok(result)
        });
        self.work.return_output(first);
        written
    }
}

/// The slot's bytes.
fn mapped<'o>(output: &'o mut Output<'_>, pool: Pool) -> Result<&'o mut [u8], FrameError> {
    if output.bytes.is_empty() { Err(not_mapped(pool)) } else { Ok(output.bytes) }
}

fn not_planned(pool: Pool) -> FrameError {
    FrameError::new(ErrorCode::Internal, format!("no {} slot was planned", pool.name()))
}

fn not_mapped(pool: Pool) -> FrameError {
    let message = format!("the {} slot lies on a device, and this stage works on the CPU", pool.name());
    FrameError::new(ErrorCode::Internal, message)
}

/// What the loop of one process works with.
pub(crate) struct LoopContext<'s> {
    pub worker: Worker<'s>,
    pub cache: Cache<'s>,
    pub entry: &'s ProcessEntry,
    pub stage: usize,
    /// Of its generation.
    pub parity: usize,
    pub config: StageConfig,
    pub attempts_max: u8,
    pub quarantine: QuarantineConfig,
    pub stop: &'s AtomicBool,
}

impl LoopContext<'_> {
    /// The queue that its frames go on to.
    fn next_queue(&self) -> usize {
        queue_before(self.stage + 1, self.parity)
    }

    /// Counts something of a frame.
    fn count_of(&self, frame: &Frame<'_>, counter: Counter, amount: u64) {
        if !frame.is_canary() {
            self.entry.count(counter, amount);
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Wakes who is owed it.
    fn pay(&self, wakes: &mut Wakes) {
        let Wakes { onward, finished, .. } = wakes.pay();
        for (queue, count) in [(self.next_queue(), onward), (GATEWAY, finished)] {
            if count > 0 {
                self.worker.notify(queue, count);
            }
        }
    }
}

/// Goes round until `stop` is set. What was claimed is published before it returns.
///
/// # Errors
/// [`Lost`] when this process was declared dead: it must end at once.
pub(crate) fn run<S: Stage>(stage: &mut S, context: &LoopContext<'_>) -> Result<(), Lost> {
    let batch_max = (context.config.batch_max as usize).min(stage.batch_max()).max(1);
    let mut batch = Vec::with_capacity(batch_max);
    let mut suspect = None;
    let mut wakes = Wakes::default();
    while !context.is_stopping() {
        let bytes = collect(stage, context, batch_max, &mut suspect, &mut batch, &mut wakes)?;
        if batch.is_empty() {
            continue;
        }
        if !Wakes::may_wait_for_bytes(bytes) || stage.may_take_long(&batch) {
            context.pay(&mut wakes);
        }
        let start = Instant::now();
        #[cfg(any(debug_assertions, feature = "fault-injection"))]
        strike(context, &mut batch);
        stage.process(&mut batch);
        let took = start.elapsed();
        if batch.iter().any(|item| !item.frame.is_canary()) {
            context.entry.count(Counter::Batches, 1);
            context.entry.count(Counter::BusyNs, took.as_nanos() as u64);
        }
        publish(context, &mut batch, &mut wakes)?;
        if suspect.is_some() || !wakes.may_wait_for(took, Instant::now()) {
            context.pay(&mut wakes);
        }
    }
    context.pay(&mut wakes);
    Ok(())
}

#[cfg(any(debug_assertions, feature = "fault-injection"))]
fn strike<P>(context: &LoopContext<'_>, batch: &mut [Item<'_, P>]) {
    let requests: Vec<Request> = batch.iter().map(|item| item.frame.request()).collect();
    let descriptors = batch.iter_mut().map(|item| &mut item.frame.descriptor);
    crate::faults::strike(STAGES[context.stage].name, requests.iter().zip(descriptors));
}

/// Claims and plans frames until the batch is full, or none comes within the batch's waiting time; returns the bytes of their slots.
/// A suspect ends a batch that it does not begin: it is not claimed, and the next batch is it alone. Nobody is owed a wake-up when
/// this waits.
fn collect<'s, S: Stage>(
    stage: &mut S,
    context: &LoopContext<'s>,
    batch_max: usize,
    suspect: &mut Option<u32>,
    batch: &mut Vec<Item<'s, S::Plan>>,
    wakes: &mut Wakes,
) -> Result<usize, Lost> {
    let mut deadline = None;
    let mut needed = 0;
    // Looked at before a frame is claimed, because one that has to be put back loses its place in the queue. The smallest
    // slots stand for all: a frame that needs a larger one may still have to be put back.
    if !STAGES[context.stage].writes.iter().all(|pool| wait_for_slot(context, wakes, *pool as usize, 1)) {
        context.entry.beat();
        return Ok(needed);
    }
    while batch.len() < batch_max {
        context.entry.beat();
        let Some(work) = context.worker.claim_if(suspect, |word| batch.is_empty() || !word.is_suspect()) else {
            if suspect.is_some() {
                return Ok(needed);
            }
            context.pay(wakes);
            if batch.is_empty() {
                stage.idle();
            }
            if !wait_for_frames(context, batch.is_empty(), &mut deadline) {
                return Ok(needed);
            }
            continue;
        };
        let is_alone = work.is_suspect();
        match prepare(stage, context, work)? {
            Prepared::Item(item, bytes) => {
                needed += bytes;
                batch.push(item);
            }
            Prepared::Published => continue,
            Prepared::NoSlot { pool, bytes } => {
                if batch.is_empty() {
                    let _ = wait_for_slot(context, wakes, pool, bytes);
                }
                return Ok(needed);
            }
        }
        if is_alone {
            return Ok(needed);
        }
    }
    Ok(needed)
}

/// Waits until a slot for `bytes` bytes may be free; false where none is after a while.
fn wait_for_slot(context: &LoopContext<'_>, wakes: &mut Wakes, pool: usize, bytes: usize) -> bool {
    context.worker.has_slot(pool, bytes) || {
        context.pay(wakes);
        context.worker.wait_for_slot(pool, bytes, IDLE_WAIT, || context.is_stopping())
    }
}

/// Waits for a frame: long while the batch is empty, at most until the batch's deadline afterwards. False: go on
/// with what there is.
fn wait_for_frames(context: &LoopContext<'_>, is_empty: bool, deadline: &mut Option<Instant>) -> bool {
    if is_empty {
        context.worker.wait(IDLE_WAIT, || context.is_stopping());
        return false;
    }
    let batch_wait = Duration::from_micros(context.config.batch_wait_us_max);
    let until = *deadline.get_or_insert_with(|| Instant::now() + batch_wait);
    let left = until.saturating_duration_since(Instant::now());
    !left.is_zero() && !context.is_stopping() && context.worker.wait(left, || context.is_stopping())
}

#[allow(
    clippy::large_enum_variant,
    reason = "an item is moved into the batch at once; boxing would allocate per frame"
)]
enum Prepared<'s, P> {
    /// With the bytes of its slots.
    Item(Item<'s, P>, usize),
    /// The frame was an error and is on its way to the gateway.
    Published,
    /// A slot is wanting; the frame was put back.
    NoSlot { pool: usize, bytes: usize },
}

fn prepare<'s, S: Stage>(
    stage: &mut S,
    context: &LoopContext<'s>,
    work: Work<'s>,
) -> Result<Prepared<'s, S::Plan>, Lost> {
    let claimed_ns = monotonic_ns();
    let mut frame = Frame::new(work, context.cache);
    frame.descriptor.times[context.stage].claimed_ns = claimed_ns;
    let planned = refuse(context, &frame, claimed_ns).and_then(|()| stage.plan(&mut frame));
    let (needs, plan) = match planned {
        Ok(planned) => planned,
        Err(error) => return publish_error(context, frame, error),
    };
    for pool in (0..POOL_COUNT_MAX).filter(|pool| needs.0[*pool] > 0) {
        match context.worker.acquire(&mut frame.work, pool, needs.0[pool]) {
            Ok(()) => {}
            Err(Shortage::InUse { .. }) => {
                context.count_of(&frame, Counter::PutBack, 1);
                context.worker.put_back(frame.work)?; // all or none: what was taken goes back too
                return Ok(Prepared::NoSlot { pool, bytes: needs.0[pool] });
            }
            Err(Shortage::TooLarge { bytes, most, .. }) => {
                let name = Pool::ALL.get(pool).map_or("?", |pool| pool.name());
                let message = format!("{bytes} bytes exceed the largest {name} slot, {most}: raise [pools.{name}]");
                return publish_error(context, frame, FrameError::new(ErrorCode::ImageTooLarge, message));
            }
        }
    }
    Ok(Prepared::Item(Item { frame, plan }, needs.bytes()))
}

/// The reasons for which no stage's step is even tried.
fn refuse(context: &LoopContext<'_>, frame: &Frame<'_>, now_ns: u64) -> Result<(), FrameError> {
    let row = &STAGES[context.stage];
    let attempts = frame.work.attempts();
    if attempts >= context.attempts_max {
        return Err(context.quarantine.given_up(row.binary, attempts, frame.request().frame));
    }
    frame.descriptor.check()?;
    let deadline_ns = frame.request().deadline_ns;
    if row.checks_deadline && deadline_ns != 0 && now_ns > deadline_ns {
        let late_ms = (now_ns - deadline_ns) / 1_000_000;
        let message = format!("its deadline passed {late_ms} ms before {} had its turn", row.name);
        return Err(FrameError::new(ErrorCode::DeadlineExceeded, message));
    }
    Ok(())
}

fn publish_error<'s, P>(
    context: &LoopContext<'s>,
    mut frame: Frame<'s>,
    error: FrameError,
) -> Result<Prepared<'s, P>, Lost> {
    frame.error = Some(error);
    let queue = publish_one(context, frame)?;
    context.worker.notify(queue, 1);
    Ok(Prepared::Published)
}

fn publish<P>(context: &LoopContext<'_>, batch: &mut Vec<Item<'_, P>>, wakes: &mut Wakes) -> Result<(), Lost> {
    let (mut onward, mut finished) = (0, 0);
    for item in batch.drain(..) {
        if publish_one(context, item.frame)? == GATEWAY { finished += 1 } else { onward += 1 }
    }
    // Behind the last stage both are the gateway's.
    wakes.owe(onward, finished, Instant::now());
    Ok(())
}

/// Publishes a frame to the next stage; one with an error goes straight to the gateway. Returns the queue.
fn publish_one(context: &LoopContext<'_>, mut frame: Frame<'_>) -> Result<usize, Lost> {
    let row = &STAGES[context.stage];
    let mut queue = context.next_queue();
    let mut carry = row.carries();
    if let Err(error) = frame.check_in_place() {
        frame.error = Some(error);
    }
    if frame.is_done {
        queue = GATEWAY;
    }
    if let Some(error) = frame.error.take() {
        if error.code == ErrorCode::Internal {
            // No client's fault: a bug of ours, or memory that another process scribbled over.
            let number = frame.request().frame;
            tracing::error!(frame = number, "frame {number}: {}", error.message);
        }
        if frame.descriptor.check().is_err() {
            frame.descriptor = Descriptor::zeroed();
        }
        frame.descriptor.set_error(&error);
        frame.work.release_outputs();
        queue = GATEWAY;
        carry = 1 << Pool::Encoded as usize | 1 << Pool::Held as usize;
        context.count_of(&frame, Counter::Errors, 1);
    }
    frame.descriptor.times[context.stage].published_ns = monotonic_ns();
    frame.descriptor.times[context.stage + 1..].fill(StageTimes::default()); // of a frame that started again
    let is_canary = frame.is_canary();
    let outcome = Outcome { queue, carry, descriptor: bytemuck::bytes_of(&frame.descriptor) };
    context.worker.publish_quietly(frame.work, outcome)?;
    Frame::released(context.cache, frame.release);
    if !is_canary {
        context.entry.count(Counter::Frames, 1);
        context.entry.count(Counter::BytesCopied, frame.bytes_copied);
    }
    Ok(queue)
}
