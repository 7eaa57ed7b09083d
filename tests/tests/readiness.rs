//! Readiness means that frames get through: it is false while a stage has no worker, hangs, or the pipeline drains, and true
//! under overload and while models change. The canary that shows it leaves no trace, whoever dies with it.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use framepipe_client::{PushRequest, ResultsOptions, StreamExt as _};
use framepipe_tests::{
    Home, Server,
    configurations::watched,
    images::png,
    scrape::{Answer, Scrape, free_address, get},
    swaps::{Camera, MODEL, Models},
    wait_for, wait_until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

const LIMIT: Duration = Duration::from_secs(60);
/// It shall take 200 ms: `scripts/bench-monitoring` measures it. Here the machine may be busy.
const SOON: Duration = Duration::from_secs(5);
const FRAMES_MAX: usize = 32;
/// A watcher's, so that it leaves the machine to the pipeline.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
const STAGES: [&str; 5] = ["ingest", "preprocess", "detect", "postprocess", "attribute"];

/// One worker a stage, and a canary that is soon missed.
fn config(address: SocketAddr) -> String {
    let stages: String = STAGES.iter().map(|stage| format!("[stages.{stage}]\nprocesses = 1\n")).collect();
    let server = [("frames_max", FRAMES_MAX as u32), ("canary_idle_ms", 100), ("canary_ms_max", 1000)];
    watched("readiness", address, &server) + &stages
}

async fn start(home: &Home) -> (Server, SocketAddr) {
    let address = free_address();
    (Server::start(home, &config(address)).await, address)
}

fn readiness(address: SocketAddr) -> Option<Answer> {
    get(address, "/readyz").ok()
}

fn is_ready(address: SocketAddr) -> bool {
    readiness(address).is_some_and(|answer| answer.status == 200)
}

/// Waits until it is not ready, and says why.
fn why_not(address: SocketAddr, limit: Duration) -> String {
    let unready = || readiness(address).filter(|answer| answer.status == 503);
    wait_for("an unready pipeline", limit, unready).body
}

async fn health(server: &Server, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.into() };
    HealthClient::new(server.channel()).check(request).await.expect("an answer").get_ref().status()
}

async fn check_health(server: &Server, expected: ServingStatus) {
    for service in ["", "framepipe.v1.Framepipe"] {
        assert_eq!(health(server, service).await, expected, "{service:?}");
    }
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).expect("it runs");
}

