//! The consumer: a process of its own, which the producer starts with `consume` and six words.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use framepipe_shm::monotonic_ns;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::{
    Control,
    cases::{CASES, Case, Measure, Peer},
    machine,
    message::hop_ns,
    peers::{Receiver, framepipe, iceoryx2, ipc_channel, pipe},
};

/// The first argument that makes the program a consumer.
pub const CONSUME: &str = "consume";

/// What a consumer is told.
#[derive(Debug)]
pub struct Order {
    /// Its case.
    pub case: Case,
    /// What is measured.
    pub measure: Measure,
    /// The CPU that it stays on.
    pub cpu: usize,
    /// Its producer's pid: it ends with it.
    pub producer: u32,
    /// The control page's file.
    pub control: PathBuf,
    /// Where the peer is found.
    pub address: String,
}

impl Order {
    /// As words of a command line.
    pub fn words(&self) -> [String; 6] {
        [
            self.case.name.into(),
            format!("{:?}", self.measure),
            self.cpu.to_string(),
            self.producer.to_string(),
            self.control.display().to_string(),
            self.address.clone(),
        ]
    }

    fn of(words: &[String]) -> Result<Self> {
        let [case, measure, cpu, producer, control, address] = words else {
            anyhow::bail!("a consumer is told six words, not {}", words.len());
        };
        Ok(Self {
            case: CASES.into_iter().find(|row| row.name == case).with_context(|| format!("no case {case}"))?,
            measure: Measure::ALL
                .into_iter()
                .find(|one| format!("{one:?}") == *measure)
                .with_context(|| format!("no measure {measure}"))?,
            cpu: cpu.parse().context("a CPU's number")?,
            producer: producer.parse().context("a pid")?,
            control: control.into(),
            address: address.clone(),
        })
    }
}

/// Receives all messages of one measurement.
///
/// # Errors
/// What the peer says; a message that was not due.
pub fn consume(words: &[String]) -> Result<()> {
    let order = Order::of(words)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = getppid().map(Pid::as_raw_nonzero).map(|pid| pid.get() as u32);
    ensure!(parent == Some(order.producer), "the producer has ended");
    machine::stay_on(order.cpu)?;
    let control = Control::open(&order.control)?;
    let (address, waits) = (order.address.as_str(), order.case.waits);
    match order.case.peer {
        Peer::Framepipe => {
            let segment = framepipe::open(address)?;
            receive(framepipe::Receiving::new(&segment, waits), &order, &control)
        }
        Peer::Iceoryx2 => receive(iceoryx2::Receiving::open(address, waits)?, &order, &control),
        Peer::IpcChannel => receive(ipc_channel::Receiving::open(address)?, &order, &control),
        Peer::Pipe => receive(pipe::Receiving::open()?, &order, &control),
    }
}

fn receive(mut receiver: impl Receiver, order: &Order, control: &Control) -> Result<()> {
    let messages = order.measure.messages(order.case.waits);
    control.set_open();
    match order.measure {
        Measure::Hop => {
            for message in 0..messages {
                let hop = receiver.receive(|bytes| hop_ns(bytes, message as u64))?;
                control.note(message, hop);
                control.set_taken(message as u64 + 1);
            }
        }
        Measure::Throughput => {
            let warm_up = order.measure.warm_up(order.case.waits);
            let mut first_ns = 0;
            for message in 0..messages {
                receiver.receive(|bytes| hop_ns(bytes, message as u64))?;
                match message {
                    0 => control.set_taken(1),
                    _ if message == warm_up => first_ns = monotonic_ns(),
                    _ => {}
                }
            }
            control.note_times(first_ns, monotonic_ns());
            control.set_taken(messages as u64);
        }
    }
    Ok(())
}
