//! framepipe's hop, as its stages make it: a job whose descriptor is the message goes from queue to queue.
//!
//! The jobs go round: the consumer hands each one on to the producer's queue, as a stage does, and the producer claims it from
//! there. Sent is a job in hand: its other bank is written, one swap makes it READY, its hint is pushed, a sleeper is woken.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use framepipe_shm::{Access, Gate, Geometry, Outcome, POOL_COUNT_MAX, PoolGeometry, Segment, Work, Worker};

use super::{ON_THEIR_WAY_MAX, Offer, Receiver, Sender};
use crate::{
    cases::Waits,
    message::{MESSAGE_BYTES, Message},
};

/// The queue of jobs that have come back, and its worker: the producer.
const RETURNED: usize = 0;
/// The queue of jobs that were sent, and its worker: the consumer.
const SENT: usize = 1;
/// Longest sleep, as a stage's.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// A segment.
pub struct Offered {
    segment: Segment,
    waits: Waits,
}

impl Offered {
    /// Makes a segment below `folder`, all of whose jobs wait for the producer.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(folder: &Path, waits: Waits) -> Result<Self> {
        let geometry = Geometry {
            pipeline: 0,
            jobs: ON_THEIR_WAY_MAX as u64,
            reserved: 0,
            queues: 2,
            processes: 2,
            request_bytes: 8,
            descriptor_bytes: MESSAGE_BYTES as u64,
            keys: 0,
            key_bytes: 0,
            handed: 0,
            pools: [PoolGeometry::default(); POOL_COUNT_MAX],
        };
        let segment = Segment::create(&folder.join("segment"), geometry, 1, 0)?;
        for queue in [RETURNED, SENT] {
            segment.processes()[queue].occupy(owner(queue), queue, 0);
        }
        let gate = Gate::new(&segment, owner(RETURNED));
        let mut draft = gate.draft(ON_THEIR_WAY_MAX).context("all jobs are free")?;
        (0..ON_THEIR_WAY_MAX).for_each(|place| draft.write(place, &[0; 8], &[0; MESSAGE_BYTES]));
        gate.accept(draft, None)?;
        Ok(Self { segment, waits })
    }
}

impl Offer for Offered {
    type Sender<'o> = Sending<'o>;

    fn address(&self) -> String {
        self.segment.folder().display().to_string()
    }

    fn sender(&mut self) -> Result<Sending<'_>> {
        Ok(Sending { end: End::new(&self.segment, RETURNED, self.waits), in_hand: None })
    }
}

fn owner(queue: usize) -> u16 {
    queue as u16 + 1
}

/// A worker that claims from one queue and publishes to the other.
struct End<'s> {
    worker: Worker<'s>,
    to: usize,
    waits: Waits,
}

impl<'s> End<'s> {
    fn new(segment: &'s Segment, queue: usize, waits: Waits) -> Self {
        Self { worker: Worker::new(segment, owner(queue), queue), to: 1 - queue, waits }
    }

    /// The next job; `None` after one look, or one sleep.
    fn claim(&self) -> Option<Work<'s>> {
        let work = self.worker.claim();
        if work.is_none() {
            match self.waits {
                Waits::Spinning => std::hint::spin_loop(),
                Waits::Parked => drop(self.worker.wait(IDLE_WAIT, || false)),
            }
        }
        work
    }

    fn publish(&self, work: Work<'s>, message: &Message) -> Result<()> {
        let outcome = Outcome { queue: self.to, carry: 0, descriptor: bytemuck::bytes_of(message) };
        Ok(self.worker.publish(work, outcome)?)
    }
}

/// The producer's end.
pub struct Sending<'s> {
    end: End<'s>,
    in_hand: Option<Work<'s>>,
}

impl Sender for Sending<'_> {
    fn has_room(&mut self) -> Result<bool> {
        if self.in_hand.is_none() {
            self.in_hand = self.end.claim();
        }
        Ok(self.in_hand.is_some())
    }

    fn send(&mut self, message: &Message) -> Result<()> {
        self.end.publish(self.in_hand.take().context("a job is in hand")?, message)
    }
}

/// Opens the consumer's mapping of the segment.
///
/// # Errors
/// Where there is none.
pub fn open(address: &str) -> Result<Segment> {
    let segment = Segment::open(Path::new(address), Access::Stage { reads: 0, writes: 0 })?;
    ensure!(segment.geometry().descriptor_bytes == MESSAGE_BYTES as u64, "the segment is another program's");
    Ok(segment)
}

/// The consumer's end.
pub struct Receiving<'s>(End<'s>);

impl<'s> Receiving<'s> {
    /// At an opened segment.
    pub fn new(segment: &'s Segment, waits: Waits) -> Self {
        Self(End::new(segment, SENT, waits))
    }
}

impl Receiver for Receiving<'_> {
    fn receive<T>(&mut self, read: impl FnOnce(&Message) -> Result<T>) -> Result<T> {
        let work = loop {
            if let Some(work) = self.0.claim() {
                break work;
            }
        };
        let mut message = Message::default();
        work.read_descriptor(bytemuck::bytes_of_mut(&mut message));
        let result = read(&message);
        self.0.publish(work, &message)?;
        result
    }
}
