//! PushData: from a checked call to accepted frames. What can be refused for want of room is refused before a file is
//! touched; what may wait for a file system (opening the sources, making a stream) leaves the threads that serve others.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytemuck::Zeroable;
use framepipe_frame::{Descriptor, Request, Text};
use framepipe_journal::StreamId;
use framepipe_proto::v1::{PushDataRequest, PushDataResponse};
use framepipe_shm::{KeyNote, monotonic_ns};
use prost::Message as _;
use tokio::sync::SemaphorePermit;
use tonic::{Code, Status, metadata::MetadataValue};

use crate::{
    admission::{Load, NoRoom, Ticket},
    calls::Reading,
    checks::{self, Checked},
    hub::{Hub, State, status},
    idempotency::record,
    source::Source,
};

/// The trailer that tells when to try again: gRPC's own name for it, in milliseconds.
const RETRY_TRAILER: &str = "grpc-retry-pushback-ms";
/// Where room comes with a reader's acknowledgements: nobody knows when.
const RETRY_UNKNOWN: Duration = Duration::from_secs(1);

/// A call that waits counts as so many bytes, at least, of those that all such calls may keep in memory.
const WAITING_BYTES_LEAST: usize = 64 << 10;

/// Accepts a batch, whole or not at all.
pub async fn push(
    hub: Arc<Hub>,
    request: PushDataRequest,
    mut reading: Option<Reading>,
) -> Result<PushDataResponse, Status> {
    let checked = checks::check(&request, hub.frames_max)?;
    let stream = named_stream(&request.stream)?;
    let wait = Duration::from_millis(request.wait_ms);
    let until = tokio::time::Instant::now() + wait;
    let call = Call {
        hub,
        stream,
        own: OnceLock::new(),
        request,
        checked,
        waits: !wait.is_zero(),
        files: OnceLock::new(),
        ticket: OnceLock::new(),
    };
    let call = Arc::new(call);
    if let Some(answer) = call.look()? {
        return Ok(answer);
    }
    let mut permit = None;
    loop {
        let trying = call.clone();
        let task = tokio::task::spawn_blocking(move || trying.accept());
        let refusal = match task.await.map_err(|error| Status::internal(format!("the call failed: {error}")))? {
            Err(refusal) if refusal.code() == Code::ResourceExhausted && call.waits => refusal,
            ended => return ended,
        };
        if permit.is_none() {
            permit = Some(call.may_wait()?);
            drop(reading.take()); // others may be read now: it counts among those that wait
        }
        let Some(ticket) = call.ticket.get() else { return Err(refusal) };
        if tokio::time::timeout_at(until, ticket.news.notified()).await.is_err() {
            return Err(refusal);
        }
    }
}

fn named_stream(stream: &str) -> Result<Option<StreamId>, Status> {
    if stream.is_empty() {
        return Ok(None);
    }
    StreamId::new(stream).map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// A call on its way.
struct Call {
    hub: Arc<Hub>,
    stream: Option<StreamId>,
    /// The name of the stream that it gets for its own, where it names none; chosen once.
    own: OnceLock<StreamId>,
    request: PushDataRequest,
    checked: Checked,
    /// Whether it waits for room.
    waits: bool,
    /// Set once its files were looked at.
    files: OnceLock<Files>,
    /// Its place in the line, once it stands there.
    ticket: OnceLock<Ticket>,
}

impl Drop for Call {
    /// By whatever end, its place in the line is left.
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.get() {
            self.hub.lock().admission.leave(ticket, Instant::now());
        }
    }
}

/// What a call's files are.
struct Files {
    sources: Vec<Source>,
    load: Load,
}

impl Call {
    /// What can be said at once, without a file: the first answer to its key, or that there is no room.
    fn look(&self) -> Result<Option<PushDataResponse>, Status> {
        let mut state = self.hub.lock();
        if let Some(answer) = self.known_answer(&mut state)? {
            return Ok(Some(answer));
        }
        // A stream that is not active yet becomes so by a good call alone, so its files are looked at first.
        let now = Instant::now();
        if !self.waits && self.stream.as_ref().is_none_or(|stream| state.admission.is_active(stream, now)) {
            let known = |sum: u64, size: &u64| sum.saturating_add(*size);
            let load = Load {
                frames: self.checked.frames.len() as u64,
                bytes: self.request.sizes.iter().fold(0, known), // of files, none are known yet
            };
            state.admission.ask(self.stream.as_ref(), load, None, now).map_err(no_room)?;
        }
        Ok(None)
    }

