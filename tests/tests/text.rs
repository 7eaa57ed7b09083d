//! Lines of text through gRPC and every process: what tests/reference/text_scenes.py draws, every other line upside down,
//! is found, its orientation known, and read. The shipped pipeline, its trained models.

use std::time::Duration;

use framepipe_client::{
    Attribute, Detection, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _, Value,
};
use framepipe_tests::{
    Home, Server,
    findings::{iou, run_python},
    repository,
};
use serde::Deserialize;

/// Orientations that are right, of 60 lines: measured 59.
const ORIENTATIONS_MIN: usize = 57;
/// Strings that are exact, of 60 lines: measured 57.
const EXACT_MIN: usize = 54;
/// Strings that are exact, of the 30 lines that are upside down: measured 27.
const EXACT_UPSIDE_DOWN_MIN: usize = 24;
/// Least overlap of a box with the line's own.
const IOU_MIN: f64 = 0.4;
const LIMIT: Duration = Duration::from_secs(300);
/// Several frames' crops wait for the models together.
const BATCH: &str = "[stages.attribute]\nbatch_max = 4\nbatch_wait_us_max = 100_000\n";

#[derive(Deserialize)]
struct Scene {
    file: String,
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize)]
struct Line {
    text: String,
    upside_down: bool,
    #[serde(rename = "box")]
    corners: [f64; 4],
}

/// What is said of the line that lies where `line` was drawn: its orientation, and its text.
fn said<'r>(line: &Line, found: &'r [Detection]) -> Option<(&'r str, &'r str)> {
    let overlap = |one: &Detection| {
        let place = one.r#box.unwrap_or_default();
        iou(&[place.x0, place.y0, place.x1, place.y1].map(f64::from), &line.corners)
    };
    let best = found.iter().max_by(|a, b| overlap(a).total_cmp(&overlap(b))).filter(|one| overlap(one) >= IOU_MIN)?;
    let value = |name: &str| {
        let named = |attribute: &&Attribute| attribute.name == name;
        best.attributes.iter().find(named).and_then(|attribute| attribute.value.as_ref())
    };
    match (value("orientation"), value("text")) {
        (Some(Value::Classification(class)), Some(Value::Text(text))) => Some((&class.label, &text.text)),
        other => panic!("{:?} has these attributes: {other:?}", line.text),
    }
}

/// Pushes the scenes; the results in their order.
async fn results(config: &str, scenes: &[Scene], folder: &std::path::Path) -> Vec<FrameResult> {
    let home = Home::new();
    let server = Server::start(&home, &format!("{config}{BATCH}")).await;
    let client = server.client();
    let images: Vec<Vec<u8>> =
        scenes.iter().map(|scene| std::fs::read(folder.join(&scene.file)).expect("it was drawn")).collect();
    client.push(PushRequest::images(&images).stream("text")).await.expect("the push is good");
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let all = client.results("text", options).map(|result| result.expect("it is readable"));
    let mut results = tokio::time::timeout(LIMIT, all.collect::<Vec<_>>()).await.expect("the results in time");
    server.stop();
    results.sort_by_key(|result| result.frame);
    assert_eq!(results.len(), scenes.len());
    results
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_found_and_read_whichever_way_up_they_are() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    run_python("text_scenes.py", |command| {
        command.arg("--out").arg(folder.path());
    });
    let scenes: Vec<Scene> =
        serde_json::from_slice(&std::fs::read(folder.path().join("scenes.json")).unwrap()).expect("it is JSON");
    let config = std::fs::read_to_string(repository().join("config/text.toml")).expect("the pipeline is there");
    let results = results(&config, &scenes, folder.path()).await;

    let (mut count, mut boxes, mut oriented) = (0, 0, 0);
    let (mut exact, mut exact_upside_down) = (0, 0);
    for (scene, result) in scenes.iter().zip(&results) {
        let Some(Outcome::Detections(found)) = &result.outcome else { panic!("{:?}", result.outcome) };
        boxes += found.detections.len();
        for line in &scene.lines {
            count += 1;
            let Some((orientation, text)) = said(line, &found.detections) else {
                println!("{line:?} was not found");
                continue;
            };
            oriented += usize::from((orientation == "180") == line.upside_down);
            exact += usize::from(text == line.text);
            exact_upside_down += usize::from(text == line.text && line.upside_down);
            if text != line.text {
                println!("{:?} (upside down: {}) was read as {text:?}, {orientation}", line.text, line.upside_down);
            }
        }
    }
    println!("{count} lines, {boxes} boxes; {oriented} orientations, {exact} strings, {exact_upside_down} upside down");
    assert!((count, boxes) == (60, 60), "{boxes} boxes of {count} lines");
    assert!(oriented >= ORIENTATIONS_MIN, "{oriented} orientations are right");
    assert!(exact >= EXACT_MIN, "{exact} strings are exact");
    assert!(exact_upside_down >= EXACT_UPSIDE_DOWN_MIN, "{exact_upside_down} strings of lines upside down are exact");
}
