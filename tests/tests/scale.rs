//! Processes come and go while frames flow: numbers of them change, and new ones take the places of those that run. Each frame has
//! its one result, and no error, whoever dies meanwhile.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Output,
    thread,
    time::Duration,
};

use framepipe_client::{PushRequest, ResultsOptions, StreamExt as _};
use framepipe_tests::{
    Home, Process, Server,
    images::png,
    send,
    swaps::{Camera, Models},
    wait_for, wait_until,
};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(120);
const STAGES: [&str; 5] = ["ingest", "preprocess", "detect", "postprocess", "attribute"];

async fn start(home: &Home) -> (Server, Camera) {
    let config = format!("{}[stages.detect]\nprocesses = 1\n", Models::new(home, 1).config());
    let server = Server::start(home, &config).await;
    let camera = Camera::start(&server);
    camera.wait_for_more();
    (server, camera)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeed(server: &Server, arguments: &[&str]) -> Output {
    let output = server.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}\n{}", said(&output), server.output());
    output
}

/// Fails with this status, saying all of `words`.
fn check_refused(output: &Output, status: i32, words: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(status), "{said}");
    words.iter().for_each(|word| assert!(said.contains(word), "{word:?} is not in: {said}"));
}

/// The stage has so many processes, all of them ready, and shall have as many.
fn check_count(server: &Server, stage: &str, count: usize) {
    let status = server.status();
    let states: Vec<&str> = status.stage(stage).map(|process| process.state.as_str()).collect();
    assert_eq!(states, vec!["ready"; count], "{stage}: {status:?}");
    assert_eq!(status.wanted(stage) as usize, count);
}

/// Nothing is left of the camera's frames, and each has one result.
async fn check_end(home: &Home, server: Server, camera: Camera) {
    camera.wait_for_more();
    assert_eq!(camera.versions().await, ["face 1"]);
    wait_until("the last frame's end", LIMIT, || server.status().in_flight() == 0);
    assert_eq!(server.status().pools_in_use(), [""; 0]);
    server.stop();
    assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new());
}

fn find(server: &Server, stage: &str, is_meant: impl Fn(&Process) -> bool) -> Process {
    wait_for(&format!("a process of {stage}"), LIMIT, || {
        server.status().stage(stage).find(|one| is_meant(one)).cloned()
    })
}

