//! Other models while frames flow: none is lost, each has the result of the models that it was accepted for, and a model that
//! does not get warm changes nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use framepipe_client::{Client, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_tests::{Home, Server, images::png, repository, wait_until};
use tokio::task::JoinHandle;

const MODEL: &str = "tiny-face-416";
const BATCH: usize = 8;
const LIMIT: Duration = Duration::from_secs(120);

/// A model repository whose versions differ in what they call what they find.
struct Models(PathBuf);

impl Models {
    fn new(home: &Home, versions: u32) -> Self {
        let models = Self(home.path("models"));
        (1..=versions).for_each(|version| models.add(version, "model.onnx", &[]));
        models
    }

    /// Adds a version. It finds one object in every image, and says `face VERSION`.
    fn add(&self, version: u32, file: &str, changes: &[(&str, &str)]) {
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

    fn config(&self) -> String {
        format!(
            "name = \"hot-swap\"\n[pipeline]\ndetector = \"{MODEL}@1\"\n[paths]\nmodels = {:?}\n[server]\nframes_max = 64\n",
            self.0
        )
    }
}

/// A client that pushes until it is told to stop.
struct Camera {
    client: Client,
    pushed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    results: JoinHandle<Vec<FrameResult>>,
}

impl Camera {
    fn start(server: &Server) -> Self {
        let (client, pushed, stop) = (server.client(), Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let results = tokio::spawn(Self::run(client.clone(), pushed.clone(), stop.clone()));
        Self { client, pushed, stop, results }
    }

    async fn run(client: Client, pushed: Arc<AtomicUsize>, stop: Arc<AtomicBool>) -> Vec<FrameResult> {
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
                    Ok(result) => collected.push(result.expect("the stream stays open").expect("it is readable")),
                    Err(_) => continue, // none came: look again whether there is one to wait for
                }
            }
            results.close().await;
            collected
        };
        tokio::join!(pushing, reading).1
    }

    /// Waits until some more frames were accepted.
    fn wait_for_more(&self) {
        let before = self.pushed.load(Ordering::Acquire);
        wait_until("more frames to be accepted", LIMIT, || self.pushed.load(Ordering::Acquire) >= before + 4 * BATCH);
    }

    /// The versions whose results the frames have, in the frames' order; of successive equal ones the first. Each accepted
    /// frame has one result, and it is no error.
    async fn versions(self) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        let mut results =
            tokio::time::timeout(LIMIT, self.results).await.expect("all results in time").expect("no panic");
        assert_eq!(results.len(), self.pushed.load(Ordering::Acquire));
        results.sort_by_key(|result| result.frame);
        assert!(results.windows(2).all(|pair| pair[0].frame < pair[1].frame), "a frame has two results");
        let mut versions: Vec<String> = results.iter().map(label).collect();
        versions.dedup();
        drop(self.client);
        versions
    }
}

fn label(result: &FrameResult) -> String {
    match &result.outcome {
        Some(Outcome::Detections(found)) => found.detections.first().expect("every image has one").label.clone(),
        other => panic!("frame {}: {other:?}", result.frame),
    }
}

fn use_model(server: &Server, arguments: &[&str]) -> Output {
    server.run(&[&["model", "use"], arguments].concat())
}

fn switch(server: &Server, version: u32) {
    let output = use_model(server, &[&format!("{MODEL}@{version}")]);
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), server.output());
}

/// Fails, saying all of `words`.
fn check_refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    words.iter().for_each(|word| assert!(said.contains(word), "{word:?} is not in: {said}"));
}

fn serving(server: &Server) -> Vec<String> {
    let status = server.status();
    status.generations.into_iter().filter(|one| one.serves).flat_map(|one| one.models).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_keep_the_models_that_they_were_accepted_for_and_none_is_lost() {
    let home = Home::new();
    let server = Server::start(&home, &Models::new(&home, 3).config()).await;
    let camera = Camera::start(&server);
    let mut expected = vec!["face 1".to_owned()];
    for version in [2, 3, 1, 2] {
        camera.wait_for_more();
        switch(&server, version);
        expected.push(format!("face {version}"));
        assert_eq!(serving(&server), [format!("{MODEL}@{version}")]);
        assert_eq!(server.status().generations.len(), 1, "the old one is gone");
    }
    camera.wait_for_more();
    assert_eq!(camera.versions().await, expected);
    let status = server.status();
    assert!(status.processes.iter().all(|process| process.restarts == 0 && process.state == "ready"), "{status:?}");
    assert_eq!((status.in_flight(), status.pools_in_use()), (0, vec![]));
    server.stop();
    assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_get_warm_changes_nothing() {
    let home = Home::new();
    let models = Models::new(&home, 2);
    models.add(3, "model.onnx", &[("output = \"output\"", "output = \"nothing\"")]);
    models.add(4, "model.onnx", &[("width = 416, height = 416", "width = 448, height = 448")]);
    models.add(5, "elsewhere.onnx", &[]);
    let server = Server::start(&home, &models.config()).await;
    let camera = Camera::start(&server);
    camera.wait_for_more();
    check_refused(&use_model(&server, &["tiny-face-416@3"]), &["generation 1", "\"nothing\"", "still do"]);
    check_refused(&use_model(&server, &["tiny-face-416@4"]), &["tensor slot", "[pools.tensor]"]);
    check_refused(&use_model(&server, &["tiny-face-416@5"]), &["model.onnx, which does not exist"]);
    check_refused(&use_model(&server, &["tiny-face-416@9"]), &["no version tiny-face-416@9", "1, 2, 3, 4, 5"]);
    check_refused(&use_model(&server, &["tiny-face-416@2", "--replace", "nobody"]), &["nobody", "tiny-face-416@1"]);
    assert_eq!(serving(&server), ["tiny-face-416@1"]);
    assert!(use_model(&server, &["tiny-face-416@1"]).status.success(), "it serves already");
    camera.wait_for_more();
    switch(&server, 2);
    camera.wait_for_more();
    assert_eq!(camera.versions().await, ["face 1", "face 2"]);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_and_gateway_may_die_meanwhile() {
    let home = Home::new();
    let server = Server::start(&home, &Models::new(&home, 2).config()).await;
    let camera = Camera::start(&server);
    for (version, stage) in [(2, "detect"), (1, "gateway"), (2, "preprocess"), (1, "gateway")] {
        camera.wait_for_more();
        std::thread::scope(|scope| {
            scope.spawn(|| switch(&server, version));
            server.kill_one(stage);
        });
    }
    camera.wait_for_more();
    assert_eq!(camera.versions().await, ["face 1", "face 2", "face 1", "face 2", "face 1"]);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_chosen_serves_after_the_launchers_death_and_after_a_restart() {
    let home = Home::new();
    let config = Models::new(&home, 3).config();
    let server = Server::start(&home, &config).await;
    server.client().push(PushRequest::images(&[png(8, 8)]).stream("camera")).await.expect("the push is good");
    switch(&server, 2);
    server.kill();
    let server = Server::start(&home, &config).await;
    assert!(server.output().contains("took over"), "{}", server.output());
    assert_eq!(serving(&server), ["tiny-face-416@2"]);
    switch(&server, 3);
    server.stop();
    let server = Server::start(&home, &config).await;
    assert_eq!(serving(&server), ["tiny-face-416@3"]);
    server.stop();
    assert!(Path::new(&home.path("state")).join("models.json").is_file());
}
