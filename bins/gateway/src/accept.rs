//! PushData: from a checked call to accepted frames. Calls go one after another from the reservation on; what may wait
//! for a file system (opening the sources) comes before.

use std::{sync::Arc, time::Instant};

use bytemuck::Zeroable;
use framepipe_frame::{Descriptor, Request, Text};
use framepipe_journal::StreamId;
use framepipe_proto::v1::{PushDataRequest, PushDataResponse};
use framepipe_shm::monotonic_ns;
use tonic::Status;

use crate::{
    checks::{self, Checked},
    hub::{Hub, State, status},
    source::Source,
};

/// Accepts a batch, whole or not at all.
pub async fn push(hub: Arc<Hub>, request: PushDataRequest) -> Result<PushDataResponse, Status> {
    let checked = checks::check(&request, hub.frames_max)?;
    let stream = named_stream(&request.stream)?;
    if !request.idempotency_key.is_empty()
        && let Some(answer) = hub.lock().answers.get(&request.idempotency_key, Instant::now())
    {
        return Ok(answer);
    }
    // Opening a client's file may wait for its file system; the threads that serve others must not.
    let task = tokio::task::spawn_blocking(move || {
        let sources = checked.files.iter().map(|path| hub.roots.look(path)).collect::<Result<Vec<_>, _>>()?;
        check_sizes(&checked, &sources)?;
        accept(&hub, stream, &request, &checked, &sources)
    });
    task.await.map_err(|error| Status::internal(format!("the call failed: {error}")))?
}

fn named_stream(stream: &str) -> Result<Option<StreamId>, Status> {
    if stream.is_empty() {
        return Ok(None);
    }
    StreamId::new(stream).map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
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

fn accept(
    hub: &Hub,
    stream: Option<StreamId>,
    request: &PushDataRequest,
    checked: &Checked,
    sources: &[Source],
) -> Result<PushDataResponse, Status> {
    let mut state = hub.lock();
    if hub.is_draining() {
        return Err(Status::unavailable("the server is draining: it finishes what it has accepted and takes no more"));
    }
    let key = &request.idempotency_key;
    if !key.is_empty()
        && let Some(answer) = state.answers.get(key, Instant::now())
    {
        return Ok(answer);
    }
    let stream = stream.unwrap_or_else(|| state.new_stream(hub.run));
    let frames = checked.frames.len() as u32;
    if u64::from(frames) > hub.stream_frames_max {
        return Err(Status::invalid_argument(format!(
            "a batch of {frames} images can never fit: the results of {} frames fill a stream's journal; split it, or \
             raise journal.stream_bytes_max",
            hub.stream_frames_max
        )));
    }
    state.enter_stream(&stream).map_err(status)?;
    state.journals.reserve(&stream, frames).map_err(status)?;
    let accepted = draft_and_accept(hub, &mut state, &stream, request, checked, sources);
    let first_frame = match accepted {
        Ok(first_frame) => first_frame,
        Err(refusal) => {
            state.journals.release(&stream, frames).map_err(status)?;
            return Err(refusal);
        }
    };
    let answer = PushDataResponse { stream: stream.to_string(), first_frame, accepted: frames };
    if !key.is_empty() {
        state.answers.put(key.clone(), answer.clone(), Instant::now());
    }
    Ok(answer)
}

fn draft_and_accept(
    hub: &Hub,
    state: &mut State,
    stream: &StreamId,
    call: &PushDataRequest,
    checked: &Checked,
    sources: &[Source],
) -> Result<u64, Status> {
    let count = checked.frames.len();
    let Some(mut draft) = hub.gate.draft(count) else {
        let (free, most) = (hub.gate.free_jobs(), hub.frames_max);
        return Err(Status::resource_exhausted(format!(
            "{count} frames do not fit: {free} of {most} places are free (server.frames_max); try again once results came"
        )));
    };
    let now_ns = monotonic_ns();
    let deadline_ns = match call.deadline_ms {
        0 => 0,
        deadline_ms => now_ns.saturating_add(deadline_ms.saturating_mul(1_000_000)),
    };
    for (place, frame) in checked.frames.iter().enumerate() {
        let source = &sources[frame.file];
        let request = Request {
            frame: draft.first_frame() + place as u64,
            accepted_ns: now_ns,
            deadline_ns,
            offset: frame.offset,
            bytes: frame.bytes.unwrap_or(source.bytes),
            source_device: source.id.0,
            source_inode: source.id.1,
            source_bytes: source.bytes,
            source_mtime_ns: source.mtime_ns,
            batch_index: place as u32,
            root: source.root,
            raw: checked.raw,
            path: Text::truncated(&source.path),
            name: Text::truncated(&frame.name),
            stream: Text::truncated(stream.as_str()),
        };
        draft.write(place, bytemuck::bytes_of(&request), bytemuck::bytes_of(&Descriptor::zeroed()));
    }
    let first_frame = draft.first_frame();
    state.add_in_flight(stream, count as u32);
    hub.gate.accept(draft).map_err(|lost| Status::internal(lost.to_string()))?;
    Ok(first_frame)
}
