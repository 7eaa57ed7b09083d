//! A framepipe server for the tests: the contract of the calls, and faults on demand.
//!
//! It keeps a journal as the real one does, and runs in a runtime of its own, so that ending that runtime cuts all
//! connections as a crash would. Nothing in it sleeps: who waits, waits for a condition with a deadline.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use framepipe_client::{Client, Detections, FrameResult, Outcome, PushRequest};
use framepipe_proto::v1::{
    AckResultsRequest, AckResultsResponse, FrameResults, PullResultRequest, PushDataRequest, PushDataResponse,
    UploadRequest,
    framepipe_server::{Framepipe, FramepipeServer},
    upload_request::Part,
};
use tokio::{
    net::UnixListener,
    runtime::Runtime,
    sync::{Notify, mpsc},
    time::timeout,
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataValue, transport::Server};

pub const PATIENCE: Duration = Duration::from_secs(20);
/// The advice that refusals of the fake bear: longer than the first two pauses of a client that heeds none, together.
pub const RETRY: Duration = Duration::from_millis(70);
/// Results of one message.
const RESULTS_MAX: usize = 3;

/// What happens to one PullResult call: it ends after so many results, with a status or as if it were complete.
pub type PullFault = (usize, Option<Code>);

#[derive(Default)]
pub struct State {
    pub complete_at_once: bool,
    pub journal: Vec<FrameResult>,
    pub frames: BTreeMap<u64, FrameResult>,
    pub answers: HashMap<String, PushDataResponse>,
    pub pushes: Vec<PushDataRequest>,
    /// The images of each upload, which is a push as well, and the bytes of its largest message.
    pub uploads: Vec<(Vec<Vec<u8>>, usize)>,
    pub pulls: Vec<PullResultRequest>,
    pub acks: Vec<u64>,
    pub acknowledged: u64,
    pub repeat: u64,
    pub push_faults: VecDeque<Code>,
    pub lose_push_answers: usize,
    pub pull_faults: VecDeque<PullFault>,
    next_frame: u64,
    reader: u64,
}

impl State {
    /// Gives frames their results, in this order.
    pub fn complete(&mut self, frames: &[u64]) {
        for frame in frames {
            let mut result = self.frames.remove(frame).expect("the frame is out");
            result.sequence = self.journal.len() as u64 + 1;
            self.journal.push(result);
        }
    }

    fn accept(&mut self, request: &PushDataRequest) -> PushDataResponse {
        let count = request.sizes.len().max(request.files.len()) as u64;
        let first = 100 + self.next_frame;
        self.next_frame += count;
        for index in 0..count {
            self.frames.insert(
                first + index,
                FrameResult {
                    name: request.names.get(index as usize).cloned().unwrap_or_default(),
                    frame: first + index,
                    batch_index: index as u32,
                    outcome: Some(Outcome::Detections(Detections::default())),
                    ..Default::default()
                },
            );
        }
        if self.complete_at_once {
            self.complete(&(first..first + count).collect::<Vec<_>>());
        }
        let stream = if request.stream.is_empty() { "made-by-server" } else { &request.stream };
        PushDataResponse { stream: stream.to_owned(), first_frame: first, accepted: count as u32 }
    }
}

#[derive(Clone, Default)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl Fake {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the state in hand")
    }

    /// Changes the state and wakes who waits for it.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let answer = change(&mut self.state());
        self.changed.notify_waiters();
        answer
    }

    /// Waits until the condition gives something.
    pub async fn wait_for<T>(&self, mut condition: impl FnMut(&mut State) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = condition(&mut self.state()) {
                    return found;
                }
                changed.await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("the condition holds before the deadline")
    }

    async fn pull(self, request: PullResultRequest, results: mpsc::Sender<Result<FrameResults, Status>>) {
        let (reader, fault, mut at) = self.change(|state| {
            state.pulls.push(request.clone());
            state.acknowledged = state.acknowledged.max(request.after_sequence);
            state.reader += 1;
            let back = if request.after_sequence > 0 { state.repeat } else { 0 };
            (state.reader, state.pull_faults.pop_front(), state.acknowledged.saturating_sub(back) as usize)
        });
        let mut sent = 0;
        loop {
            if let Some((after, code)) = fault
                && after == sent
            {
                if let Some(code) = code {
                    let _ = results.send(Err(Status::new(code, "broken on purpose"))).await;
                }
                return;
            }
            let next = self.wait_for(|state| {
                let drained = state.frames.is_empty() && request.until_drained;
                if reader != state.reader {
                    Some(Err(Status::aborted("another reader took over")))
                } else {
                    let left = fault.map_or(RESULTS_MAX, |(after, _)| RESULTS_MAX.min(after - sent));
                    let results: Vec<_> = state.journal.iter().skip(at).take(left).cloned().collect();
                    let found = Some(FrameResults { results }).filter(|found| !found.results.is_empty());
                    (found.is_some() || drained).then_some(Ok(found))
                }
            });
            let next = tokio::select! { next = next => next.transpose(), () = results.closed() => None };
            let Some(next) = next else { return };
            let count = next.as_ref().map_or(0, |found| found.results.len());
            (at, sent) = (at + count, sent + count);
            let _ = results.send(next).await;
        }
    }
}

