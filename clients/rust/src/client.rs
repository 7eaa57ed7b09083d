//! The client: one server, any number of streams.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use framepipe_proto::v1::{
    AckResultsRequest, Hold, PushDataRequest, PushDataResponse, framepipe_client::FramepipeClient,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    Batch, Error, PushRequest, Results, ResultsOptions,
    backoff::{Backoff, random},
    batches::Batches,
    error::is_broken_connection,
    inbox::{Blob, default_path},
    peer::{endpoint, is_another, seen, was_reached},
    push::{in_trace, trace},
    upload::send,
};

const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes a second below which the server gives an upload up.
const UPLOAD_BYTES_PER_S_LEAST: u64 = 64 << 10;
/// Longest wait for room in one call: well within its timeout.
const ROOM_WAIT: Duration = Duration::from_secs(20);
const RECONNECT: Duration = Duration::from_secs(60);
/// The largest result that a server can be configured for, 64 MiB, and what a message adds to it.
const MESSAGE_BYTES_MAX: usize = 65 << 20;
const SERVICE: &str = "framepipe.v1.Framepipe";

/// A connection to framepipe. Clones share it, and may push and read at once.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) grpc: FramepipeClient<Channel>,
    pub(crate) batches: Arc<Batches>,
    pub(crate) reconnect: Duration,
    channel: Channel,
    pub(crate) address: String,
    inbox: PathBuf,
}

impl Client {
    /// Connects to "http://host:port", "host:port" or "unix:/path"; [`Error::Unreachable`] if nobody listens there, or who does
    /// is no framepipe, or does not answer for 60 s, as while its gateway restarts.
    pub async fn connect(address: &str) -> Result<Self, Error> {
        Self::connect_within(address, RECONNECT).await
    }

    /// As [`connect`](Self::connect), but gives one who listens and does not answer so long, and little more.
    pub async fn connect_within(address: &str, limit: Duration) -> Result<Self, Error> {
        let endpoint = with_timeout(address)?.connect_timeout(limit.min(CONNECT_TIMEOUT));
        let channel = endpoint.connect().await.map_err(|error| Error::Unreachable(seen(address, &error)))?;
        let client = Self::new(address, channel);
        match client.ask(limit, |_| true).await? {
            Ok(()) => Ok(client),
            Err(why) => Err(Error::Unreachable(why)),
        }
    }

    /// As [`connect`](Self::connect), but connects at the first call, such as [`wait_ready`](Self::wait_ready) for a
    /// server that is about to start. Call it within a tokio runtime.
    pub fn connect_lazy(address: &str) -> Result<Self, Error> {
        Ok(Self::new(address, with_timeout(address)?.connect_lazy()))
    }

    /// Fails unless it may be the address of a server.
    pub fn check_address(address: &str) -> Result<(), Error> {
        endpoint(address).map(drop).map_err(Error::InvalidRequest)
    }

    fn new(address: &str, channel: Channel) -> Self {
        Self {
            grpc: FramepipeClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
            batches: Arc::default(),
            reconnect: RECONNECT,
            channel,
            address: address.to_owned(),
            inbox: default_path(),
        }
    }

    /// Writes images into this directory, instead of `$FRAMEPIPE_INBOX` or `/dev/shm/framepipe-inbox`.
    pub fn with_inbox(mut self, inbox: impl Into<PathBuf>) -> Self {
        self.inbox = inbox.into();
        self
    }

    /// Tries calls that fail because the server is away again for so long, instead of 60 s.
    pub fn with_reconnect(mut self, reconnect: Duration) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// Returns once the server says that it serves; [`Error::Unavailable`] after `limit`, [`Error::Unreachable`] at once of who is
    /// no framepipe.
    pub async fn wait_ready(&self, limit: Duration) -> Result<(), Error> {
        let ready = self.ask(limit, |status| status == ServingStatus::Serving).await?;
        ready.map_err(|why| Error::Unavailable(format!("not ready after {limit:?}: {why}")))
    }

