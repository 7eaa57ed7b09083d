//! PullResult: reads a stream's journal and sends it, until the client, a new reader, the server or (where asked) the
//! end of all that was accepted ends it.

use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
    time::Duration,
};

use framepipe_journal::{JournalError, Record, StreamId};
use framepipe_proto::v1::{
    AckResultsRequest, AckResultsResponse, ErrorCode, FrameError, FrameResult, FrameResults, Gap, PullResultRequest,
    frame_result::Outcome,
};
use prost::Message as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep_until},
};
use tokio_stream::Stream;
use tonic::Status;

use crate::hub::{Hub, Reader, status};

/// Results read from the journal at a time.
const READ_RECORDS_MAX: usize = 64;
/// Bytes read from the journal at a time, beyond the first record.
const READ_BYTES_MAX: usize = 256 << 10;
/// From one message to the next, while more results are to come: one message for each would cost both ends more than the frame does.
const MESSAGE_PACE: Duration = Duration::from_millis(2);
/// Bytes of results that wait for a slow client, per reader, or one result that is larger. They are its next message.
const QUEUE_BYTES_MAX: usize = 256 << 10;

type Answer = Result<FrameResults, Status>;

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
    let (queue, results) = queue();
    let task = Sending { hub: hub.clone(), reader, queue, sent: request.after_sequence, next_message: Instant::now() };
    tokio::spawn(task.run(request.until_drained));
    Ok(results)
}

/// What waits for a client.
#[derive(Default)]
struct Waiting {
    results: Vec<FrameResult>,
    /// Their parts of the queue's bytes.
    room: Option<OwnedSemaphorePermit>,
    /// What comes behind them, and ends the call.
    end: Option<Status>,
}

impl Waiting {
    /// All results, or then the end.
    fn take(&mut self) -> Option<Answer> {
        self.room = None;
        match mem::take(&mut self.results) {
            none if none.is_empty() => self.end.take().map(Err),
            results => Some(Ok(FrameResults { results })),
        }
    }
}

/// The results of a stream, as the client takes them.
pub struct Results {
    waiting: Arc<Mutex<Waiting>>,
    /// There may be more in the queue; closed: there will be no more.
    news: mpsc::Receiver<()>,
}

/// The other end of [`Results`].
struct Queue {
    waiting: Arc<Mutex<Waiting>>,
    news: mpsc::Sender<()>,
    room: Arc<Semaphore>,
}

fn queue() -> (Queue, Results) {
    let (sender, receiver) = mpsc::channel(1);
    let waiting = Arc::<Mutex<Waiting>>::default();
    let queue = Queue { waiting: waiting.clone(), news: sender, room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)) };
    (queue, Results { waiting, news: receiver })
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().expect("no step under the queue's lock panics")
}

impl Stream for Results {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Answer>> {
        loop {
            if let Some(answer) = lock(&self.waiting).take() {
                return Poll::Ready(Some(answer));
            }
            if ready!(self.news.poll_recv(context)).is_none() {
                return Poll::Ready(lock(&self.waiting).take()); // put there just before the end
            }
        }
    }
}

impl Queue {
    /// Waits for room for so many bytes. The client has what is there by then.
    async fn room(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = bytes.clamp(1, QUEUE_BYTES_MAX) as u32;
        if let Ok(room) = self.room.clone().try_acquire_many_owned(bytes) {
            return room;
        }
        self.tell();
        self.room.clone().acquire_many_owned(bytes).await.expect("nobody closes it")
    }

    /// Puts a result there, of which the client is still to be told.
    fn put(&self, result: FrameResult, room: OwnedSemaphorePermit) {
        let mut waiting = lock(&self.waiting);
        waiting.results.push(result);
        match &mut waiting.room {
            Some(all) => all.merge(room),
            none => *none = Some(room),
        }
    }

    /// Has the client take what is there, in one message.
    fn tell(&self) {
        let _ = self.news.try_send(()); // full: it looks anyway; closed: it is gone
    }

    /// Ends the call, once the client has taken what waits.
    fn end(&self, why: Status) {
        lock(&self.waiting).end = Some(why);
        self.tell();
    }

    /// Drops what the client has not taken.
    fn clear(&self) {
        *lock(&self.waiting) = Waiting::default();
    }

    /// Returns once the client is gone.
    async fn closed(&self) {
        self.news.closed().await;
    }
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
    Status::not_found(format!("there is no stream {id:?}: the first frame that is pushed to it makes it"))
}

/// What became of a result.
enum Put {
    Yes,
    /// Another reader took the place.
    Replaced,
    /// The client is gone.
    Gone,
}

