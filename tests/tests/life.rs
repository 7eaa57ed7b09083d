//! The pipeline's own life: a drain finishes what was accepted, unread results outlive it, and a launcher's death costs
//! no frame and leaves no process.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use framepipe_client::{Batch, Client, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_proto::v1::PushDataRequest;
use framepipe_tests::{Home, Server, images::png, program, wait_for, wait_until};
use nix::sys::signal::Signal;
use rustix::pipe::fcntl_setpipe_size;
use tonic::Code;

const CONFIG: &str = "name = \"life\"\n[pipeline]\ndetector = \"tiny-face-416\"\n";
const FRAMES: usize = 200;
const STREAM: &str = "camera";
const LAST: &str = "all accepted frames are answered; stopped";
const LIMIT: Duration = Duration::from_secs(120);

/// Pushes so many frames at once. Frame 7 is 23 pixels wide, so that its result is known as its own.
async fn push(client: &Client, frames: usize) -> Batch {
    let images: Vec<Vec<u8>> = (0..frames).map(|number| png(16 + number as u32, 16)).collect();
    let names = (0..frames).map(|number| format!("frame {number}"));
    let request = PushRequest::images(&images).names(names).stream(STREAM);
    let batch = client.push(request).await.expect("the push is good");
    assert_eq!(batch.accepted as usize, frames);
    batch
}

/// Reads the stream to its end: these frames, each once, and no other.
async fn check_results(client: &Client, batches: &[&Batch]) {
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results = client.results(STREAM, options).map(|result| result.expect("it is readable")).collect::<Vec<_>>();
    let results = tokio::time::timeout(LIMIT, results).await.expect("all results in time");
    let expected: BTreeSet<u64> =
        batches.iter().flat_map(|batch| batch.first_frame..batch.first_frame + u64::from(batch.accepted)).collect();
    assert_eq!(results.len(), expected.len(), "each once");
    assert_eq!(results.iter().map(|result| result.frame).collect::<BTreeSet<_>>(), expected);
    results.iter().for_each(check_result);
}

fn check_result(result: &FrameResult) {
    let Some(Outcome::Detections(found)) = &result.outcome else { panic!("{}: {:?}", result.name, result.outcome) };
    assert_eq!(result.name, format!("frame {}", result.batch_index));
    assert_eq!((found.image_width, found.image_height), (16 + result.batch_index, 16), "another's result");
}

