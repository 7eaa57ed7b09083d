//! `framepipe plan`: what it says without measuring; and that what it measures is a pipeline, which it takes down again.

use std::{
    fs,
    process::{Command, Output},
};

use framepipe_tests::{Home, images::photo, program, repository};
use serde_json::Value;

const STREET: &str = "[pipeline]\ndetector = \"nanodet416-4c-int8\"\n";
const DISCLAIMER: &str = "a model, not a measurement: ";

fn plan(home: &Home, config: &str, arguments: &[&str]) -> Output {
    let config = home.configure(config);
    let mut command = Command::new(program());
    command.arg("plan").arg("--config").arg(config).args(arguments).current_dir(home.temporary());
    command.output().expect("framepipe can be run")
}

fn json(home: &Home, config: &str, arguments: &[&str]) -> Value {
    let output = plan(home, config, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

fn error(home: &Home, config: &str, arguments: &[&str]) -> String {
    let output = plan(home, config, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    said
}

#[test]
fn more_cores_are_more_frames_and_it_always_says_that_it_is_a_model() {
    let home = Home::new();
    let fps = |cores: &str| {
        let said = json(&home, STREET, &["--cores", cores]);
        assert!(said["model"].as_str().is_some_and(|words| words.starts_with(DISCLAIMER)), "{said}");
        let up = said["up"].as_str().expect("a command");
        assert!(
            up.starts_with("framepipe up --config ") && up.contains(&format!(" --cores {cores} --ingest 1 ")),
            "{up}"
        );
        (said["fps"].as_f64().expect("a number"), said["binds"].as_str().map(str::to_owned))
    };
    let ((one, binds), (sixteen, _)) = (fps("1"), fps("16"));
    assert_eq!(binds.as_deref(), Some("cores"));
    assert!(one > 1.0 && sixteen > 8.0 * one && sixteen <= 16.0 * one * (1.0 + 1e-9), "{one} and {sixteen}");

    let output = plan(&home, STREET, &["--cores", "16"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("expected ") && said.contains(DISCLAIMER) && said.contains("\nframepipe up --config "),
        "{said}"
    );
    for stage in ["ingest", "preprocess", "detect", "postprocess", "attribute", "gateway"] {
        assert!(said.contains(&format!("\n{stage} ")), "{said}");
    }
}

#[test]
fn larger_pictures_cost_more_and_a_file_is_known_by_its_bytes() {
    let home = Home::new();
    let fps = |image: &str| json(&home, STREET, &["--cores", "4", "--image", image])["fps"].as_f64().expect("a number");
    assert!(fps("720p") > fps("4k"));
    fs::write(home.path("a photo.jpg"), photo("zidane.jpg")).expect("the test's own folder");
    let path = home.path("a photo.jpg");
    let said = json(&home, STREET, &["--image", path.to_str().expect("the tests' paths are UTF-8")]);
    assert_eq!((said["image"]["width"].as_u64(), said["image"]["height"].as_u64()), (Some(1280), Some(720)));
    assert_eq!(said["image"]["bytes"].as_u64(), Some(photo("zidane.jpg").len() as u64));
}

#[test]
fn a_gpu_that_was_never_measured_is_said_to_be_so() {
    let home = Home::new();
    let paper = fs::read_to_string(repository().join("config/paper.toml")).expect("the repository's own");
    // The test's own folders stand where its paths would.
    let config = format!("{}\n", paper.lines().filter(|line| !line.starts_with("name")).collect::<Vec<_>>().join("\n"));
    let said = |gpu: &str| json(&home, &config, &["--cores", "16", "--image", "raw", "--crops", "2", "--gpu", gpu]);
    let (h200, t4) = (said("h200"), said("t4"));
    assert!(t4["model"].as_str().is_some_and(|words| words.contains("never measured")), "{t4}");
    assert!(!h200["model"].as_str().expect("words").contains("never measured"), "{h200}");
    assert_eq!((t4["binds"].as_str(), h200["binds"].as_str()), (Some("gpu"), Some("gpu")));
    assert!(h200["fps"].as_f64() > t4["fps"].as_f64());
    assert!(t4["up"].as_str().expect("a command").ends_with(" --device gpu --mps auto"));
}

#[test]
fn what_is_not_known_or_cannot_be_is_said_with_what_to_do() {
    let home = Home::new();
    let unknown = "[pipeline]\ndetector = \"nanodet416-4c-fp32\"\n";
    let said = error(&home, unknown, &[]);
    assert!(said.contains("nanodet416-4c-fp32") && said.contains("--measure") && said.contains("--costs"), "{said}");
    let said = error(&home, unknown, &["--gpu", "t4"]);
    assert!(said.contains("nanodet416-4c-fp32") && said.contains("jpeg"), "{said}");
    let said = error(&home, unknown, &["--gpu", "t4", "--image", "raw"]);
    assert!(said.contains("nanodet416-4c-fp32") && said.contains("gpu-accept"), "{said}");
    assert!(error(&home, STREET, &["--crops", "2"]).contains("no attribute models"));
    assert!(error(&home, STREET, &["--image", "absent.jpg"]).contains("absent.jpg"));
    assert!(error(&home, STREET, &["--measure"]).contains("--photo"), "there are no photos where it is started");
    assert!(error(&home, STREET, &["--measure", "--measure-cores", "4096"]).contains("4096"));
    assert!(error(&home, STREET, &["--check", "--cores", "4096"]).contains("4096"));
    assert!(error(&home, STREET, &["--costs", "absent.toml"]).contains("absent.toml"));
    let text = home.path("text.txt");
    fs::write(&text, "no picture").expect("the test's own folder");
    let said = error(&home, STREET, &["--image", text.to_str().expect("the tests' paths are UTF-8")]);
    assert!(said.contains("text.txt"), "{said}");
}

#[test]
fn what_it_measures_it_saves_and_checks() {
    let home = Home::new();
    let config = "[pipeline]\ndetector = \"tiny-face-416\"\n";
    let image = ["--image", "raw", "--seconds", "1", "--cores", "1"];
    let costs = home.path("costs.toml");
    let costs = costs.to_str().expect("the tests' paths are UTF-8");
    let measured = json(&home, config, &[&image[..], &["--measure", "--save", costs]].concat());
    assert!(measured["check"].is_null() && measured["fps"].as_f64() > Some(0.0), "{measured}");
    let saved = fs::read_to_string(costs).expect("it was saved");
    assert!(saved.contains("tiny-face-416"), "{saved}");
    let checked = json(&home, config, &[&image[..], &["--costs", costs, "--check"]].concat());
    assert_eq!(checked["fps"], measured["fps"]);
    // How near it is, is a quiet machine's to say: scripts/bench-plan.
    assert!(checked["check"]["fps"].as_f64() > Some(0.0) && checked["check"]["error"].is_number(), "{checked}");
}
