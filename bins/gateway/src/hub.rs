//! What all calls share, under one lock: the journals, the streams, the budget and the idempotency keys. Steps under the lock are
//! short: words copied, journals' files written and read by way of the page cache.

use std::{
    collections::{HashMap, HashSet},
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use framepipe_frame::Request;
use framepipe_journal::{JournalError, Journals, OpenReport, Options, StreamId};
use framepipe_pipeline::{Plan, Process, Report};
use framepipe_shm::Gate;
use tokio::sync::{Semaphore, watch};
use tonic::Status;

use crate::{
    admission::{Admission, Load},
    encode::Encoders,
    health::Health,
    idempotency::Answers,
    metrics::Metrics,
    source::Roots,
    store::{Bounds, Store},
    upload::Uploads,
};

/// Bytes of one segment of a journal, at least: small enough that acknowledged results soon give their space back.
const SEGMENT_BYTES: u64 = 4 << 20;

/// More than a journal's record takes beside its result.
const RECORD_HEAD_BYTES: u64 = 64;

/// Of all calls that wait for room, together.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Calls whose images are copied at once.
const COPYING_MAX: usize = 8;

/// What all calls share.
pub struct Hub {
    state: Mutex<State>,
    /// The allowed roots.
    pub roots: Roots,
    /// The gateway's side of the job table.
    pub gate: Gate<'static>,
    /// What results are made with.
    pub encoders: Encoders,
    /// Most frames in flight.
    pub frames_max: usize,
    /// Most frames whose results an empty journal of a stream has room for.
    pub stream_frames_max: u64,
    /// Most bytes of one result.
    pub result_bytes_max: usize,
    /// The segment's run.
    pub run: u64,
    /// Most bytes of images in flight.
    pub bytes_max: u64,
    /// Bytes that calls which wait for room may keep in memory.
    pub waiting: Arc<Semaphore>,
    /// The images that framepipe keeps.
    pub store: Arc<Store>,
    /// For calls whose images are copied.
    pub copying: Arc<Semaphore>,
    /// For calls that bring their images.
    pub uploads: Uploads,
    /// For gRPC connections.
    pub connections: Arc<Semaphore>,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether frames get through.
    pub health: Health,
    draining: AtomicBool,
    stopping: watch::Sender<bool>,
    process: &'static Process,
}

/// What the lock guards.
pub struct State {
    /// One log a stream.
    pub journals: Journals,
    /// Answers to recent calls with a key.
    pub answers: Answers,
    /// Who holds how much of the budget.
    pub admission: Admission,
    streams: HashMap<StreamId, Stream>,
    drained: bool,
    made: u64,
}

/// What is known of a stream beside its journal.
struct Stream {
    /// The number of the newest reader, which ends the former one. Marked as changed whenever there may be something to
    /// read, or a reason to end.
    news: watch::Sender<u64>,
}

impl Stream {
    fn new() -> Self {
        Self { news: watch::Sender::new(0) }
    }

    fn tell(&self) {
        self.news.send_modify(|_| ());
    }

    fn seat(&self, id: &StreamId) -> Reader {
        self.news.send_modify(|newest| *newest += 1);
        let news = self.news.subscribe();
        let number = *news.borrow();
        Reader { stream: id.clone(), number, news }
    }
}

/// A reader's place at a stream.
pub struct Reader {
    /// The stream.
    pub stream: StreamId,
    number: u64,
    /// Changes whenever there may be something to read, or a reason to end.
    pub news: watch::Receiver<u64>,
}

impl Reader {
    /// True once another reader has its place, or the stream is gone. Asks nobody: it may be asked before each result.
    pub fn is_replaced(&self) -> bool {
        *self.news.borrow() != self.number || self.news.has_changed().is_err()
    }
}

impl Hub {
    /// Opens the roots and the journals.
    pub fn open(process: &'static Process, plan: &Plan) -> anyhow::Result<Self> {
        let config = &process.order.config;
        let segment = process.segment();
        let result_bytes_max = u32::try_from(plan.result_bytes_max).context("journal.result_bytes_max")?;
        let segment_bytes = SEGMENT_BYTES.max(4 * plan.result_bytes_max).min(u64::from(u32::MAX)) as u32;
        let options = Options {
            stream_bytes_max: config.journal.stream_bytes_max,
            streams_max: config.journal.streams_max as usize,
            memory_bytes_max: config.journal.memory_bytes_max,
            retention: Duration::from_secs(config.journal.retention_s),
            segment_bytes,
            result_bytes_max,
        };
        let (folder, memory) = (config.journals(), config.journals_in_memory());
        let (journals, report) = Journals::open(&folder, &memory, options, || process.entry().beat())
            .with_context(|| format!("the journals in {} cannot be opened (paths.state)", folder.display()))?;
        log(&report);
        let window = Duration::from_secs(config.server.idempotency_window_s);
        let gate = Gate::new(segment, process.order.owner);
        let encoders = Encoders::default();
        process.order.generations.iter().try_for_each(|generation| encoders.add(config, generation, &gate))?;
        let spill = config.spill();
        let store = open_store(process, &gate, &spill)
            .with_context(|| format!("images cannot be kept in {} (paths.state)", spill.display()))?;
        let budget = Load { frames: config.frames_max.into(), bytes: config.server.bytes_max };
        let state = State {
            streams: journals.stream_ids().map(|id| (id.clone(), Stream::new())).collect(),
            answers: Answers::take_over(&gate, config.server.idempotency_keys_max as usize, window),
            admission: Admission::new(budget, config.journal.streams_max as usize, Instant::now()),
            journals,
            drained: false,
            made: 0,
        };
        Ok(Self {
            state: Mutex::new(state),
            roots: Roots::open(&config.server.inbox, &config.own_folders())?,
            gate,
            encoders,
            frames_max: config.frames_max as usize,
            stream_frames_max: config.journal.stream_bytes_max / (plan.result_bytes_max + RECORD_HEAD_BYTES),
            result_bytes_max: result_bytes_max as usize,
            run: segment.run(),
            bytes_max: config.server.bytes_max,
            waiting: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
            store,
            copying: Arc::new(Semaphore::new(COPYING_MAX)),
            uploads: Uploads::new(config.cache.uploads_max as usize),
            connections: Arc::new(Semaphore::new(config.server.connections_max as usize)),
            metrics: Metrics::default(),
            health: Health::new(
                Duration::from_millis(config.server.canary_idle_ms),
                Duration::from_millis(config.server.canary_ms_max),
            ),
            draining: AtomicBool::new(false),
            stopping: watch::Sender::new(false),
            process,
        })
    }

    /// Locks the state.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no step under the hub's lock panics")
    }

    /// Refuses new frames from now on, and reports when the accepted ones are done.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.health.wake();
        let mut state = self.lock();
        state.admission.wake_all();
        self.report_drained(&mut state);
    }

    /// True once new frames are refused.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Closes the journals, after the last delivery: what lies in memory goes to the disk. Readers may read on.
    pub fn close(&self) -> Result<(), JournalError> {
        self.lock().journals.close(|| self.process.entry().beat())
    }

    /// Ends every reader and the server.
    pub fn stop(&self) {
        self.draining.store(true, Ordering::Release);
        self.stopping.send_replace(true);
        self.lock().admission.wake_all();
    }

    /// gRPC connections that are open.
    pub fn connections_open(&self) -> usize {
        (self.process.order.config.server.connections_max as usize).saturating_sub(self.connections.available_permits())
    }

    /// Changes once, when the server must end.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Says once, while draining, that nothing is in flight any more.
    pub fn report_drained(&self, state: &mut State) {
        if self.is_draining() && state.admission.in_flight() == 0 && !state.drained {
            state.drained = true;
            self.process.report(Report::Drained);
        }
    }

    /// Counts the accepted frames that a former gateway left, and reserves their results' room, but for those whose
    /// records it had written.
    pub fn count_accepted(&self) -> Result<(), JournalError> {
        let mut state = self.lock();
        let mut result = Ok(());
        self.gate.for_each_accepted(|request| {
            let request: Request = bytemuck::pod_read_unaligned(request);
            let stream = StreamId::new(&request.stream.as_str()).expect("a gateway wrote the request");
            result = std::mem::replace(&mut result, Ok(())).and_then(|()| {
                state.enter_stream(&stream)?;
                state.admission.accepted(&stream, Load { frames: 1, bytes: request.bytes }, Instant::now());
                if state.journals.contains(self.run, request.frame) {
                    return Ok(());
                }
                state.journals.reserve_accepted(&stream, 1)
            });
        });
        result
    }
}

