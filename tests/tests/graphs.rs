//! Detectors of real architectures through gRPC and every process: graphs that tests/reference/painted.py builds, layer by
//! layer, with weights that find painted objects. Each finds every object once and nothing else, and each box is the
//! reference's, which decodes the outputs of the same graph in numpy.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use framepipe_client::{ErrorCode, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_tests::{
    Home, Server,
    findings::{Findings, Found, differing_pixels, iou, matched, run_python},
    program,
};
use serde::Deserialize;
use tempfile::TempDir;

/// Least overlap of a box with the reference's, and largest difference of its score.
const REFERENCE_IOU_MIN: f64 = 0.999;
const SCORE_DIFFERENCE_MAX: f64 = 1e-4;
/// Largest share of masks' pixels that are others than the reference's.
const PIXEL_SHARE_MAX: f64 = 1e-3;
/// Least overlap of a box with the painted object, and least share of its box's pixels that the mask has right.
const PAINTED_IOU_MIN: f64 = 0.9;
const PAINTED_PIXELS_MIN: f64 = 0.9;
const IMAGE: &str = "painted.png";
const LIMIT: Duration = Duration::from_secs(60);

/// An object that a detector must find.
#[derive(Debug, Deserialize)]
struct Painted {
    class: u32,
    #[serde(rename = "box")]
    corners: [f64; 4],
    /// Run lengths in the box.
    mask: Option<Vec<u32>>,
}

/// The graphs, their manifests and the images.
struct Made {
    folder: TempDir,
}

impl Made {
    fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        run_python("painted.py", |command| {
            command.arg("--out").arg(folder.path()).args(arguments);
        });
        Self { folder }
    }

    fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    fn image(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).expect("painted.py wrote it")
    }

    fn painted(&self) -> BTreeMap<String, Vec<Painted>> {
        serde_json::from_slice(&self.image("painted.json")).expect("it is JSON")
    }

    /// Changes a detector's manifest.
    fn change(&self, detector: &str, from: &str, to: &str) {
        let path = self.models().join(detector).join("1/manifest.toml");
        let manifest = std::fs::read_to_string(&path).expect("painted.py wrote it");
        assert!(manifest.contains(from), "{from:?} is not in {manifest}");
        std::fs::write(&path, manifest.replace(from, to)).expect("it can be written");
    }

    /// What the pipeline answers for the painted image, and for the empty one, which are one batch where the graph takes it.
    async fn push(&self, home: &Home, detector: &str) -> [FrameResult; 2] {
        let models = self.models();
        let stage = "[stages.detect]\nprocesses = 1\nbatch_max = 2\nbatch_wait_us_max = 100_000\n";
        let config = format!("[pipeline]\ndetector = {detector:?}\n[paths]\nmodels = {models:?}\n{stage}");
        let server = Server::start(home, &config).await;
        let client = server.client();
        let images = [IMAGE, "empty.png"].map(|name| self.image(name));
        let push = PushRequest::images(&images).names([IMAGE, "empty.png"]).stream("one");
        client.push(push).await.expect("the push is good");
        let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
        let results = client.results("one", options).map(|result| result.expect("it is readable"));
        let mut results = tokio::time::timeout(LIMIT, results.collect::<Vec<_>>()).await.expect("the results in time");
        server.stop();
        results.sort_by_key(|result| result.frame);
        results.try_into().expect("a result for each image")
    }
}

/// Every object is found once, and nothing else is. Returns the least overlap.
fn finds_what_was_painted(detector: &str, found: &[Found], painted: &[Painted]) -> f64 {
    assert_eq!(found.len(), painted.len(), "{detector}: {found:#?}");
    let mut least = 1.0f64;
    for object in painted {
        let overlap = |one: &Found| if one.class == object.class { iou(&one.corners, &object.corners) } else { 0.0 };
        let best = found.iter().max_by(|a, b| overlap(a).total_cmp(&overlap(b))).expect("something was found");
        assert!(overlap(best) >= PAINTED_IOU_MIN, "{detector}: {object:?} is not found, but {found:#?}");
        least = least.min(overlap(best));
        assert_eq!(best.mask.is_some(), object.mask.is_some(), "{detector}: masks");
        if let (Some(drawn), Some(mask)) = (&best.mask, &object.mask) {
            let [x0, y0, x1, y1] = object.corners.map(|edge| edge as u32);
            let window = (drawn.x, drawn.y, drawn.width, drawn.height);
            let (whole, painted) = (on_canvas(window, &drawn.counts), on_canvas((x0, y0, x1 - x0, y1 - y0), mask));
            let wrong = whole.iter().zip(&painted).filter(|(one, other)| one != other).count() as f64;
            let pixels = f64::from((x1 - x0) * (y1 - y0));
            assert!(wrong <= (1.0 - PAINTED_PIXELS_MIN) * pixels, "{detector}: {wrong} of {pixels} of {object:?}");
        }
    }
    least
}

/// The image's pixels that are the object's.
fn on_canvas((x, y, width, height): (u32, u32, u32, u32), counts: &[u32]) -> Vec<bool> {
    const SIDE: usize = 1024;
    let mut canvas = vec![false; SIDE * SIDE];
    let values = counts.iter().enumerate().flat_map(|(index, run)| std::iter::repeat_n(index % 2 == 1, *run as usize));
    for (index, value) in values.enumerate() {
        let (column, row) = (x as usize + index / height as usize, y as usize + index % height as usize);
        assert!(index < (width * height) as usize && column < SIDE && row < SIDE);
        canvas[row * SIDE + column] = value;
    }
    canvas
}

