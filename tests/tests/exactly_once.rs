//! Every accepted frame yields exactly one result: in peace, while each kind of stage is killed, and while the gateway
//! is killed.

use framepipe_tests::{
    Home, Server,
    cameras::{FRAMES_ALL, Run, check_baseline},
};

/// A light detector, so that the frames' way is tested, not their arithmetic; and a budget that makes pushes wait.
const CONFIG: &str = r#"
    name = "exactly-once"
    [pipeline]
    detector = "tiny-face-416"
    [server]
    frames_max = 256
"#;
const STAGES: [&str; 5] = ["ingest", "preprocess", "detect", "postprocess", "attribute"];

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
        assert!(run.received() < FRAMES_ALL, "{stage} must be killed while frames flow");
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
        assert!(run.pushed() < FRAMES_ALL, "killed while frames are pushed");
        server.kill_one("gateway");
    }
    run.check().await;
    check_baseline(&home, server);
}
