//! `scripts/bench-traces`: what traces cost: the gateway's CPU time for a frame, with a part of the frames traced and with none, in
//! turns. Frames are of one image whose result is kept, so that the gateway does as much as it can, and nothing else takes its time.

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use framepipe_client::{PushRequest, ResultsOptions, StreamExt as _};
use framepipe_tests::{
    Collector, Home, Server,
    figures::{Arguments, Figures, finish, quantile},
    images::png,
    wait_until,
};

const CONFIG: &str =
    "name = \"traced\"\n[pipeline]\ndetector = \"tiny-face-416\"\n[cache]\nresult_bytes_max = \"8 MiB\"\n";
const STREAM: &str = "bench";
/// Frames of one push.
const BATCH: usize = 500;
/// Part of the frames that are traced.
const SAMPLE: f64 = 0.01;
/// The share of the gateway's CPU time that they may cost.
const SHARE_MOST: f64 = 0.02;

/// CPU time of a process, of all its threads.
fn cpu(pid: u32) -> Duration {
    let threads =
        fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").map(|entry| entry.expect("an entry").path());
    let of = |path: std::path::PathBuf| {
        let said = fs::read_to_string(path.join("schedstat")).unwrap_or_default(); // a thread that ended has none
        said.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(threads.map(of).sum())
}

/// Pushes so many frames and reads their results.
async fn serve(server: &Server, frames: usize) {
    let client = server.client();
    let image = png(16, 16);
    for _ in 0..frames.div_ceil(BATCH) {
        let images = vec![&image; BATCH];
        client.push(PushRequest::images(images).stream(STREAM)).await.expect("the push is good");
        let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
        let results = client.results(STREAM, options).map(|result| result.expect("it is readable"));
        assert_eq!(results.collect::<Vec<_>>().await.len(), BATCH);
    }
}

/// The gateway's CPU time for a frame, in microseconds, and frames a second.
async fn measure(home: &Home, traces: &str, frames: usize) -> (f64, f64) {
    let server = Server::start(home, &format!("{CONFIG}{traces}")).await;
    serve(&server, BATCH).await; // the result is kept by then
    let gateway = server.pids("gateway")[0];
    let (before, start) = (cpu(gateway), Instant::now());
    serve(&server, frames).await;
    let (took, used) = (start.elapsed(), cpu(gateway) - before);
    server.stop();
    (used.as_secs_f64() * 1e6 / frames as f64, frames as f64 / took.as_secs_f64())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let asked = || {
        let mut arguments = Arguments::parse()?;
        let (rounds, frames): (usize, usize) =
            (arguments.number("--rounds", 15)?, arguments.number("--frames", 20_000)?);
        let json = arguments.path("--json");
        arguments.end()?;
        if rounds == 0 || frames < BATCH {
            Err(format!("give 1 round and {BATCH} frames or more"))
        } else {
            Ok((rounds, frames, json))
        }
    };
    let (rounds, frames, json) = match asked() {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("bench-traces: {error}");
            return ExitCode::from(2);
        }
    };
    let frames = frames - frames % BATCH;
    println!("{rounds} rounds of {frames} frames with {} % of them traced, and as many with none", SAMPLE * 100.0);
    let (home, collector) = (Home::new(), Collector::start().await);
    let traced = collector.config(SAMPLE);
    let (mut shares, mut off_us, mut on_us, mut per_s) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut pair = [0.0; 2];
        for turn in [round % 2, (round + 1) % 2] {
            let (us, rate) = measure(&home, if turn == 1 { &traced } else { "" }, frames).await;
            pair[turn] = us;
            per_s.push(rate);
        }
        off_us.push(pair[0]);
        on_us.push(pair[1]);
        shares.push(pair[1] / pair[0] - 1.0);
    }
    wait_until("spans to have come", Duration::from_secs(10), || !collector.traces().is_empty());
    let of_all = collector.traces().len() as f64 / (rounds * (frames + BATCH)) as f64;
    let mut figures = Figures::default();
    figures.told("traces_off_gateway_us", "the gateway's CPU time for a frame, no traces, us", quantile(&off_us, 0.5));
    figures.told("traces_on_gateway_us", "the same, 1 % of the frames traced, us", quantile(&on_us, 0.5));
    figures.told("traces_frames_per_s", "frames a second, of both", quantile(&per_s, 0.5));
    figures.told("traces_sampled_share", "frames that the collector got spans of, of all", of_all);
    figures.told("traces_cost_share_q25", "what traces cost more, quartile of the pairs", quantile(&shares, 0.25));
    figures.told("traces_cost_share_q75", "what traces cost more, other quartile", quantile(&shares, 0.75));
    figures.at_most(
        "traces_cost_share",
        "what traces cost more, median of the pairs",
        quantile(&shares, 0.5),
        SHARE_MOST,
    );
    finish(&figures, json.as_deref())
}
