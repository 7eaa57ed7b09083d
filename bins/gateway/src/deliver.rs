//! Delivery: finished jobs become records of the journal, **then** their jobs are freed, **then** the records are shown. What
//! framepipe kept of their images is freed after the jobs: killed between, the keeper finds images that no job names.
//!
//! Killed between the first two steps, the next gateway finds the job finished and its record in the journal, and frees
//! it; killed between the last two, it shows the record. So a result is in the journal exactly once, and nobody can have
//! acknowledged (and so removed) the record of a job that is not free yet.

use std::{
    collections::BTreeSet,
    iter,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use bytemuck::Zeroable as _;
use framepipe_cache::Digest;
use framepipe_frame::{Descriptor, ErrorCode, FrameError, Kept, Request};
use framepipe_journal::{JournalError, StreamId};
use framepipe_pipeline::{GATEWAY, Process, discarded, faults};
use framepipe_proto::v1::{Detections, FrameResult, StageTime, frame_result::Outcome};
use framepipe_shm::{Counter, Lost, Work, Worker, monotonic_ns};
use prost::Message as _;

use crate::{
    encode::{Encoded, error_result},
    hub::Hub,
    kept_results,
    traces::{Outcome as Ended, Story, Traces},
};

/// Most results of one append.
const BATCH_MAX: usize = 64;
/// Longest sleep between two heartbeats.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// Between two looks at what changes without a result: results become too old, streams idle, and disks empty.
const LOOK: Duration = Duration::from_millis(500);

/// The delivery thread.
pub struct Deliverer {
    process: &'static Process,
    worker: Worker<'static>,
    hub: Arc<Hub>,
    unwritten: Unwritten,
    traces: Option<Traces>,
}

/// The finished frames whose results could not be written. Their jobs keep them, and every try to write them may fail,
/// many times a second: of all of them together it is said once, and once more when the last one is written.
#[derive(Default)]
struct Unwritten {
    frames: BTreeSet<u64>,
}

impl Unwritten {
    /// A frame's result could not be written: what is to be said of it.
    fn failed(&mut self, frame: u64, error: &impl std::fmt::Display) -> Option<String> {
        let is_first = self.frames.is_empty();
        self.frames.insert(frame);
        is_first.then(|| format!("frame {frame} and those behind it wait, until their results can be written: {error}"))
    }

    /// A frame's result was written: what is to be said of it.
    fn written(&mut self, frame: u64) -> Option<&'static str> {
        let was_last = self.frames.remove(&frame) && self.frames.is_empty();
        was_last.then_some("all results that waited are written")
    }
}

struct Finished {
    work: Work<'static>,
    request: Request,
    stream: StreamId,
    payload: Vec<u8>,
    /// Its error, and where its time went.
    error: Option<ErrorCode>,
    times: Vec<StageTime>,
    /// Of a result that another image of the same content may get: what the cache's keeper is offered, once it is written.
    offer: Option<(Digest, Detections)>,
    /// What is told of it, once it is delivered.
    story: Option<Box<Story>>,
}

impl Deliverer {
    /// A deliverer of this process, which tells of what it delivers.
    pub fn new(process: &'static Process, hub: Arc<Hub>, traces: Option<Traces>) -> Self {
        Self { process, worker: process.worker(GATEWAY), hub, unwritten: Unwritten::default(), traces }
    }

    /// What a new gateway does first: counts what is in flight, frees the finished jobs whose records its predecessor
    /// had written, answers what the operator discarded, and shows all records.
    pub fn take_stock(&mut self) -> anyhow::Result<()> {
        self.hub.count_accepted()?;
        self.answer_discarded()?;
        // All of them are claimed before any is given back: no more than there are jobs.
        let finished: Vec<Work<'static>> = iter::from_fn(|| self.worker.claim()).collect();
        let mut state = self.hub.lock();
        for work in finished {
            if work.is_reserved() {
                self.hub.gate.free(work)?; // a dead gateway's: this one sends its own
                continue;
            }
            let request: Request = bytemuck::pod_read_unaligned(work.request());
            if state.journals.contains(self.hub.run, request.frame) {
                self.hub.gate.free(work)?;
                self.hub.store.release(&request.kept);
                let stream = StreamId::new(&request.stream.as_str())?;
                state.admission.done(&stream, request.bytes, Instant::now());
            } else {
                self.worker.put_back(work)?;
            }
        }
        state.publish_all()?;
        Ok(())
    }

