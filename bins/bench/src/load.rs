//! The client under whose load the system is measured: pushes the same raw frames again and again, never more than
//! `in_flight_max` of them unanswered, and checks every result.

use std::{
    collections::HashMap,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use framepipe_client::{
    Client, FrameResult, Outcome, PixelFormat, PushRequest, RawFrameFormat, Results, ResultsOptions, StreamExt as _,
};
use framepipe_temporary::clock::now_ns;
use tempfile::NamedTempFile;

const STREAM: &str = "bench";
/// For one result, while frames are in flight.
const RESULT_WAIT: Duration = Duration::from_secs(60);

/// What a client pushes, and what each result must have.
#[derive(Clone, Copy)]
pub struct Workload {
    /// Width and height of a frame.
    pub size: [u32; 2],
    /// Frames in one push.
    pub batch: usize,
    /// Most frames in flight.
    pub in_flight_max: usize,
    /// Objects of a frame that are described.
    pub crops: usize,
    /// Attributes of each.
    pub attributes: usize,
}

/// A client with one blob of frames.
pub struct Load {
    client: Client,
    results: Results,
    blob: NamedTempFile,
    frame_bytes: u64,
    workload: Workload,
    /// None: the frames are encoded.
    raw: Option<RawFrameFormat>,
    /// When the frames that are out were pushed.
    in_flight: HashMap<u64, Instant>,
}

/// What one run under load gave.
#[derive(Default)]
pub struct Sample {
    /// When each result came, ns of CLOCK_MONOTONIC.
    pub completed: Vec<u64>,
    /// From push to result, of the frames that came in the window.
    pub latencies_ms: Vec<f64>,
    /// Objects found, and those that were cut off.
    pub detections: usize,
    /// Milliseconds by stage, all frames together: waited, worked.
    pub stage_ms: Vec<(String, f64, f64)>,
}

impl Load {
    /// A client whose frames lie in a file in `inbox`: raw ones, or an encoded image again and again.
    pub fn new(client: Client, inbox: &Path, workload: Workload, image: Option<&[u8]>) -> anyhow::Result<Self> {
        let [width, height] = workload.size;
        let raw_bytes = 3 * width as usize * height as usize;
        let raw = RawFrameFormat { format: PixelFormat::Rgb24.into(), width, height, stride: 0 };
        let (raw, frame_bytes, frames) = match image {
            None => (Some(raw), raw_bytes, pixels(raw_bytes * workload.batch)),
            Some(image) => (None, image.len(), image.repeat(workload.batch)),
        };
        let mut blob = tempfile::Builder::new()
            .prefix("framepipe-bench.")
            .tempfile_in(inbox)
            .with_context(|| format!("the inbox {}", inbox.display()))?;
        blob.write_all(&frames)?;
        let results = client.results(STREAM, ResultsOptions::default());
        Ok(Self { client, results, blob, frame_bytes: frame_bytes as u64, workload, raw, in_flight: HashMap::new() })
    }

    /// Keeps the system busy until `end`, then waits for what is out. Latencies are those of results after `begin`.
    pub async fn run(&mut self, begin: u64, end: u64) -> anyhow::Result<Sample> {
        let mut sample = Sample::default();
        loop {
            if self.in_flight.len() + self.workload.batch <= self.workload.in_flight_max && now_ns()? < end {
                self.push().await?;
            } else if self.in_flight.is_empty() {
                return Ok(sample);
            } else {
                self.receive(begin..end, &mut sample).await?;
            }
        }
    }

    /// How long a call takes that does nothing, in microseconds: a question after the server's health.
    pub async fn call_us(&self) -> anyhow::Result<f64> {
        let start = Instant::now();
        self.client.wait_ready(RESULT_WAIT).await?;
        Ok(start.elapsed().as_secs_f64() * 1e6)
    }

    async fn push(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        let location = self.blob.path().to_str().context("the inbox's path is no UTF-8")?;
        let sizes = std::iter::repeat_n(self.frame_bytes, self.workload.batch);
        let request = PushRequest::location(location, sizes).stream(STREAM);
        let request = if let Some(raw) = self.raw { request.raw(raw) } else { request };
        let batch = self.client.push(request).await?;
        self.in_flight.extend((batch.first_frame..).take(self.workload.batch).map(|frame| (frame, start)));
        Ok(())
    }

    async fn receive(&mut self, window: std::ops::Range<u64>, sample: &mut Sample) -> anyhow::Result<()> {
        let next = tokio::time::timeout(RESULT_WAIT, self.results.next()).await;
        let next =
            next.with_context(|| format!("{} frames without a result after {RESULT_WAIT:?}", self.in_flight.len()))?;
        let result = next.context("the stream of results ended")??;
        let now = now_ns()?;
        let pushed = self.in_flight.remove(&result.frame);
        let pushed = pushed.with_context(|| format!("frame {}: a second result, or never pushed", result.frame))?;
        sample.completed.push(now);
        if window.contains(&now) {
            sample.latencies_ms.push(pushed.elapsed().as_secs_f64() * 1e3);
        }
        sample.add(&result, &self.workload)
    }
}

impl Sample {
    fn add(&mut self, result: &FrameResult, workload: &Workload) -> anyhow::Result<()> {
        match &result.outcome {
            Some(Outcome::Detections(found)) => {
                self.detections += found.detections.len();
                let attributes = found.detections.iter().map(|one| one.attributes.len()).filter(|count| *count > 0);
                let counts: Vec<usize> = attributes.collect();
                ensure!(
                    counts == vec![workload.attributes; workload.crops],
                    "frame {}: objects with {counts:?} attributes, where {} with {} each were to be",
                    result.frame,
                    workload.crops,
                    workload.attributes
                );
            }
            Some(Outcome::Error(error)) => bail!("frame {}: {:?}: {}", result.frame, error.code(), error.message),
            Some(Outcome::Gap(gap)) => bail!("results from {} on were dropped for their age", gap.first_sequence),
            None => bail!("frame {}: an outcome that this client does not know", result.frame),
        }
        if self.stage_ms.is_empty() {
            self.stage_ms = result.times.iter().map(|time| (time.stage.clone(), 0.0, 0.0)).collect();
        }
        ensure!(self.stage_ms.len() == result.times.len(), "frame {}: not all stages have a time", result.frame);
        for (sum, time) in self.stage_ms.iter_mut().zip(&result.times) {
            sum.1 += time.queued_us as f64 / 1e3;
            sum.2 += time.busy_us as f64 / 1e3;
        }
        Ok(())
    }
}

/// Noise, always the same: what the pixels are makes no difference to the time.
pub fn pixels(bytes: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}
