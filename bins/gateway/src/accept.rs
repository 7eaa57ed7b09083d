//! PushData: from a checked call to accepted frames. What can be refused for want of room is refused before a file is
//! touched; what may wait for a disk (opening the sources, copying images, making a stream) leaves the threads that serve
//! others. `insist.rs` tries again where a call waits.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytemuck::Zeroable;
use framepipe_frame::{Descriptor, Kept, Request, Text, TraceParent};
use framepipe_journal::StreamId;
use framepipe_proto::v1::{PushDataRequest, PushDataResponse};
use framepipe_shm::{KeyNote, monotonic_ns};
use tonic::{Code, Status, metadata::MetadataValue};

use crate::{
    admission::{Load, NoRoom, Ticket},
    calls::Reading,
    checks::{self, Checked, Origin},
    copy::{Intake, copy},
    hub::{Hub, State, status},
    idempotency::record,
    insist::Insistence,
    metrics::Refusal,
    source::Source,
    store::StoreError,
};

/// The trailer that tells when to try again: gRPC's own name for it, in milliseconds.
const RETRY_TRAILER: &str = "grpc-retry-pushback-ms";
/// Most frames of a call that is accepted at once, by the thread that read it, and most files in which they lie.
const QUICK_FRAMES_MAX: usize = 64;
const QUICK_FILES_MAX: usize = 8;
/// Where room comes with a reader's acknowledgements, or in the store: nobody knows when.
pub const RETRY_UNKNOWN: Duration = Duration::from_secs(1);

/// Accepts a batch, whole or not at all.
pub async fn push(
    hub: Arc<Hub>,
    request: PushDataRequest,
    caller: TraceParent,
    reading: Option<Reading>,
) -> Result<PushDataResponse, Status> {
    let checked = checks::check(&request, hub.frames_max)?;
    let call = Arc::new(Call::new(hub, request, checked, caller)?);
    if let Some(answer) = call.look()? {
        return Ok(answer);
    }
    let mut insistence = Insistence::new(call.clone(), reading);
    if call.checked.origin == Origin::Copied {
        insistence.let_others_be_read()?; // a disk may be slow
    }
    insistence.on(Call::accept).await
}

/// A call on its way.
pub struct Call {
    /// What all calls share.
    pub hub: Arc<Hub>,
    stream: Option<StreamId>,
    /// The name of the stream that it gets for its own, where it names none; chosen once.
    own: OnceLock<StreamId>,
    /// What the client said.
    pub request: PushDataRequest,
    /// The same, checked.
    pub checked: Checked,
    /// The span that the client is in.
    caller: TraceParent,
    /// Set once its files were looked at.
    files: OnceLock<Files>,
    /// Its images, where framepipe keeps them: of a copy all, once they are copied, of an upload as far as they came. Those of a
    /// call that waits on stay: nothing is copied twice.
    images: Mutex<Intake>,
    /// True when the store refused it last.
    lacks_store: AtomicBool,
    /// Its place in the line, once it stands there.
    ticket: OnceLock<Ticket>,
}

impl Drop for Call {
    /// By whatever end, its place in the line is left, and its images are gone, but for those that frames have.
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.get() {
            self.hub.lock().admission.leave(ticket, Instant::now());
        }
        let images = mem::take(self.images.get_mut().expect("no step under it panics"));
        if !images.is_empty()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(images)); // a disk may be slow
        }
    }
}

/// What a call's files are; of an upload, none.
pub struct Files {
    /// In the order of the call's files.
    pub sources: Vec<Source>,
    /// What all frames take of the budget.
    pub load: Load,
}

impl Call {
    /// A call whose words make sense.
    pub fn new(hub: Arc<Hub>, request: PushDataRequest, checked: Checked, caller: TraceParent) -> Result<Self, Status> {
        Ok(Self {
            hub,
            stream: named_stream(&request.stream)?,
            own: OnceLock::new(),
            request,
            checked,
            caller,
            files: OnceLock::new(),
            images: Mutex::default(),
            lacks_store: AtomicBool::new(false),
            ticket: OnceLock::new(),
        })
    }