fn check_nothing_left(home: &Home) {
    assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_finishes_what_was_accepted_and_unread_results_outlive_it() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let first = server.client();
    let batch = push(&first, FRAMES).await;
    assert!(server.status().in_flight() > 0, "it must be stopped while frames are in flight");
    server.stop();
    let server = Server::start(&home, CONFIG).await;
    check_results(&server.client(), &[&batch]).await;
    first.release(&batch); // the file in the inbox is the first client's to delete
    server.stop();
    check_nothing_left(&home);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_shall_ends_with_the_process_that_started_it() {
    let home = Home::new();
    let config = home.configure(CONFIG);
    let program = program().display().to_string();
    let refused = Command::new(&program).arg("up").arg("--config").arg(&config).args(["--end-with", "1"]).output();
    let refused = refused.expect("it can be run");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--end-with 1: that is not"), "{refused:?}");

    let script = "\"$0\" up --config \"$1\" --end-with $$ & wait";
    let mut starter = Command::new("sh").args(["-c", script, &program]).arg(&config).spawn().expect("a shell");
    let client = Client::connect_lazy(&format!("unix:{}", home.run().join("grpc.sock").display())).expect("an address");
    client.wait_ready(LIMIT).await.expect("it is ready");
    starter.kill().and_then(|()| starter.wait()).expect("it can be killed");
    wait_until("the pipeline's end", LIMIT, || !home.run().join("control.sock").exists());
    wait_until("its memory to be freed", LIMIT, || home.left_in_memory().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_laid_out_for_other_cores_is_taken_over_as_it_is() {
    let home = Home::new();
    let mut server = Server::launch_with(&home, CONFIG, &["--cores", "3"]);
    server.wait_ready().await;
    let client = server.client();
    let batch = push(&client, FRAMES).await;
    server.kill_launcher();
    let server = Server::start(&home, CONFIG).await;
    assert_eq!(server.status().stage("detect").count(), 3);
    check_results(&server.client(), &[&batch]).await;
    client.release(&batch);
    server.stop();
    check_nothing_left(&home);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_frames_are_refused_during_a_drain() {
    let home = Home::new();
    let mut server = Server::start(&home, CONFIG).await;
    let client = server.client();
    let batch = push(&client, 20).await;
    let file = home.store("one.png", &png(16, 16));
    server.signal_stage("postprocess", Signal::SIGSTOP); // so that the drain cannot end
    server.signal(Signal::SIGTERM);
    let request = PushDataRequest {
        files: vec![file.display().to_string()],
        names: vec!["frame 0".into()],
        stream: STREAM.into(),
        ..PushDataRequest::default()
    };
    // Until the gateway has heard of the drain it takes frames, and then finishes these too.
    let mut taken = Vec::new();
    let refusal = wait_for("the drain to begin", LIMIT, || {
        let mut raw = server.raw_client();
        let push = raw.push_data(request.clone());
        match tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(push)) {
            Ok(answer) => {
                let answer = answer.into_inner();
                let (first_frame, accepted) = (answer.first_frame, answer.accepted);
                taken.push(Batch { stream: answer.stream, first_frame, accepted, blob: None });
                None
            }
            Err(refusal) => Some(refusal),
        }
    });
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
    assert!(refusal.message().contains("draining"), "{refusal:?}");
    let accepted = server.status().accepted;
    assert_eq!(accepted as usize, 20 + taken.len(), "what was refused was not accepted");
    server.signal_stage("postprocess", Signal::SIGCONT);
    let status = server.wait_end();
    assert!(status.success(), "it ended with {status}: {}", server.output());

    let server = Server::start(&home, CONFIG).await;
    let batches: Vec<&Batch> = taken.iter().chain([&batch]).collect();
    check_results(&server.client(), &batches).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_launcher_leaves_no_process_and_its_frames_are_finished_by_the_next() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let first = server.client();
    let batch = push(&first, FRAMES).await;
    // Some results are in the journal, most frames are not yet done.
    wait_until("the first results", LIMIT, || server.status().in_flight() < FRAMES - 20);
    assert!(server.status().in_flight() > 20, "it must be killed while frames are in flight");
    server.kill(); // and waits until none of its processes is left

    let server = Server::start(&home, CONFIG).await;
    assert!(server.output().contains("took over"), "{}", server.output());
    check_results(&server.client(), &[&batch]).await;
    first.release(&batch);
    let status = server.status();
    assert_eq!((status.accepted as usize, status.in_flight(), status.jobs.writing), (FRAMES, 0, 0));
    assert_eq!(status.pools_in_use(), [""; 0]);
    server.stop();
    check_nothing_left(&home);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_launcher_is_followed_at_once_on_the_same_port() {
    let home = Home::new();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let config = format!("{CONFIG}[server]\ntcp = \"127.0.0.1:{port}\"\n");
    let mut server = Server::start(&home, &config).await;
    for _ in 0..15 {
        server.kill_launcher(); // and not until its gateway is dead
        server = Server::start(&home, &config).await;
    }
    assert!(server.output().contains("took over"), "{}", server.output());
    server.stop();
    check_nothing_left(&home);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launcher_killed_while_processes_start_leaves_nothing_that_the_next_does_not_clear_away() {
    let home = Home::new();
    let (temporary, channels) = (home.temporary(), home.run().join("new"));
    let launch = || {
        Server::launch_as(&home, CONFIG, |command| {
            command.env("TMPDIR", &temporary);
        })
    };
    // Folders alone: ONNX Runtime keeps a file there.
    let inside = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count()
    };
    for _ in 0..5 {
        let server = launch();
        wait_until("a process to start", LIMIT, || inside(&channels) + inside(&temporary) > 0);
        server.kill_launcher();
    }
    let mut server = launch();
    server.wait_ready().await;
    assert_eq!((inside(&channels), inside(&temporary)), (0, 0));
    server.stop();
    assert!(!channels.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_stops_at_once_and_the_next_start_finishes_the_frames() {
    let home = Home::new();
    let mut server = Server::start(&home, CONFIG).await;
    let first = server.client();
    let batch = push(&first, FRAMES).await;
    server.signal(Signal::SIGTERM);
    wait_until("the drain to begin", LIMIT, || server.output().contains("finishing what was accepted"));
    server.signal(Signal::SIGTERM);
    let status = server.wait_end();
    assert_eq!(status.code(), Some(1), "{}", server.output());
    let server = Server::start(&home, CONFIG).await;
    check_results(&server.client(), &[&batch]).await;
    first.release(&batch);
    server.stop();
    check_nothing_left(&home);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_the_log_who_stops_reading_hinders_no_repair() {
    let home = Home::new();
    let (mut log, writer) = io::pipe().expect("a pipe");
    fcntl_setpipe_size(&writer, 4096).expect("a small one");
    let mut server = Server::launch_as(&home, CONFIG, |command| {
        command.stderr(writer);
    });
    server.wait_ready().await;
    // The first of these are lines in the log, which are more than the pipe holds; the others are counted.
    let images = vec![png(16, 16); 100];
    let names = (0..images.len()).map(|number| format!("fault:detect:scribble.{number}"));
    let client = server.client();
    client.push(PushRequest::images(&images).names(names).stream(STREAM)).await.expect("the push is good");
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results = client.results(STREAM, options).collect::<Vec<_>>();
    assert_eq!(tokio::time::timeout(LIMIT, results).await.expect("all results in time").len(), images.len());
    ["detect", "gateway", "detect"].iter().for_each(|stage| server.kill_one(stage));

    let reader = thread::spawn(move || {
        let mut said = String::new();
        log.read_to_string(&mut said).map(|_| said)
    });
    server.stop();
    let said = reader.join().expect("no panic").expect("it is UTF-8");
    assert!(said.len() > 4096, "it was more than the pipe holds: {said}");
    let shown = said.matches("postprocess[0]: frame").count();
    let counted = format!("postprocess[0]: {} like this were left out", images.len() - shown);
    assert!(shown > 10 && said.contains(&counted), "nothing was lost: {said}");
    assert_eq!(said.lines().last().and_then(|line| line.split_once("launcher: ")).map(|(_, words)| words), Some(LAST));
    assert_eq!(said.matches("died (signal: 9").count(), 3, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_wait_and_those_that_say_nothing_are_closed() {
    let home = Home::new();
    let server = Server::start(&home, &format!("{CONFIG}[server]\nconnections_max = 4\n")).await;
    let connect = || UnixStream::connect(home.run().join("grpc.sock")).expect("it listens");
    let silent: Vec<UnixStream> = (0..4).map(|_| connect()).collect();
    let start = Instant::now();
    server.client().wait_ready(LIMIT).await.expect("it is served once the others are closed");
    assert!(start.elapsed() > Duration::from_secs(5), "it waited: {:?}", start.elapsed());
    for mut silent in silent {
        silent.set_read_timeout(Some(LIMIT)).expect("it can be set");
        silent.read_to_end(&mut Vec::new()).expect("it is closed");
    }
    server.stop();
}

/// ONNX Runtime would store an id of the machine and what it does in a database, to be sent to its maker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_keeps_no_telemetry() {
    let home = Home::new();
    let config = "name = \"silent\"\n[pipeline]\ndetector = \"tiny-face-416\"\nattributes = [\"face-expression\"]\n";
    let user = home.path("user");
    let mut server = Server::launch_as(&home, config, |command| {
        command.env("HOME", &user).env_remove("XDG_CACHE_HOME").env_remove("ORT_DISABLE_TELEMETRY");
    });
    server.wait_ready().await;
    assert!(!user.exists(), "something was stored in the user's folder: {user:?}");
    server.stop();
    assert!(!user.exists(), "something was stored in the user's folder: {user:?}");
}
