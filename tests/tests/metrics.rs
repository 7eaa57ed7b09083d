//! What `/metrics` tells is so: compared with what was pushed, what died, and what Prometheus itself makes of it.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, UNIX_EPOCH},
};

use framepipe_client::{FrameResult, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_proto::v1::{PushDataRequest, PushDataResponse};
use framepipe_tests::{
    Home, Server,
    configurations::watched,
    images::png,
    scrape::{Scrape, exchange, free_address, get},
    wait_for, wait_until,
};
use nix::sys::signal::Signal;
use tonic::{Code, Status};

const LIMIT: Duration = Duration::from_secs(60);
/// Less than an idle connection has.
const AT_ONCE: Duration = Duration::from_secs(2);
const GOOD: usize = 40;
const BAD: usize = 7;
const STAGES: [&str; 5] = ["ingest", "preprocess", "detect", "postprocess", "attribute"];

fn config(address: SocketAddr) -> String {
    watched("metrics", address, &[("frames_max", 64)])
}

async fn start(home: &Home) -> (Server, SocketAddr) {
    let address = free_address();
    (Server::start(home, &config(address)).await, address)
}

/// Pushes good images, and bytes that are none, and returns all results.
async fn push(server: &Server, stream: &str) -> Vec<FrameResult> {
    let client = server.client();
    let images: Vec<Vec<u8>> = (0..GOOD).map(|_| png(16, 16)).chain((0..BAD).map(|_| b"no image".to_vec())).collect();
    client.push(PushRequest::images(&images).stream(stream)).await.expect("a good push");
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results = client.results(stream, options).map(|result| result.expect("it is readable")).collect::<Vec<_>>();
    tokio::time::timeout(LIMIT, results).await.expect("all results in time")
}

fn of(name: &str, stage: &str) -> String {
    format!("framepipe_stage_{name}{{stage=\"{stage}\"}}")
}

/// A stage counts a frame a moment after it has passed it on.
fn wait_counted(address: SocketAddr, series: &str, value: f64) {
    wait_until(&format!("{series} to be {value}"), LIMIT, || Scrape::of(address).value(series) == value);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_are_what_was_pushed_and_canaries_count_nowhere() {
    let home = Home::new();
    let (server, address) = start(&home).await;
    let results = push(&server, "a").await;
    assert_eq!(results.len(), GOOD + BAD);
    for stage in STAGES {
        let (passed, errors) = if stage == "ingest" { (GOOD + BAD, BAD) } else { (GOOD, 0) };
        wait_counted(address, &of("frames_total", stage), passed as f64);
        wait_counted(address, &of("errors_total", stage), errors as f64);
    }
    let all = (GOOD + BAD) as f64;
    wait_counted(address, &of("frames_total", "gateway"), all);
    let canaries = "framepipe_canaries_total{outcome=\"good\"}";
    let before = Scrape::of(address).value(canaries);
    wait_until("canaries, now that no frame comes", LIMIT, || Scrape::of(address).value(canaries) >= before + 3.0);

    let scrape = Scrape::of(address);
    for stage in STAGES {
        let passed = if stage == "ingest" { GOOD + BAD } else { GOOD } as f64;
        assert_eq!(scrape.value(&of("frames_total", stage)), passed, "{stage}");
        assert_eq!(scrape.value(&of("batches_total", stage)), passed, "{stage}: batches of one");
        let times = |name: &str| scrape.value(&format!("framepipe_frame_{name}_seconds_count{{stage=\"{stage}\"}}"));
        assert_eq!((times("queued"), times("busy")), (passed, passed), "{stage}");
    }
    assert_eq!(scrape.value("framepipe_frames_accepted_total"), all);
    assert_eq!(scrape.value("framepipe_results_total"), all);
    assert_eq!(scrape.value("framepipe_result_errors_total{code=\"unsupported_format\"}"), BAD as f64);
    assert_eq!(scrape.all("framepipe_result_errors_total").values().sum::<f64>(), BAD as f64);
    assert_eq!(scrape.value("framepipe_frame_seconds_count"), all);
    assert_eq!(scrape.value("framepipe_grpc_calls_total{method=\"PushData\",code=\"ok\"}"), 1.0);
    assert_eq!(scrape.all("framepipe_frames_in_flight{").values().sum::<f64>(), 0.0);
    assert_eq!(scrape.all("framepipe_pool_used_slots").values().sum::<f64>(), 0.0);
    assert_eq!(scrape.all("framepipe_queue_frames").values().sum::<f64>(), 0.0);
    assert_eq!(scrape.value("framepipe_ready"), 1.0);
    assert_eq!(scrape.value("framepipe_frames_in_flight_max"), 64.0);
    for folder in ["state", "shm", "inbox"] {
        let of = |name: &str| scrape.value(&format!("framepipe_file_system_{name}{{folder=\"{folder}\"}}"));
        assert!(of("free_bytes") > 0.0 && of("free_bytes") <= of("bytes"), "{folder}");
    }
    let limits = scrape.all("framepipe_cache_images_limit_bytes");
    assert!(limits.len() == 2 && limits.values().all(|bytes| *bytes > 0.0), "{limits:?}");
    // The parts of all frames' times are all of their time.
    let parts = ["queued", "busy"].map(|name| {
        let sums = scrape.all(&format!("framepipe_frame_{name}_seconds_sum"));
        sums.values().sum::<f64>()
    });
    let whole = scrape.value("framepipe_frame_seconds_sum");
    assert!((parts.iter().sum::<f64>() - whole).abs() < 1e-3 * whole, "{parts:?} of {whole}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deaths_restarts_and_repairs_are_counted_and_outlive_the_gateway() {
    let home = Home::new();
    let (server, address) = start(&home).await;
    let start_time = |scrape: &Scrape| scrape.value("process_start_time_seconds");
    let before = Scrape::of(address);
    let age = UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs_f64() - start_time(&before);
    assert!(age > 0.0 && age < LIMIT.as_secs_f64(), "started {age} s ago");
    for stage in ["detect", "gateway", "keeper"] {
        server.kill_one(stage);
        for name in ["deaths_total", "restarts_total", "recoveries_total"] {
            wait_counted(address, &of(name, stage), 1.0);
        }
    }
    let scrape = Scrape::of(address);
    assert!(start_time(&scrape) > start_time(&before), "another gateway is known by its start");
    assert!(scrape.value(&of("recovery_seconds_total", "detect")) > 0.0);
    assert_eq!(scrape.value(&of("deaths_total", "ingest")), 0.0);
    assert_eq!(scrape.all("framepipe_stage_deaths_total").values().sum::<f64>(), 3.0);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_and_what_waits_are_told() {
    let home = Home::new();
    let (server, address) = start(&home).await;
    server.signal_stage("ingest", Signal::SIGSTOP); // nothing moves
    let file = home.store("one.png", &png(16, 16)).display().to_string();
    let request = |count: usize| PushDataRequest {
        files: vec![file.clone(); count],
        stream: "a".into(),
        ..PushDataRequest::default()
    };
    let push = async |count: usize| -> Result<PushDataResponse, Status> {
        server.raw_client().push_data(request(count)).await.map(tonic::Response::into_inner)
    };
    push(64).await.expect("64 frames are the budget");
    assert_eq!(push(1).await.expect_err("it is used up").code(), Code::ResourceExhausted);
    let absent = PushDataRequest { files: vec!["/nowhere".into()], ..PushDataRequest::default() };
    server.raw_client().push_data(PushDataRequest { wait_ms: 1, ..absent }).await.expect_err("there is no such file");
    let scrape = Scrape::of(address);
    assert_eq!(scrape.value("framepipe_refusals_total{reason=\"budget\"}"), 1.0);
    assert_eq!(scrape.value("framepipe_refusals_total{reason=\"invalid\"}"), 1.0);
    assert_eq!(scrape.all("framepipe_refusals_total").values().sum::<f64>(), 2.0);
    assert_eq!(scrape.all("framepipe_frames_in_flight{").values().sum::<f64>(), 64.0);
    assert!(scrape.value("framepipe_queue_frames{stage=\"ingest\"}") >= 63.0, "one may be in hand");
    let age = "framepipe_queue_oldest_age_seconds{stage=\"ingest\"}";
    assert!(scrape.value(age) > 0.0);
    wait_until("the oldest frame's age to grow", LIMIT, || Scrape::of(address).value(age) > scrape.value(age));
    server.signal_stage("ingest", Signal::SIGCONT);
    wait_counted(address, "framepipe_results_total", 64.0);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_is_bounded_and_answers_what_it_has_alone() {
    let home = Home::new();
    let (server, address) = start(&home).await;
    assert_eq!(get(address, "/").expect("an answer").status, 404);
    let post = exchange(address, b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").expect("an answer");
    assert_eq!(post.status, 405, "{post:?}");
    assert!(post.head.to_lowercase().contains("allow: get, head"), "{post:?}");
    let head = exchange(address, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("an answer");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let long = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    match exchange(address, long.as_bytes()) {
        Ok(answer) => assert_eq!(answer.status, 431, "{answer:?}"),
        Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it was closed, not kept: {error}"),
    }
    // Connections that say nothing, or not all, keep nobody from being answered.
    for begun in ["", "GET /readyz HTTP/1.1\r\nHost: "] {
        let open = |_| {
            let mut stream = TcpStream::connect(address).expect("it is accepted");
            stream.write_all(begun.as_bytes()).expect("it has just been opened");
            stream
        };
        let idle: Vec<TcpStream> = (0..40).map(open).collect();
        for path in ["/readyz", "/livez", "/metrics"] {
            let start = Instant::now();
            assert_eq!(get(address, path).expect("an answer").status, 200);
            assert!(start.elapsed() < AT_ONCE, "{path} after {:?}, beside {begun:?}", start.elapsed());
        }
        drop(idle);
    }
    assert_eq!(push(&server, "a").await.len(), GOOD + BAD);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_an_error_that_names_the_key() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut server = Server::launch(&home, &config(taken.local_addr().expect("it is bound")));
    assert_eq!(server.wait_end().code(), Some(1));
    let said = server.output();
    assert!(said.contains("server.http, --http") && said.contains("another port, or \"\" for none"), "{said}");
    assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_finds_no_fault_with_a_scrape() {
    let home = Home::new();
    let (server, address) = start(&home).await;
    push(&server, "a").await;
    server.kill_one("detect");
    let page = wait_for("a scrape", LIMIT, || get(address, "/metrics").ok());
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: run scripts/setup --tests");
    promtool.stdin.take().expect("it was piped").write_all(page.body.as_bytes()).expect("it reads");
    let said = promtool.wait_with_output().expect("it ends");
    assert!(said.status.success() && said.stderr.is_empty() && said.stdout.is_empty(), "{said:?}");
    server.stop();
}

/// A Prometheus of the test's own. Dropped, it is killed.
struct Prometheus {
    process: Child,
    address: SocketAddr,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    fn start(home: &Home, target: SocketAddr) -> Self {
        let (address, file) = (free_address(), home.path("prometheus.yml"));
        let jobs =
            format!("scrape_configs:\n  - job_name: framepipe\n    static_configs:\n      - targets: [\"{target}\"]\n");
        fs::write(&file, format!("global:\n  scrape_interval: 1s\n{jobs}")).expect("a file of the test's own");
        let log = fs::File::create(home.path("prometheus.log")).expect("a file of the test's own");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", home.path("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .expect("prometheus is missing: run scripts/setup --tests");
        Self { process, address }
    }

    /// The values of a query's series, summed; none: it has none yet.
    fn query(&self, expression: &str) -> Option<f64> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = get(self.address, &format!("/api/v1/query?query={encoded}")).ok()?;
        // In pieces, as it comes: the JSON is one line of them.
        let json = answer.body.lines().find(|line| line.starts_with('{'))?;
        let json: serde_json::Value = serde_json::from_str(json).ok()?;
        let series = json["data"]["result"].as_array()?;
        let value = |one: &serde_json::Value| one["value"][1].as_str()?.parse::<f64>().ok();
        if series.is_empty() { None } else { series.iter().map(value).sum() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prometheus_that_scrapes_it_knows_what_was_pushed() {
    let home = Home::new();
    let (server, address) = start(&home).await;
    let prometheus = Prometheus::start(&home, address);
    wait_until("a first scrape", LIMIT, || prometheus.query("up{job=\"framepipe\"}") == Some(1.0));
    for round in 1..=2 {
        push(&server, "stream").await; // one stream: two would have half of the places each
        let all = (round * (GOOD + BAD)) as f64;
        for (expression, expected) in [
            ("framepipe_results_total", all),
            ("framepipe_frames_accepted_total", all),
            ("sum(framepipe_result_errors_total)", (round * BAD) as f64),
            ("framepipe_stage_frames_total{stage=\"detect\"}", (round * GOOD) as f64),
            ("framepipe_frame_busy_seconds_count{stage=\"detect\"}", (round * GOOD) as f64),
            ("framepipe_ready", 1.0),
        ] {
            wait_until(&format!("{expression} to be {expected}"), LIMIT, || {
                prometheus.query(expression) == Some(expected)
            });
        }
    }
    let quantile = "histogram_quantile(0.99, sum by (le) (framepipe_frame_seconds_bucket))";
    let p99 = wait_for("a quantile", LIMIT, || prometheus.query(quantile));
    assert!(p99 > 0.0001 && p99 <= 60.0, "{p99} s");
    server.stop();
}