struct Sending {
    hub: Arc<Hub>,
    reader: Reader,
    queue: Queue,
    sent: u64,
    /// When the next message is due, if more results are to come.
    next_message: Instant,
}

impl Sending {
    async fn run(mut self, until_drained: bool) {
        let mut stopping = self.hub.stopping();
        loop {
            self.reader.news.borrow_and_update();
            match self.send_visible().await {
                Ok(true) => {}
                Ok(false) => return, // the client is gone
                Err(error) => return self.queue.end(error),
            }
            if self.reader.is_replaced() {
                let words = format!("another reader took over the stream {}", self.reader.stream);
                self.queue.clear(); // a client that takes nothing must not keep it
                return self.queue.end(Status::aborted(words));
            }
            if until_drained && self.hub.lock().is_drained(&self.reader.stream, self.sent) {
                return;
            }
            if *stopping.borrow() {
                let words = "the server is stopping; unread results are kept: pull again from the last sequence";
                return self.queue.end(Status::unavailable(words));
            }
            tokio::select! {
                _ = self.reader.news.changed() => {}
                _ = stopping.changed() => {}
                () = self.queue.closed() => return,
            }
            if self.hub.lock().admission.in_flight_of(&self.reader.stream) > 0 {
                sleep_until(self.next_message).await;
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
                match self.put(result).await {
                    Put::Yes => self.sent = sequence,
                    Put::Replaced => return Ok(true), // the caller sees it, and says so
                    Put::Gone => return Ok(false),
                }
            }
            self.queue.tell();
            self.next_message = Instant::now() + MESSAGE_PACE;
        }
    }

    /// Puts one result into the queue when there is room for it; a reader that takes nothing can still be replaced.
    async fn put(&mut self, result: FrameResult) -> Put {
        let bytes = result.encoded_len();
        loop {
            if self.reader.is_replaced() {
                return Put::Replaced;
            }
            tokio::select! {
                room = self.queue.room(bytes) => {
                    self.queue.put(result, room);
                    return Put::Yes;
                }
                _ = self.reader.news.changed() => {}
                () = self.queue.closed() => return Put::Gone,
            }
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_stream::StreamExt as _;

    use super::*;

    async fn put(queue: &Queue, sequence: u64, bytes: usize) -> bool {
        let room = tokio::time::timeout(Duration::from_millis(20), queue.room(bytes)).await;
        room.map(|room| queue.put(failure(sequence, 0, String::new()), room)).is_ok()
    }

    async fn taken(results: &mut Results) -> Vec<u64> {
        let message = results.next().await.expect("there is one").expect("it is one of results");
        message.results.iter().map(|result| result.sequence).collect()
    }

    #[tokio::test]
    async fn a_slow_client_keeps_so_many_bytes_or_one_result() {
        let (queue, mut results) = queue();
        let mut count = 0;
        while count < 1000 && put(&queue, count + 1, 1000).await {
            count += 1;
        }
        assert_eq!(count as usize, QUEUE_BYTES_MAX / 1000);
        assert_eq!(taken(&mut results).await, (1..=count).collect::<Vec<_>>(), "all at once, in order");
        assert!(put(&queue, 7, 10 * QUEUE_BYTES_MAX).await, "one that is larger than all passes alone");
        assert!(!put(&queue, 8, 1).await);
        assert_eq!(taken(&mut results).await, [7]);
        assert!(put(&queue, 8, 1).await);
    }

    #[tokio::test]
    async fn what_a_replaced_reader_has_not_taken_is_dropped_and_it_is_told() {
        let (queue, mut results) = queue();
        assert!(put(&queue, 1, QUEUE_BYTES_MAX).await);
        queue.clear();
        assert_eq!(queue.room.available_permits(), QUEUE_BYTES_MAX);
        queue.end(Status::aborted("replaced"));
        drop(queue);
        let end = results.next().await.expect("the last word").expect_err("no result");
        assert_eq!(end.code(), tonic::Code::Aborted);
        assert!(results.next().await.is_none());
    }

    #[tokio::test]
    async fn all_that_was_put_comes_before_the_end() {
        for end in [None, Some(Status::unavailable("it stops"))] {
            let (queue, mut results) = queue();
            for sequence in 1..=3 {
                assert!(put(&queue, sequence, 1).await);
            }
            end.iter().for_each(|end| queue.end(end.clone()));
            drop(queue);
            assert_eq!(taken(&mut results).await, [1, 2, 3]);
            assert_eq!(results.next().await.map(|end| end.expect_err("no result").code()), end.map(|end| end.code()));
            assert!(results.next().await.is_none());
        }
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_seen() {
        let (queue, results) = queue();
        drop(results);
        tokio::time::timeout(Duration::from_secs(60), queue.closed()).await.expect("at once");
    }
}
