//! PullResult: reads a stream's journal and sends it, until the client, a new reader, the server or (where asked) the
//! end of all that was accepted ends it.

use std::{sync::Arc, time::Duration};

use framepipe_journal::{JournalError, Record, StreamId};
use framepipe_proto::v1::{
    AckResultsRequest, AckResultsResponse, ErrorCode, FrameError, FrameResult, Gap, PullResultRequest,
    frame_result::Outcome,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::hub::{Hub, Reader, status};

/// Results read from the journal at a time.
const READ_RECORDS_MAX: usize = 64;
/// Bytes read from the journal at a time, beyond the first record.
const READ_BYTES_MAX: usize = 1 << 20;
/// Results that wait for a slow client, per reader.
const SEND_QUEUE: usize = 64;

/// For a client to take the last word.
const END_WAIT: Duration = Duration::from_secs(5);

/// The results of a stream.
pub type Results = ReceiverStream<Result<FrameResult, Status>>;

/// Seats a reader and starts to send.
pub fn pull(hub: &Arc<Hub>, request: &PullResultRequest) -> Result<Results, Status> {
    let stream = known_stream(hub, &request.stream)?;
    let reader = {
        let mut state = hub.lock();
        if request.after_sequence > 0 {
            state.acknowledge(&stream, request.after_sequence).map_err(status)?;
        }
        state.seat(&stream).ok_or_else(|| unknown(&request.stream))?
    };
    let (sender, results) = mpsc::channel(SEND_QUEUE);
    let task = Sending { hub: hub.clone(), reader, sender, sent: request.after_sequence };
    tokio::spawn(task.run(request.until_drained));
    Ok(ReceiverStream::new(results))
}

/// Acknowledges in mid-stream.
pub fn acknowledge(hub: &Hub, request: &AckResultsRequest) -> Result<AckResultsResponse, Status> {
    let stream = known_stream(hub, &request.stream)?;
    let mut state = hub.lock();
    state.acknowledge(&stream, request.sequence).map_err(status)?;
    let kept = state.journals.kept(&stream).map_err(status)?;
    Ok(AckResultsResponse { kept: kept.records })
}

fn known_stream(hub: &Hub, id: &str) -> Result<StreamId, Status> {
    let stream = StreamId::new(id).map_err(|error| Status::invalid_argument(error.to_string()))?;
    if hub.lock().has_stream(&stream) { Ok(stream) } else { Err(unknown(id)) }
}

fn unknown(id: &str) -> Status {
    Status::not_found(format!("there is no stream {id:?}: PushData makes one"))
}

/// What became of a result.
enum Sent {
    Yes,
    /// Another reader took the place.
    Replaced,
    /// The client is gone.
    Gone,
}

struct Sending {
    hub: Arc<Hub>,
    reader: Reader,
    sender: mpsc::Sender<Result<FrameResult, Status>>,
    sent: u64,
}

impl Sending {
    async fn run(mut self, until_drained: bool) {
        let mut stopping = self.hub.stopping();
        loop {
            self.reader.news.borrow_and_update();
            match self.send_visible().await {
                Ok(true) => {}
                Ok(false) => return, // the client is gone
                Err(error) => return self.end(error).await,
            }
            if self.reader.is_replaced() {
                let words = format!("another reader took over the stream {}", self.reader.stream);
                return self.end(Status::aborted(words)).await;
            }
            if until_drained && self.hub.lock().is_drained(&self.reader.stream, self.sent) {
                return;
            }
            if *stopping.borrow() {
                let words = "the server is stopping; unread results are kept: pull again from the last sequence";
                return self.end(Status::unavailable(words)).await;
            }
            tokio::select! {
                _ = self.reader.news.changed() => {}
                _ = stopping.changed() => {}
                () = self.sender.closed() => return,
            }
        }
    }

    /// Sends all that is visible; false when the client is gone.
    async fn send_visible(&mut self) -> Result<bool, Status> {
        loop {
            let (gap, read) = {
                let state = self.hub.lock();
                let gap = state.journals.gap(&self.reader.stream, self.sent).map_err(status)?;
                (gap, state.journals.read(&self.reader.stream, self.sent, READ_RECORDS_MAX, READ_BYTES_MAX))
            };
            let results = match read {
                _ if gap.is_some() => gap.map(missing).into_iter().collect(),
                Ok(records) if records.is_empty() => return Ok(true),
                Ok(records) => records.into_iter().map(result).collect(),
                Err(JournalError::Damaged { sequence, frame, file, offset, .. }) => {
                    vec![damaged(sequence, frame, &file.display().to_string(), offset)]
                }
                Err(error) => return Err(status(error)),
            };
            for result in results {
                let sequence = result.sequence;
                match self.send(result).await {
                    Sent::Yes => self.sent = sequence,
                    Sent::Replaced => return Ok(true), // the caller sees it, and says so
                    Sent::Gone => return Ok(false),
                }
            }
        }
    }

    /// Sends one result when the client has room for it; a reader that takes nothing can still be replaced.
    async fn send(&mut self, result: FrameResult) -> Sent {
        loop {
            if self.reader.is_replaced() {
                return Sent::Replaced;
            }
            tokio::select! {
                room = self.sender.reserve() => match room {
                    Ok(room) => {
                        room.send(Ok(result));
                        return Sent::Yes;
                    }
                    Err(_) => return Sent::Gone,
                },
                _ = self.reader.news.changed() => {}
            }
        }
    }

    async fn end(&self, status: Status) {
        // A client that is gone, or takes nothing, needs no reason.
        let _ = tokio::time::timeout(END_WAIT, self.sender.send(Err(status))).await;
    }
}

fn result(record: Record) -> FrameResult {
    match FrameResult::decode(record.payload.as_slice()) {
        Ok(result) => FrameResult { sequence: record.sequence, ..result },
        Err(error) => failure(record.sequence, record.frame, format!("the journal's record is no result: {error}")),
    }
}

/// Tells of results that are not kept any more.
fn missing((first_sequence, last_sequence): (u64, u64)) -> FrameResult {
    let gap = Gap { first_sequence, last_sequence };
    FrameResult { sequence: last_sequence, outcome: Some(Outcome::Gap(gap)), ..FrameResult::default() }
}

fn damaged(sequence: u64, frame: u64, file: &str, offset: u64) -> FrameResult {
    failure(sequence, frame, format!("the result was damaged on disk ({file} at byte {offset})"))
}

fn failure(sequence: u64, frame: u64, message: String) -> FrameResult {
    let error = FrameError { code: ErrorCode::Internal as i32, message };
    FrameResult { sequence, frame, outcome: Some(Outcome::Error(error)), ..FrameResult::default() }
}