    /// Takes its part of the memory of the calls that wait.
    fn may_wait(&self) -> Result<SemaphorePermit<'_>, Status> {
        let bytes = self.request.encoded_len().max(WAITING_BYTES_LEAST);
        let permit = self.hub.waiting.try_acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX));
        permit.map_err(|_| too_many_wait())
    }

    fn known_answer(&self, state: &mut State) -> Result<Option<PushDataResponse>, Status> {
        let key = &self.request.idempotency_key;
        let answer = Some(key).filter(|key| !key.is_empty()).and_then(|key| state.answers.get(key, monotonic_ns()));
        if answer.is_none() && self.hub.is_draining() {
            let words = "the server is draining: it finishes what it has accepted and takes no more";
            return Err(Status::unavailable(words));
        }
        Ok(answer)
    }

    /// Looks at the files, once.
    fn files(&self) -> Result<&Files, Status> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let look = |path: &String| self.hub.roots.look(path);
        let sources = self.checked.files.iter().map(look).collect::<Result<Vec<_>, _>>()?;
        check_sizes(&self.checked, &sources)?;
        let mut load = Load::default();
        for frame in &self.checked.frames {
            load += Load { frames: 1, bytes: frame.bytes.unwrap_or(sources[frame.file].bytes) };
        }
        if load.bytes > self.hub.bytes_max {
            return Err(Status::invalid_argument(format!(
                "a batch of {} bytes can never fit: {} may be in flight; split it, or raise server.bytes_max",
                load.bytes, self.hub.bytes_max
            )));
        }
        Ok(self.files.get_or_init(|| Files { sources, load }))
    }

    /// Accepts the batch, if there is room. If there is none, and it waits, it has a place in the line from then on; where
    /// it is not the budget that refuses it, it stands aside there.
    fn accept(&self) -> Result<PushDataResponse, Status> {
        let files = self.files()?;
        let mut state = self.hub.lock();
        if let Some(answer) = self.known_answer(&mut state)? {
            return Ok(answer);
        }
        let (stream, now) = (self.stream.as_ref(), Instant::now());
        if let Err(refusal) = state.admission.ask(stream, files.load, self.ticket.get(), now) {
            stream.into_iter().for_each(|stream| state.admission.wants(stream, now));
            self.stand(&mut state, files.load, false)?;
            return Err(no_room(refusal));
        }
        let accepted = self.reserve_and_accept(&mut state, files);
        if accepted.as_ref().is_err_and(|refusal| refusal.code() == Code::ResourceExhausted) {
            self.stand(&mut state, files.load, true)?;
            state.admission.wake(|_| false, now);
        }
        accepted
    }

    /// Takes a place in the line, if the call waits and has none yet.
    fn stand(&self, state: &mut State, load: Load, is_aside: bool) -> Result<(), Status> {
        if let Some(ticket) = self.ticket.get() {
            state.admission.stand(ticket, is_aside);
        } else if self.waits {
            let ticket = state.admission.line_up(self.stream.as_ref(), load, is_aside).ok_or_else(too_many_wait)?;
            self.ticket.get_or_init(|| ticket);
        }
        Ok(())
    }

    /// Accepts the batch, for which the budget has room, if the journal has room as well.
    fn reserve_and_accept(&self, state: &mut State, files: &Files) -> Result<PushDataResponse, Status> {
        let stream = self.stream.as_ref().unwrap_or_else(|| self.own.get_or_init(|| state.new_stream(self.hub.run)));
        let frames = self.checked.frames.len() as u32;
        if u64::from(frames) > self.hub.stream_frames_max {
            return Err(Status::invalid_argument(format!(
                "a batch of {frames} images can never fit: the results of {} frames fill a stream's journal; split it, \
                 or raise journal.stream_bytes_max",
                self.hub.stream_frames_max
            )));
        }
        // Before the stream is made: a refused call shall leave none behind, nor make another one give way.
        if !state.has_stream(stream) {
            state.journals.check_room(stream, frames).map_err(journal_refusal)?;
        }
        state.enter_stream(stream).map_err(journal_refusal)?;
        state.journals.reserve(stream, frames).map_err(journal_refusal)?;
        match self.draft_and_accept(state, stream, files) {
            Ok(answer) => Ok(answer),
            Err(refusal) => {
                state.journals.release(stream, frames).map_err(status)?;
                Err(refusal)
            }
        }
    }

    fn draft_and_accept(
        &self,
        state: &mut State,
        stream: &StreamId,
        files: &Files,
    ) -> Result<PushDataResponse, Status> {
        let count = self.checked.frames.len();
        // The budget has as many frames as there are jobs: it said that they are free.
        let mut draft = self.hub.gate.draft(count).ok_or_else(|| {
            let words = format!("{count} jobs are not free, though the budget has room: a repair is under way");
            with_retry(Status::resource_exhausted(words), RETRY_UNKNOWN)
        })?;
        let now_ns = monotonic_ns();
        let first_frame = draft.first_frame();
        let generation = self.hub.encoders.entering_at(draft.queue());
        let generation =
            generation.ok_or_else(|| Status::internal("new frames are led to a queue of no generation"))?;
        for place in 0..count {
            let request = Request { generation, ..self.frame_request(place, first_frame, stream, files, now_ns) };
            draft.write(place, bytemuck::bytes_of(&request), bytemuck::bytes_of(&Descriptor::zeroed()));
        }
        let answer = PushDataResponse { stream: stream.to_string(), first_frame, accepted: count as u32 };
        let key = &self.request.idempotency_key;
        let slot = Some(key).filter(|key| !key.is_empty()).and_then(|_| state.answers.slot(now_ns));
        let record = record(key, stream.as_str());
        let note = |slot: crate::idempotency::Slot| KeyNote {
            place: slot.place,
            expires_ns: slot.expires_ns,
            record: bytemuck::bytes_of(&record),
        };
        state.admission.accepted(stream, files.load, Instant::now());
        self.hub.gate.accept(draft, slot.map(note)).map_err(|lost| Status::internal(lost.to_string()))?;
        if let Some(slot) = slot {
            state.answers.put(key, slot, answer.clone());
        }
        Ok(answer)
    }

    fn frame_request(&self, place: usize, first: u64, stream: &StreamId, files: &Files, now_ns: u64) -> Request {
        let frame = &self.checked.frames[place];
        let source = &files.sources[frame.file];
        Request {
            frame: first + place as u64,
            accepted_ns: now_ns,
            deadline_ns: match self.request.deadline_ms {
                0 => 0,
                deadline_ms => now_ns.saturating_add(deadline_ms.saturating_mul(1_000_000)),
            },
            offset: frame.offset,
            bytes: frame.bytes.unwrap_or(source.bytes),
            source_device: source.id.0,
            source_inode: source.id.1,
            source_bytes: source.bytes,
            source_mtime_ns: source.mtime_ns,
            generation: 0,
            batch_index: place as u32,
            root: source.root,
            raw: self.checked.raw,
            path: Text::truncated(&source.path),
            name: Text::truncated(&frame.name),
            stream: Text::truncated(stream.as_str()),
        }
    }
}

