//! What hinders a start is said at once, with the value and what to do about it, and leaves nothing behind.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use framepipe_tests::{Home, Server, program, repository};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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

/// Of a manifest: what stands there, and what shall.
type Change = (&'static str, &'static str);

/// What contradicts the model file, or itself, is named with what to change.
#[test]
fn a_manifest_that_does_not_fit_its_model_is_named_with_what_to_change() {
    let home = Home::new();
    let wrong: [(&[Change], &[&str]); 6] = [
        (
            &[("width = 416, height = 416", "width = 320, height = 416")],
            &["[batch, 3, 416, 320]", "correct the manifest"],
        ),
        (
            &[("tensor = \"input\"", "tensor = \"pictures\"")],
            &["no input \"pictures\", but \"input\"", "correct the name"],
        ),
        (
            &[("output = \"output\"", "output = \"boxes\"")],
            &["no output \"boxes\", but \"output\"", "correct the name"],
        ),
        (
            &[("labels = [\"face\"]", "labels = [\"face\", \"mask\"]")],
            &["correct its [detector.head], labels or [input]"],
        ),
        (&[("cell = 32", "cell = 16")], &["correct its [detector.head], labels or [input]"]),
        (&[("order = \"nchw\"", "order = \"nhwc\"")], &["[batch, 416, 416, 3]", "correct the manifest"]),
    ];
    for (changes, words) in wrong {
        let models = home.models_with_threshold("tiny-face-416", "0.5", changes);
        fails_to_start(&home, &format!("{CONFIG}[paths]\nmodels = {models:?}\n"), words);
        fs::remove_dir_all(models).expect("the test's own");
    }
    let models = home.models_with_threshold("tiny-face-416", "0.5", &[]);
    let folder = models.join("tiny-face-416/1");
    fs::remove_file(folder.join("model.onnx")).expect("the link is the test's own");
    fs::write(folder.join("model.onnx"), "no model").expect("the test's own folder");
    let manifest = fs::read_to_string(folder.join("manifest.toml")).expect("a manifest");
    let line = manifest.lines().find(|line| line.starts_with("sha256 = ")).expect("it has a sum");
    let own = format!("sha256 = \"{}\"", framepipe_tests::images::sha256(b"no model"));
    fs::write(folder.join("manifest.toml"), manifest.replace(line, &own)).expect("the test's own folder");
    fails_to_start(
        &home,
        &format!("{CONFIG}[paths]\nmodels = {models:?}\n"),
        &["cannot open the model", "export it again"],
    );
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
fn streams_and_connections_that_do_not_fit_into_the_limit_of_open_files_are_named_with_all_numbers() {
    let home = Home::new();
    let path = home.configure(&format!("{CONFIG}[server]\nconnections_max = 300\n[journal]\nstreams_max = 445\n"));
    let limited = "ulimit -n 1000 && exec \"$0\" up --config \"$1\"";
    let output = Command::new("sh").args(["-c", limited, text(&program()), text(&path)]).output();
    let words =
        ["journal.streams_max = 445", "server.connections_max = 300", "1001 open files", "1000 here", "LimitNOFILE"];
    check_failure(&output.expect("sh can be run"), &words);
    assert_eq!(home.left_in_memory(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_open_files_is_raised_for_every_process() {
    let home = Home::new();
    let before = getrlimit(Resource::Nofile);
    let low = Rlimit { current: Some(100), ..before };
    setrlimit(Resource::Nofile, low).expect("a lower limit is allowed");
    let mut server = Server::launch(&home, CONFIG);
    setrlimit(Resource::Nofile, before).expect("it was so before");
    server.wait_ready().await;
    let most = before.maximum.expect("the kernel has a limit");
    for pid in server.all_pids() {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("it is among them");
        assert_eq!(line.split_whitespace().nth(3), Some(most.to_string().as_str()), "{pid}: {line}");
    }
    server.stop();
}

#[test]
fn a_run_folder_too_deep_for_sockets_is_named() {
    let home = Home::new();
    let path = home.configure(CONFIG);
    let run = home.path(&"deep".repeat(20));
    let output = framepipe(&["up", "--config", text(&path), "--run-dir", text(&run)]);
    check_failure(&output, &[text(&run), "too long", "--run-dir"]);
}

#[test]
fn help_says_what_there_is_and_wrong_usage_is_status_2() {
    let verbs =
        [&["up"][..], &["status"], &["demo"], &["inspect"], &["model", "use"], &["model", "list"], &["model", "check"]];
    for verb in verbs {
        let output = framepipe(&[verb, &["--help"]].concat());
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{verb:?}");
        assert!(said.contains("--config") && said.contains("Examples:"), "{said}");
    }
    let output = framepipe(&["up", "--help"]);
    let said = String::from_utf8_lossy(&output.stdout);
    for word in
        ["--ingest", "--preprocess", "--detect", "--postprocess", "--attribute", "--tcp", "--http", "Exit status: 0"]
    {
        assert!(said.contains(word), "{word:?} is wanted in: {said}");
    }
    for wrong in [&["up", "--detekt", "2"][..], &["up", "--detect", "many"], &["stop"], &[]] {
        let output = framepipe(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--help"), "{wrong:?}");
    }
}
