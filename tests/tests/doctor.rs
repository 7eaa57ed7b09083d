//! `framepipe doctor`, `config check` and `config show` on this machine: what is good is good, also while the pipeline runs, and what
//! is not is found.

use std::{fs, net::TcpListener, process::Command, time::Duration};

use framepipe_tests::{Home, Server, program, wait_until};
use serde_json::Value;

const CONFIG: &str = "[pipeline]\ndetector = \"tiny-face-416\"\n";
const LIMIT: Duration = Duration::from_secs(60);

/// The report, and whether it ended with success.
fn doctor(arguments: &[&str]) -> (Value, bool) {
    let output =
        Command::new(program()).args(["doctor", "--json"]).args(arguments).output().expect("framepipe can be run");
    let report = serde_json::from_slice(&output.stdout);
    (report.unwrap_or_else(|error| panic!("{error}: {output:?}")), output.status.success())
}

fn row<'r>(report: &'r Value, check: &str) -> &'r Value {
    let rows = report["rows"].as_array().expect("rows");
    rows.iter().find(|row| row["check"] == check).unwrap_or_else(|| panic!("no row {check} in {report}"))
}

#[tokio::test]
async fn a_pipeline_that_may_be_started_is_good_and_so_it_is_while_it_runs() {
    let home = Home::new();
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it is bound");
    let text = format!("{CONFIG}[server]\ntcp = \"{free}\"\n");
    let path = home.configure(&text);
    let config = ["--config", path.to_str().expect("UTF-8")];
    let (report, is_good) = doctor(&config);
    assert!(is_good, "{report:#}");
    for check in ["configuration", "kernel", "shared memory", "engine", "models", "folders", "ports"] {
        assert_eq!(row(&report, check)["state"], "good", "{report:#}");
    }
    let seen = |report: &Value, check: &str| row(report, check)["seen"].as_str().expect("words").to_owned();
    assert!(seen(&report, "engine").contains("libonnxruntime.so"), "{report:#}");
    assert!(seen(&report, "models").contains("tiny-face-416@1"), "{report:#}");
    assert!(seen(&report, "ports").contains(&format!("{free} is free")), "{report:#}");

    let server = Server::start(&home, &text).await;
    let (report, is_good) = doctor(&config);
    assert!(is_good, "{report:#}");
    assert!(seen(&report, "configuration").contains(&format!("launcher {}", server.pid())), "{report:#}");
    assert!(seen(&report, "ports").contains(&format!("{free} is this pipeline's")), "{report:#}");
    assert!(seen(&report, "shared memory").contains("it has "), "{report:#}");
    server.stop();
}

#[test]
fn what_is_missing_is_found_and_ends_with_status_1() {
    let home = Home::new();
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("it is bound");
    let models = home.models_with_threshold("tiny-face-416", "0.5", &[]);
    let graph = models.join("tiny-face-416/1/model.onnx");
    fs::remove_file(&graph).expect("the link is the test's own");
    fs::write(&graph, "no model").expect("the test's own folder");
    let library = home.path("libonnxruntime.so");
    fs::write(&library, "no library").expect("the test's own folder");
    let in_the_way = home.path("run");
    fs::write(&in_the_way, "no folder").expect("the test's own folder");
    let path = home.configure(&format!(
        "{CONFIG}[paths]\nmodels = {models:?}\nonnxruntime = {library:?}\n[server]\ntcp = \"{address}\"\n\
         [pools]\nencoded = [{{ bytes = \"16 GiB\", slots = 65536 }}]\n"
    ));
    let (report, is_good) = doctor(&["--config", path.to_str().expect("UTF-8")]);
    assert!(!is_good, "{report:#}");
    for (check, words) in [
        ("models", "sha256"),
        ("engine", "libonnxruntime.so"),
        ("folders", "it is no folder"),
        ("ports", "server.tcp"),
        ("shared memory", "can be had"),
        ("memory", "at the start"),
    ] {
        let row = row(&report, check);
        assert_eq!(row["state"], "failed", "{report:#}");
        assert!(row.to_string().contains(words) || check == "shared memory", "{words:?} is wanted in {row}");
        assert!(!row["advice"].as_str().unwrap_or_default().is_empty(), "{row}");
    }
    let output =
        Command::new(program()).args(["config", "check", "--config"]).arg(&path).output().expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the segment takes") && said.contains("lower [pools]"), "{said}");
}

