//! The cache's keeper: no frame waits for it, whatever becomes of it; it clears the inbox of what nobody collects; and
//! `framepipe cache` and `framepipe status` say how the cache is.

use std::{
    collections::BTreeSet,
    fs::File,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use framepipe_client::Outcome;
use framepipe_proto::v1::PushDataRequest;
use framepipe_tests::{
    Home, Server,
    cameras::{Run, check_baseline},
    findings::Findings,
    images::photo,
    kept::results_of,
    wait_until,
};
use nix::sys::signal::Signal;
use serde_json::Value;

const CONFIG: &str = r#"
    name = "keeper"
    [pipeline]
    detector = "tiny-face-416"
    [cache]
    tensor_bytes_max = "32 MiB"
    result_bytes_max = "4 MiB"
"#;
const WAIT: Duration = Duration::from_secs(30);

fn stats(server: &Server) -> Value {
    let output = server.run(&["cache", "stats", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("framepipe cache stats says JSON")
}

/// A number of one kind.
fn of_kind(stats: &Value, kind: &str, what: &str) -> u64 {
    let kinds = stats["kinds"].as_array().expect("a list");
    let found = kinds.iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in {stats}"));
    found[what].as_u64().unwrap_or_else(|| panic!("no number {what} of {kind} in {stats}"))
}

fn photos() -> Vec<(String, Vec<u8>)> {
    ["sample1.jpg", "sample4.jpg", "zidane.jpg", "bus.jpg"].map(|name| (name.to_owned(), photo(name))).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_flow_and_their_results_are_theirs_while_the_keeper_is_killed() {
    const KILLS: usize = 5;
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let run = Run::start(&server);
    for kill in 0..KILLS {
        run.wait_received(100 * (kill + 1));
        assert!(run.received() < run.frames_all(), "it must be killed while frames flow");
        server.kill_one("keeper");
    }
    run.check().await;
    let status = server.status();
    let restarts = |process: &framepipe_tests::Process| (process.stage.clone(), process.restarts as usize);
    let restarted: Vec<_> = status.processes.iter().map(restarts).filter(|(_, restarts)| *restarts > 0).collect();
    assert_eq!(restarted, [("keeper".to_owned(), KILLS)], "no other process was struck, and no frame was blamed");
    wait_until("what was made is remembered", WAIT, || of_kind(&stats(&server), "tensors", "entries") > 0);
    check_baseline(&home, server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_remembered_outlives_the_keeper_and_is_what_was_found_at_first() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let photos = photos();
    let first = Findings::of_server(&server, "tiny-face-416", &photos).await;
    wait_until("all results are kept", WAIT, || of_kind(&stats(&server), "results", "entries") == photos.len() as u64);
    let before = stats(&server);
    server.kill_one("keeper");
    let again = Findings::of_server(&server, "tiny-face-416", &photos).await;
    assert_eq!(format!("{again:#?}"), format!("{first:#?}"));
    let after = stats(&server);
    let hits = of_kind(&after, "results", "hits") - of_kind(&before, "results", "hits");
    assert_eq!((hits, of_kind(&after, "results", "entries")), (photos.len() as u64, photos.len() as u64), "{after}");
    let kinds: Vec<&Value> = after["kinds"].as_array().expect("a list").iter().collect();
    assert!(kinds.iter().all(|kind| kind["is_on"] == true && kind["damaged"] == 0), "{after}");
    assert!(of_kind(&after, "tensors", "bytes") <= of_kind(&after, "tensors", "bytes_max"), "{after}");
    assert!(server.output().contains("entries, whose history is lost"), "{}", server.output());
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tensors_that_fill_all_memory_give_way_and_new_ones_are_kept() {
    let home = Home::new();
    let cache = "memory_bytes_max = \"64 MiB\"\ntensor_bytes_max = \"64 MiB\"\nresult_bytes_max = 0\n";
    let config = CONFIG.replace("tensor_bytes_max = \"32 MiB\"\n    result_bytes_max = \"4 MiB\"\n", cache);
    let server = Server::start(&home, &config).await;
    let run = Run::of(&server, 60);
    run.check().await;
    let has_room = |stats: &Value| stats["memory_bytes"].as_u64() <= stats["hard_bytes"].as_u64();
    let is_calm = |stats: &Value| ["in place", "copy on read"].map(Value::from).contains(&stats["level"]);
    wait_until("memory below what sends images to the disk", WAIT, || {
        let stats = stats(&server);
        has_room(&stats) && is_calm(&stats)
    });
    let full = stats(&server);
    assert!(of_kind(&full, "tensors", "evictions") > 0 && of_kind(&full, "tensors", "bytes") > 48 << 20, "{full}");
    // Those that come while images go to the disk again are not kept: they are pushed until some are.
    let (start, before) = (Instant::now(), of_kind(&full, "tensors", "insertions"));
    while of_kind(&stats(&server), "tensors", "insertions") == before {
        assert!(start.elapsed() < WAIT, "no new one was kept: {}", stats(&server));
        Findings::of_server(&server, "tiny-face-416", &photos()).await;
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_nobody_collects_leave_the_inbox_and_those_of_frames_in_flight_stay() {
    let home = Home::new();
    let mut server = Server::launch(&home, &format!("{CONFIG}inbox_ttl_s = 2\n"));
    server.wait_ready().await;
    // A frame whose file nobody has read yet.
    server.signal_stage("ingest", Signal::SIGSTOP);
    let pushed = home.store("pushed.jpg", &photo("zidane.jpg"));
    let request = PushDataRequest {
        files: vec![pushed.display().to_string()],
        stream: "late".to_owned(),
        ..PushDataRequest::default()
    };
    server.raw_client().push_data(request).await.expect("the push is good");
    let forgotten: Vec<PathBuf> = ["forgotten", "forgotten too"].map(|name| home.store(name, b"x")).into();
    wait_until("forgotten files to go", WAIT, || !forgotten.iter().any(|file| file.exists()));
    let new = home.store("new", b"x");
    assert!(pushed.exists(), "a frame in flight names it, though it is older than those that went");
    server.signal_stage("ingest", Signal::SIGCONT);
    let results = results_of(&server, "late").await;
    let outcome = results.into_values().next().expect("one frame").outcome;
    assert!(matches!(outcome, Some(Outcome::Detections(_))), "{outcome:?}");
    assert!(new.exists(), "it is new");
    wait_until("the frame's file and the new one to go", WAIT, || !pushed.exists() && !new.exists());
    assert_eq!(stats(&server)["upkeep"]["inbox_expired"], 4);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_lists_drops_and_verifies_the_cache() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let said = |arguments: &[&str]| {
        let output = server.run(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let photos = photos();
    Findings::of_server(&server, "tiny-face-416", &photos).await;
    let counts = |kinds: [&str; 3]| kinds.map(|kind| of_kind(&stats(&server), kind, "entries"));
    let all = photos.len() as u64;
    wait_until("all is remembered", WAIT, || counts(["tensors", "results", "metadata"]) == [all; 3]);

    let (code, text, _) = said(&["status"]);
    assert!(code == Some(0) && text.contains("\ncache: in place; memory "), "{text}");
    assert!(text.contains("\nkeeper[0] ") && text.contains("hit rate"), "{text}");
    let (_, json, _) = said(&["status", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json["cache"]["level"], &json["cache"]["memory_bytes_max"]),
        (&"in place".into(), &(256 << 20).into())
    );
    let (code, text, _) = said(&["cache", "stats"]);
    assert!(code == Some(0) && text.starts_with("level: in place\n") && text.contains("kept images: "), "{text}");

    let (_, listed, _) = said(&["cache", "list", "metadata", "--json"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed["more"], 0);
    let listed = listed["entries"].as_array().expect("a list");
    let size = |entry: &Value| (entry["image"]["width"].as_u64(), entry["image"]["height"].as_u64());
    let sizes: BTreeSet<_> = listed.iter().map(size).collect();
    assert!(listed.len() as u64 == all && sizes.contains(&(Some(1280), Some(720))), "{listed:?}");
    let (_, text, _) = said(&["cache", "list", "--limit", "3"]);
    let more = format!(
        "{} more: --limit says how many are listed",
        counts(["tensors", "results", "metadata"]).iter().sum::<u64>() - 3
    );
    assert!(text.lines().count() == 5 && text.lines().last() == Some(&more), "{text}");

    let whole = format!("{} cached entries and 0 images on disk compared with their checksums: 0 damaged\n", 2 * all);
    assert_eq!(said(&["cache", "verify"]), (Some(0), whole, String::new()));
    server.signal_stage("keeper", Signal::SIGSTOP); // it would find the damage itself
    let tensors = File::options().read(true).write(true).open(home.shm().join("framepipe-keeper/cache/tensors"));
    let (tensors, mut byte) = (tensors.expect("the arena's file"), [0]);
    tensors.read_exact_at(&mut byte, 1000).expect("read");
    tensors.write_all_at(&[!byte[0]], 1000).expect("written");
    let (code, text, _) = said(&["cache", "verify"]);
    assert!(code == Some(1) && text.starts_with("damaged: tensors ") && text.contains(": 1 damaged\n"), "{text}");
    let (code, _, error) = said(&["cache", "drop", "results"]);
    assert!(code == Some(1) && error.contains("no keeper answers in 5 s"), "{error}");
    server.signal_stage("keeper", Signal::SIGCONT);
    wait_until("damage to be dropped", WAIT, || of_kind(&stats(&server), "tensors", "damaged") == 1);

    assert_eq!(said(&["cache", "drop", "results"]), (Some(0), "dropped: results\n".into(), String::new()));
    assert_eq!(counts(["results", "tensors", "metadata"])[..2], [0, all - 1]);
    assert_eq!(said(&["cache", "drop", "--all"]).1, "dropped: metadata, tensors, results\n");
    assert_eq!(counts(["results", "tensors", "metadata"]), [0; 3]);
    wait_until("the memory to be free", WAIT, || stats(&server)["memory_bytes"] == 0);
    server.stop();

    let config = home.path("config.toml");
    let output = std::process::Command::new(framepipe_tests::program())
        .args(["cache", "stats", "--config"])
        .arg(config)
        .output()
        .expect("framepipe can be run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("is the pipeline up?"), "{error}");
}