impl State {
    /// Makes a stream known; an idle one makes room where there are too many.
    pub fn enter_stream(&mut self, stream: &StreamId) -> Result<(), JournalError> {
        let (streams, admission) = (&self.streams, &self.admission);
        let held = |id: &StreamId| {
            let is_read = streams.get(id).is_some_and(|stream| stream.news.receiver_count() > 0);
            is_read || admission.in_flight_of(id) > 0
        };
        for dropped in self.journals.create_stream(stream, held)? {
            self.streams.remove(&dropped);
        }
        self.streams.entry(stream.clone()).or_insert_with(Stream::new);
        Ok(())
    }

    /// A stream id that nobody has.
    pub fn new_stream(&mut self, run: u64) -> StreamId {
        loop {
            self.made += 1;
            let id = StreamId::new(&format!("s{run:016x}-{}", self.made)).expect("it is made of allowed characters");
            if !self.streams.contains_key(&id) {
                return id;
            }
        }
    }

    /// True when the stream is known.
    pub fn has_stream(&self, stream: &StreamId) -> bool {
        self.streams.contains_key(stream)
    }

    /// Makes all appended records of the stream visible.
    pub fn publish(&mut self, stream: &StreamId) -> Result<(), JournalError> {
        self.journals.publish(stream)?;
        if let Some(stream) = self.streams.get(stream) {
            stream.tell();
        }
        Ok(())
    }

