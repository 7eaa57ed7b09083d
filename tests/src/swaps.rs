//! Models that tell their version, and a camera that shows which frames had which.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use framepipe_client::{Client, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use tokio::task::JoinHandle;

use crate::{Home, Server, images::png, repository, wait_until};

/// The model whose versions are swapped.
pub const MODEL: &str = "tiny-face-416";
const BATCH: usize = 8;
const LIMIT: Duration = Duration::from_secs(120);

/// A model repository whose versions differ in what they call what they find.
pub struct Models(PathBuf);

impl Models {
    /// With versions from 1 on.
    pub fn new(home: &Home, versions: u32) -> Self {
        let models = Self(home.path("models"));
        (1..=versions).for_each(|version| models.add(version, "model.onnx", &[]));
        models
    }

    /// Adds a version. It finds one object in every image, and says `face VERSION`.
    pub fn add(&self, version: u32, file: &str, changes: &[(&str, &str)]) {
        let shipped = repository().join("models").join(MODEL).join("1");
        let folder = self.0.join(MODEL).join(version.to_string());
        fs::create_dir_all(&folder).expect("a folder of the test's own");
        let manifest =
            fs::read_to_string(shipped.join("manifest.toml")).expect("run scripts/setup: a model is missing");
        let label = format!("labels = [\"face {version}\"]");
        let number = format!("version = {version}");
        let own = [
            ("version = 1", number.as_str()),
            ("labels = [\"face\"]", &label),
            ("score_threshold = 0.53", "score_threshold = 0.0"),
            ("detections_max = 100", "detections_max = 1"),
        ];
        let changed = own.iter().chain(changes).fold(manifest, |manifest, (from, to)| {
            assert!(manifest.contains(from), "the manifest has no {from:?}");
            manifest.replace(from, to)
        });
        fs::write(folder.join("manifest.toml"), changed).expect("a manifest of the test's own");
        std::os::unix::fs::symlink(shipped.join("model.onnx"), folder.join(file)).expect("a link of the test's own");
    }

    /// A pipeline that begins with version 1.
    pub fn config(&self) -> String {
        format!(
            "name = \"hot-swap\"\n[pipeline]\ndetector = \"{MODEL}@1\"\n[paths]\nmodels = {:?}\n[server]\nframes_max = 64\n",
            self.0
        )
    }
}

/// A client that pushes until it is told to stop.
pub struct Camera {
    client: Client,
    pushed: Arc<AtomicUsize>,
    arrivals: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    results: JoinHandle<Vec<FrameResult>>,
}

impl Camera {
    /// Starts to push, and to read.
    pub fn start(server: &Server) -> Self {
        let (client, pushed, stop) = (server.client(), Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let arrivals = Arc::default();
        let results = tokio::spawn(Self::run(client.clone(), pushed.clone(), Arc::clone(&arrivals), stop.clone()));
        Self { client, pushed, arrivals, stop, results }
    }

    async fn run(
        client: Client,
        pushed: Arc<AtomicUsize>,
        arrivals: Arc<Mutex<Vec<Instant>>>,
        stop: Arc<AtomicBool>,
    ) -> Vec<FrameResult> {
        let push = async || {
            let images: Vec<Vec<u8>> = (0..BATCH).map(|_| png(64, 64)).collect();
            let batch = client.push(PushRequest::images(&images).stream("camera").wait(LIMIT)).await;
            pushed.fetch_add(batch.expect("the push is good").accepted as usize, Ordering::Release);
        };
        push().await; // which makes the stream
        let pushing = async {
            while !stop.load(Ordering::Acquire) {
                push().await;
            }
        };
        let reading = async {
            let mut results = client.results("camera", ResultsOptions::default());
            let mut collected = Vec::new();
            while !stop.load(Ordering::Acquire) || collected.len() < pushed.load(Ordering::Acquire) {
                match tokio::time::timeout(Duration::from_millis(100), results.next()).await {
                    Ok(result) => {
                        arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
                        collected.push(result.expect("the stream stays open").expect("it is readable"));
                    }
                    Err(_) => continue, // none came: look again whether there is one to wait for
                }
            }
            results.close().await;
            collected
        };
        tokio::join!(pushing, reading).1
    }

    /// Frames accepted so far.
    pub fn pushed(&self) -> usize {
        self.pushed.load(Ordering::Acquire)
    }

    /// Results that have come so far.
    pub fn received(&self) -> usize {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The time between each two results that came one after the other, from the one of this number on, in milliseconds.
    pub fn gaps_ms(&self, from: usize) -> Vec<f64> {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals[from..].windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3).collect()
    }

    /// Waits until some more frames were accepted.
    pub fn wait_for_more(&self) {
        let before = self.pushed();
        wait_until("more frames to be accepted", LIMIT, || self.pushed() >= before + 4 * BATCH);
    }

    /// The versions whose results the frames have, in the frames' order; of successive equal ones the first. Each accepted
    /// frame has one result, and it is no error.
    pub async fn versions(self) -> Vec<String> {
        let (results, pushed) = self.end().await;
        assert_eq!(results.len(), pushed);
        assert!(results.windows(2).all(|pair| pair[0].frame < pair[1].frame), "a frame has two results");
        let mut versions: Vec<String> = results.iter().map(label).collect();
        versions.dedup();
        versions
    }

    /// Accepted frames that have no result, that have an error as result, and results beyond a frame's first.
    pub async fn ledger(self) -> [usize; 3] {
        let (results, pushed) = self.end().await;
        let twice = results.windows(2).filter(|pair| pair[0].frame == pair[1].frame).count();
        let failed = results.iter().filter(|result| !matches!(result.outcome, Some(Outcome::Detections(_)))).count();
        [(pushed + twice).saturating_sub(results.len()), failed, twice]
    }

    /// Stops, and returns all results in the frames' order, and how many frames were accepted.
    async fn end(self) -> (Vec<FrameResult>, usize) {
        self.stop.store(true, Ordering::Release);
        let mut results =
            tokio::time::timeout(LIMIT, self.results).await.expect("all results in time").expect("no panic");
        results.sort_by_key(|result| result.frame);
        drop(self.client);
        (results, self.pushed.load(Ordering::Acquire))
    }
}

/// What a frame's first detection is called, which tells the version that found it.
///
/// # Panics
/// Where the frame has none, or an error.
pub fn label(result: &FrameResult) -> String {
    match &result.outcome {
        Some(Outcome::Detections(found)) => found.detections.first().expect("every image has one").label.clone(),
        other => panic!("frame {}: {other:?}", result.frame),
    }
}