    /// Writes a record for each frame that the operator discarded. No record is shown, and so none acknowledged, before
    /// all are written and the list is gone: a gateway that dies meanwhile finds those that it wrote, and writes no second.
    fn answer_discarded(&self) -> anyhow::Result<()> {
        let state_folder = &self.process.order.config.state;
        let noted = discarded::noted(state_folder)?;
        let mut state = self.hub.lock();
        // A segment that was kept after all finishes its frames itself.
        for (run, request) in noted.iter().filter(|(run, _)| *run != self.hub.run) {
            let stream = StreamId::new(&request.stream.as_str())?;
            state.enter_stream(&stream)?;
            if !state.journals.contains(*run, request.frame) {
                let words =
                    "the operator discarded the memory that held the frame (framepipe up --discard): push it again";
                let result = error_result(request, &FrameError::new(ErrorCode::Discarded, words));
                state.journals.reserve_accepted(&stream, 1)?;
                state.journals.append(&stream, *run, request.frame, &result.encode_to_vec())?;
            }
        }
        if !noted.is_empty() {
            tracing::warn!("{} discarded frames were answered with an error", noted.len());
        }
        Ok(discarded::forget(state_folder)?)
    }

    /// Delivers until the process must stop. What is still to be told of traces is given back, to be ended after all else.
    pub fn run(mut self) -> Result<Option<Traces>, Lost> {
        let mut next_look = Instant::now() + LOOK;
        while !self.process.stop.load(Ordering::Acquire) {
            self.process.entry().beat();
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK;
                self.expire();
                self.hub.lock().admission.wake(|_| true, Instant::now());
            }
            if self.deliver()? == 0 {
                self.worker.wait(IDLE_WAIT, || self.process.stop.load(Ordering::Acquire));
            }
        }
        Ok(self.traces)
    }

    /// Drops results that are too old, where the configuration wants it.
    fn expire(&self) {
        let (count, result) = self.hub.lock().expire(SystemTime::now());
        self.process.entry().count(Counter::Dropped, count as u64);
        if let Err(error) = result {
            tracing::error!("old results cannot be dropped: {error}");
        }
    }

    /// One batch: append, free, show. Returns how many frames were delivered.
    fn deliver(&mut self) -> Result<usize, Lost> {
        let start = Instant::now();
        let finished = self.claim_batch()?;
        if finished.is_empty() {
            return Ok(0);
        }
        let mut state = self.hub.lock();
        let mut touched = BTreeSet::new();
        let (mut delivered, mut failed) = (0, 0);
        let (mut kept, mut offers, mut stories) = (Vec::new(), Vec::new(), Vec::new());
        for one in finished {
            if let Err(error) = append(&mut state.journals, self.hub.run, &one) {
                // The disk is full, say: the job keeps the result until there is room.
                let words = self.unwritten.failed(one.request.frame, &error);
                words.into_iter().for_each(|words| tracing::error!("{words}"));
                self.worker.put_back(one.work)?;
                failed += 1;
                continue;
            }
            let words = self.unwritten.written(one.request.frame);
            words.into_iter().for_each(|words| tracing::info!("{words}"));
            faults::strike("gateway", iter::once((&one.request, &mut Descriptor::zeroed())));
            self.hub.gate.free(one.work)?;
            self.hub.metrics.delivered(one.error, &one.times);
            kept.extend(Some(one.request.kept).filter(Kept::is_kept));
            state.admission.done(&one.stream, one.request.bytes, start);
            offers.extend(one.offer);
            stories.extend(one.story);
            touched.insert(one.stream);
            delivered += 1;
        }
        self.hub.health.journal_is_stuck(!self.unwritten.frames.is_empty());
        for stream in &touched {
            if let Err(error) = state.publish(stream) {
                tracing::error!(stream = stream.as_str(), "stream {stream}: {error}");
            }
        }
        self.hub.report_drained(&mut state);
        state.admission.wake(|_| false, Instant::now());
        drop(state);
        if delivered > 0 {
            self.hub.health.result_came();
        }
        offers.iter().for_each(|(key, detections)| kept_results::keep(self.process, *key, detections));
        if let Some(traces) = &self.traces {
            stories.into_iter().for_each(|story| traces.tell(*story));
        }
        if !kept.is_empty() {
            kept.iter().for_each(|kept| self.hub.store.release(kept));
            self.hub.lock().admission.wake(|_| true, Instant::now()); // who stands aside for want of room there
        }
        if failed > 0 {
            std::thread::park_timeout(IDLE_WAIT); // something could not be written: try again, but not at once
        }
        let entry = self.process.entry();
        entry.count(Counter::Frames, delivered as u64);
        entry.count(Counter::Batches, 1);
        entry.count(Counter::BusyNs, start.elapsed().as_nanos() as u64);
        Ok(delivered)
    }

    /// Claims and encodes what waits, up to a batch. A suspect is worked on alone, as in every stage.
    fn claim_batch(&self) -> Result<Vec<Finished>, Lost> {
        let mut batch = Vec::new();
        while batch.len() < BATCH_MAX
            && let Some(work) = self.worker.claim()
        {
            if work.is_reserved() {
                self.take_canary(work)?;
                continue;
            }
            let is_suspect = work.is_suspect();
            if is_suspect && !batch.is_empty() {
                self.worker.put_back(work)?;
                break;
            }
            batch.push(self.finish(work));
            if is_suspect {
                break;
            }
        }
        Ok(batch)
    }

    /// Frees the canary's job, and then says that it came: whoever finds it free may send another one.
    fn take_canary(&self, work: Work<'static>) -> Result<(), Lost> {
        let request: Request = bytemuck::pod_read_unaligned(work.request());
        let mut descriptor = Descriptor::zeroed();
        work.read_descriptor(bytemuck::bytes_of_mut(&mut descriptor));
        let error = descriptor.check().map_or_else(|broken| Some(broken.into()), |()| descriptor.error());
        self.hub.gate.free(work)?;
        let took = Duration::from_nanos(monotonic_ns().saturating_sub(request.accepted_ns));
        self.hub.metrics.canary(error.is_none(), took);
        self.hub.health.canary_came(error);
        Ok(())
    }

    fn finish(&self, work: Work<'static>) -> Finished {
        let claimed_ns = monotonic_ns();
        let request: Request = bytemuck::pod_read_unaligned(work.request());
        let stream =
            StreamId::new(&request.stream.as_str()).expect("this gateway, or its predecessor, wrote the request");
        let config = &self.process.order.config;
        let encoded = if work.attempts() >= config.attempts_max {
            let error = config.quarantine.given_up("framepipe-gateway", work.attempts(), request.frame);
            Encoded::error(&request, &error, claimed_ns)
        } else {
            self.hub.encoders.encode(self.process, &work, &request, claimed_ns)
        };
        let (encoded, payload) = self.bounded(&request, encoded);
        let story = self.story(&request, &encoded);
        let Encoded { result, key, .. } = encoded;
        let error = match &result.outcome {
            Some(Outcome::Error(error)) => ErrorCode::from_number(error.code as u32),
            _ => None,
        };
        let times = result.times;
        let offer = key.zip(match result.outcome {
            Some(Outcome::Detections(detections)) => Some(detections),
            _ => None,
        });
        Finished { work, request, stream, payload, error, times, offer, story }
    }

    /// A result's bytes; where they are too many, an error in its place.
    fn bounded(&self, request: &Request, encoded: Encoded) -> (Encoded, Vec<u8>) {
        let payload = encoded.result.encode_to_vec();
        let (bytes, most) = (payload.len(), self.hub.result_bytes_max);
        if bytes <= most {
            return (encoded, payload);
        }
        let message =
            format!("the result has {bytes} bytes, at most {most} are allowed: raise journal.result_bytes_max");
        let error = error_result(request, &FrameError::new(ErrorCode::ResultTooLarge, message));
        let payload = error.encode_to_vec();
        let result = FrameResult { times: encoded.result.times, ..error };
        (Encoded { result, key: None, ..encoded }, payload)
    }

    /// What is told of a frame, if anything is.
    fn story(&self, request: &Request, encoded: &Encoded) -> Option<Box<Story>> {
        let ids = self.traces.as_ref()?.ids(request)?;
        Some(Box::new(Story {
            ids,
            frame: request.frame,
            batch_index: request.batch_index,
            name: request.name.as_str().into_owned(),
            stream: request.stream.as_str().into_owned(),
            bytes: request.bytes,
            accepted_ns: request.accepted_ns,
            stages: encoded.stages,
            delivery: encoded.delivery,
            models: encoded.models.clone(),
            outcome: Ended::of(&encoded.result),
        }))
    }
}

/// Writes a record, unless a gateway that died before it could free the job has written it.
fn append(journals: &mut framepipe_journal::Journals, run: u64, one: &Finished) -> Result<(), JournalError> {
    if journals.contains(run, one.request.frame) {
        return Ok(());
    }
    journals.append(&one.stream, run, one.request.frame, &one.payload).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_said_once_and_so_is_its_end() {
        let mut unwritten = Unwritten::default();
        let said = unwritten.failed(5, &"the disk is full").expect("it is the first");
        assert!(said.contains("frame 5") && said.contains("the disk is full"), "{said}");
        for _ in 0..100 {
            assert_eq!(unwritten.failed(5, &"the disk is full"), None);
            assert_eq!(unwritten.failed(6, &"the disk is full"), None);
            assert_eq!(unwritten.written(7), None, "another stream's");
        }
        assert_eq!(unwritten.written(5), None, "6 waits still");
        assert!(unwritten.written(6).is_some());
        assert_eq!(unwritten.written(6), None);
        assert!(unwritten.failed(8, &"the disk is full").is_some(), "it begins anew");
    }
}