    /// Asks the server how it is until it is so; or why it is not, after `limit`. Fails at once where it is no framepipe.
    async fn ask(&self, limit: Duration, is_so: impl Fn(ServingStatus) -> bool) -> Result<Result<(), String>, Error> {
        let mut health = HealthClient::new(self.channel.clone());
        let mut backoff = Backoff::new(limit);
        loop {
            let request = HealthCheckRequest { service: SERVICE.to_owned() };
            let why = match timeout(limit.min(HEALTH_TIMEOUT), health.check(request)).await {
                Ok(Ok(answer)) if is_so(answer.get_ref().status()) => return Ok(Ok(())),
                Ok(Ok(answer)) => format!("{}: it says {}", self.address, answer.get_ref().status().as_str_name()),
                Ok(Err(status)) if is_another(&status) => {
                    return Err(Error::Unreachable(format!("{}: what listens there is no framepipe", self.address)));
                }
                Ok(Err(status)) => seen(&self.address, &status),
                Err(_) => format!("{}: who listens there does not answer", self.address),
            };
            let Some(pause) = backoff.pause() else { return Ok(Err(why)) };
            sleep(pause).await;
        }
    }

    /// Pushes a batch, which the server accepts whole or not at all.
    ///
    /// Images go into one file of the inbox, written before the first await. The file is deleted when the last of
    /// the batch's results has been received by this client, or when a [`Results`] with `until_drained` has come to
    /// the stream's end; the file of a batch with unread results stays when the client is dropped or the process
    /// dies, for the server has yet to read it. A push that fails deletes its file at once, with one exception: where it was
    /// sent, or an earlier one with the same key, and is not known to be refused ([`Error::is_refusal`]), the server may have
    /// accepted the batch all the same, so with an idempotency key of the caller's own the file is kept for a push with the same
    /// key, which then sends the same batch again. Such a push is never [`Error::Unreachable`]. A push
    /// whose future is dropped leaves its file. With [`Hold::Copy`] the file is deleted when the push has been accepted, and when
    /// its future is dropped.
    pub async fn push(&self, request: PushRequest<'_>) -> Result<Batch, Error> {
        let PushRequest { mut message, images, wait, traceparent } = request;
        let trace = trace(&traceparent)?;
        let own_key = with_key(&mut message);
        let (mut blob, mut was_kept) = (None, false);
        if let Some(images) = images {
            let kept = self.batches.take_unconfirmed(&message.idempotency_key);
            was_kept = kept.is_some();
            let written = kept.map_or_else(|| Blob::write(&self.inbox, &message.stream, &images), Ok)?;
            message.location = written.path.to_string_lossy().into_owned();
            message.sizes.clone_from(&written.sizes);
            name(&mut message, images.len());
            blob = Some(written);
        }
        let (key, is_copied) = (message.idempotency_key.clone(), message.hold() == Hold::Copy);
        let push = |message: PushDataRequest| {
            let trace = &trace;
            self.call(CALL_TIMEOUT, move |mut grpc| {
                let request = in_trace(message.clone(), trace.as_ref());
                async move { grpc.push_data(request).await }
            })
        };
        let dropped = DeletedWithCall(blob.clone().filter(|_| is_copied));
        let batch = self.enqueue(message, blob.as_ref().filter(|_| !is_copied), wait, push).await;
        dropped.disarm();
        if let Some(blob) = blob {
            let is_open = |error: &Error| !error.is_refusal() || (was_kept && matches!(error, Error::Unreachable(_)));
            match &batch {
                Ok(_) if !is_copied => {}
                Err(error) if own_key && is_open(error) => self.batches.keep_unconfirmed(key, blob),
                // The push's own outcome says more than the failure to delete would.
                Ok(_) | Err(_) => drop(blob.delete()),
            }
        }
        if own_key { batch.map_err(Error::of_one_sent_before) } else { batch }
    }

    /// Sends the images of a [`PushRequest::images`] with the call, for a server on another host, which keeps them itself: no
    /// file is made. The batch is accepted whole or not at all, and a broken connection is no reason to send it twice.
    pub async fn upload(&self, request: PushRequest<'_>) -> Result<Batch, Error> {
        let PushRequest { mut message, images, wait, traceparent } = request;
        let trace = trace(&traceparent)?;
        let Some(images) = images else {
            return Err(Error::InvalidRequest("an upload sends images: give PushRequest::images".into()));
        };
        let own_key = with_key(&mut message);
        message.sizes = images.iter().map(|image| image.len() as u64).collect();
        name(&mut message, images.len());
        let bytes: u64 = message.sizes.iter().sum();
        let limit = CALL_TIMEOUT + Duration::from_secs(bytes / UPLOAD_BYTES_PER_S_LEAST);
        let images = images.as_slice();
        let upload = |message: PushDataRequest| {
            let trace = &trace;
            self.call(limit, move |grpc| send(grpc, message.clone(), images, trace.as_ref()))
        };
        let batch = self.enqueue(message, None, wait, upload).await;
        if own_key { batch.map_err(Error::of_one_sent_before) } else { batch }
    }