fn send_kill(process: &Process) {
    send(process.pid, Signal::SIGKILL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_of_processes_change_and_no_frame_is_lost() {
    let home = Home::new();
    let (server, camera) = start(&home).await;
    check_count(&server, "detect", 1);
    for count in [3, 1, 2, 1] {
        succeed(&server, &["scale", &format!("detect={count}")]);
        check_count(&server, "detect", count);
        camera.wait_for_more();
    }
    succeed(&server, &["scale", "ingest=2", "preprocess=2", "postprocess=3"]);
    for (stage, count) in [("ingest", 2), ("preprocess", 2), ("detect", 1), ("postprocess", 3), ("attribute", 1)] {
        check_count(&server, stage, count);
    }
    let scaled = succeed(&server, &["scale", "detect=2"]);
    let whole = [scaled.stdout, scaled.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&whole).matches("detect from 1 to 2").count(), 1, "it is said once");
    let one = server.status().stage("detect").next().expect("it runs").clone();
    let restarted = succeed(&server, &["restart", &format!("detect[{}]", one.instance)]);
    assert!(String::from_utf8_lossy(&restarted.stdout).contains("restarted 1 process in "), "{restarted:?}");
    let after = server.pids("detect");
    assert!(after.len() == 2 && !after.contains(&one.pid), "{after:?} after {one:?}");
    succeed(&server, &["scale", "detect=1"]);
    let same = succeed(&server, &["scale", "detect=1"]);
    assert!(String::from_utf8_lossy(&same.stdout).contains("already"), "{same:?}");
    let status = server.status();
    assert!(status.processes.iter().all(|process| process.restarts == 0), "{status:?}");
    assert!(status.repairs.is_empty(), "nothing had to be put back: {status:?}");
    check_end(&home, server, camera).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_number_of_processes_changes_nothing() {
    let home = Home::new();
    let (server, camera) = start(&home).await;
    check_refused(&server.run(&["scale", "detekt=2"]), 2, &["no stage \"detekt\"", "detect"]);
    check_refused(&server.run(&["scale", "gateway=2"]), 2, &["there is one gateway"]);
    check_refused(&server.run(&["scale", "detect=0"]), 2, &["detect=0", "1 to 64"]);
    check_refused(&server.run(&["scale", "detect=65"]), 2, &["detect=65", "1 to 64"]);
    check_refused(&server.run(&["scale", "detect=many"]), 2, &["\"many\""]);
    check_refused(&server.run(&["scale"]), 2, &["STAGE=N"]);
    check_refused(&server.run(&["scale", "detect=2", "detect=3"]), 2, &["detect is named twice", "detect=3"]);
    check_refused(&server.run(&["restart", "detekt"]), 2, &["no stage \"detekt\"", "gateway, keeper"]);
    check_refused(&server.run(&["restart", "4294967295"]), 1, &["4294967295"]);
    check_refused(&server.run(&["restart", &server.pid().to_string()]), 1, &["is the launcher: ", "framepipe drain"]);
    check_refused(&server.run(&["restart", "launcher"]), 2, &["framepipe drain, and framepipe up"]);
    check_refused(&server.run(&["restart", "detect[7]"]), 1, &["no process detect[7]", "framepipe status"]);
    // The folder's pipeline has another name: it is none of those that are meant.
    for verb in [&["drain"][..], &["scale", "detect=2"], &["restart"], &["reload"], &["status"], &["logs"]] {
        check_refused(
            &server.run(&[verb, &["--name", "other"]].concat()),
            1,
            &["and not other: say its own --run-dir"],
        );
    }
    // Whoever speaks to the socket himself is told the same.
    for (request, words) in [
        (r#"{"scale":{"processes":{"detect":0}}}"#, "1 to 64"),
        (r#"{"scale":{"processes":{"detect":-1}}}"#, "no request"),
        (r#"{"scale":{"processes":{"nobody":2}}}"#, "there is no stage"),
        (r#"{"scale":{"processes":{}}}"#, "no stage is named"),
        (r#"{"restart":{"what":{"stage":"\u0000"}}}"#, "there is no stage"),
        (r#"{"restart":{}}"#, "no request"),
    ] {
        let mut stream = UnixStream::connect(home.run().join("control.sock")).expect("it listens");
        writeln!(stream, "{request}").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("{\"failed\"") && answer.contains(words), "{request}: {answer}");
    }
    STAGES.iter().for_each(|stage| check_count(&server, stage, 1));
    check_end(&home, server, camera).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_may_die_while_their_numbers_change() {
    let home = Home::new();
    let (server, camera) = start(&home).await;
    thread::scope(|scope| {
        scope.spawn(|| succeed(&server, &["scale", "detect=3"]));
        send_kill(&find(&server, "detect", |one| one.state == "starting" && one.pid != 0));
        send_kill(&find(&server, "detect", |one| one.state == "ready"));
        server.kill_one("preprocess");
    });
    // One that was killed after it had been warm is started again, whatever is done with others.
    wait_until("all of them", LIMIT, || server.status().stage("detect").all(|one| one.state == "ready"));
    check_count(&server, "detect", 3);
    camera.wait_for_more();
    // Told to stop, these two die before they can: what they have in hand is the third one's.
    let surplus = server.pids("detect")[1..].to_vec();
    surplus.iter().for_each(|pid| send(*pid, Signal::SIGSTOP));
    thread::scope(|scope| {
        scope.spawn(|| succeed(&server, &["scale", "detect=1"]));
        wait_until("them to be told", LIMIT, || server.status().wanted("detect") == 1);
        surplus.iter().for_each(|pid| send(*pid, Signal::SIGKILL));
    });
    check_count(&server, "detect", 1);
    check_end(&home, server, camera).await;
}

/// The numbers are noted before anything is done: whoever takes the segment over has them, and finishes the frames.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launcher_that_takes_over_has_the_numbers_in_force() {
    for (what, expected) in [("scale", 3), ("restart", 1)] {
        let home = Home::new();
        let config = format!("{}[stages.detect]\nprocesses = 1\n", Models::new(&home, 1).config());
        let server = Server::start(&home, &config).await;
        let images = vec![png(64, 64); 64];
        server.client().push(PushRequest::images(&images).stream("camera")).await.expect("the push is good");
        thread::scope(|scope| {
            let arguments = if what == "scale" { ["scale", "detect=3"] } else { ["restart", "detect"] };
            // It ends with the launcher.
            let output = {
                let server = &server;
                scope.spawn(move || server.run(&arguments))
            };
            find(&server, "detect", |one| one.state == "starting" && one.pid != 0);
            server.signal(Signal::SIGKILL);
            check_refused(&output.join().expect("no panic"), 1, &["ended meanwhile"]);
        });
        server.kill_launcher();
        let server = Server::start(&home, &config).await;
        assert!(server.output().contains("took over"), "{}", server.output());
        check_count(&server, "detect", expected);
        let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
        let results = server.client().results("camera", options).map(|result| result.expect("it is readable"));
        let results: Vec<_> = tokio::time::timeout(LIMIT, results.collect::<Vec<_>>()).await.expect("all in time");
        let frames: BTreeSet<u64> = results.iter().map(|result| result.frame).collect();
        assert_eq!((results.len(), frames.len()), (64, 64), "each frame has one result");
        succeed(&server, &["scale", "detect=2"]);
        check_count(&server, "detect", 2);
        server.stop();
        let server = Server::start(&home, &config).await;
        check_count(&server, "detect", 1); // a pipeline that was stopped begins as it is configured
        server.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_process_is_replaced_while_frames_flow() {
    let home = Home::new();
    let (server, camera) = start(&home).await;
    succeed(&server, &["scale", "detect=2"]);
    let pids = |stage: &str| server.pids(stage).into_iter().collect::<BTreeSet<u32>>();
    let before = STAGES.map(pids);
    succeed(&server, &["restart"]);
    for (stage, before) in STAGES.iter().zip(before) {
        check_count(&server, stage, before.len());
        assert!(pids(stage).is_disjoint(&before), "{stage}");
    }
    let [gateway, keeper, ingest] = ["gateway", "keeper", "ingest"].map(pids);
    let detect = server.pids("detect");
    succeed(&server, &["restart", "detect"]);
    assert!(pids("detect").is_disjoint(&detect.into_iter().collect()));
    let detect = server.pids("detect");
    succeed(&server, &["restart", &detect[0].to_string()]);
    assert!(pids("detect").contains(&detect[1]) && !pids("detect").contains(&detect[0]));
    for (name, before) in [("gateway", gateway), ("keeper", keeper)] {
        camera.wait_for_more();
        succeed(&server, &["restart", name]);
        assert!(pids(name).is_disjoint(&before), "{name}");
    }
    assert_eq!(pids("ingest"), ingest, "nobody else was replaced");
    let status = server.status();
    assert!(status.processes.iter().all(|process| process.restarts == 0), "none of it was a death: {status:?}");
    check_end(&home, server, camera).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replacement_that_does_not_get_warm_leaves_the_old_process_serving() {
    let home = Home::new();
    let (server, camera) = start(&home).await;
    let model = home.path("models/tiny-face-416/1/model.onnx");
    fs::rename(&model, home.path("elsewhere")).expect("the test's own");
    let before = server.pids("detect");
    check_refused(&server.run(&["restart", "detect"]), 1, &["cannot start", "model.onnx", "serves on"]);
    camera.wait_for_more();
    wait_until("the replacement's end", LIMIT, || server.pids("detect") == before);
    check_count(&server, "detect", 1);
    check_refused(&server.run(&["scale", "detect=3"]), 1, &["cannot start", "model.onnx", "detect 1"]);
    wait_until("the new ones' end", LIMIT, || server.pids("detect") == before);
    check_count(&server, "detect", 1);
    fs::rename(home.path("elsewhere"), &model).expect("the test's own");
    succeed(&server, &["restart"]);
    check_end(&home, server, camera).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_may_die_while_they_are_replaced() {
    let home = Home::new();
    let (server, camera) = start(&home).await;
    let old = server.pids("detect");
    thread::scope(|scope| {
        let output = scope.spawn(|| server.run(&["restart", "detect"]));
        send_kill(&find(&server, "detect", |one| one.state == "starting" && one.pid != 0));
        check_refused(&output.join().expect("no panic"), 1, &["signal: 9", "serves on"]);
    });
    wait_until("the old one alone", LIMIT, || server.pids("detect") == old);
    thread::scope(|scope| {
        let output = scope.spawn(|| server.run(&["restart", "detect"]));
        find(&server, "detect", |one| one.state == "starting" && one.pid != 0);
        send_kill(&find(&server, "detect", |one| one.pid == old[0]));
        assert!(output.join().expect("no panic").status.success(), "{}", server.output());
    });
    check_count(&server, "detect", 1);
    check_end(&home, server, camera).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_is_asked_for_returns_when_the_pipeline_has_ended() {
    let home = Home::new();
    let config = format!("{}[stages.detect]\nprocesses = 1\n", Models::new(&home, 1).config());
    let mut server = Server::start(&home, &config).await;
    let images = vec![png(64, 64); 64];
    server.client().push(PushRequest::images(&images).stream("camera")).await.expect("the push is good");
    assert!(server.status().in_flight() > 0, "it must drain while frames are in flight");
    let output = succeed(&server, &["drain"]);
    assert!(said(&output).contains("frames left"), "{}", said(&output));
    let status = wait_for("the launcher's end", Duration::from_secs(1), || server.ended());
    assert!(status.success(), "{}", server.output());
    check_refused(&server.run(&["drain"]), 1, &["is it up?"]);
    let server = Server::start(&home, &config).await;
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results = server.client().results("camera", options).map(|result| result.expect("it is readable"));
    let results: Vec<_> = tokio::time::timeout(LIMIT, results.collect::<Vec<_>>()).await.expect("all in time");
    assert_eq!(results.len(), images.len());
    server.stop();
}
