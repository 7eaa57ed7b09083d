//! What was found in photos, as tests/reference writes and reads it, and how two findings are compared.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use framepipe_client::{FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _, Value};
use serde::{Deserialize, Serialize};

use crate::{Server, repository};

/// Photos of one push.
const BATCH: usize = 16;
/// For all photos' results.
const RESULTS_WAIT: Duration = Duration::from_secs(300);

/// What was found in some photos.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Findings {
    /// The detector's name.
    pub detector: String,
    /// Each photo.
    pub photos: Vec<Photo>,
}

/// What was found in one photo.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Photo {
    /// Its file's name.
    pub file: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Highest score first.
    pub detections: Vec<Found>,
}

/// One object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// (x1, y1, x2, y2), in pixels of the upright photo.
    #[serde(rename = "box")]
    pub corners: [f64; 4],
    /// Index of its class.
    pub class: u32,
    /// Name of its class.
    pub label: String,
    /// 0 to 1.
    pub score: f64,
    /// What the attribute models said of it.
    pub attributes: Vec<Said>,
    /// Its pixels, of a detector that draws them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Mask>,
}

/// Which pixels are an object's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Run lengths.
    pub counts: Vec<u32>,
}

/// What an attribute model said: a label, a number, a vector or points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// The model's name.
    pub model: String,
    /// The attribute's name.
    pub name: String,
    /// Of a class: its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Of a class: its score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Of a quantity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<f64>,
    /// Of an embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vec<f64>>,
    /// Of keypoints: x, y and a score each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points: Option<Vec<[f64; 3]>>,
}

impl Findings {
    /// Runs tests/reference/reference.py over photos of the repository.
    pub fn of_reference(models: &Path, detector: &str, arguments: &[&str], photos: &[String], out: &Path) -> Self {
        let folder = repository().join("photos");
        Self::of_reference_in(&folder, models, detector, arguments, photos, out)
    }

    /// The same, over photos of a folder.
    pub fn of_reference_in(
        folder: &Path,
        models: &Path,
        detector: &str,
        arguments: &[&str],
        photos: &[String],
        out: &Path,
    ) -> Self {
        run_python("reference.py", |command| {
            command.arg("--models").arg(models).args(["--detector", detector]).arg("--out").arg(out).args(arguments);
            command.args(photos.iter().map(|photo| folder.join(photo)));
        });
        let text = std::fs::read(out).expect("the reference wrote its results");
        serde_json::from_slice(&text).expect("the reference writes JSON")
    }

    /// Pushes the photos in batches and collects what the pipeline finds in them.
    ///
    /// # Panics
    /// When a push fails, or not all results come in time.
    pub async fn of_server(server: &Server, detector: &str, photos: &[(String, Vec<u8>)]) -> Self {
        let client = server.client();
        for batch in photos.chunks(BATCH) {
            let names = batch.iter().map(|(file, _)| file.as_str());
            let images = batch.iter().map(|(_, bytes)| bytes);
            client.push(PushRequest::images(images).names(names).stream("photos")).await.expect("the push is good");
        }
        let all = async {
            let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
            client.results("photos", options).map(|result| result.expect("it is readable")).collect::<Vec<_>>().await
        };
        let results = tokio::time::timeout(RESULTS_WAIT, all).await.expect("all results in time");
        assert_eq!(results.len(), photos.len());
        Self::of_results(detector, results)
    }

    /// What the product found, in the order of the frames.
    pub fn of_results(detector: &str, mut results: Vec<FrameResult>) -> Self {
        results.sort_by_key(|result| result.frame);
        Self { detector: detector.to_owned(), photos: results.into_iter().map(Photo::of_result).collect() }
    }
}

impl Photo {
    fn of_result(result: FrameResult) -> Self {
        let found = match result.outcome {
            Some(Outcome::Detections(found)) => found,
            other => panic!("{}: {other:?}", result.name),
        };
        // Detections may be cut off: the reference keeps to the same limit.
        assert_eq!(found.crops_dropped, 0, "{}: objects without attributes", result.name);
        let detections = found.detections.into_iter().map(|one| {
            let corners = one.r#box.expect("a detection has a box");
            Found {
                corners: [corners.x0, corners.y0, corners.x1, corners.y1].map(f64::from),
                class: one.class_index,
                label: one.label,
                score: one.score.into(),
                attributes: one.attributes.into_iter().map(Said::of_attribute).collect(),
                mask: one.mask.map(|mask| Mask {
                    x: mask.x,
                    y: mask.y,
                    width: mask.width,
                    height: mask.height,
                    counts: mask.counts,
                }),
            }
        });
        Self {
            detections: detections.collect(),
            file: result.name,
            width: found.image_width,
            height: found.image_height,
        }
    }
}

impl Said {
    fn of_attribute(one: framepipe_client::Attribute) -> Self {
        let (model, name) = (one.model, one.name);
        let mut said = Self { model, name, label: None, score: None, number: None, vector: None, points: None };
        match one.value.expect("an attribute has a value") {
            Value::Classification(class) => (said.label, said.score) = (Some(class.label), Some(class.score.into())),
            Value::Number(number) => said.number = Some(number.into()),
            Value::Text(line) => (said.label, said.score) = (Some(line.text), Some(line.score.into())),
            Value::Keypoints(found) => {
                let points = found.points.iter().map(|point| [point.x, point.y, point.score].map(f64::from));
                said.points = Some(points.collect());
            }
            other @ Value::Classifications(_) => panic!("no model here says {other:?}"),
            Value::Embedding(embedding) => said.vector = Some(embedding.values.into_iter().map(f64::from).collect()),
        }
        said
    }
}

