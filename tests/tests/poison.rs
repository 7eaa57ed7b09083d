//! A frame that kills its stage gets a typed error and goes to quarantine, and nobody else is harmed: whichever stage it
//! kills, by whatever death. A process that hangs is killed and replaced. Memory that a stage scribbled over is noticed.

use std::{fs, path::PathBuf, process::Output, time::Duration};

use framepipe_client::{ErrorCode, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_proto::v1::AckResultsRequest;
use framepipe_tests::{Home, Server, Status, images::png, wait_until};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(120);
const BATCH: usize = 32;
const VICTIM: usize = 13;

const CONFIG: &str = r#"
    name = "poison"
    [pipeline]
    detector = "tiny-face-416"
    attributes = ["face-expression"]
    [server]
    hang_ms_max = 1000
    [stages.ingest]
    hang_ms_max = 1000
    [stages.preprocess]
    hang_ms_max = 1000
    [stages.detect]
    batch_max = 8
    hang_ms_max = 1000
    [stages.postprocess]
    hang_ms_max = 1000
    [stages.attribute]
    batch_max = 8
    hang_ms_max = 1000
"#;

/// Pushes a batch whose victim bears this name, and returns all results, in the batch's order.
async fn push(server: &Server, stream: &str, victim: &str) -> Vec<FrameResult> {
    let client = server.client();
    let images: Vec<Vec<u8>> = (0..BATCH).map(|number| png(16 + number as u32, 16)).collect();
    let name = |number| if number == VICTIM { victim.to_owned() } else { format!("healthy {number}") };
    client.push(PushRequest::images(&images).names((0..BATCH).map(name)).stream(stream)).await.expect("a good push");
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results = client.results(stream, options).map(|result| result.expect("it is readable")).collect::<Vec<_>>();
    let mut results = tokio::time::timeout(LIMIT, results).await.expect("all results in time");
    assert_eq!(results.len(), BATCH, "each frame has one result");
    results.sort_by_key(|result| result.batch_index);
    results
}

/// The victim's error; all others are healthy.
fn victims_error(results: &[FrameResult]) -> (u64, ErrorCode, String) {
    for (number, result) in results.iter().enumerate().filter(|(number, _)| *number != VICTIM) {
        let Some(Outcome::Detections(found)) = &result.outcome else { panic!("{number}: {:?}", result.outcome) };
        assert_eq!(found.image_width, 16 + number as u32, "another's result");
    }
    let victim = &results[VICTIM];
    let Some(Outcome::Error(error)) = &victim.outcome else { panic!("{:?}", victim.outcome) };
    (victim.frame, error.code(), error.message.clone())
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("framepipe prints UTF-8")
}

fn pids(status: &Status, stage: &str) -> Vec<u32> {
    status.stage(stage).map(|process| process.pid).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_frame_is_one_error_and_one_quarantine_entry() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let before = server.status();
    let cases = [
        ("ingest", "abort"),
        ("preprocess", "kill"),
        ("detect", "abort"),
        ("detect", "exit-1"),
        // What framepipe's own processes end with, by their own will.
        ("detect", "exit-0"),
        ("postprocess", "exit-2"),
        ("preprocess", "exit-3"),
        ("detect", "hang"),
        ("postprocess", "kill"),
        ("attribute", "abort"),
    ];
    for (place, (stage, kind)) in cases.into_iter().enumerate() {
        let name = format!("fault:{stage}:{kind}.png");
        let results = push(&server, &format!("{stage}-{kind}"), &name).await;
        let (frame, code, message) = victims_error(&results);
        assert_eq!(code, ErrorCode::Poison, "{stage} {kind}: {message}");
        assert!(message.contains(&format!("framepipe quarantine show {frame}")), "{message}");

        let list = said(&server.run(&["quarantine", "list"]));
        assert_eq!(list.lines().count(), place + 2, "a headline, and one entry each: {list}");
        let line = list.lines().find(|line| line.contains(&name)).unwrap_or_else(|| panic!("{name} in {list}"));
        assert!(line.contains(&frame.to_string()) && line.contains(stage), "{line}");
        let story = said(&server.run(&["quarantine", "show", &frame.to_string()]));
        assert!(story.contains(&format!("{stage}-{kind}")) && story.contains("2 deaths with it alone"), "{story}");
        let word = match kind.split_once('-') {
            Some((_, status)) => format!("exit status: {status}"),
            None if kind == "abort" => "struck by".into(),
            None if kind == "hang" => "no heartbeat for".into(),
            None => "signal: 9".into(),
        };
        assert!(story.contains(&word), "{word:?} is wanted in: {story}");
        let kept = home.path("state").join(format!("quarantine/{frame}/frame.bin"));
        assert_eq!(fs::read(kept).expect("its bytes are kept"), png(16 + VICTIM as u32, 16), "{stage} {kind}");
    }
    let after = server.status();
    assert_eq!((after.pid, pids(&after, "gateway")), (before.pid, pids(&before, "gateway")), "the server was up");
    assert_eq!((after.in_flight(), after.pools_in_use()), (0, [""; 0].to_vec()));
    server.stop();
    assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_written_once_though_the_gateway_dies_before_its_frame_is_freed() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let before = pids(&server.status(), "gateway");
    let results = push(&server, "a", "fault:gateway:kill.png").await;
    assert!(matches!(results[VICTIM].outcome, Some(Outcome::Detections(_))), "{:?}", results[VICTIM]);
    assert_ne!(pids(&server.status(), "gateway"), before, "it was struck");
    assert_eq!(said(&server.run(&["quarantine", "list"])), "no frame is in quarantine\n");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quarantine_can_be_retried_and_dropped() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let (frame, ..) = victims_error(&push(&server, "a", "fault:preprocess:abort.png").await);
    let number = frame.to_string();
    let again = server.run(&["quarantine", "retry", &number]);
    assert_eq!(again.status.code(), Some(3), "it kills its stage again: {again:?}");
    let list = said(&server.run(&["quarantine", "list", "--json"]));
    let list: serde_json::Value = serde_json::from_str(&list).expect("it is JSON");
    let entries = list.as_array().expect("a list");
    assert_eq!(entries.len(), 1, "the new entry stands for the old one: {entries:?}");
    let newer = entries[0]["frame"].as_u64().expect("a number");
    assert!(newer > frame);

    // Its cause is mended: without the name, nothing strikes.
    let entry = home.path("state").join(format!("quarantine/{newer}/entry.toml"));
    let mended = fs::read_to_string(&entry).expect("the entry").replace("fault:preprocess:abort.png", "mended.png");
    fs::write(&entry, mended).expect("written");
    let cured = said(&server.run(&["quarantine", "retry", &newer.to_string()]));
    assert!(cured.contains("out of quarantine"), "{cured}");
    assert_eq!(said(&server.run(&["quarantine", "list"])), "no frame is in quarantine\n");
    for stream in fs::read_dir(home.path("state").join("journal/streams")).expect("the journal").flatten() {
        let stream = stream.file_name().to_str().expect("a stream's name").to_owned();
        let asked = server.raw_client().ack_results(AckResultsRequest { stream: stream.clone(), sequence: 0 }).await;
        assert_eq!(asked.expect("answered").get_ref().kept, 0, "stream {stream}: the retries' results are read");
    }

    victims_error(&push(&server, "a", "fault:preprocess:kill").await);
    assert_eq!(said(&server.run(&["quarantine", "drop", "--all"])), "1 dropped\n");
    let unknown = server.run(&["quarantine", "show", "7"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("not in quarantine"), "{unknown:?}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_hangs_is_replaced_and_loses_no_frame() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    for stage in ["preprocess", "detect", "gateway"] {
        let before = server.status();
        server.signal_stage(stage, Signal::SIGSTOP);
        let results = push(&server, stage, "healthy too").await;
        assert!(results.iter().all(|result| matches!(result.outcome, Some(Outcome::Detections(_)))), "{stage}");
        wait_until("the hung ones to be replaced", LIMIT, || {
            let now = server.status();
            now.stage(stage).all(|process| process.state == "ready" && !pids(&before, stage).contains(&process.pid))
        });
        assert!(server.output().contains("no heartbeat for"), "{}", server.output());
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scribbled_record_is_an_error_of_its_frame_and_a_line_in_the_log() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    for stage in ["ingest", "detect", "attribute"] {
        let results = push(&server, stage, &format!("fault:{stage}:scribble")).await;
        let (frame, code, message) = victims_error(&results);
        assert_eq!(code, ErrorCode::Internal, "{stage}: {message}");
        assert!(message.contains("descriptor"), "{stage}: {message}");
        assert!(server.output().contains(&format!("frame {frame}: ")), "{}", server.output());
    }
    assert!(server.status().processes.iter().all(|process| process.restarts == 0), "nobody died of it");
    server.stop();
}
