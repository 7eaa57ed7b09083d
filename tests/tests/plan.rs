//! `framepipe plan`: what it says without measuring; and that what it measures is a pipeline, which it takes down again, also when it
//! is interrupted or killed.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use framepipe_tests::{Home, chaos::processes_left, images::photo, program, repository, wait_for, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

const STREET: &str = "[pipeline]\ndetector = \"nanodet416-4c-int8\"\n";
/// Quick to start.
const TINY: &str = "[pipeline]\ndetector = \"tiny-face-416\"\n";
const DISCLAIMER: &str = "a model, not a measurement: ";
/// For a pipeline to come up, or to end.
const LIMIT: Duration = Duration::from_secs(120);

fn command(home: &Home, config: &str, arguments: &[&str]) -> Command {
    let config = home.configure(config);
    let mut command = Command::new(program());
    command.arg("plan").arg("--config").arg(config).args(arguments);
    command.current_dir(home.temporary()).env("TMPDIR", home.temporary());
    command
}

fn plan(home: &Home, config: &str, arguments: &[&str]) -> Output {
    command(home, config, arguments).output().expect("framepipe can be run")
}

/// The entries of a folder; ONNX Runtime keeps a session's id in the one for temporary files.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| !path.ends_with(".ses")).collect()
}

/// Neither process nor segment, neither file nor folder is left of what was measured.
fn assert_nothing_is_left(home: &Home) {
    assert_eq!(processes_left(home), Vec::<u32>::new());
    assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new(), "in the folder of segments, or in the inbox");
    assert_eq!(entries(&home.temporary()), Vec::<PathBuf>::new());
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
        let options = format!(" --profile throughput --cores {cores} --ingest 1 ");
        assert!(up.starts_with("framepipe up --config ") && up.contains(&options), "{up}");
        (said["fps"].as_f64().expect("a number"), said["binds"].as_str().map(str::to_owned))
    };
    let ((one, binds), (sixteen, _)) = (fps("1"), fps("16"));
    assert_eq!(binds.as_deref(), Some("cores"));
    // A little more than 16 times as many: what keeper and launcher use, they use once.
    assert!(one > 1.0 && sixteen > 8.0 * one && sixteen <= 16.1 * one, "{one} and {sixteen}");

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
fn what_it_measures_it_saves_and_checks_and_nothing_is_left_of_it() {
    let home = Home::new();
    let image = ["--image", "raw", "--seconds", "1", "--cores", "1"];
    let costs = home.path("costs.toml");
    let costs = costs.to_str().expect("the tests' paths are UTF-8");
    let measured = json(&home, TINY, &[&image[..], &["--measure", "--save", costs]].concat());
    assert!(measured["check"].is_null() && measured["fps"].as_f64() > Some(0.0), "{measured}");
    assert_nothing_is_left(&home);
    let saved: toml::Table = fs::read_to_string(costs).expect("it was saved").parse().expect("it is TOML");
    let entry = &saved["pipelines"][0];
    assert_eq!(entry["detector"].as_str(), Some("tiny-face-416"), "{saved}");
    assert!(
        entry["machine"].is_str() && entry["date"].is_str() && entry["upkeep_cores"]["launcher"].is_float(),
        "{saved}"
    );
    let checked = json(&home, TINY, &[&image[..], &["--costs", costs, "--check"]].concat());
    assert_eq!(checked["fps"], measured["fps"]);
    // How near it is, is a quiet machine's to say: scripts/bench-plan.
    assert!(checked["check"]["fps"].as_f64() > Some(0.0) && checked["check"]["error"].is_number(), "{checked}");
    assert_nothing_is_left(&home);
}

#[test]
fn what_is_interrupted_or_killed_takes_the_pipeline_down_and_no_frame_lies_in_the_inbox() {
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let home = Home::new();
        let mut command = command(&home, TINY, &["--image", "raw", "--seconds", "600", "--cores", "1", "--measure"]);
        // A group, to which a terminal sends Ctrl-C.
        let mut running = command.process_group(0).stdout(Stdio::null()).spawn().expect("framepipe can be run");
        let is_inbox = |path: &PathBuf| path.to_string_lossy().contains("framepipe-plan-inbox-");
        let own_inbox = || entries(&home.shm()).into_iter().find(is_inbox);
        wait_until("frames to be pushed", LIMIT, || own_inbox().is_some_and(|inbox| !entries(&inbox).is_empty()));
        assert_eq!(entries(&home.inbox()), Vec::<PathBuf>::new(), "the inbox of the configuration");
        assert!(!processes_left(&home).is_empty());
        let group = i32::try_from(running.id()).expect("a pid");
        let whom = if signal == Signal::SIGINT { -group } else { group };
        kill(Pid::from_raw(whom), signal).expect("it runs");
        let ended = wait_for("its end", LIMIT, || running.try_wait().expect("it can be waited for"));
        assert!(!ended.success());
        wait_until("the pipeline's end", LIMIT, || processes_left(&home).is_empty());
        if signal == Signal::SIGINT {
            assert_eq!(ended.code(), Some(1));
            assert_nothing_is_left(&home);
        }
        // What is killed cannot remove its own folders.
        let segments: Vec<_> = entries(&home.shm()).into_iter().filter(|path| !is_inbox(path)).collect();
        assert_eq!(segments, Vec::<PathBuf>::new());
        assert_eq!(entries(&home.inbox()), Vec::<PathBuf>::new());
    }
}