/// What `up` is told, its doctor may be told as well.
#[tokio::test]
async fn options_of_a_start_are_looked_at_and_an_inbox_on_a_disk_is_warned_of() {
    let home = Home::new();
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("it is bound").to_string();
    let path = home.configure(CONFIG);
    let config = ["--config", path.to_str().expect("UTF-8")];
    let [on_disk, in_memory] = [home.path("in"), home.inbox().join("in")];
    let [on_disk, in_memory] = [&on_disk, &in_memory].map(|folder| folder.to_str().expect("UTF-8"));
    let with = |options: &[&str]| doctor(&[&config[..], options].concat());

    let (report, is_good) = with(&["--inbox", in_memory, "--http", &address, "--detect", "1"]);
    assert!(!is_good && row(&report, "inbox")["state"] == "good", "{report:#}");
    assert!(row(&report, "inbox")["seen"].as_str().is_some_and(|seen| seen.contains(in_memory)), "{report:#}");
    let ports = row(&report, "ports");
    assert!(ports["state"] == "failed" && ports.to_string().contains(&address), "{report:#}");
    // Of 203.0.113.0/24, which documents have and no host.
    let (report, is_good) = with(&["--tcp", "203.0.113.1:1"]);
    let ports = row(&report, "ports");
    assert!(!is_good && ports["advice"].to_string().contains("an address that this host has"), "{report:#}");
    let refused = Server::launch_with(&home, CONFIG, &["--tcp", "203.0.113.1:1"]);
    let words = ["203.0.113.1:1 (server.tcp, --tcp)", "no address of this host"];
    wait_until("the refusal", LIMIT, || words.iter().all(|words| refused.output().contains(words)));
    drop(refused);
    let file = home.path("file");
    fs::write(&file, "").expect("the test's own folder");
    let (report, _) = with(&["--inbox", file.to_str().expect("UTF-8"), "--name", "x"]);
    let folders = row(&report, "folders");
    assert!(folders["seen"].to_string().contains("it is no folder"), "{report:#}");
    assert!(!folders["advice"].to_string().contains("chown"), "{report:#}");
    let seen = row(&report, "configuration")["seen"].as_str().expect("words").to_owned();
    assert!(seen.contains(" of file and option; it "), "two options are one layer: {seen}");
    let (report, _) = with(&["--tcp", "foo"]);
    let seen = row(&report, "configuration")["seen"].as_str().expect("words").to_owned();
    assert!(seen.contains("--tcp: server.tcp = \"foo\": it is no address: give IP:PORT"), "{report:#}");

    let (report, _) = with(&["--inbox", on_disk]);
    let is_on_disk = row(&report, "inbox")["state"] == "warning"; // unless the tests' own folders lie in memory
    let mut server = Server::launch_with(&home, CONFIG, &["--inbox", on_disk]);
    server.wait_ready().await;
    let words = format!("WARN  launcher: the inbox {on_disk} lies on a disk (");
    assert_eq!(server.output().contains(&words), is_on_disk, "{}", server.output());
    server.stop();
    let mut server = Server::launch_with(&home, CONFIG, &["--inbox", in_memory]);
    server.wait_ready().await;
    let said = server.stop();
    assert_eq!(said.matches("lies on a disk").count(), usize::from(is_on_disk), "of the first alone: {said}");
}

#[test]
fn a_good_configuration_is_called_so_and_its_drop_ins_variables_and_options_count() {
    let home = Home::new();
    let path = home.configure(CONFIG);
    let drop_ins = home.path("config.d");
    fs::create_dir(&drop_ins).expect("the test's own folder");
    fs::write(drop_ins.join("10.toml"), "[stages.detect]\nprocesses = 5\nnice = 3\n").expect("the test's own folder");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.env("FRAMEPIPE_STAGES__DETECT__PROCESSES", "6").args(arguments).arg("--config").arg(&path);
        let output = command.output().expect("framepipe can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("it is UTF-8")
    };
    let said = run(&["config", "check"]);
    assert!(said.contains("good: pipeline framepipe, models tiny-face-416@1"), "{said}");
    let shown: Value = serde_json::from_str(&run(&["config", "show", "--json", "--name", "mine"])).expect("it is JSON");
    for (key, value, kind, name) in [
        ("stages.detect.processes", 6.into(), "variable", "FRAMEPIPE_STAGES__DETECT__PROCESSES"),
        ("stages.detect.nice", 3.into(), "drop-in", "10.toml"),
        ("pipeline.detector", "tiny-face-416".into(), "file", "config.toml"),
        ("name", "mine".into(), "option", "--name"),
        ("pipeline.crops_max", 32.into(), "default", "default"),
        ("pipeline.score_threshold", Value::Null, "default", "default"),
    ] {
        let setting = &shown["settings"][key];
        assert_eq!((&setting["value"], &setting["from"]["kind"]), (&value, &kind.into()), "{key}: {setting}");
        assert!(setting["from"]["name"].as_str().is_some_and(|said| said.ends_with(name)), "{key}: {setting}");
    }
}