    /// Makes calls until one is accepted, or there is no room for `wait`.
    async fn enqueue<F>(
        &self,
        mut message: PushDataRequest,
        blob: Option<&Blob>,
        wait: Duration,
        push: impl Fn(PushDataRequest) -> F,
    ) -> Result<Batch, Error>
    where
        F: Future<Output = Result<PushDataResponse, Error>>,
    {
        let until = Instant::now() + wait;
        let mut overload = Backoff::until(until);
        let mut was_sent = false;
        loop {
            let left = until.saturating_duration_since(Instant::now()).min(ROOM_WAIT);
            message.wait_ms = left.as_millis() as u64;
            let pushing = self.batches.pushing();
            let error = match push(message.clone()).await {
                Ok(PushDataResponse { stream, first_frame, accepted }) => {
                    let batch = Batch { stream, first_frame, accepted, blob: blob.map(|blob| blob.path.clone()) };
                    if let Some(blob) = blob {
                        self.batches.accepted(&batch, blob.clone());
                    }
                    return Ok(batch);
                }
                Err(error) if was_sent => error.of_one_sent_before(),
                Err(error) => error,
            };
            was_sent = true; // or this is the end
            drop(pushing);
            match (overload.pause(), &error) {
                (Some(pause), Error::Overloaded { retry_after, .. }) => {
                    let left = until.saturating_duration_since(Instant::now());
                    sleep(retry_after.unwrap_or(pause).min(left)).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// The results of a stream, from the first one that is not acknowledged.
    pub fn results(&self, stream: &str, options: ResultsOptions) -> Results {
        Results::new(self.clone(), stream, options)
    }

    /// Acknowledges all results up to `sequence`; returns how many the server still keeps. [`Results`] does so by
    /// itself; call this for the result in hand before leaving the loop.
    pub async fn ack(&self, stream: &str, sequence: u64) -> Result<u64, Error> {
        let answer = self.call(CALL_TIMEOUT, |mut grpc| {
            let request = AckResultsRequest { stream: stream.to_owned(), sequence };
            async move { grpc.ack_results(request).await }
        });
        Ok(answer.await?.kept)
    }

    /// Deletes the file of a batch whose results another process has read.
    pub fn release(&self, batch: &Batch) {
        self.batches.release(batch);
    }

    /// Makes a call, again while the server is away: every request can be repeated without harm.
    async fn call<T, F>(&self, limit: Duration, make: impl Fn(FramepipeClient<Channel>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut backoff = Backoff::new(self.reconnect);
        let mut was_sent = false;
        loop {
            let answer = timeout(limit, make(self.grpc.clone())).await;
            let status = match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer"))) {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            if !is_broken_connection(&status) {
                return Err(Error::from_status(status));
            }
            was_sent |= was_reached(&status);
            let Some(pause) = backoff.pause() else {
                let kind = if was_sent { Error::Unavailable } else { Error::Unreachable };
                return Err(kind(seen(&self.address, &status)));
            };
            sleep(pause).await;
        }
    }
}

/// The endpoint of an address, to which a connection takes so long at most.
fn with_timeout(address: &str) -> Result<Endpoint, Error> {
    Ok(endpoint(address).map_err(Error::InvalidRequest)?.connect_timeout(CONNECT_TIMEOUT))
}

/// The file of a push whose images the server copies: nobody reads it any more once the call is given up.
struct DeletedWithCall(Option<Blob>);

impl DeletedWithCall {
    /// The call has ended by itself: its outcome says what becomes of the file.
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for DeletedWithCall {
    fn drop(&mut self) {
        if let Some(blob) = &self.0 {
            let _ = blob.delete(); // what cannot be deleted is left to who cleans the inbox
        }
    }
}

/// Gives a push a key of its own, unless its caller gave one; whether the caller did.
fn with_key(message: &mut PushDataRequest) -> bool {
    let own_key = !message.idempotency_key.is_empty();
    if !own_key {
        message.idempotency_key = format!("{:016x}{:016x}", random(), random());
    }
    own_key
}

fn name(message: &mut PushDataRequest, images: usize) {
    if message.names.is_empty() {
        message.names = (0..images).map(|index| format!("image-{index}")).collect();
    }
}
