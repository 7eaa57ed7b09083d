//! `framepipe model quantize` on models that a user could have added: an INT8 model comes of it that agrees with the float one and
//! is served, or nothing does.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use framepipe_tests::{Home, findings::run_python, program, repository};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// YOLOv8 with its boxes and scores in one tensor, of which one 8-bit scale for both leaves no score.
const DETECTOR: &str = "yolov8-exported";

/// A repository of a test's own, images, and the configuration that names the repository.
struct Workplace {
    home: Home,
    config: PathBuf,
}

impl Workplace {
    /// With a detector and so many painted images.
    fn painted(count: usize) -> Self {
        let home = Home::new();
        let made = home.path("made");
        fs::create_dir(&made).expect("the folder can be made");
        run_python("painted.py", |command| {
            command.arg("--out").arg(&made).args(["--only", DETECTOR, "--images", &count.to_string()]);
        });
        Self::new(home, DETECTOR)
    }

    fn new(home: Home, detector: &str) -> Self {
        let models = home.path("made").join("models");
        let config = home.configure(&format!("[pipeline]\ndetector = {detector:?}\n[paths]\nmodels = {models:?}\n"));
        Self { home, config }
    }

    fn models(&self) -> PathBuf {
        self.home.path("made").join("models")
    }

    fn images(&self) -> PathBuf {
        self.home.path("made").join("images")
    }

    fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("model").args(verb).arg("--config").arg(&self.config).current_dir(repository());
        command.env("TMPDIR", self.home.temporary());
        command
    }

    fn run(&self, verb: &[&str]) -> Output {
        self.command(verb).output().expect("framepipe can be run")
    }

    fn quantize(&self, model: &str, images: &Path, more: &[&str]) -> Output {
        self.command(&["quantize", model])
            .arg("--images")
            .arg(images)
            .args(more)
            .output()
            .expect("framepipe can be run")
    }

    fn report(&self, name: &str) -> Value {
        let text = fs::read(self.models().join(name).join("1/report.json")).expect("it has a report");
        serde_json::from_slice(&text).expect("it is JSON")
    }

    /// Every file of the repository, hidden ones too.
    fn files(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        let mut pending = vec![self.models()];
        while let Some(folder) = pending.pop() {
            for entry in fs::read_dir(folder).expect("it can be read") {
                let path = entry.expect("it can be read").path();
                if path.is_dir() {
                    pending.push(path.clone());
                }
                files.insert(path);
            }
        }
        files
    }
}

fn said(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("it prints UTF-8")
}

fn refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is wanted in: {said}");
    }
}

#[test]
fn a_users_detector_becomes_int8_and_can_be_served_and_its_report_has_every_trial() {
    let place = Workplace::painted(260);
    let words = said(&place.quantize(DETECTOR, &place.images(), &[]));
    assert!(words.contains("yolov8-exported-int8@1") && words.contains("ap50"), "{words}");
    let report = place.report("yolov8-exported-int8");
    assert!(report["agreement"].as_f64().expect("a number") >= 0.97, "{report:#}");
    assert_eq!((&report["measure"], &report["passed"]), (&"ap50".into(), &true.into()));
    assert_eq!((&report["images"], &report["inputs"]), (&260.into(), &208.into()));
    let classes = report["outputs"]["detections"]["classes"].as_object().expect("a table");
    let boxes = |class: &str| classes[class]["boxes"].as_u64().expect("a number");
    assert!(boxes("red") > 208 && boxes("green") > 208, "what was painted is found: {report:#}");
    let trials = report["trials"].as_array().expect("a list");
    let agreement = |trial: &&Value| trial["agreement"].as_f64().expect("a number");
    let whole: Vec<&Value> = trials.iter().filter(|trial| trial["left_float"] == "nothing").collect();
    assert!(whole.len() >= 3 && whole.iter().all(|trial| agreement(trial) < 0.97), "boxes leave no score: {report:#}");
    let methods: BTreeSet<_> = trials.iter().map(|trial| trial["calibration"].to_string()).collect();
    assert_eq!(methods.len(), 3, "{methods:?}");

    assert!(said(&place.run(&["check", "--all"])).contains("yolov8-exported-int8@1: good"));
    let rows: Value = serde_json::from_str(&said(&place.run(&["list", "--json"]))).expect("it prints JSON");
    let row = rows.as_array().expect("a list").iter().find(|row| row["name"] == "yolov8-exported-int8");
    let row = row.expect("it is listed");
    assert_eq!((&row["precision"], &row["servable"]), (&"int8".into(), &true.into()));
    refused(&place.quantize("yolov8-exported-int8", &place.images(), &[]), &["is an INT8 model already"]);
}