    /// For how long it waits for room.
    pub fn wait(&self) -> Duration {
        Duration::from_millis(self.request.wait_ms)
    }

    /// Its place in the line, once it stands there.
    pub fn ticket(&self) -> Option<&Ticket> {
        self.ticket.get()
    }

    /// True when the store refused it last.
    pub fn lacks_store(&self) -> bool {
        self.lacks_store.load(Ordering::Relaxed)
    }

    /// True where its steps take not much longer than handing them to another thread would: of some frames, in a few files that lie in
    /// memory, for a stream that is there.
    pub fn is_quick(&self) -> bool {
        self.checked.origin == Origin::Referenced
            && self.checked.files.len() <= QUICK_FILES_MAX
            && self.checked.frames.len() <= QUICK_FRAMES_MAX
            && self.hub.roots.are_in_memory()
            && self.stream.as_ref().is_some_and(|stream| self.hub.lock().has_stream(stream))
    }

    /// Its images.
    pub fn images(&self) -> MutexGuard<'_, Intake> {
        self.images.lock().expect("no step under it panics")
    }

    fn waits(&self) -> bool {
        self.request.wait_ms > 0
    }

    /// What can be said at once, without a file: the first answer to its key, or that there is no room.
    pub fn look(&self) -> Result<Option<PushDataResponse>, Status> {
        let mut state = self.hub.lock();
        if let Some(answer) = self.known_answer(&mut state)? {
            return Ok(Some(answer));
        }
        // A stream that is not active yet becomes so by a good call alone, so its files are looked at first.
        let now = Instant::now();
        if !self.waits() && self.stream.as_ref().is_none_or(|stream| state.admission.is_active(stream, now)) {
            let known = |sum: u64, size: &u64| sum.saturating_add(*size);
            let load = Load {
                frames: self.checked.frames.len() as u64,
                bytes: self.request.sizes.iter().fold(0, known), // of files, none are known yet
            };
            state.admission.ask(self.stream.as_ref(), load, None, now).map_err(no_room)?;
        }
        Ok(None)
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
        let files = Files { load: Load::default(), sources };
        let mut load = Load::default();
        self.sizes(&files).for_each(|bytes| load += Load { frames: 1, bytes });
        if load.bytes > self.hub.bytes_max {
            return Err(Status::invalid_argument(format!(
                "a batch of {} bytes can never fit: {} may be in flight; split it, or raise server.bytes_max",
                load.bytes, self.hub.bytes_max
            )));
        }
        if self.checked.origin != Origin::Referenced && !self.hub.store.can_fit(self.sizes(&files)) {
            return Err(Status::invalid_argument(format!(
                "{} bytes, in {} images of whole chunks (cache.chunk_bytes), can never be kept at once: send fewer at a time, \
                 or raise cache.memory_bytes_max, of which images have the part cache.hard, or cache.disk_bytes_max",
                load.bytes, load.frames
            )));
        }
        Ok(self.files.get_or_init(|| Files { load, ..files }))
    }

    /// The bytes of each image.
    fn sizes<'f>(&'f self, files: &'f Files) -> impl Iterator<Item = u64> + 'f {
        let of_file = |frame: &checks::CheckedFrame| files.sources[frame.file].bytes;
        self.checked.frames.iter().map(move |frame| frame.bytes.unwrap_or_else(|| of_file(frame)))
    }

    /// Whether there is room for the frames, and in the store for their bytes, before one of these is taken. The first answer
    /// to its key ends it.
    pub fn ask_ahead(&self) -> Result<Option<PushDataResponse>, Status> {
        let files = self.files()?;
        if let Some(answer) = self.ask(&mut self.hub.lock(), files)? {
            return Ok(Some(answer));
        }
        self.hub.store.check_room(self.sizes(files)).or_else(|error| self.lacks_room_to_keep(error))?;
        Ok(None)
    }

    /// The store's refusal: a call that waits stands aside, until frames end whose images were kept.
    fn lacks_room_to_keep<T>(&self, error: StoreError) -> Result<T, Status> {
        if matches!(error, StoreError::Full { .. }) {
            self.lacks_store.store(true, Ordering::Relaxed);
            let mut state = self.hub.lock();
            self.stand(&mut state, self.files()?.load, true)?;
            state.admission.wake(|_| false, Instant::now());
        }
        Err(error.into())
    }

    /// Stands in nobody's way while its bytes come, if it stands in the line.
    pub fn let_others_pass(&self) {
        if let Some(ticket) = self.ticket.get() {
            let mut state = self.hub.lock();
            state.admission.stand(ticket, true);
            state.admission.wake(|_| false, Instant::now());
        }
    }

    /// Looks whether the budget has room. If it has none, and the call waits, it has a place in the line from then on. The
    /// first answer to its key ends it.
    fn ask(&self, state: &mut State, files: &Files) -> Result<Option<PushDataResponse>, Status> {
        self.lacks_store.store(false, Ordering::Relaxed);
        if let Some(answer) = self.known_answer(state)? {
            return Ok(Some(answer));
        }
        let (stream, now) = (self.stream.as_ref(), Instant::now());
        let Err(refusal) = state.admission.ask(stream, files.load, self.ticket.get(), now) else { return Ok(None) };
        stream.into_iter().for_each(|stream| state.admission.wants(stream, now));
        self.stand(state, files.load, false)?;
        Err(no_room(refusal))
    }

    /// Accepts the batch, if there is room. Where it is not the budget that refuses it, a call that waits stands aside.
    pub fn accept(&self) -> Result<PushDataResponse, Status> {
        let files = self.files()?;
        let mut images = self.images();
        if self.checked.origin == Origin::Copied && images.is_empty() {
            if let Some(answer) = self.ask_ahead()? {
                return Ok(answer);
            }
            // All of them or none: two calls that kept a part of theirs might wait for one another's room.
            *images = copy(self, files)?.or_else(|error| self.lacks_room_to_keep(error))?;
        }
        self.ask_and_accept(files, &mut images)
    }

    fn ask_and_accept(&self, files: &Files, images: &mut Intake) -> Result<PushDataResponse, Status> {
        let mut state = self.hub.lock();
        if let Some(answer) = self.ask(&mut state, files)? {
            return Ok(answer);
        }
        let accepted = self.reserve_and_accept(&mut state, files, images);
        if accepted.as_ref().is_err_and(|refusal| refusal.code() == Code::ResourceExhausted) {
            self.stand(&mut state, files.load, true)?;
            state.admission.wake(|_| false, Instant::now());
        }
        accepted
    }

    /// Takes a place in the line, if the call waits and has none yet.
    fn stand(&self, state: &mut State, load: Load, is_aside: bool) -> Result<(), Status> {
        if let Some(ticket) = self.ticket.get() {
            state.admission.stand(ticket, is_aside);
        } else if self.waits() {
            let ticket = state.admission.line_up(self.stream.as_ref(), load, is_aside).ok_or_else(too_many_wait)?;
            self.ticket.get_or_init(|| ticket);
        }
        Ok(())
    }

    /// Accepts the batch, for which the budget has room, if the journal has room as well.
    fn reserve_and_accept(
        &self,
        state: &mut State,
        files: &Files,
        images: &mut Intake,
    ) -> Result<PushDataResponse, Status> {
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
        match self.draft_and_accept(state, stream, files, images) {
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
        images: &mut Intake,
    ) -> Result<PushDataResponse, Status> {
        let count = self.checked.frames.len();
        // The budget has as many frames as there are jobs: it said that they are free.
        let mut draft = self.hub.gate.draft(count).ok_or_else(|| {
            let words = format!("{count} jobs are not free, though the budget has room: a repair is under way");
            with_retry(Status::resource_exhausted(words), RETRY_UNKNOWN, Refusal::Repair)
        })?;
        let now_ns = monotonic_ns();
        let first_frame = draft.first_frame();
        let generation = self.hub.encoders.entering_at(draft.queue());
        let generation =
            generation.ok_or_else(|| Status::internal("new frames are led to a queue of no generation"))?;
        for place in 0..count {
            let request = self.frame_request(place, files);
            let request = Request {
                frame: first_frame + place as u64,
                accepted_ns: now_ns,
                deadline_ns: match self.request.deadline_ms {
                    0 => 0,
                    deadline_ms => now_ns.saturating_add(deadline_ms.saturating_mul(1_000_000)),
                },
                generation,
                kept: images.kept(place),
                stream: Text::truncated(stream.as_str()),
                ..request
            };
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
        // From here on, whoever sweeps finds the images named.
        images.hold();
        state.admission.accepted(stream, files.load, Instant::now());
        self.hub.gate.accept(draft, slot.map(note)).map_err(|lost| Status::internal(lost.to_string()))?;
        if let Some(slot) = slot {
            state.answers.put(key, slot, answer.clone());
        }
        Ok(answer)
    }

    /// What is known of a frame without being accepted: what it is called, and where its bytes come from.
    pub fn frame_request(&self, place: usize, files: &Files) -> Request {
        let frame = &self.checked.frames[place];
        let request = Request {
            offset: frame.offset,
            batch_index: place as u32,
            raw: self.checked.raw,
            name: Text::truncated(&frame.name),
            kept: Kept::default(),
            trace: self.caller,
            ..Request::zeroed()
        };
        let Some(source) = files.sources.get(frame.file) else {
            return Request { offset: 0, bytes: frame.bytes.expect("an upload has sizes"), ..request };
        };
        Request {
            bytes: frame.bytes.unwrap_or(source.bytes),
            source_device: source.id.0,
            source_inode: source.id.1,
            source_bytes: source.bytes,
            source_mtime_ns: source.mtime_ns,
            root: source.root,
            path: Text::truncated(&source.path),
            ..request
        }
    }
}

fn named_stream(stream: &str) -> Result<Option<StreamId>, Status> {
    if stream.is_empty() {
        return Ok(None);
    }
    StreamId::new(stream).map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn check_sizes(checked: &Checked, sources: &[Source]) -> Result<(), Status> {
    if sources.is_empty() {
        return Ok(()); // an upload: its words say all
    }
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

/// What a client is told of the store's error.
impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { .. } => {
                with_retry(Self::resource_exhausted(error.to_string()), RETRY_UNKNOWN, Refusal::Store)
            }
            StoreError::Disk { .. } | StoreError::Memory { .. } => Self::internal(error.to_string()),
        }
    }
}

/// Too many calls wait, here or in the line.
pub fn too_many_wait() -> Status {
    let words = "too many calls wait for room already: try again later, or wait for results first";
    with_retry(Status::resource_exhausted(words), RETRY_UNKNOWN, Refusal::Line)
}

fn no_room(refusal: NoRoom) -> Status {
    with_retry(Status::resource_exhausted(refusal.words), refusal.retry, Refusal::Budget)
}

fn journal_refusal(error: framepipe_journal::JournalError) -> Status {
    let status = status(error);
    match status.code() {
        Code::ResourceExhausted => with_retry(status, RETRY_UNKNOWN, Refusal::Journal),
        _ => status,
    }
}

/// A refusal that says when to try again; and, to who counts it, why it was.
pub fn with_retry(mut status: Status, retry: Duration, why: Refusal) -> Status {
    status.set_source(Arc::new(why));
    let retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
    status.metadata_mut().insert(RETRY_TRAILER, MetadataValue::from(retry_ms));
    status
}
