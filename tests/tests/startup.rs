//! What hinders a start is said at once, with the value and what to do about it, and leaves nothing behind.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use framepipe_tests::{Home, Server, program, repository};

const CONFIG: &str = "[pipeline]\ndetector = \"tiny-face-416\"\n";

fn framepipe(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().expect("framepipe can be run")
}

/// Runs `framepipe up`, which must fail with status 1 and these words on standard error.
fn fails_to_start(home: &Home, config: &str, words: &[&str]) {
    let path = home.configure(config);
    let output = framepipe(&["up", "--config", path.to_str().expect("the tests' paths are UTF-8")]);
    check_failure(&output, words);
    assert_eq!(home.left_in_memory(), Vec::<std::path::PathBuf>::new(), "after {words:?}");
}

fn check_failure(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is wanted in: {said}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the tests' paths are UTF-8")
}

#[test]
fn a_configuration_that_cannot_be_is_named_with_its_key() {
    let home = Home::new();
    fails_to_start(&home, "[pipeline]\ndetector = \"tiny-face-416\"\ndetecter = 1\n", &["config.toml", "detecter"]);
    fails_to_start(&home, &format!("{CONFIG}[stages.detector]\nprocesses = 1\n"), &["config.toml", "`detector`"]);
    let words = ["config.toml", "stages.detect.processes = 0", "1 to 64"];
    fails_to_start(&home, &format!("{CONFIG}[stages.detect]\nprocesses = 0\n"), &words);
    fails_to_start(&home, "[pipeline]\n", &["config.toml", "detector"]);
    let absent = home.path("absent.toml");
    check_failure(&framepipe(&["up", "--config", text(&absent)]), &[text(&absent), "No such file"]);
}

#[test]
fn a_model_that_is_missing_or_another_one_is_named() {
    let home = Home::new();
    let models = repository().join("models");
    let words = ["no-such-model", text(&models), "tiny-face-416"];
    fails_to_start(&home, "[pipeline]\ndetector = \"no-such-model\"\n", &words);

    let own = home.models_with_threshold("tiny-face-416", "0.5", &[]);
    let graph = own.join("tiny-face-416/1/model.onnx");
    let config = format!("{CONFIG}[paths]\nmodels = {own:?}\n");
    let mut bytes = fs::read(&graph).expect("the model is there");
    fs::remove_file(&graph).expect("the link is the test's own");
    fails_to_start(&home, &config, &[text(&graph), "scripts/setup"]);
    let last = bytes.last_mut().expect("the model has bytes");
    *last ^= 1;
    fs::write(&graph, &bytes).expect("the test's own folder");
    fails_to_start(&home, &config, &[text(&graph), "sha256", "4811964b7b7f9935"]);

    let absent = home.path("libonnxruntime.so");
    let config = format!("{CONFIG}[paths]\nonnxruntime = {absent:?}\n");
    fails_to_start(&home, &config, &[text(&absent), "paths.onnxruntime", "scripts/setup"]);
}

#[test]
fn a_full_shared_memory_is_named_with_the_size_and_the_flag_to_raise() {
    let home = Home::new();
    let config = format!("{CONFIG}[pools]\nencoded = [{{ bytes = \"64 MiB\", slots = 60000 }}]\n");
    // 60,000 slots of 64 MiB are 3,840,000 MiB; the rest of the segment comes to that.
    fails_to_start(&home, &config, &["needs 40265", "(3840", "--shm-size=3840", "[pools]", text(&home.shm())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_start_from_the_same_folder_is_refused_and_disturbs_nothing() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let pids = server.all_pids();
    let path = home.configure(CONFIG);
    let output = framepipe(&["up", "--config", text(&path)]);
    check_failure(&output, &["runs already", text(&home.run()), "--run-dir"]);
    // From another folder, with the same results: they are the first one's.
    let other = home.path("other-run");
    let output = framepipe(&["up", "--config", text(&path), "--run-dir", text(&other)]);
    check_failure(&output, &["runs already", text(&home.path("state")), "--state-dir"]);
    // With the same name alone: the segment is the first one's.
    let state = home.path("other-state");
    let output = framepipe(&["up", "--config", text(&path), "--run-dir", text(&other), "--state-dir", text(&state)]);
    check_failure(&output, &["running pipeline", text(&home.shm()), "--name"]);
    assert_eq!(server.all_pids(), pids);
    server.stop();
}

#[test]
fn status_of_what_does_not_run_says_so() {
    let home = Home::new();
    let path = home.configure(CONFIG);
    let socket = home.run().join("control.sock");
    for arguments in [&["status", "--config", text(&path)][..], &["status", "--json", "--config", text(&path)]] {
        let output = framepipe(arguments);
        check_failure(&output, &["no pipeline answers", text(&socket)]);
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn help_says_what_there_is_and_wrong_usage_is_status_2() {
    for verb in ["up", "status", "demo"] {
        let output = framepipe(&[verb, "--help"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{verb}");
        assert!(said.contains("--config") && said.contains("Examples:"), "{said}");
    }
    let output = framepipe(&["up", "--help"]);
    let said = String::from_utf8_lossy(&output.stdout);
    for word in ["--ingest", "--preprocess", "--detect", "--postprocess", "--attribute", "--tcp", "Exit status: 0"] {
        assert!(said.contains(word), "{word:?} is wanted in: {said}");
    }
    for wrong in [&["up", "--detekt", "2"][..], &["up", "--detect", "many"], &["stop"], &[]] {
        let output = framepipe(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--help"), "{wrong:?}");
    }
}
