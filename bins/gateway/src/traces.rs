//! Traces: what happened to a frame, as spans of OpenTelemetry, made when it is delivered, of the times that it has in shared memory.
//! So a frame whose stages or gateway died on its way has its spans like any other.
//!
//! | file | what it does |
//! |---|---|
//! | `traces/parent.rs` | the caller's span, from `traceparent` |
//! | `traces/story.rs` | what is told of a frame; whether it is, and under which ids |
//! | `traces/spans.rs` | its spans |
//! | `traces/export.rs` | sends them, in batches, to a collector that may be away or hang |
//!
//! Nobody waits for a trace: what the queue has no room for is dropped and counted.

mod export;
mod parent;
mod spans;
mod story;

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
};

use anyhow::Context as _;
use framepipe_frame::Request;
use framepipe_pipeline::Config;
use tokio::sync::{mpsc, watch};

use self::export::Exporter;
pub use self::{
    parent::caller,
    story::{Ids, Outcome, Story},
};
use crate::metrics::Untold;

/// Frames whose spans wait to be sent.
const WAITING_MAX: usize = 4096;

/// Who tells of frames.
pub struct Traces {
    sample: f64,
    run: u64,
    queue: Option<mpsc::Sender<Story>>,
    untold: Arc<Untold>,
    ending: watch::Sender<bool>,
    exporter: Option<JoinHandle<()>>,
}

impl Traces {
    /// Those of this configuration, if it wants any. `run` is the segment's; what is not told is counted in `untold`.
    pub fn start(config: &Config, run: u64, untold: Arc<Untold>) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = &config.traces.endpoint else { return Ok(None) };
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let (ending, is_ending) = watch::channel(false);
        let exporter = Exporter::new(endpoint, &config.name, waiting, untold.clone(), is_ending)
            .with_context(|| format!("traces.endpoint = {endpoint:?}"))?;
        let exporter = std::thread::Builder::new().name("traces".into()).spawn(move || exporter.run())?;
        let (queue, exporter) = (Some(queue), Some(exporter));
        Ok(Some(Self { sample: config.traces.sample, run, queue, untold, ending, exporter }))
    }

    /// Under which ids a frame is told of; `None`: it is not.
    pub fn ids(&self, request: &Request) -> Option<Ids> {
        Ids::sampled(self.run, request, self.sample)
    }

    /// Tells of a frame that is delivered.
    pub fn tell(&self, story: Story) {
        let told = self.queue.as_ref().is_some_and(|queue| queue.try_send(story).is_ok());
        if !told && self.untold.dropped_frames.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!("frames' spans are dropped: {WAITING_MAX} frames wait to be told of");
        }
    }

    /// Sends what waits, for a bounded time.
    pub fn end(mut self) {
        self.queue = None;
        let _ = self.ending.send(true); // an error: it has ended
        self.exporter.take().into_iter().for_each(|exporter| drop(exporter.join())); // a panic of it has aborted us
        let dropped = self.untold.dropped_frames.load(Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!("the spans of {dropped} frames were dropped");
        }
    }
}
