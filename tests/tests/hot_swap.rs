//! Other models while frames flow: none is lost, each has the result of the models that it was accepted for, and a model that
//! does not get warm changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use framepipe_client::{FrameResult, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_tests::{
    Home, Server,
    images::png,
    program,
    swaps::{Camera, MODEL, Models, label},
    wait_until,
};

const LIMIT: Duration = Duration::from_secs(120);

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
    assert!(home.path("state").join("models.json").is_file());
}

/// At the steps of a change that the launcher tells: whatever generation a frame was accepted for, it has its result, and the
/// next change works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_launcher_may_die_while_models_change() {
    for step in ["gets warm", "new frames go to generation 1"] {
        let home = Home::new();
        let config = Models::new(&home, 2).config();
        let server = Server::start(&home, &config).await;
        let push = async |server: &Server, count: usize| {
            let images: Vec<Vec<u8>> = (0..count).map(|_| png(64, 64)).collect();
            server.client().push(PushRequest::images(&images).stream("camera")).await.expect("the push is good")
        };
        push(&server, 24).await;
        let mut asked = Command::new(program())
            .args(["model", "use", "tiny-face-416@2", "--config"])
            .arg(home.path("config.toml"))
            .stderr(Stdio::null())
            .spawn()
            .expect("framepipe can be run");
        wait_until(step, LIMIT, || server.output().contains(step));
        push(&server, 24).await;
        server.kill();
        asked.wait().expect("it ends with the launcher");
        let server = Server::start(&home, &config).await;
        let serves = serving(&server);
        let newest = push(&server, 1).await.first_frame;
        let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
        let results: Vec<FrameResult> = tokio::time::timeout(
            LIMIT,
            server.client().results("camera", options).map(|result| result.expect("it is readable")).collect(),
        )
        .await
        .expect("all results in time");
        let frames: BTreeSet<u64> = results.iter().map(|result| result.frame).collect();
        assert_eq!((results.len(), frames.len()), (49, 49), "after {step}");
        let labels: BTreeMap<u64, String> = results.iter().map(|result| (result.frame, label(result))).collect();
        assert!(labels.values().all(|label| ["face 1", "face 2"].contains(&label.as_str())), "{labels:?}");
        assert_eq!(labels[&newest].replace("face ", "tiny-face-416@"), serves[0], "after {step}");
        switch(&server, if serves[0].ends_with('1') { 2 } else { 1 });
        let status = server.status();
        assert_eq!((status.in_flight(), status.pools_in_use()), (0, vec![]), "after {step}");
        server.stop();
    }
}