/// No canary was accepted, journalled, counted, kept or shown; and none is stuck.
fn check_no_trace(server: &Server, address: SocketAddr) {
    let status = server.status();
    assert_eq!((status.accepted, status.jobs.free), (0, FRAMES_MAX), "{status:?}");
    assert_eq!(status.pools_in_use(), Vec::<&str>::new());
    let scrape = Scrape::of(address);
    let of_stages = ["frames", "errors", "batches", "busy_seconds", "copied_bytes", "put_back", "quarantined_frames"];
    for name in of_stages.map(|name| format!("framepipe_stage_{name}_total{{stage=")) {
        let keeper = scrape.value(&format!("{name}\"keeper\"}}")); // it has work without frames
        assert_eq!(scrape.all(&name).values().sum::<f64>(), keeper, "{name}: {:?}", scrape.all(&name));
    }
    let whole = ["results_total", "crops_total", "crop_runs_total", "journal_unread_results", "journal_streams"];
    for name in whole.map(|name| format!("framepipe_{name}")) {
        assert_eq!(scrape.value(&name), 0.0, "{name}");
    }
    let listed = server.run(&["quarantine", "list"]);
    assert!(listed.status.success() && !String::from_utf8_lossy(&listed.stdout).contains("1844674407"), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_without_a_worker_is_seen_at_once_though_the_launcher_is_stopped() {
    let home = Home::new();
    let (server, address) = start(&home).await;
    check_health(&server, ServingStatus::Serving).await;
    assert!(is_ready(address));
    for stage in STAGES {
        let pid = server.pids(stage)[0];
        server.signal(Signal::SIGSTOP);
        signal(pid, Signal::SIGKILL);
        let why = why_not(address, SOON);
        assert!(why.contains(&format!("{stage} has no worker (0 starting, 0 silent, 1 dead)")), "{why}");
        wait_until("the health service to say so", SOON, || !is_ready(address));
        check_health(&server, ServingStatus::NotServing).await;
        server.signal(Signal::SIGCONT);
        wait_until(&format!("another {stage}"), LIMIT, || is_ready(address));
        assert_ne!(server.pids(stage)[0], pid);
    }
    check_health(&server, ServingStatus::Serving).await;
    check_no_trace(&server, address);
    server.stop();
    assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_hangs_is_seen_by_the_canary() {
    let home = Home::new();
    let (server, address) = start(&home).await;
    for stage in STAGES {
        wait_until("a ready pipeline", LIMIT, || is_ready(address));
        server.signal_stage(stage, Signal::SIGSTOP);
        let why = why_not(address, LIMIT);
        assert!(why.contains("frames do not get through: one of the gateway's own is out"), "{stage}: {why}");
        server.signal_stage(stage, Signal::SIGCONT);
    }
    wait_until("a ready pipeline", LIMIT, || is_ready(address));
    check_no_trace(&server, address);
    server.stop();
}

/// Looks at readiness again and again, on a thread of its own.
struct Watcher {
    over: Arc<AtomicBool>,
    looks: Arc<AtomicUsize>,
    unready: JoinHandle<Vec<String>>,
}

impl Watcher {
    fn start(address: SocketAddr) -> Self {
        let (over, looks) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (ends, counts) = (over.clone(), looks.clone());
        let watch = move || {
            let mut unready = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                match get(address, "/readyz") {
                    Ok(answer) if answer.status == 200 => {}
                    other => unready.push(format!("{other:?}")),
                }
                counts.fetch_add(1, Ordering::Relaxed);
                thread::sleep(BETWEEN_LOOKS);
            }
            unready
        };
        Self { over, looks, unready: thread::spawn(watch) }
    }

    /// It was ready at every look, of which there were many.
    fn check(self) {
        self.over.store(true, Ordering::Relaxed);
        assert_eq!(self.unready.join().expect("it ran"), Vec::<String>::new());
        assert!(self.looks.load(Ordering::Relaxed) > 20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pipeline_stays_ready() {
    const ROUNDS: usize = 20;
    let home = Home::new();
    let (server, address) = start(&home).await;
    let client = server.client();
    let images: Vec<Vec<u8>> = (0..FRAMES_MAX / 2).map(|number| png(64 + number as u32, 64)).collect();
    let watcher = Watcher::start(address);
    client.push(PushRequest::images(&images).stream("flood")).await.expect("there is room");
    let mut results = client.results("flood", ResultsOptions::default());
    let pusher = client.clone();
    let pushing = tokio::spawn(async move {
        for _ in 1..ROUNDS {
            // As soon as there is room for a half of the budget: it is full, or nearly so, all the time.
            let push = PushRequest::images(&images).stream("flood").wait(LIMIT);
            pusher.push(push).await.expect("there is room in time");
        }
    });
    for _ in 0..ROUNDS * FRAMES_MAX / 2 {
        let result = tokio::time::timeout(LIMIT, results.next()).await.expect("in time").expect("there are more");
        result.expect("it is readable");
    }
    pushing.await.expect("all were pushed");
    watcher.check();
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stays_ready_while_models_change() {
    let home = Home::new();
    let address = free_address();
    let config = format!("{}http = \"{address}\"\ncanary_idle_ms = 100\n", Models::new(&home, 2).config());
    let server = Server::start(&home, &config).await;
    let (here, elsewhere) = (address.to_string(), free_address().to_string());
    for (options, is_ready) in [(&[] as &[&str], true), (&["--http", &here], true), (&["--http", &elsewhere], false)] {
        let output = server.run(&[&["status", "--ready"], options].concat());
        assert_eq!(output.status.success(), is_ready, "{options:?}: {output:?}");
    }
    let watcher = Watcher::start(address);
    // Without frames, so that canaries are on their way, and with them.
    for version in [2, 1] {
        let output = server.run(&["model", "use", &format!("{MODEL}@{version}")]);
        assert!(output.status.success(), "{output:?}\n{}", server.output());
    }
    let camera = Camera::start(&server);
    for version in [2, 1] {
        camera.wait_for_more();
        let output = server.run(&["model", "use", &format!("{MODEL}@{version}")]);
        assert!(output.status.success(), "{output:?}\n{}", server.output());
    }
    camera.wait_for_more();
    assert_eq!(camera.versions().await, ["face 1", "face 2", "face 1"]);
    watcher.check();
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_drains_is_unready_at_once() {
    let home = Home::new();
    let (mut server, address) = start(&home).await;
    server.signal_stage("postprocess", Signal::SIGSTOP); // its frame keeps it from ending
    let pid = server.pids("postprocess")[0];
    server.client().push(PushRequest::images([&png(16, 16)]).stream("a")).await.expect("a good push");
    server.signal(Signal::SIGTERM);
    let words = "finishes what it has accepted, and takes no more";
    wait_until("an answer that it drains", SOON, || {
        readiness(address).is_some_and(|answer| answer.body.contains(words))
    });
    check_health(&server, ServingStatus::NotServing).await;
    assert_eq!(get(address, "/livez").expect("an answer").status, 200, "it lives");
    signal(pid, Signal::SIGCONT);
    assert!(server.wait_end().success(), "{}", server.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_with_the_canary_at_any_stage_leaves_it_to_the_next() {
    let home = Home::new();
    let (server, address) = start(&home).await;
    for stage in STAGES {
        wait_until("a ready pipeline", LIMIT, || is_ready(address));
        server.signal_stage(stage, Signal::SIGSTOP);
        why_not(address, LIMIT); // the canary is there, and goes no further
        server.kill_one("gateway");
        let words = "no frame has come through yet";
        let says_so = || readiness(address).is_some_and(|answer| answer.body.contains(words));
        wait_until(&format!("the next gateway to wait for the canary at {stage}"), LIMIT, says_so);
        server.signal_stage(stage, Signal::SIGCONT);
        wait_until(&format!("the canary, that was at {stage}"), LIMIT, || is_ready(address));
    }
    check_no_trace(&server, address);
    server.stop();
    assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launcher_that_is_killed_with_the_canary_on_its_way_leaves_it_to_the_next() {
    let home = Home::new();
    let (server, address) = start(&home).await;
    server.signal_stage("detect", Signal::SIGSTOP);
    why_not(address, LIMIT);
    server.kill();
    let server = Server::start(&home, &config(address)).await;
    assert!(server.output().contains("took over"), "{}", server.output());
    wait_until("a ready pipeline", LIMIT, || is_ready(address));
    check_no_trace(&server, address);
    server.signal_stage("detect", Signal::SIGSTOP);
    why_not(address, LIMIT);
    server.kill();
    // Of other models: the segment is discarded, and no frame was in it.
    let other = config(address).replace("frames_max = 32", "frames_max = 31");
    let mut server = Server::launch_with(&home, &other, &["--discard"]);
    server.wait_ready().await;
    assert!(server.output().contains("its 0 frames are answered"), "{}", server.output());
    server.stop();
    assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new());
}

/// Needs a build with faults: debug assertions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_kills_its_stage_is_not_quarantined_and_the_pipeline_is_not_ready() {
    for stage in STAGES {
        let home = Home::new();
        let address = free_address();
        let server = Server::launch_as(&home, &config(address), |command| {
            command.env("FRAMEPIPE_FAULT_CANARY", format!("fault:{stage}:kill"));
        });
        let died = "came back as an error: Poison";
        wait_until("a canary that has killed its stage", LIMIT, || {
            readiness(address).is_some_and(|answer| answer.body.contains(died))
        });
        assert!(!is_ready(address));
        // Frames are not harmed: theirs is another name. Their results show that they get through.
        let client = server.client();
        client.push(PushRequest::images([&png(16, 16)]).stream("a")).await.expect("a good push");
        let mut results = client.results("a", ResultsOptions { until_drained: true, ..ResultsOptions::default() });
        let result = tokio::time::timeout(LIMIT, results.next()).await.expect("in time").expect("there is one");
        result.expect("it is readable");
        let listed = server.run(&["quarantine", "list"]);
        let said = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.status.success() && !said.contains(stage), "{listed:?}");
        let scrape = Scrape::of(address);
        assert!(scrape.value(&format!("framepipe_stage_deaths_total{{stage=\"{stage}\"}}")) >= 3.0);
        assert!(scrape.value("framepipe_canaries_total{outcome=\"failed\"}") >= 1.0);
        assert_eq!(scrape.all("framepipe_stage_errors_total").values().sum::<f64>(), 0.0);
        assert_eq!(scrape.all("framepipe_stage_quarantined_frames_total").values().sum::<f64>(), 0.0);
        assert_eq!(scrape.all("framepipe_stage_recovered_frames_total").values().sum::<f64>(), 0.0);
        assert_eq!((server.status().accepted, scrape.value("framepipe_results_total")), (1, 1.0));
        server.kill();
    }
}
