//! Every accepted frame yields exactly one result: in peace, while each kind of stage is killed, and while the gateway
//! is killed.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use framepipe_client::{Client, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_tests::{Home, Server, images::png, wait_until};
use tokio::task::JoinHandle;

/// A light detector, so that the frames' way is tested, not their arithmetic; and a budget that makes pushes wait.
const CONFIG: &str = r#"
    name = "exactly-once"
    [pipeline]
    detector = "tiny-face-416"
    [server]
    frames_max = 256
"#;
const STAGES: [&str; 5] = ["ingest", "preprocess", "detect", "postprocess", "attribute"];
const CAMERAS: usize = 4;
const FRAMES: usize = 500;
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
        let mut collected = Vec::with_capacity(FRAMES);
        while collected.len() < FRAMES {
            collected.push(results.next().await.expect("the stream stays open").expect("it is readable"));
            self.progress.received.fetch_add(1, Ordering::Relaxed);
        }
        results.close().await;
        collected
    }

    /// Pushes and reads at once; returns all results that the stream ever had.
    async fn run(self) -> Vec<FrameResult> {
        let numbers: Vec<usize> = (self.number * FRAMES..(self.number + 1) * FRAMES).collect();
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
struct Run {
    progress: Arc<Progress>,
    cameras: Vec<JoinHandle<Vec<FrameResult>>>,
}

impl Run {
    fn start(server: &Server) -> Self {
        let progress = Arc::new(Progress::default());
        let camera = |number| Camera { number, client: server.client(), progress: progress.clone() };
        let cameras = (0..CAMERAS).map(camera).map(|camera| tokio::spawn(camera.run())).collect();
        Self { progress, cameras }
    }

    fn received(&self) -> usize {
        self.progress.received.load(Ordering::Relaxed)
    }

    fn wait_received(&self, count: usize) {
        wait_until(&format!("{count} results"), LIMIT, || self.received() >= count);
    }

    /// Waits for all results, and checks that each is there once.
    async fn check(self) {
        let mut frames = HashSet::new();
        for (camera, results) in self.cameras.into_iter().enumerate() {
            let results = tokio::time::timeout(LIMIT, results).await.expect("all results in time");
            let results = results.expect("the camera's checks hold");
            assert_eq!(results.len(), FRAMES, "camera {camera}");
            let sequences: Vec<u64> = results.iter().map(|result| result.sequence).collect();
            assert_eq!(sequences, (1..=FRAMES as u64).collect::<Vec<_>>(), "camera {camera}");
            let mut by_name: Vec<(&str, &FrameResult)> = results.iter().map(|one| (one.name.as_str(), one)).collect();
            by_name.sort_by_key(|(name, _)| *name);
            let mut expected: Vec<(String, usize)> =
                (camera * FRAMES..(camera + 1) * FRAMES).map(|number| (name(number), number)).collect();
            expected.sort();
            for ((name, result), (expected, number)) in by_name.into_iter().zip(expected) {
                assert_eq!(name, expected);
                let Some(Outcome::Detections(found)) = &result.outcome else { panic!("{name}: {:?}", result.outcome) };
                assert_eq!((found.image_width, found.image_height), size(number), "{name} has another's result");
                assert_eq!(result.batch_index as usize, (number - camera * FRAMES) % BATCH, "{name}");
                assert!(frames.insert(result.frame), "frame number {} twice", result.frame);
            }
        }
        assert_eq!(frames.len(), CAMERAS * FRAMES);
    }
}

/// Every job and slot is free, and what remains of the pipeline after its end is nothing.
fn check_baseline(home: &Home, server: Server) {
    let status = server.status();
    assert_eq!(status.accepted as usize, CAMERAS * FRAMES);
    assert_eq!((status.in_flight(), status.jobs.writing), (0, 0), "{:?}", status.jobs);
    assert_eq!(status.pools_in_use(), [""; 0]);
    server.stop();
    assert_eq!(home.left_in_memory(), [""; 0].map(std::path::PathBuf::from));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_peace() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    Run::start(&server).check().await;
    assert!(server.status().processes.iter().all(|process| process.restarts == 0), "nothing may have died");
    check_baseline(&home, server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_each_kind_of_stage_is_killed() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let run = Run::start(&server);
    for (place, stage) in STAGES.into_iter().enumerate() {
        run.wait_received(100 * (place + 1));
        assert!(run.received() < CAMERAS * FRAMES, "{stage} must be killed while frames flow");
        server.kill_one(stage);
    }
    run.check().await;
    let status = server.status();
    for stage in STAGES {
        assert!(status.stage(stage).any(|process| process.restarts >= 1), "{stage} was not restarted: {status:?}");
    }
    check_baseline(&home, server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_gateway_is_killed() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let run = Run::start(&server);
    for kill in 1..=3 {
        run.wait_received(200 * kill);
        // A push that the death cuts off is repeated under its key, and counts once.
        assert!(run.progress.pushed.load(Ordering::Relaxed) < CAMERAS * FRAMES, "killed while frames are pushed");
        server.kill_one("gateway");
    }
    run.check().await;
    check_baseline(&home, server);
}