/// Each object is the reference's. Returns the least overlap, and the largest difference of scores.
fn agrees_with_the_reference(found: &Findings, reference: &Findings) -> (f64, f64) {
    let matched = matched(found, reference, REFERENCE_IOU_MIN, SCORE_DIFFERENCE_MAX);
    assert!(matched.alone.is_empty(), "{}: {:#?}", found.detector, matched.alone);
    let (mut least, mut most) = (1.0f64, 0.0f64);
    for (_, one, other) in matched.pairs {
        least = least.min(iou(&one.corners, &other.corners));
        most = most.max((one.score - other.score).abs());
        let (Some(one), Some(other)) = (&one.mask, &other.mask) else {
            assert_eq!(one.mask, other.mask, "{}: masks", found.detector);
            continue;
        };
        let window = |mask: &framepipe_tests::findings::Mask| (mask.x, mask.y, mask.width, mask.height);
        assert_eq!(window(one), window(other), "{}", found.detector);
        let differing = f64::from(differing_pixels(&one.counts, &other.counts));
        let pixels = f64::from(one.width * one.height);
        assert!(differing <= PIXEL_SHARE_MAX * pixels, "{}: {differing} of {pixels}", found.detector);
    }
    (least, most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_of_real_architectures_find_what_was_painted() {
    let made = Made::new(&[]);
    for (detector, painted) in &made.painted() {
        let home = Home::new();
        let [result, empty] = made.push(&home, detector).await;
        let found = Findings::of_results(detector, vec![result]);
        let least = finds_what_was_painted(detector, &found.photos[0].detections, painted);
        let photos = [IMAGE.to_owned()];
        let out = home.path("reference.json");
        let reference = Findings::of_reference_in(made.folder.path(), &made.models(), detector, &[], &photos, &out);
        let (overlap, difference) = agrees_with_the_reference(&found, &reference);
        let empty = Findings::of_results(detector, vec![empty]);
        assert!(empty.photos[0].detections.is_empty(), "{detector}: {empty:#?}");
        println!(
            "{detector}: {} objects; least overlap with what was painted {least:.3}, with the reference's box \
             {overlap:.6}, largest difference of scores {difference:.1e}",
            painted.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masks_without_room_are_counted_and_more_rows_than_there_may_be_fail_their_frame_alone() {
    const DETECTOR: &str = "maskrcnn-resnet18-fpn";
    let made = Made::new(&["--only", DETECTOR]);
    made.change(DETECTOR, "mask_bytes_max = 65536", "mask_bytes_max = 1000");
    let [result, _] = made.push(&Home::new(), DETECTOR).await;
    let Some(Outcome::Detections(found)) = result.outcome else { panic!("{:?}", result.outcome) };
    let without = found.detections.iter().filter(|one| one.mask.is_none()).count();
    assert_eq!((found.detections.len(), found.masks_dropped as usize), (8, without));
    assert!((1..8).contains(&without), "{without} of 8 objects have no mask");

    made.change(DETECTOR, "count_max = 20", "count_max = 7");
    let [result, empty] = made.push(&Home::new(), DETECTOR).await;
    let Some(Outcome::Error(error)) = result.outcome else { panic!("{:?}", result.outcome) };
    assert_eq!(error.code(), ErrorCode::Inference);
    assert!(error.message.contains("[8, 4], more rows than those of [7, 4]"), "{}", error.message);
    assert!(matches!(empty.outcome, Some(Outcome::Detections(_))), "{:?}", empty.outcome);
}

/// Of the bare ONNX file `framepipe model add` makes a model that finds the same, once somebody has looked at what it could not
/// know; until then it is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_added_model_serves_once_it_is_finished() {
    const GRAPH: &str = "yolov8-exported";
    let made = Made::new(&["--only", GRAPH]);
    let home = Home::new();
    let labels = home.path("labels.txt");
    std::fs::write(&labels, "red\ngreen\n").expect("the test's own folder");
    let models = made.models();
    let config = home.configure(&format!("[pipeline]\ndetector = \"added\"\n[paths]\nmodels = {models:?}\n"));
    let framepipe = |arguments: &[&str]| {
        let output = Command::new(program()).args(arguments).arg("--config").arg(&config).output();
        let output = output.expect("framepipe can be run");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let file = models.join(GRAPH).join("1/model.onnx");
    let text = |path: &Path| path.to_str().expect("the tests' paths are UTF-8").to_owned();
    let add = ["model", "add", &text(&file), "--name", "added", "--labels", &text(&labels)];
    let (added, words) = framepipe(&add);
    assert!(added && words.contains("not served until") && words.contains("licence"), "{words}");
    let (started, words) = framepipe(&["up"]);
    assert!(!started && words.contains("is unfinished") && words.contains("input.graph"), "{words}");
    let path = models.join("added/1/manifest.toml");
    let manifest = std::fs::read_to_string(&path).expect("it was added");
    let (before, rest) = manifest.split_once("unfinished = [").expect("it is unfinished");
    let (_, after) = rest.split_once("]\n").expect("a list ends");
    std::fs::write(&path, format!("{before}{after}")).expect("it can be written");
    let [result, _] = made.push(&home, "added").await;
    let found = Findings::of_results("added", vec![result]);
    finds_what_was_painted("added", &found.photos[0].detections, &made.painted()[GRAPH]);
    let (added, words) = framepipe(&["model", "add", &text(&file), "--name", "added@1"]);
    assert!(!added && words.contains("give another version"), "{words}");
}