    /// Acknowledges, and wakes the stream's calls that wait for its journal.
    pub fn acknowledge(&mut self, stream: &StreamId, sequence: u64) -> Result<(), JournalError> {
        self.journals.acknowledge(stream, sequence)?;
        self.admission.wake(|id| id == Some(stream), Instant::now());
        Ok(())
    }

    /// Drops the results that are too old, and tells their readers; how many those were, whatever went wrong beside.
    pub fn expire(&mut self, now: SystemTime) -> (usize, Result<(), JournalError>) {
        let Self { journals, streams, .. } = self;
        let mut total = 0;
        let result = journals.expire(now, |stream, count| {
            let name = stream.as_str();
            tracing::warn!(stream = name, "stream {stream}: {count} results were dropped unread for their age");
            streams.get(stream).into_iter().for_each(Stream::tell);
            total += count;
        });
        (total, result)
    }

    /// Makes all appended records of every stream visible.
    pub fn publish_all(&mut self) -> Result<(), JournalError> {
        let streams: Vec<StreamId> = self.journals.stream_ids().cloned().collect();
        streams.iter().try_for_each(|stream| self.publish(stream))
    }

    /// Seats a reader at a stream; the former one ends.
    pub fn seat(&self, id: &StreamId) -> Option<Reader> {
        self.streams.get(id).map(|stream| stream.seat(id))
    }

    /// True where nothing of the stream is in flight, and all that is visible was read up to `sequence`.
    pub fn is_drained(&self, stream: &StreamId, sequence: u64) -> bool {
        // Asked of the journal, not compared: acknowledged and damaged sequences leave gaps.
        let is_read = || self.journals.read(stream, sequence, 1, 0).is_ok_and(|unread| unread.is_empty());
        self.admission.in_flight_of(stream) == 0 && is_read()
    }
}

/// What a client is told of a journal's error.
pub fn status(error: JournalError) -> Status {
    match error {
        JournalError::NoSuchStream { .. } => Status::not_found(error.to_string()),
        JournalError::NoRoom { .. } | JournalError::DiskFull { .. } | JournalError::StreamsFull { .. } => {
            Status::resource_exhausted(error.to_string())
        }
        JournalError::NotPublished { .. } => Status::out_of_range(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}

fn open_store(process: &'static Process, gate: &Gate<'static>, spill: &Path) -> std::io::Result<Arc<Store>> {
    DirBuilder::new().recursive(true).mode(0o700).create(spill)?;
    let mut in_flight = HashSet::new();
    gate.for_each_accepted(|request| {
        in_flight.insert(bytemuck::pod_read_unaligned::<Request>(request).kept.id);
    });
    let cache = &process.order.config.cache;
    let bounds = Bounds {
        hard_bytes: (cache.memory_bytes_max as f64 * cache.hard) as u64,
        disk_bytes_max: cache.disk_bytes_max,
    };
    Store::open(process.area(), process.order.owner, spill.to_owned(), bounds, &in_flight)
}

fn log(report: &OpenReport) {
    if report.records > 0 {
        tracing::info!("{} unread results in {} streams", report.records, report.streams);
    }
    if report.memory_is_full {
        tracing::warn!("the tmpfs for unread results is full (paths.shm): they go to the disk");
    }
    for cut in &report.cut {
        tracing::warn!("journal {cut:?}: an append was interrupted; its frames' results are written anew");
    }
    if let Some(damage) = &report.floor_damage {
        tracing::error!("journal {damage:?}: sequences of dropped streams may come back");
    }
    for damage in &report.damage {
        tracing::error!("journal {damage:?}: these bytes are damaged and are skipped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_knows_by_itself_that_it_was_replaced() {
        let stream = Stream::new();
        let first = stream.seat(&id());
        stream.tell();
        assert!(!first.is_replaced());
        let second = stream.seat(&id());
        assert!(first.is_replaced() && !second.is_replaced());
        drop(stream);
        assert!(second.is_replaced(), "the stream is gone");
    }

    fn id() -> StreamId {
        StreamId::new("a").expect("a good name")
    }
}
