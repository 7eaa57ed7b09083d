//! Upload: a batch whose images come with the call. They are stored as they come; then the batch is accepted as any other.
//!
//! An upload keeps one message in memory. So many have a turn to be read at once (`cache.uploads_max`), a few more wait for
//! theirs, and the others are refused. One that waits for room gives its turn up meanwhile: it is one of the calls that wait.

use std::{sync::Arc, time::Duration};

use framepipe_frame::TraceParent;
use framepipe_proto::v1::{PushDataRequest, PushDataResponse, UploadRequest, upload_request::Part};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tonic::{Code, Status, Streaming};

use crate::{
    accept::{Call, RETRY_UNKNOWN, with_retry},
    checks::check_upload,
    hub::Hub,
    insist::Insistence,
    metrics::Refusal,
    store::StoreError,
};

/// Bytes of a message with data, at most.
const DATA_BYTES_MAX: usize = 1 << 20;
/// For the next message to come.
const MESSAGE_WAIT: Duration = Duration::from_secs(10);
/// Bytes a second, on average, below which an upload is given up: it keeps a place, and room, from others.
const BYTES_PER_S_LEAST: u64 = 64 << 10;
/// Uploads that have just come and wait for their turn, beside those that have it.
const WAITING_MAX: usize = 4;

/// How many uploads there are.
pub struct Uploads {
    turns: Arc<Semaphore>,
    all: Arc<Semaphore>,
    turns_max: usize,
}

/// An upload's turn to be read.
struct Turn(#[expect(dead_code, reason = "held, not read")] [OwnedSemaphorePermit; 2]);

impl Uploads {
    /// So many are read at once.
    pub fn new(turns_max: usize) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { turns: semaphore(turns_max), all: semaphore(turns_max + WAITING_MAX), turns_max }
    }

    /// The turn of an upload that has just come.
    async fn first_turn(&self) -> Result<Turn, Status> {
        let counted = self.all.clone().try_acquire_owned().map_err(|_| {
            let words = format!(
                "{} uploads are under way, and {WAITING_MAX} wait: try again once one is done, or raise cache.uploads_max",
                self.turns_max
            );
            with_retry(Status::resource_exhausted(words), RETRY_UNKNOWN, Refusal::Line)
        })?;
        Ok(self.turn(counted).await)
    }

    /// The next turn of an upload that waited for room. It comes before those of uploads that come later.
    async fn next_turn(&self) -> Turn {
        let counted = self.all.clone().acquire_owned().await.expect("nobody closes it");
        self.turn(counted).await
    }

    async fn turn(&self, counted: OwnedSemaphorePermit) -> Turn {
        Turn([self.turns.clone().acquire_owned().await.expect("nobody closes it"), counted])
    }
}

/// Takes a batch in and accepts it, whole or not at all.
pub async fn upload(
    hub: Arc<Hub>,
    caller: TraceParent,
    mut stream: Streaming<UploadRequest>,
) -> Result<PushDataResponse, Status> {
    let mut stopping = hub.stopping();
    tokio::select! {
        answer = receive(hub, caller, &mut stream) => answer,
        _ = stopping.wait_for(|stopping| *stopping) => {
            Err(Status::unavailable("the server is stopping: upload again once it serves"))
        }
    }
}

async fn receive(
    hub: Arc<Hub>,
    caller: TraceParent,
    stream: &mut Streaming<UploadRequest>,
) -> Result<PushDataResponse, Status> {
    let turn = hub.uploads.first_turn().await?;
    let request = first_message(stream).await?;
    let checked = check_upload(&request, hub.frames_max)?;
    let call = Arc::new(Call::new(hub.clone(), request, checked, caller)?);
    if let Some(answer) = call.look()? {
        return Ok(answer);
    }
    let mut insistence = Insistence::new(call.clone(), Some(turn));
    let turn = loop {
        if let Some(answer) = insistence.on(Call::ask_ahead).await? {
            return Ok(answer);
        }
        call.let_others_pass();
        if let Some(turn) = insistence.take_permit() {
            break turn;
        }
        insistence.give_permit(hub.uploads.next_turn().await); // others may have taken the room meanwhile
    };
    let began = Instant::now();
    take_in(&call, stream, began).await?;
    insistence.prolong(began.elapsed());
    drop(turn); // nothing more is read of it
    insistence.on(Call::accept).await
}

async fn first_message(stream: &mut Streaming<UploadRequest>) -> Result<PushDataRequest, Status> {
    match next(stream, Instant::now() + MESSAGE_WAIT).await? {
        Some(Part::Push(push)) => Ok(push),
        Some(Part::Data(_)) => Err(Status::invalid_argument("an upload's first message is `push`: `data` came")),
        None => Err(Status::invalid_argument("an upload's first message is `push`: none came")),
    }
}

/// Stores all images.
async fn take_in(call: &Arc<Call>, stream: &mut Streaming<UploadRequest>, began: Instant) -> Result<(), Status> {
    let total: u64 = call.request.sizes.iter().sum(); // it was checked that it is a number
    let until = began + MESSAGE_WAIT + Duration::from_secs(total / BYTES_PER_S_LEAST);
    let mut came = 0;
    loop {
        let data = match next(stream, until.min(Instant::now() + MESSAGE_WAIT)).await? {
            Some(Part::Data(data)) => data,
            Some(Part::Push(_)) => {
                return Err(Status::invalid_argument("`push` came twice: it is the first message alone"));
            }
            None => break,
        };
        if data.len() > DATA_BYTES_MAX {
            let words = format!("`data` of {} bytes: a message brings {DATA_BYTES_MAX} bytes at most", data.len());
            return Err(Status::invalid_argument(words));
        }
        came += data.len() as u64;
        if came > total {
            let words = format!("{came} bytes came, and more may: `sizes` says {total}");
            return Err(Status::invalid_argument(words));
        }
        keep(call, data).await?;
    }
    if came < total {
        return Err(Status::invalid_argument(format!("{came} bytes came: `sizes` says {total}")));
    }
    keep(call, Vec::new()).await // images without bytes, if they are all
}

async fn keep(call: &Arc<Call>, data: Vec<u8>) -> Result<(), Status> {
    let of = call.clone();
    let task = tokio::task::spawn_blocking(move || of.images().take_in(&of.hub.store, &of.request.sizes, &data));
    let kept = task.await.map_err(|error| Status::internal(format!("the call failed: {error}")))?;
    kept.map_err(|error| {
        if matches!(error, StoreError::Full { .. }) {
            call.hub.store.count_refused(); // others took the room meanwhile: the bytes that came cannot wait for more
        }
        error.into()
    })
}

/// The next message, if it comes until then.
async fn next(stream: &mut Streaming<UploadRequest>, until: Instant) -> Result<Option<Part>, Status> {
    let Ok(message) = timeout_at(until, stream.message()).await else {
        let words = format!(
            "nothing came for {MESSAGE_WAIT:?}, or too little: an upload brings {BYTES_PER_S_LEAST} bytes a second at least"
        );
        return Err(Status::deadline_exceeded(words));
    };
    let message = message.map_err(|error| match error.code() {
        Code::OutOfRange => {
            Status::invalid_argument(format!("{}: `data` brings {DATA_BYTES_MAX} at most", error.message()))
        }
        _ => error,
    })?;
    let empty = || Status::invalid_argument("a message of an upload has `push` or `data`");
    message.map(|message| message.part.ok_or_else(empty)).transpose()
}
