//! What is measured: a peer, and how its consumer waits.

/// Who carries the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// `framepipe-shm`: publish, pop, claim.
    Framepipe,
    /// iceoryx2: publish and subscribe, zero-copy; with its event where the consumer sleeps.
    Iceoryx2,
    /// ipc-channel: a channel of bytes.
    IpcChannel,
    /// A pipe of the kernel's: the floor of what a wake-up costs.
    Pipe,
}

/// How the consumer waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waits {
    /// It asks again and again.
    Spinning,
    /// It sleeps in the kernel.
    Parked,
}

/// What is measured of a case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// One message at a time.
    Hop,
    /// As many as may be.
    Throughput,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// In figures: `hop_NAME_us`.
    pub name: &'static str,
    /// For people.
    pub what: &'static str,
    /// Who carries the message.
    pub peer: Peer,
    /// How its consumer waits.
    pub waits: Waits,
}

/// All cases; a name's place is the command line's as well.
pub const CASES: [Case; 6] = [
    Case { name: "framepipe_spin", what: "framepipe, spinning", peer: Peer::Framepipe, waits: Waits::Spinning },
    Case { name: "framepipe_parked", what: "framepipe, parked", peer: Peer::Framepipe, waits: Waits::Parked },
    Case { name: "iceoryx2_spin", what: "iceoryx2, spinning", peer: Peer::Iceoryx2, waits: Waits::Spinning },
    Case { name: "iceoryx2_parked", what: "iceoryx2 with event, parked", peer: Peer::Iceoryx2, waits: Waits::Parked },
    Case { name: "ipc_channel", what: "ipc-channel, parked", peer: Peer::IpcChannel, waits: Waits::Parked },
    Case { name: "pipe", what: "a pipe, parked", peer: Peer::Pipe, waits: Waits::Parked },
];

impl Measure {
    /// Both.
    pub const ALL: [Measure; 2] = [Measure::Hop, Measure::Throughput];

    /// Messages of one measurement, those that warm up included.
    pub fn messages(self, waits: Waits) -> usize {
        match (self, waits) {
            (Measure::Hop, Waits::Spinning) => 50_000,
            (Measure::Hop, Waits::Parked) => 2_000,
            (Measure::Throughput, _) => 100_000,
        }
    }

    /// The first ones, which are not counted: pages are touched, connections made.
    pub fn warm_up(self, waits: Waits) -> usize {
        self.messages(waits) / 10
    }
}
