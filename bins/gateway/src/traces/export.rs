//! Sends spans to a collector, by OTLP over gRPC, in batches. One that is away, or hangs, is tried again and again, and nobody waits for
//! it: what comes meanwhile waits in a bounded queue, and what that has no room for was dropped by who told of it.
//!
//! OpenTelemetry's own exporter and its batches are not used: they give a batch up when it cannot be sent, say so each time, and
//! make spans of this moment, where these are of times that are long past.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    common::v1::{InstrumentationScope, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use super::{
    spans::{Clock, attribute, spans},
    story::Story,
};
use crate::metrics::Untold;

/// Frames of one batch.
const BATCH_MAX: usize = 256;
/// For a batch to fill.
const FILL_WAIT: Duration = Duration::from_secs(1);
/// For a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// For the collector to take a batch.
const SEND_WAIT: Duration = Duration::from_secs(10);
/// Before a batch is sent again; doubled each time, up to the most.
const RETRY_LEAST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// For what waits to be sent when the gateway ends.
const END_WAIT: Duration = Duration::from_secs(2);

/// Characters of a collector's words that are said.
const WORDS_MAX: usize = 512;

/// Sends what the queue brings.
pub struct Exporter {
    endpoint: Endpoint,
    resource: Resource,
    queue: mpsc::Receiver<Story>,
    untold: Arc<Untold>,
    ending: watch::Receiver<bool>,
    /// Frames of the batch in hand.
    in_hand: u64,
    /// True while the collector does not take what it is sent.
    is_failing: bool,
    /// True while the collector refuses some spans of what it takes.
    is_refusing: bool,
}

/// What a collector refuses of a batch that it takes: spans, of which it does not say which.
struct Partial {
    rejected_spans: u64,
    why: String,
}

/// Why a batch was not taken.
enum Failure {
    /// It may be, later.
    ForNow(String),
    /// It never will.
    ForEver(String),
}

impl Exporter {
    /// One for this endpoint.
    pub fn new(
        endpoint: &str,
        pipeline: &str,
        queue: mpsc::Receiver<Story>,
        untold: Arc<Untold>,
        ending: watch::Receiver<bool>,
    ) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(endpoint.to_owned())?.connect_timeout(CONNECT_WAIT);
        let text = |text: &str| Value::StringValue(text.into());
        let attributes = vec![
            attribute("service.name", text("framepipe")),
            attribute("service.instance.id", text(pipeline)),
            attribute("service.version", text(env!("CARGO_PKG_VERSION"))),
        ];
        let resource = Resource { attributes, ..Resource::default() };
        Ok(Self { endpoint, resource, queue, untold, ending, in_hand: 0, is_failing: false, is_refusing: false })
    }

    /// Sends until the queue is closed and empty; once the gateway ends, for a bounded time.
    pub fn run(self) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!("no traces are sent: {error}"),
        };
        runtime.block_on(self.send_all());
        runtime.shutdown_background(); // a name that is looked up may take its time
    }

    async fn send_all(mut self) {
        let mut ending = self.ending.clone();
        let time_is_over = async {
            let _ = ending.wait_for(|ending| *ending).await; // an error: the gateway is gone
            sleep(END_WAIT).await;
        };
        tokio::select! {
            () = self.send_batches() => {}
            () = time_is_over => {
                self.untold.dropped_frames.fetch_add(self.in_hand + self.queue.len() as u64, Ordering::Relaxed);
                tracing::warn!("the collector of traces did not take the last frames' spans in {} s", END_WAIT.as_secs());
            }
        }
    }

    async fn send_batches(&mut self) {
        // Connects when something is sent, and again whenever the connection is lost.
        let mut client = TraceServiceClient::new(self.endpoint.connect_lazy());
        let mut stories = Vec::with_capacity(BATCH_MAX);
        while self.fill(&mut stories).await {
            let request = self.request(&stories);
            self.insist(&mut client, request).await;
            stories.clear();
            self.in_hand = 0;
        }
    }

    /// Takes a batch from the queue; false, once that is closed and empty.
    async fn fill(&mut self, stories: &mut Vec<Story>) -> bool {
        if self.queue.recv_many(stories, BATCH_MAX).await == 0 {
            return false;
        }
        let until = Instant::now() + FILL_WAIT;
        while stories.len() < BATCH_MAX {
            match timeout_at(until, self.queue.recv_many(stories, BATCH_MAX - stories.len())).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        self.in_hand = stories.len() as u64;
        true
    }

    fn request(&self, stories: &[Story]) -> ExportTraceServiceRequest {
        let clock = Clock::now();
        let scope = InstrumentationScope { name: "framepipe".into(), ..InstrumentationScope::default() };
        let spans = stories.iter().flat_map(|story| spans(story, clock)).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
        }
    }

    /// Sends a batch until it is taken, or refused for good.
    async fn insist(&mut self, client: &mut TraceServiceClient<Channel>, batch: ExportTraceServiceRequest) {
        let mut wait = RETRY_LEAST;
        let scopes = batch.resource_spans.iter().flat_map(|of| &of.scope_spans);
        let sent: u64 = scopes.map(|scope| scope.spans.len() as u64).sum();
        loop {
            match send(client, batch.clone()).await {
                Ok(None) => {
                    self.is_refusing = false;
                    return self.succeeded();
                }
                Ok(Some(Partial { rejected_spans, why })) => {
                    let rejected_spans = rejected_spans.min(sent);
                    self.untold.rejected_spans.fetch_add(rejected_spans, Ordering::Relaxed);
                    if !self.is_refusing {
                        let uri = self.endpoint.uri();
                        tracing::warn!("{uri} refuses {rejected_spans} spans of a batch, and takes the others: {why}");
                    }
                    self.is_refusing = true;
                    return self.succeeded();
                }
                Err(Failure::ForEver(why)) => {
                    self.untold.dropped_frames.fetch_add(self.in_hand, Ordering::Relaxed);
                    return self.failed(&format!("{why}; the spans of {} frames were dropped", self.in_hand));
                }
                Err(Failure::ForNow(why)) => self.failed(&format!("{why}; they are kept, and tried again")),
            }
            if timeout(wait, self.ending.wait_for(|ending| *ending)).await.is_ok() {
                sleep(RETRY_LEAST / 10).await; // the gateway ends: little time is left
            }
            wait = (wait * 2).min(RETRY_MOST);
        }
    }

    /// Says that a batch was not taken: once, until one is.
    fn failed(&mut self, why: &str) {
        if !self.is_failing {
            tracing::warn!("traces cannot be sent to {}: {why}", self.endpoint.uri());
        }
        self.is_failing = true;
    }

    fn succeeded(&mut self) {
        if self.is_failing {
            let dropped = self.untold.dropped_frames.load(Ordering::Relaxed);
            tracing::info!("traces are sent again; the spans of {dropped} frames have been dropped so far");
        }
        self.is_failing = false;
    }
}