#[tonic::async_trait]
impl Framepipe for Fake {
    type PullResultStream = Pin<Box<dyn Stream<Item = Result<FrameResults, Status>> + Send>>;

    async fn push_data(&self, request: Request<PushDataRequest>) -> Result<Response<PushDataResponse>, Status> {
        self.push(request.into_inner())
    }

    async fn upload(&self, request: Request<Streaming<UploadRequest>>) -> Result<Response<PushDataResponse>, Status> {
        let mut messages = request.into_inner();
        let Some(UploadRequest { part: Some(Part::Push(push)) }) = messages.message().await? else {
            return Err(Status::invalid_argument("the first message is no push"));
        };
        let fault = self.state().push_faults.front().copied();
        let (mut bytes, mut largest) = (Vec::new(), 0);
        while fault.is_none()
            && let Some(message) = messages.message().await?
        {
            let Some(Part::Data(data)) = message.part else { return Err(Status::invalid_argument("no data")) };
            largest = largest.max(data.len());
            bytes.extend(data);
        }
        if fault.is_none() {
            self.change(|state| state.uploads.push((cut(&bytes, &push.sizes), largest)));
        }
        self.push(push)
    }

    async fn pull_result(
        &self,
        request: Request<PullResultRequest>,
    ) -> Result<Response<Self::PullResultStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(self.clone().pull(request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn ack_results(&self, request: Request<AckResultsRequest>) -> Result<Response<AckResultsResponse>, Status> {
        let sequence = request.into_inner().sequence;
        let kept = self.change(|state| {
            state.acks.push(sequence);
            state.acknowledged = state.acknowledged.max(sequence);
            state.journal.len() as u64 - state.acknowledged
        });
        Ok(Response::new(AckResultsResponse { kept }))
    }
}

impl Fake {
    fn push(&self, request: PushDataRequest) -> Result<Response<PushDataResponse>, Status> {
        self.change(|state| {
            state.pushes.push(request.clone());
            if let Some(code) = state.push_faults.pop_front() {
                let mut refusal = Status::new(code, "the frame table is full (4096 frames)");
                refusal.metadata_mut().insert("grpc-retry-pushback-ms", MetadataValue::from(RETRY.as_millis() as u64));
                return Err(refusal);
            }
            let known = state.answers.get(&request.idempotency_key).cloned();
            let answer = known.unwrap_or_else(|| state.accept(&request));
            state.answers.insert(request.idempotency_key, answer.clone());
            if state.lose_push_answers > 0 {
                state.lose_push_answers -= 1;
                return Err(Status::unavailable("connection reset"));
            }
            Ok(Response::new(answer))
        })
    }
}

/// A server, its inbox and its client. The folder goes with it.
pub struct Bench {
    pub fake: Fake,
    pub client: Client,
    runtime: Option<Runtime>,
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("inbox")).expect("an inbox");
        let client = Client::connect_lazy(&format!("unix:{}", folder.path().join("s").display()));
        let client = client.expect("a good address").with_inbox(folder.path().join("inbox")).with_reconnect(PATIENCE);
        let mut bench = Self { fake: Fake::default(), client, runtime: None, folder };
        bench.fake.change(|state| state.complete_at_once = true);
        bench.start();
        bench
    }

    pub fn start(&mut self) {
        let socket = self.folder.path().join("s");
        let _ = std::fs::remove_file(&socket);
        let runtime = Runtime::new().expect("a runtime");
        let listener = {
            let _context = runtime.enter();
            UnixListener::bind(socket).expect("the socket binds")
        };
        let fake = self.fake.clone();
        runtime.spawn(async move {
            let (health, service) = tonic_health::server::health_reporter();
            health.set_serving::<FramepipeServer<Fake>>().await;
            let server = Server::builder().add_service(service).add_service(FramepipeServer::new(fake));
            server.serve_with_incoming(UnixListenerStream::new(listener)).await
        });
        self.runtime = Some(runtime);
    }

    /// Cuts all connections; the journal stays, as it would in a crash.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub async fn push(&self, images: usize) -> framepipe_client::Batch {
        let images = vec![b"x".as_slice(); images];
        self.client.push(PushRequest::images(images).stream("cam-1")).await.expect("the push is accepted")
    }

    pub fn inbox(&self) -> PathBuf {
        self.folder.path().join("inbox")
    }

    /// The names of the files in the inbox.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.inbox()).expect("the inbox is there");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The images in a pushed blob, which its sizes cover.
pub fn images_of(push: &PushDataRequest) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(Path::new(&push.location)).expect("the blob is there");
    cut(&bytes, &push.sizes)
}

/// Bytes of these sizes, which they have together.
fn cut(mut bytes: &[u8], sizes: &[u64]) -> Vec<Vec<u8>> {
    assert_eq!(sizes.iter().sum::<u64>(), bytes.len() as u64);
    let mut next = |size: &u64| {
        let (image, rest) = bytes.split_at(*size as usize);
        bytes = rest;
        image.to_vec()
    };
    sizes.iter().map(&mut next).collect()
}