/// Runs a program of tests/reference and returns what it printed.
pub fn run_python(program: &str, arguments: impl FnOnce(&mut Command)) -> String {
    run_python_of("build/venv", program, arguments)
}

/// The same, in another environment than the reference's.
pub fn run_python_of(environment: &str, program: &str, arguments: impl FnOnce(&mut Command)) -> String {
    let python = repository().join(environment).join("bin/python");
    assert!(python.exists(), "{} is missing: run scripts/setup --tests", python.display());
    let mut command = Command::new(&python);
    command.arg(repository().join("tests/reference").join(program)).stderr(Stdio::inherit());
    arguments(&mut command);
    let output = command.output().expect("Python can be run");
    assert!(output.status.success(), "{program} ended with {}", output.status);
    String::from_utf8(output.stdout).expect("Python prints UTF-8")
}

/// Pixels that are an object's by one mask's runs and not by the other's; all, where they are of different sizes.
pub fn differing_pixels(one: &[u32], other: &[u32]) -> u32 {
    let pixels = |runs: &[u32]| -> Vec<bool> {
        let runs = runs.iter().enumerate();
        runs.flat_map(|(index, run)| std::iter::repeat_n(index % 2 == 1, *run as usize)).collect()
    };
    let (one, other) = (pixels(one), pixels(other));
    if one.len() != other.len() {
        return one.len().max(other.len()) as u32;
    }
    one.iter().zip(&other).filter(|(one, other)| one != other).count() as u32
}

/// Intersection over union of two boxes.
pub fn iou(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let area = |of: &[f64; 4]| (of[2] - of[0]) * (of[3] - of[1]);
    let across = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let down = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let shared = across * down;
    shared / (area(a) + area(b) - shared).max(1e-9)
}

/// AP50 of one class: VOC's all-point interpolation at IoU 0.5. `truth` has each photo's labelled boxes.
pub fn ap50(truth: &BTreeMap<&str, &[[f64; 4]]>, findings: &Findings, label: &str) -> f64 {
    let mut detections: Vec<(&str, &Found)> = findings
        .photos
        .iter()
        .flat_map(|photo| photo.detections.iter().map(|found| (photo.file.as_str(), found)))
        .filter(|(_, found)| found.label == label)
        .collect();
    detections.sort_by(|a, b| b.1.score.total_cmp(&a.1.score));
    let mut taken: BTreeMap<&str, Vec<bool>> =
        truth.iter().map(|(file, boxes)| (*file, vec![false; boxes.len()])).collect();
    let labelled: usize = truth.values().map(|boxes| boxes.len()).sum();
    // Precision and recall after each detection.
    let (mut hits, mut curve) = (0, Vec::with_capacity(detections.len()));
    for (place, (file, found)) in detections.iter().enumerate() {
        let overlaps = truth[file].iter().map(|labelled| iou(&found.corners, labelled)).enumerate();
        let best = overlaps.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, overlap)| *overlap >= 0.5);
        if let Some((labelled, _)) = best
            && let Some(taken) = taken.get_mut(file)
            && !std::mem::replace(&mut taken[labelled], true)
        {
            hits += 1;
        }
        curve.push((f64::from(hits) / (place + 1) as f64, f64::from(hits) / labelled as f64));
    }
    // The area under the curve whose precision is the best that is still to come.
    let (mut area, mut best, mut recall) = (0.0, 0.0f64, curve.last().map_or(0.0, |last| last.1));
    for (precision, recall_before) in curve
        .iter()
        .enumerate()
        .rev()
        .map(|(place, (precision, _))| (*precision, if place == 0 { 0.0 } else { curve[place - 1].1 }))
    {
        best = best.max(precision);
        area += (recall - recall_before) * best;
        recall = recall_before;
    }
    area
}

/// Objects of two findings of the same photos that are the same one, and how many of either side have no partner.
pub struct Matched<'f> {
    /// Photo, object here, object there.
    pub pairs: Vec<(&'f str, &'f Found, &'f Found)>,
    /// Objects without a partner, with their photo.
    pub alone: Vec<(&'f str, &'f Found)>,
}

/// Pairs the objects of each photo and class greedily, the best overlap first: those that overlap by `iou_min` at least
/// and whose scores differ by `score_max` at most.
pub fn matched<'f>(here: &'f Findings, there: &'f Findings, iou_min: f64, score_max: f64) -> Matched<'f> {
    let mut matched = Matched { pairs: Vec::new(), alone: Vec::new() };
    assert_eq!(here.photos.len(), there.photos.len(), "the same photos");
    for photo in &here.photos {
        let other = there.photos.iter().find(|other| other.file == photo.file).expect("the same photos");
        assert_eq!((photo.width, photo.height), (other.width, other.height), "{}", photo.file);
        let mut candidates = Vec::new();
        for (mine, found) in photo.detections.iter().enumerate() {
            for (theirs, twin) in other.detections.iter().enumerate() {
                let overlap = iou(&found.corners, &twin.corners);
                if found.class == twin.class && overlap >= iou_min && (found.score - twin.score).abs() <= score_max {
                    candidates.push((overlap, mine, theirs));
                }
            }
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut mine_left, mut theirs_left) = (vec![true; photo.detections.len()], vec![true; other.detections.len()]);
        for (_, mine, theirs) in candidates {
            if mine_left[mine] && theirs_left[theirs] {
                (mine_left[mine], theirs_left[theirs]) = (false, false);
                matched.pairs.push((&photo.file, &photo.detections[mine], &other.detections[theirs]));
            }
        }
        for (left, detections) in [(mine_left, &photo.detections), (theirs_left, &other.detections)] {
            let alone = left.iter().zip(detections).filter(|(left, _)| **left);
            matched.alone.extend(alone.map(|(_, found)| (photo.file.as_str(), found)));
        }
    }
    matched
}