async fn send(
    client: &mut TraceServiceClient<Channel>,
    batch: ExportTraceServiceRequest,
) -> Result<Option<Partial>, Failure> {
    let Ok(answer) = timeout(SEND_WAIT, client.export(batch)).await else {
        return Err(Failure::ForNow(format!("no answer in {} s", SEND_WAIT.as_secs())));
    };
    let status = match answer {
        Ok(answer) => {
            // OTLP: with none refused, its words are a warning; and it is not to be sent again.
            let partial = answer.into_inner().partial_success.filter(|partial| partial.rejected_spans > 0);
            return Ok(partial.map(|partial| Partial {
                rejected_spans: partial.rejected_spans.cast_unsigned(),
                why: partial.error_message.chars().take(WORDS_MAX).collect(),
            }));
        }
        Err(status) => status,
    };
    // As OTLP says which may be sent again.
    Err(match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Failure::ForNow(words(&status)),
        _ => Failure::ForEver(words(&status)),
    })
}

/// What a status says, and what it comes of.
fn words(status: &tonic::Status) -> String {
    let mut words = format!("{}: {}", status.code(), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        words = format!("{words}: {error}");
        source = error.source();
    }
    words.chars().take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An exporter for an endpoint, with so many frames that wait.
    fn exporter(endpoint: &str, frames: usize) -> (Exporter, mpsc::Sender<Story>, Arc<Untold>, watch::Sender<bool>) {
        let (tell, queue) = mpsc::channel(frames.max(1));
        let (ending, is_ending) = watch::channel(false);
        let untold = Arc::<Untold>::default();
        let exporter = Exporter::new(endpoint, "test", queue, untold.clone(), is_ending).expect("it is an endpoint");
        (exporter, tell, untold, ending)
    }

    #[test]
    fn a_collector_that_is_away_or_hangs_holds_the_end_up_for_a_bounded_time() {
        // Listens, and answers nothing.
        let hanging = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let away = {
            let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            gone.local_addr().expect("an address")
        };
        for address in [hanging.local_addr().expect("an address"), away] {
            let (exporter, tell, untold, ending) = exporter(&format!("http://{address}"), 3);
            (0..3).for_each(|_| tell.try_send(Story::example()).expect("there is room"));
            assert!(tell.try_send(Story::example()).is_err(), "and for no more: nobody waits");
            let running = std::thread::spawn(move || exporter.run());
            let start = std::time::Instant::now();
            ending.send(true).expect("it runs");
            drop(tell);
            running.join().expect("no panic");
            assert!(start.elapsed() < END_WAIT + Duration::from_secs(5), "{address}: {:?}", start.elapsed());
            assert_eq!(untold.dropped_frames.load(Ordering::Relaxed), 3, "{address}: all of them are counted");
        }
    }
}
