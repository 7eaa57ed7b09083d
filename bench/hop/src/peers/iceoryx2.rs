//! iceoryx2: a publisher that loans a sample before the clock is read, and a subscriber that reads it in place. Its `ipc`
//! service, which is the quicker one: its ports are of one thread.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use iceoryx2::{
    port::{BackpressureAction, listener::Listener, notifier::Notifier, publisher::Publisher, subscriber::Subscriber},
    prelude::*,
    sample_mut_uninit::SampleMutUninit,
    service::port_factory::{event, publish_subscribe},
};

use super::{ON_THEIR_WAY_MAX, Offer, Receiver, Sender};
use crate::{cases::Waits, leftovers, message::Message};

/// Longest sleep, as framepipe's: its event was seen to leave a subscriber asleep whose buffer was full.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// Longest time that a full buffer may stay full.
const FULL_MAX: Duration = Duration::from_secs(10);

type Room = SampleMutUninit<ipc::Service, std::mem::MaybeUninit<Message>, ()>;

/// The two services, by either process; the node lives as long.
struct Services {
    _node: Node<ipc::Service>,
    messages: publish_subscribe::PortFactory<ipc::Service, Message, ()>,
    event: event::PortFactory<ipc::Service>,
}

impl Services {
    /// `address` is the run's own folder, and a name that no other run's files bear.
    fn open(address: &str) -> Result<Self> {
        set_log_level_from_env_or(LogLevel::Error);
        let (folder, prefix) = address.rsplit_once('/').context("an address is a folder and a name")?;
        let mut config = Config::default();
        let failed = |error: SemanticStringError| anyhow!("{address}: {error:?}");
        config.global.set_root_path(&iceoryx2::prelude::Path::new(folder.as_bytes()).map_err(failed)?);
        config.global.prefix = FileName::new(prefix.as_bytes()).map_err(failed)?;
        let node = NodeBuilder::new().config(&config).create::<ipc::Service>()?;
        let name: ServiceName = "hop".try_into()?;
        let messages = node
            .service_builder(&name)
            .publish_subscribe::<Message>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(ON_THEIR_WAY_MAX)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()?;
        let event = node.service_builder(&name).event().max_notifiers(1).max_listeners(1).open_or_create()?;
        Ok(Self { _node: node, messages, event })
    }
}

/// Removes, as the last one, what iceoryx2 keeps for the next node of the name.
struct Swept;

impl Drop for Swept {
    fn drop(&mut self) {
        leftovers::remove_own_files();
    }
}

/// The services, made.
pub struct Offered {
    address: String,
    services: Services,
    waits: Waits,
    _swept: Swept, // dropped after the services
}

impl Offered {
    /// Makes the services, with their files below `folder`.
    ///
    /// # Errors
    /// What iceoryx2 says.
    pub fn new(folder: &Path, waits: Waits) -> Result<Self> {
        let address = format!("{}/{}", folder.display(), leftovers::prefix());
        Ok(Self { services: Services::open(&address)?, address, waits, _swept: Swept })
    }
}

impl Offer for Offered {
    type Sender<'o> = Sending;

    fn address(&self) -> String {
        self.address.clone()
    }

    fn sender(&mut self) -> Result<Sending> {
        let too_long = |info: &iceoryx2::port::BackpressureInfo| match info.elapsed_time > FULL_MAX {
            true => BackpressureAction::DiscardDataAndFail,
            false => BackpressureAction::Retry,
        };
        let publisher = self.services.messages.publisher_builder().set_backpressure_handler(too_long).create()?;
        let is_parked = self.waits == Waits::Parked;
        let notifier = is_parked.then(|| self.services.event.notifier_builder().create()).transpose()?;
        Ok(Sending { publisher, notifier, room: None })
    }
}

/// The producer's end.
pub struct Sending {
    room: Option<Room>,
    publisher: Publisher<ipc::Service, Message, ()>,
    notifier: Option<Notifier<ipc::Service>>,
}

impl Sender for Sending {
    fn has_room(&mut self) -> Result<bool> {
        if self.room.is_none() {
            self.room = Some(self.publisher.loan_uninit()?);
        }
        Ok(true)
    }

    fn send(&mut self, message: &Message) -> Result<()> {
        let room = self.room.take().context("a sample is in hand")?;
        ensure!(room.write_payload(*message).send()? == 1, "the subscriber did not get it");
        if let Some(notifier) = &self.notifier {
            notifier.notify()?;
        }
        Ok(())
    }
}

/// The consumer's end.
pub struct Receiving {
    subscriber: Subscriber<ipc::Service, Message, ()>,
    listener: Option<Listener<ipc::Service>>,
    _services: Services,
}

impl Receiving {
    /// Opens the services that the producer made.
    ///
    /// # Errors
    /// What iceoryx2 says.
    pub fn open(address: &str, waits: Waits) -> Result<Self> {
        let services = Services::open(address)?;
        let subscriber = services.messages.subscriber_builder().create()?;
        let is_parked = waits == Waits::Parked;
        let listener = is_parked.then(|| services.event.listener_builder().create()).transpose()?;
        Ok(Self { subscriber, listener, _services: services })
    }
}

impl Receiver for Receiving {
    fn receive<T>(&mut self, read: impl FnOnce(&Message) -> Result<T>) -> Result<T> {
        loop {
            if let Some(sample) = self.subscriber.receive()? {
                return read(sample.payload());
            }
            match &self.listener {
                None => std::hint::spin_loop(),
                Some(listener) => drop(listener.timed_wait(|_| {}, IDLE_WAIT)?),
            }
        }
    }
}
