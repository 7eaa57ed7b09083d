//! Cameras that push and read at once, whatever dies meanwhile, and must see each of their frames once.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use framepipe_client::{Client, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use tokio::task::JoinHandle;

use crate::{Home, Server, images::png, wait_until};

const CAMERAS: usize = 4;
/// Of each camera, where nothing else is said.
const FRAMES: usize = 500;
/// Frames of all cameras then.
pub const FRAMES_ALL: usize = CAMERAS * FRAMES;
const BATCH: usize = 32;
/// For all frames of a run.
const LIMIT: Duration = Duration::from_secs(180);

/// What the cameras have done by now.
#[derive(Default)]
struct Progress {
    pushed: AtomicUsize,
    received: AtomicUsize,
}

/// Each image of a run has a size of its own, by which its result is known as its own.
fn size(number: usize) -> (u32, u32) {
    (16 + (number % 100) as u32, 16 + (number / 100) as u32)
}

fn name(number: usize) -> String {
    format!("frame {number}.png")
}

struct Camera {
    number: usize,
    frames: usize,
    client: Client,
    progress: Arc<Progress>,
}

impl Camera {
    fn stream(&self) -> String {
        format!("camera-{}", self.number)
    }

    async fn push(&self, numbers: &[usize]) {
        let images: Vec<Vec<u8>> = numbers.iter().map(|number| size(*number)).map(|(w, h)| png(w, h)).collect();
        let names = numbers.iter().map(|number| name(*number));
        let request = PushRequest::images(&images).names(names).stream(self.stream()).wait(LIMIT);
        let batch = self.client.push(request).await.expect("the push is good");
        assert_eq!(batch.accepted as usize, numbers.len());
        self.progress.pushed.fetch_add(numbers.len(), Ordering::Relaxed);
    }

    /// Results until there are as many as frames.
    async fn read(&self) -> Vec<FrameResult> {
        let mut results = self.client.results(&self.stream(), ResultsOptions::default());
        let mut collected = Vec::with_capacity(self.frames);
        while collected.len() < self.frames {
            collected.push(results.next().await.expect("the stream stays open").expect("it is readable"));
            self.progress.received.fetch_add(1, Ordering::Relaxed);
        }
        results.close().await;
        collected
    }

    /// Pushes and reads at once; returns all results that the stream ever had.
    async fn run(self) -> Vec<FrameResult> {
        let numbers: Vec<usize> = (self.number * self.frames..(self.number + 1) * self.frames).collect();
        let mut batches = numbers.chunks(BATCH);
        self.push(batches.next().expect("there are frames")).await; // which makes the stream
        let pushing = async {
            for batch in batches {
                self.push(batch).await;
            }
        };
        let ((), mut results) = tokio::join!(pushing, self.read());
        // Whatever comes after the last one is one too many.
        let after = results.last().expect("there are results").sequence;
        let options = ResultsOptions { after, until_drained: true, ..ResultsOptions::default() };
        let mut rest = self.client.results(&self.stream(), options);
        while let Some(result) = rest.next().await {
            results.push(result.expect("it is readable"));
        }
        results
    }
}

/// All cameras at work.
pub struct Run {
    progress: Arc<Progress>,
    cameras: Vec<JoinHandle<Vec<FrameResult>>>,
    /// Of each.
    frames: usize,
}

impl Run {
    /// Starts them.
    pub fn start(server: &Server) -> Self {
        Self::of(server, FRAMES)
    }

    /// Starts them, with so many frames each.
    pub fn of(server: &Server, frames: usize) -> Self {
        let progress = Arc::new(Progress::default());
        let camera = |number| Camera { number, frames, client: server.client(), progress: progress.clone() };
        let cameras = (0..CAMERAS).map(camera).map(|camera| tokio::spawn(camera.run())).collect();
        Self { progress, cameras, frames }
    }

    /// Frames of all cameras.
    pub fn frames_all(&self) -> usize {
        CAMERAS * self.frames
    }

    /// Frames that were accepted so far.
    pub fn pushed(&self) -> usize {
        self.progress.pushed.load(Ordering::Relaxed)
    }

    /// Results that came so far.
    pub fn received(&self) -> usize {
        self.progress.received.load(Ordering::Relaxed)
    }

    /// Waits for so many results.
    pub fn wait_received(&self, count: usize) {
        wait_until(&format!("{count} results"), LIMIT, || self.received() >= count);
    }

    /// Waits for all results, and checks that each is there once.
    pub async fn check(self) {
        let frames_each = self.frames;
        let mut frames = HashSet::new();
        for (camera, results) in self.cameras.into_iter().enumerate() {
            let results = tokio::time::timeout(LIMIT, results).await.expect("all results in time");
            let results = results.expect("the camera's checks hold");
            assert_eq!(results.len(), frames_each, "camera {camera}");
            let sequences: Vec<u64> = results.iter().map(|result| result.sequence).collect();
            assert_eq!(sequences, (1..=frames_each as u64).collect::<Vec<_>>(), "camera {camera}");
            let mut by_name: Vec<(&str, &FrameResult)> = results.iter().map(|one| (one.name.as_str(), one)).collect();
            by_name.sort_by_key(|(name, _)| *name);
            let mut expected: Vec<(String, usize)> =
                (camera * frames_each..(camera + 1) * frames_each).map(|number| (name(number), number)).collect();
            expected.sort();
            for ((name, result), (expected, number)) in by_name.into_iter().zip(expected) {
                assert_eq!(name, expected);
                let Some(Outcome::Detections(found)) = &result.outcome else { panic!("{name}: {:?}", result.outcome) };
                assert_eq!((found.image_width, found.image_height), size(number), "{name} has another's result");
                assert_eq!(result.batch_index as usize, (number - camera * frames_each) % BATCH, "{name}");
                assert!(frames.insert(result.frame), "frame number {} twice", result.frame);
            }
        }
        assert_eq!(frames.len(), frames_each * CAMERAS);
    }
}

/// Every job and slot is free, and what remains of the pipeline after its end is nothing.
pub fn check_baseline(home: &Home, server: Server) {
    check_baseline_of(home, server, FRAMES);
}

/// As [`check_baseline`], after so many frames of each camera.
pub fn check_baseline_of(home: &Home, server: Server, frames: usize) {
    let status = server.status();
    assert_eq!(status.accepted as usize, CAMERAS * frames);
    assert_eq!((status.in_flight(), status.jobs.writing), (0, 0), "{:?}", status.jobs);
    assert_eq!(status.pools_in_use(), [""; 0]);
    server.stop();
    assert_eq!(home.left_in_memory(), [""; 0].map(std::path::PathBuf::from));
}
