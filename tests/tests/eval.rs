//! `framepipe eval`: its AP is pycocotools', and what it measures through the whole system is what accuracy.rs measures.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    process::{Command, Output},
};

use framepipe_accuracy::{Found, Labels, accuracy};
use framepipe_tests::{
    Home, Server,
    findings::{Findings, ap50, run_python_of},
    images::{Labelled, labelled},
    program, repository,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Largest difference of an AP from pycocotools'.
const AP_DIFFERENCE_MAX: f64 = 1e-6;

#[derive(Deserialize)]
struct Cases {
    detections: Vec<Detection>,
    ap: f64,
    ap50: f64,
    classes: Vec<Class>,
}

#[derive(Deserialize)]
struct Detection {
    image_id: usize,
    category_id: usize,
    bbox: [f64; 4],
    score: f64,
}

#[derive(Deserialize)]
struct Class {
    name: String,
    ap: f64,
    ap50: f64,
}

#[test]
fn ap_is_pycocotools_on_crowds_equal_scores_and_empty_classes() {
    for seed in 0..5 {
        let home = tempfile::tempdir().expect("a folder can be made");
        run_python_of("build/venv-opencv", "coco_ap.py", |command| {
            command.arg("--out").arg(home.path()).args(["--seed", &seed.to_string()]);
        });
        let cases: Cases = serde_json::from_slice(&fs::read(home.path().join("cases.json")).unwrap()).unwrap();
        let labels = Labels::read(&home.path().join("labels.json")).unwrap();
        let mut found: HashMap<String, Vec<Found>> = HashMap::new();
        for Detection { image_id, category_id, bbox: [left, top, width, height], score } in &cases.detections {
            let corners = [*left, *top, left + width, top + height];
            // As coco_ap.py numbers them.
            let one = Found { class: category_id - 3, score: *score, corners };
            found.entry(format!("{}.jpg", image_id / 7)).or_default().push(one);
        }
        let none = Vec::new();
        let of = |file: &String| found.get(file).unwrap_or(&none);
        let images: Vec<_> = labels.images.iter().map(|image| (&image.objects[..], &of(&image.file)[..])).collect();
        let here = accuracy(&images, labels.classes.len());
        let same = |name: &str, ap: Option<f64>, expected: f64| {
            let ap = ap.unwrap_or(-1.0);
            assert!((ap - expected).abs() <= AP_DIFFERENCE_MAX, "seed {seed}: AP of {name} is {ap}, {expected} there");
        };
        same("all", here.ap, cases.ap);
        same("all at 0.5", here.ap50, cases.ap50);
        for ((class, twin), name) in here.classes.iter().zip(&cases.classes).zip(&labels.classes) {
            assert_eq!(name, &twin.name);
            same(name, class.ap, twin.ap);
            same(name, class.ap50, twin.ap50);
        }
        println!("seed {seed}: {} detections, AP50 {:.4}, AP50:95 {:.4}", cases.detections.len(), cases.ap50, cases.ap);
        assert!(cases.detections.len() > 1000 && cases.ap > 0.03, "a draw that says little");
    }
}

/// The labelled people in COCO's form, a dog among them, and one image that is not there.
fn coco(photos: &[(Labelled, Vec<u8>)]) -> Value {
    let images = photos.iter().enumerate().map(|(id, (label, _))| json!({"id": id, "file_name": label.file}));
    let people = photos.iter().enumerate().flat_map(|(id, (label, _))| {
        label
            .person_xyxy
            .iter()
            .map(move |[x0, y0, x1, y1]| json!({"image_id": id, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}))
    });
    json!({
        "images": images.chain([json!({"id": 999, "file_name": "gone.jpg"})]).collect::<Vec<_>>(),
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        "annotations": people
            .chain([json!({"image_id": 0, "category_id": 2, "bbox": [0, 0, 9, 9]})])
            .collect::<Vec<_>>(),
    })
}

/// The same as a folder of VOC's XML, without the dog.
fn write_voc(photos: &[(Labelled, Vec<u8>)], folder: &Path) {
    fs::create_dir(folder).expect("a folder of the test's own");
    for (label, _) in photos {
        let mut text = format!("<annotation><filename>{}</filename>", label.file);
        for [x0, y0, x1, y1] in label.person_xyxy.iter() {
            let (xmin, ymin) = (x0 + 1.0, y0 + 1.0);
            text += &format!(
                "<object><name>person</name><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{x1}</xmax>\
                 <ymax>{y1}</ymax></bndbox></object>"
            );
        }
        fs::write(folder.join(format!("{}.xml", label.file)), text + "</annotation>").expect("it can be written");
    }
}

fn eval(config: &Path, labels: &Path, images: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg("eval").arg("--config").arg(config).arg("--labels").arg(labels).arg("--images").arg(images).args(more);
    command.output().expect("framepipe can be run")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_found_as_well_as_accuracy_rs_measures_it() {
    const DETECTOR: &str = "nanodet416-4c-int8";
    let home = Home::new();
    let photos = labelled();
    let pipeline = format!("[pipeline]\ndetector = {DETECTOR:?}\n");
    let config = home.configure(&pipeline);
    let (labels, folder) = (home.path("labels.json"), repository().join("photos"));
    fs::write(&labels, coco(&photos).to_string()).expect("it can be written");

    let output = eval(&config, &labels, &folder, &["--score", "0.05", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let person = &report["classes"][0];
    assert_eq!((report["images"].as_u64(), person["name"].as_str()), (Some(12), Some("person")));
    assert_eq!((person["objects"].as_u64(), report["missing_images"][0].as_str()), (Some(36), Some("gone.jpg")));
    assert_eq!(report["unknown_classes"], json!([{"name": "dog", "objects": 1}]));
    let said = words(&output);
    assert!(said.contains("1 of 13 labelled images are missing") && said.contains("dog (1)"), "{said}");

    // The same, by the tests' own means: the area under the whole curve, which 101 recalls come near to.
    let threshold = format!("{pipeline}score_threshold = 0.05\n");
    let server = Server::start(&home, &threshold).await;
    let named: Vec<_> = photos.iter().map(|(label, bytes)| (label.file.clone(), bytes.clone())).collect();
    let found = Findings::of_server(&server, DETECTOR, &named).await;
    server.stop();
    let truth: BTreeMap<&str, &[[f64; 4]]> =
        photos.iter().map(|(label, _)| (label.file.as_str(), label.person_xyxy.as_slice())).collect();
    let (ap, expected) = (report["ap50"].as_f64().expect("a number"), ap50(&truth, &found, "person"));
    println!("AP50 of person: {ap:.4} by eval, {expected:.4} here; AP50:95 {}", report["ap50_95"]);
    assert!((ap - expected).abs() <= 0.01, "AP50 is {ap} by eval, and {expected} here");
    assert!(ap >= 0.85 && report["ap50_95"].as_f64().expect("a number") < ap);

    // VOC's form of the same labels, as a table.
    let voc = home.path("voc");
    write_voc(&photos, &voc);
    let output = eval(&config, &voc, &folder, &["--score", "0.05"]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let table = String::from_utf8(output.stdout).expect("it prints UTF-8");
    let row = table.lines().find(|line| line.starts_with("person")).expect("a row of the class");
    assert_eq!(row.split_whitespace().nth(1), Some(format!("{ap:.3}").as_str()), "{table}");
    assert!(table.contains("3 classes of the detector have no labels"), "{table}");
}

#[test]
fn what_cannot_be_measured_is_said_before_a_pipeline_starts() {
    let home = Home::new();
    let config = home.configure("[pipeline]\ndetector = \"nanodet416-4c-int8\"\n");
    let (labels, photos) = (home.path("labels.json"), repository().join("photos"));
    let refused = |text: &str, images: &Path, more: &[&str], expected: &str| {
        fs::write(&labels, text).expect("it can be written");
        let output = eval(&config, &labels, images, more);
        let said = words(&output);
        assert!(output.status.code() == Some(1) && said.contains(expected), "{expected:?} is wanted in: {said}");
        assert!(!said.contains("listening"), "a pipeline was started: {said}");
    };
    let good = json!({
        "images": [{"id": 1, "file_name": "bus.jpg"}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}],
    })
    .to_string();
    refused(&good[..good.len() / 2], &photos, &[], "COCO's JSON");
    refused(&good.replace("person", "unicorn"), &photos, &[], "the detector has none of the labels' classes (unicorn)");
    refused(&good.replace("bus.jpg", "gone.jpg"), &photos, &[], "has none of the 1 labelled images");
    refused(&good.replace("[0,0,9,9]", "[0,0,-9,9]"), &photos, &[], "-9 wide");
    refused(&good, &home.path("nowhere"), &[], "is no folder");
    refused(&good, &photos, &["--score", "1.5"], "give a number from 0 to below 1");
}

#[test]
fn an_image_that_cannot_be_processed_is_named_and_nothing_counts_as_found_in_it() {
    let home = Home::new();
    let config = home.configure("[pipeline]\ndetector = \"nanodet416-4c-int8\"\n");
    let folder = home.path("images");
    fs::create_dir(&folder).expect("a folder of the test's own");
    fs::write(folder.join("broken.jpg"), b"no image").expect("it can be written");
    fs::write(folder.join("empty.jpg"), b"").expect("it can be written");
    let images = json!([{"id": 1, "file_name": "broken.jpg"}, {"id": 2, "file_name": "empty.jpg"}]);
    let object = json!({"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]});
    let labels = json!({"images": images, "categories": [{"id": 1, "name": "person"}], "annotations": [object]});
    fs::write(folder.join("labels.json"), labels.to_string()).expect("it can be written");
    let output = eval(&config, &folder.join("labels.json"), &folder, &["--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let failed = report["failed_images"].as_array().expect("a list");
    assert_eq!((failed.len(), report["ap50"].as_f64()), (2, Some(0.0)), "{report:#}");
}
