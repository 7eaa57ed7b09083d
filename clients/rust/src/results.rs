//! The results of a stream, across broken connections, acknowledged as the consumer goes.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};

use framepipe_proto::v1::{FrameResult, FrameResults, PullResultRequest, frame_result::Outcome};
use tokio::{
    task::JoinHandle,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_stream::Stream;
use tonic::{Response, Status, Streaming};

use crate::{Client, Error, acknowledge::Acknowledger, backoff::Backoff, error::is_broken_connection, peer::seen};

/// A call that lasted this long had a connection, though it brought no result: its end begins a new outage.
const ESTABLISHED: Duration = Duration::from_secs(30);
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// How to read a stream.
#[derive(Debug, Clone)]
pub struct ResultsOptions {
    /// Acknowledge all results up to this sequence, and begin behind it. 0: begin at the first one that is not
    /// acknowledged.
    pub after: u64,
    /// End when all that was accepted is delivered, instead of waiting for more.
    pub until_drained: bool,
    /// Acknowledge at the latest after so many results (or half a second, or at the end).
    pub ack_every: u64,
    /// Acknowledge at all. Without it the server keeps everything for a later reader, also what lies before `after`, which is
    /// passed over.
    pub acknowledge: bool,
}

impl Default for ResultsOptions {
    fn default() -> Self {
        Self { after: 0, until_drained: false, ack_every: 64, acknowledge: true }
    }
}

/// A [`Stream`] of results; [`Client::results`] makes it.
///
/// When the connection breaks, it goes on where it was; no result is lost or repeated. A result counts as done with
/// when the consumer asks for the next one, and only then is it acknowledged: what a consumer had in hand when it
/// died comes again to the next reader. Dropping it sends the last acknowledgement in the background;
/// [`close`](Self::close) waits for it. It must be polled within a tokio runtime.
///
/// It ends after an error: [`Error::ReaderReplaced`] when another reader took over the stream, [`Error::Unavailable`]
/// when an outage lasted longer than the client's reconnect time.
#[derive(Debug)]
pub struct Results {
    client: Client,
    stream: String,
    options: ResultsOptions,
    /// The last sequence handed on.
    last: u64,
    in_hand: bool,
    /// What the last message brought besides.
    unread: vec::IntoIter<FrameResult>,
    state: State,
    backoff: Backoff,
    opened: Instant,
    pushed_before: u64,
    acknowledger: Option<Acknowledger>,
}

type Opening = Pin<Box<dyn Future<Output = Result<Response<Streaming<FrameResults>>, Status>> + Send>>;

enum State {
    Closed,
    Opening(Opening),
    Reading(Box<Streaming<FrameResults>>),
    Pausing(Pin<Box<Sleep>>),
    Finishing(Option<JoinHandle<()>>, Option<Error>),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed => "Closed",
            Self::Opening(_) => "Opening",
            Self::Reading(_) => "Reading",
            Self::Pausing(_) => "Pausing",
            Self::Finishing(..) => "Finishing",
        })
    }
}

impl Results {
    pub(crate) fn new(client: Client, stream: &str, options: ResultsOptions) -> Self {
        Self {
            stream: stream.to_owned(),
            last: options.after,
            options,
            in_hand: false,
            unread: vec::IntoIter::default(),
            state: State::Closed,
            backoff: Backoff::new(client.reconnect),
            opened: Instant::now(),
            pushed_before: 0,
            acknowledger: None,
            client,
        }
    }

    /// Ends the call and acknowledges what the consumer is done with. The result in hand is not among it.
    pub async fn close(mut self) {
        self.state = State::Closed;
        if let Some(acknowledger) = self.acknowledger.take() {
            // A task that panicked has acknowledged nothing: the next reader gets repeats.
            let _ = acknowledger.finish().await;
        }
    }

    fn open(&mut self) -> State {
        self.pushed_before = self.client.batches.now();
        self.opened = Instant::now();
        let request = PullResultRequest {
            stream: self.stream.clone(),
            // It acknowledges: who does not want that reads again from where the server keeps them, and drops the repeats.
            after_sequence: if self.options.acknowledge { self.last } else { 0 },
            until_drained: self.options.until_drained,
        };
        let mut grpc = self.client.grpc.clone();
        State::Opening(Box::pin(async move {
            let answer = timeout(OPEN_TIMEOUT, grpc.pull_result(request)).await;
            answer.unwrap_or_else(|_| Err(Status::unavailable("no answer")))
        }))
    }

    /// The call failed: goes on later where it was, or ends.
    fn failed(&mut self, status: Status) -> State {
        if !is_broken_connection(&status) {
            return self.finish(Some(Error::from_status(status)));
        }
        if self.opened.elapsed() >= ESTABLISHED {
            self.backoff.over();
        }
        match self.backoff.pause() {
            Some(pause) => State::Pausing(Box::pin(sleep(pause))),
            None => {
                let why = seen(&self.client.address, &status);
                let message = format!("the results of {} broke off and could not be resumed: {why}", self.stream);
                self.finish(Some(Error::Unavailable(message)))
            }
        }
    }

    fn finish(&mut self, error: Option<Error>) -> State {
        State::Finishing(self.acknowledger.take().map(Acknowledger::finish), error)
    }

    /// Takes a result in; `None` if it is a repeat.
    fn receive(&mut self, result: FrameResult) -> Option<FrameResult> {
        if result.sequence <= self.last {
            return None;
        }
        self.last = result.sequence;
        self.in_hand = true;
        self.backoff.over();
        if !matches!(result.outcome, Some(Outcome::Gap(_))) {
            self.client.batches.received(result.frame);
        }
        Some(result)
    }

    /// The consumer asks for the next result: it is done with the one in hand.
    fn done_with_last(&mut self) {
        if std::mem::take(&mut self.in_hand) && self.options.acknowledge {
            let (client, every) = (&self.client, self.options.ack_every.max(1));
            let acknowledger = self
                .acknowledger
                .get_or_insert_with(|| Acknowledger::spawn(client.grpc.clone(), self.stream.clone(), every));
            acknowledger.up_to(self.last);
        }
    }
}

impl Stream for Results {
    type Item = Result<FrameResult, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.done_with_last();
        loop {
            while let Some(result) = this.unread.next() {
                if let Some(result) = this.receive(result) {
                    return Poll::Ready(Some(Ok(result)));
                }
            }
            this.state = match &mut this.state {
                State::Closed => this.open(),
                State::Opening(call) => match ready!(call.as_mut().poll(context)) {
                    Ok(answer) => State::Reading(Box::new(answer.into_inner())),
                    Err(status) => this.failed(status),
                },
                State::Reading(messages) => match ready!(Pin::new(messages).poll_next(context)) {
                    Some(Ok(message)) => {
                        this.unread = message.results.into_iter();
                        continue;
                    }
                    Some(Err(status)) => this.failed(status),
                    None if this.options.until_drained => {
                        this.client.batches.drained(&this.stream, this.pushed_before);
                        this.finish(None)
                    }
                    None => this.failed(Status::unavailable("the server ended the stream")),
                },
                State::Pausing(pause) => {
                    ready!(pause.as_mut().poll(context));
                    State::Closed
                }
                State::Finishing(acknowledging, error) => {
                    if let Some(task) = acknowledging {
                        // As in `close`: a panic costs repeats.
                        let _ = ready!(Pin::new(task).poll(context));
                        *acknowledging = None;
                    }
                    return Poll::Ready(error.take().map(Err));
                }
            };
        }
    }
}
