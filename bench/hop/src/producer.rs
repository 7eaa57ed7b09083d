//! The producer: this process. It starts a consumer for each measurement, sends, and reads what the consumer noted.

use std::{
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    Control,
    cases::{Case, Measure, Peer, Waits},
    consumer::{CONSUME, Order},
    leftovers,
    machine::{self, Sleeper},
    message::stamped,
    peers::{Offer, Sender, framepipe, iceoryx2, ipc_channel, pipe},
};

/// From the word that a spinning consumer took a message to the next one: it asks again by then.
pub const SPIN_GAP: Duration = Duration::from_micros(1);
/// From the kernel's word that a consumer sleeps to its message: its CPU is idle by then.
pub const PARKED_GAP: Duration = Duration::from_micros(200);
/// Longest wait for a consumer.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Looks at the word that is waited for between two looks at the consumer and the clock.
const LOOKS: u32 = 256;

/// What a measurement came to, in nanoseconds.
#[derive(Clone, Debug)]
pub enum Measured {
    /// Each message's hop.
    Hops(Vec<f64>),
    /// What a message took, of many.
    Each(f64),
}

/// Measures a case once: the producer stays on the first CPU, the consumer on the second.
///
/// # Errors
/// Where a peer fails, or the consumer does.
pub fn measure(case: Case, measure: Measure, cpus: [usize; 2]) -> Result<Measured> {
    let folder = tempfile::Builder::new().prefix(&leftovers::prefix()).tempdir_in(leftovers::FOLDER)?;
    machine::stay_on(cpus[0])?;
    let produce = Produce { case, measure, cpu: cpus[1], folder: folder.path() };
    let measured = match case.peer {
        Peer::Framepipe => produce.with(framepipe::Offered::new(folder.path(), case.waits)?),
        Peer::Iceoryx2 => produce.with(iceoryx2::Offered::new(folder.path(), case.waits)?),
        Peer::IpcChannel => produce.with(ipc_channel::Offered::new()?),
        Peer::Pipe => produce.with(pipe::Offered::new()?),
    };
    measured.with_context(|| format!("{}, {measure:?}", case.what))
}

struct Produce<'r> {
    case: Case,
    measure: Measure,
    cpu: usize,
    folder: &'r Path,
}

impl Produce<'_> {
    fn with(&self, mut offer: impl Offer) -> Result<Measured> {
        let messages = self.measure.messages(self.case.waits);
        let path = self.folder.join("control");
        let control = Control::create(&path, messages)?;
        let order = Order {
            case: self.case,
            measure: self.measure,
            cpu: self.cpu,
            producer: std::process::id(),
            control: path,
            address: offer.address(),
        };
        let mut consumer = Consumer::start(&order, &mut offer)?;
        consumer.wait_until(|| Ok(control.is_open()))?;
        let mut sender = offer.sender()?;
        match self.measure {
            Measure::Hop => self.send_singly(&mut sender, &control, &mut consumer)?,
            Measure::Throughput => self.send_all(&mut sender, &control, &mut consumer)?,
        }
        consumer.wait_until(|| Ok(control.taken() == messages as u64))?;
        consumer.end()?;
        let warm_up = self.measure.warm_up(self.case.waits);
        Ok(match self.measure {
            Measure::Hop => Measured::Hops(control.hops_ns(warm_up)),
            Measure::Throughput => Measured::Each(control.elapsed_ns() as f64 / (messages - 1 - warm_up) as f64),
        })
    }

    fn send_singly(&self, sender: &mut impl Sender, control: &Control, consumer: &mut Consumer) -> Result<()> {
        let sleeper = Sleeper::new(consumer.0.id())?;
        for sequence in 0..self.measure.messages(self.case.waits) as u64 {
            consumer.wait_until(|| Ok(control.taken() == sequence))?;
            let gap = match self.case.waits {
                Waits::Spinning => SPIN_GAP,
                Waits::Parked => {
                    consumer.wait_until(|| Ok(sleeper.is_asleep()))?;
                    PARKED_GAP
                }
            };
            ensure!(sender.has_room()?, "a room that was given back is there");
            let begun = Instant::now();
            while begun.elapsed() < gap {
                std::hint::spin_loop();
            }
            sender.send(&stamped(sequence))?;
        }
        Ok(())
    }

    fn send_all(&self, sender: &mut impl Sender, control: &Control, consumer: &mut Consumer) -> Result<()> {
        for sequence in 0..self.measure.messages(self.case.waits) as u64 {
            if !sender.has_room()? {
                consumer.wait_until(|| sender.has_room())?;
            }
            sender.send(&stamped(sequence))?;
            if sequence == 0 {
                // iceoryx2's subscriber connects when it receives; until then its publisher waits for no room.
                consumer.wait_until(|| Ok(control.taken() > 0))?;
            }
        }
        Ok(())
    }
}

/// The consumer's process; killed where it has not ended by itself.
struct Consumer(Child);

impl Consumer {
    fn start(order: &Order, offer: &mut impl Offer) -> Result<Self> {
        let program = std::env::current_exe()?;
        let child = Command::new(program).arg(CONSUME).args(order.words()).stdin(offer.stdin()).spawn();
        Ok(Self(child.context("the consumer")?))
    }

    /// Looks until something holds, while the consumer lives.
    fn wait_until(&mut self, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if holds()? {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
            if let Some(status) = self.0.try_wait()? {
                ensure!(holds()?, "the consumer ended too early: {status}");
                return Ok(());
            }
            if began.elapsed() > WAIT_MAX {
                bail!("the consumer did nothing for {} s", WAIT_MAX.as_secs());
            }
        }
    }

    fn end(&mut self) -> Result<()> {
        let status = self.0.wait()?;
        ensure!(status.success(), "the consumer failed: {status}");
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