#[test]
#[ignore = "a minute or more of one core: scripts/check --full"]
fn few_images_are_refused_and_by_force_they_are_said_to_be_few() {
    let place = Workplace::painted(30);
    let before = place.files();
    fs::write(place.images().join("broken.png"), "no image").expect("it can be written");
    refused(&place.quantize(DETECTOR, &place.images(), &[]), &["24 for the gate", "250", "--force yolov8-exported"]);
    refused(&place.quantize(DETECTOR, &place.images(), &["--force", "another"]), &["is not the model"]);
    let none = place.home.path("none");
    fs::create_dir(&none).expect("the folder can be made");
    refused(&place.quantize(DETECTOR, &none, &[]), &["holds no image", ".jpg"]);
    refused(&place.quantize("nobody", &none, &[]), &["nobody"]);
    assert_eq!(place.files(), before);

    let output = place.quantize(DETECTOR, &place.images(), &["--force", DETECTOR]);
    said(&output);
    let warnings = String::from_utf8_lossy(&output.stderr);
    assert!(warnings.contains("broken.png is left out"), "{warnings}");
    assert_eq!(warnings.matches("not to be relied on").count(), 1, "{warnings}");
    let manifest =
        fs::read_to_string(place.models().join("yolov8-exported-int8/1/manifest.toml")).expect("it is there");
    assert!(manifest.contains("forced = true"), "{manifest}");

    said(&place.quantize(DETECTOR, &place.images(), &["--force", DETECTOR]));
    let graph = |version: &str| {
        let path = place.models().join("yolov8-exported-int8").join(version).join("model.onnx");
        fs::read(path).expect("it is there")
    };
    assert!(graph("1") == graph("2"), "the same images give the same model");
}

#[test]
fn what_cannot_be_written_is_refused_before_the_search() {
    let place = Workplace::painted(30);
    let before = place.files();
    let forced = |more: &[&str]| {
        let output = place.quantize(DETECTOR, &place.images(), &[&["--force", DETECTOR], more].concat());
        assert!(!String::from_utf8_lossy(&output.stderr).contains("calibrating"), "{output:#?}");
        output
    };
    refused(
        &forced(&["--report", "/nowhere/report.json"]),
        &["--report /nowhere/report.json", "a folder that is there"],
    );
    let taken = place.models().join("yolov8-exported-int8/3");
    fs::create_dir_all(&taken).expect("the folder can be made");
    refused(&forced(&["--out-version", "3"]), &["has a version 3", "--out-version"]);
    fs::remove_dir_all(taken.parent().expect("it has one")).expect("it can be removed");

    let manifest = place.models().join(DETECTOR).join("1/manifest.toml");
    let text = fs::read_to_string(&manifest).expect("it is there");
    fs::write(&manifest, text.replacen("name =", "\"name\" =", 1)).expect("it can be written");
    refused(&forced(&[]), &["manifest.toml", "one line `name = ...`"]);
    assert_eq!(place.files(), before);
}

#[test]
#[ignore = "a minute or more of one core: scripts/check --full"]
fn a_model_for_tensorrt_is_symmetric_and_no_cpu_serves_it() {
    let place = Workplace::painted(30);
    said(&place.quantize(DETECTOR, &place.images(), &["--target", "tensorrt", "--force", DETECTOR]));
    let report = place.report("yolov8-exported-int8");
    assert!(report["agreement"].as_f64().expect("a number") >= 0.97 && report["speed"].is_null(), "{report:#}");
    refused_by_check(&place.run(&["check", "yolov8-exported-int8"]));
}

fn refused_by_check(output: &Output) {
    let words = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("tensorrt") && words.contains("--target cpu"), "{words}");
}

#[test]
fn ctrl_c_leaves_nothing() {
    let place = Workplace::painted(30);
    let before = place.files();
    let mut command = place.command(&["quantize", DETECTOR, "--force", DETECTOR]);
    let mut child = command.arg("--images").arg(place.images()).stderr(Stdio::piped()).spawn().expect("it can be run");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let begun = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("(calibration)")));
    assert!(begun.is_some(), "the search begins");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("it lives");
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{rest:#?}");
    assert!(rest.iter().any(|line| line.contains("nothing was changed")), "{rest:#?}");
    assert_eq!(place.files(), before);
    let left: Vec<_> = fs::read_dir(place.home.temporary()).expect("it can be read").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
#[ignore = "a minute or more of one core: scripts/check --full"]
fn an_attribute_model_sees_what_a_detector_finds() {
    let home = Home::new();
    let models = home.path("made").join("models");
    fs::create_dir_all(&models).expect("the folder can be made");
    for name in ["face-age-gender", "tiny-face-416", "nanodet416-4c-int8"] {
        symlink(repository().join("models").join(name), models.join(name)).expect("the link can be made");
    }
    let place = Workplace::new(home, "tiny-face-416");
    let photos = repository().join("photos");
    let wrong = place.quantize("face-age-gender", &photos, &["--boxes", "nanodet416-4c-int8"]);
    refused(&wrong, &["describes face", "finds person"]);
    refused(&place.quantize("tiny-face-416", &photos, &["--boxes", "tiny-face-416"]), &["leave out --boxes"]);

    let report = place.home.path("report.json");
    let words = report.to_str().expect("it is UTF-8");
    let more = ["--boxes", "tiny-face-416", "--force", "face-age-gender", "--report", words];
    let output = place.quantize("face-age-gender", &photos, &more);
    let mut text = String::new();
    let opened = fs::File::open(&report).unwrap_or_else(|error| panic!("{error}: {output:#?}"));
    BufReader::new(opened).read_to_string(&mut text).expect("it can be read");
    let report: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(report["outputs"]["age"]["measure"], "within", "{report:#}");
    assert_eq!(report["outputs"]["gender"]["measure"], "top1", "{report:#}");
    let (inputs, images) = (report["inputs"].as_u64().expect("a number"), report["images"].as_u64().expect("a number"));
    assert!(inputs > images, "photos have several faces: {report:#}");
}