fn check_sizes(checked: &Checked, sources: &[Source]) -> Result<(), Status> {
    for (place, frame) in checked.frames.iter().enumerate() {
        let (file, path) = (&sources[frame.file], &checked.files[frame.file]);
        let bytes = frame.bytes.unwrap_or(file.bytes);
        if frame.offset.checked_add(bytes).is_none_or(|end| end > file.bytes) {
            return Err(Status::invalid_argument(format!(
                "sizes[{place}] = {bytes} at byte {} exceeds {path}, which has {} bytes",
                frame.offset, file.bytes
            )));
        }
        let needed = checked.raw.bytes().unwrap_or(0);
        if bytes < needed {
            return Err(Status::invalid_argument(format!("{path} has {bytes} bytes: the raw geometry needs {needed}")));
        }
    }
    Ok(())
}

fn too_many_wait() -> Status {
    let words = "too many calls wait for room already: try again later, or wait for results first";
    with_retry(Status::resource_exhausted(words), RETRY_UNKNOWN)
}

fn no_room(refusal: NoRoom) -> Status {
    with_retry(Status::resource_exhausted(refusal.words), refusal.retry)
}

fn journal_refusal(error: framepipe_journal::JournalError) -> Status {
    let status = status(error);
    if status.code() == Code::ResourceExhausted { with_retry(status, RETRY_UNKNOWN) } else { status }
}

fn with_retry(mut status: Status, retry: Duration) -> Status {
    let retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
    status.metadata_mut().insert(RETRY_TRAILER, MetadataValue::from(retry_ms));
    status
}
