//! `scripts/bench-monitoring`: how soon readiness tells of a stage without a worker; whether a frame's stage times add up to the
//! time that its client waited; and what a scrape takes.

use std::{
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use framepipe_client::{FrameResult, Outcome, PushRequest, Results, ResultsOptions, StreamExt as _};
use framepipe_tests::{
    Home, Server,
    figures::{Arguments, Figures, finish, quantile},
    images::photo,
    scrape::{free_address, get},
    wait_until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const LIMIT: Duration = Duration::from_secs(120);
const STAGES: [&str; 5] = ["ingest", "preprocess", "detect", "postprocess", "attribute"];
/// Frames that are pushed at once, in the second part.
const FLOOD: usize = 64;
/// The times add up where they are within so much of the client's wait, and a call's way: the client's clock begins with the answer of
/// its push and ends with the result, each of which has been on its way, and the gateway's begins and ends before that.
const SHARE: f64 = 0.02;

fn config(address: SocketAddr) -> String {
    let stages: String = STAGES.iter().map(|stage| format!("[stages.{stage}]\nprocesses = 1\n")).collect();
    format!(
        "name = \"monitoring\"\n[pipeline]\ndetector = \"nanodet416-4c-int8\"\n[server]\nhttp = \"{address}\"\n\
         frames_max = 256\n{stages}"
    )
}

fn is_ready(address: SocketAddr) -> bool {
    get(address, "/readyz").is_ok_and(|answer| answer.status == 200)
}

/// Kills the only worker of each stage in turn, while the launcher is stopped, and returns the milliseconds until it shows.
fn deaths(server: &Server, address: SocketAddr, rounds: usize) -> Vec<f64> {
    let mut took = Vec::new();
    for stage in STAGES.iter().cycle().take(rounds) {
        wait_until("a ready pipeline", LIMIT, || is_ready(address));
        let pid = server.pids(stage)[0];
        server.signal(Signal::SIGSTOP);
        let start = Instant::now();
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("it runs");
        while is_ready(address) {
            assert!(start.elapsed() < LIMIT, "the death of {stage} is not seen");
        }
        took.push(start.elapsed().as_secs_f64() * 1e3);
        server.signal(Signal::SIGCONT);
    }
    took
}

/// What a frame's client waited, and how far the sum of its times is from that, in seconds.
struct Gap {
    waited: f64,
    apart: f64,
}

impl Gap {
    fn of(result: &FrameResult, waited: Duration) -> Self {
        assert!(matches!(result.outcome, Some(Outcome::Detections(_))), "{:?}", result.outcome);
        let us: u64 = result.times.iter().map(|time| time.queued_us + time.busy_us).sum();
        let waited = waited.as_secs_f64();
        Self { waited, apart: (us as f64 / 1e6 - waited).abs() }
    }
}

/// Seconds that a call takes that asks for next to nothing, median.
async fn call_s(server: &Server) -> f64 {
    let client = server.client();
    let mut took = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        client.wait_ready(LIMIT).await.expect("it is ready");
        took.push(start.elapsed().as_secs_f64());
    }
    quantile(&took, 0.5)
}

async fn next(results: &mut Results) -> FrameResult {
    let result = tokio::time::timeout(LIMIT, results.next()).await.expect("in time").expect("there are more");
    result.expect("it is readable")
}

/// Pushes frames in batches, waits for each batch's results, and returns each frame's gap.
async fn gaps(server: &Server, stream: &str, image: &[u8], batches: usize, batch: usize) -> Vec<Gap> {
    let client = server.client();
    let mut gaps = Vec::new();
    let mut results = None;
    for _ in 0..batches {
        let images = vec![image; batch];
        client.push(PushRequest::images(images).stream(stream)).await.expect("there is room");
        let accepted = Instant::now();
        let results = results.get_or_insert_with(|| client.results(stream, ResultsOptions::default()));
        for _ in 0..batch {
            let result = next(results).await;
            gaps.push(Gap::of(&result, accepted.elapsed()));
        }
    }
    gaps
}

fn told(figures: &mut Figures, name: &str, what: &str, call_s: f64, gaps: &[Gap]) {
    let within = |gap: &&Gap| gap.apart <= SHARE * gap.waited + call_s;
    let within = gaps.iter().filter(within).count() as f64 / gaps.len() as f64;
    let shares: Vec<f64> = gaps.iter().map(|gap| gap.apart / gap.waited).collect();
    figures.told(format!("{name}_frames"), format!("{what}: frames"), gaps.len() as f64);
    let words = format!("{what}: part whose stage times are within {SHARE} of the client's wait, and a call's way");
    figures.at_least(format!("{name}_within"), words, within, 0.99);
    figures.told(
        format!("{name}_gap"),
        format!("{what}: difference, as a part of the wait, median"),
        quantile(&shares, 0.5),
    );
    figures.told(format!("{name}_gap_p99"), format!("{what}: the same, p99"), quantile(&shares, 0.99));
}

async fn measure(rounds: usize, figures: &mut Figures) {
    let (home, address) = (Home::new(), free_address());
    let server = Server::start(&home, &config(address)).await;
    let took = deaths(&server, address, rounds);
    figures.told("unready_kills", "only workers killed, the launcher stopped", took.len() as f64);
    figures.told("unready_ms", "until /readyz says 503, ms, median", quantile(&took, 0.5));
    figures.told("unready_p99_ms", "the same, p99", quantile(&took, 0.99));
    figures.at_most("unready_max_ms", "the same, the longest", quantile(&took, 1.0), 200.0);
    wait_until("a ready pipeline", LIMIT, || is_ready(address));
    let image = photo("bus.jpg");
    gaps(&server, "warm-up", &image, 10, 1).await; // files, connections
    let call_s = call_s(&server).await;
    figures.told("call_ms", "a call's way, there and back, ms, median", call_s * 1e3);
    told(figures, "times_single", "one frame at a time", call_s, &gaps(&server, "single", &image, 5 * rounds, 1).await);
    told(figures, "times_flood", "64 at once", call_s, &gaps(&server, "flood", &image, rounds / 5, FLOOD).await);
    let scrape = || {
        let start = Instant::now();
        assert_eq!(get(address, "/metrics").expect("an answer").status, 200);
        start.elapsed().as_secs_f64() * 1e3
    };
    let scrapes: Vec<f64> = (0..50).map(|_| scrape()).collect();
    figures.told("scrape_ms", "a scrape of /metrics, ms, median", quantile(&scrapes, 0.5));
    figures.told("scrape_p99_ms", "the same, p99", quantile(&scrapes, 0.99));
    server.stop();
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let asked = || {
        let mut arguments = Arguments::parse()?;
        let asked: (usize, _) = (arguments.number("--rounds", 50)?, arguments.path("--json"));
        arguments.end()?;
        if asked.0 < 5 { Err("give 5 rounds or more".to_owned()) } else { Ok(asked) }
    };
    let (rounds, json) = match asked() {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("bench-monitoring: {error}");
            return ExitCode::from(2);
        }
    };
    let mut figures = Figures::default();
    measure(rounds, &mut figures).await;
    finish(&figures, json.as_deref())
}
