//! The times of a result say where its frame was, and add up to what its client waited.

use std::time::{Duration, Instant};

use framepipe_client::{FrameResult, PushRequest, Results, ResultsOptions, StreamExt as _};
use framepipe_tests::{
    Home, Server,
    images::png,
    scrape::{Scrape, free_address},
    wait_until,
};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(60);
/// How long a frame waits before a stage.
const WAIT: Duration = Duration::from_millis(400);
/// For what lies between client and gateway, on a busy machine. `scripts/bench-monitoring` measures how close they are.
const SLACK: Duration = Duration::from_millis(250);
const STAGES: [&str; 5] = ["ingest", "preprocess", "detect", "postprocess", "attribute"];

async fn next(results: &mut Results) -> FrameResult {
    let result = tokio::time::timeout(LIMIT, results.next()).await.expect("in time").expect("there are more");
    result.expect("it is readable")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_is_told_where_it_was_and_all_times_add_up_to_the_whole() {
    let (home, address) = (Home::new(), free_address());
    let stages: String = STAGES.iter().map(|stage| format!("[stages.{stage}]\nprocesses = 1\n")).collect();
    let config = format!(
        "name = \"stage-times\"\n[pipeline]\ndetector = \"tiny-face-416\"\n[server]\nhttp = \"{address}\"\n\
         canary_idle_ms = 0\n{stages}"
    );
    let server = Server::start(&home, &config).await;
    let client = server.client();
    let image = png(64, 64);
    client.push(PushRequest::images([&image]).stream("a")).await.expect("a good push");
    let mut results = client.results("a", ResultsOptions::default());
    next(&mut results).await;
    for (place, stage) in STAGES.into_iter().enumerate() {
        server.signal_stage(stage, Signal::SIGSTOP);
        let began = Instant::now();
        client.push(PushRequest::images([&image]).stream("a")).await.expect("a good push");
        let accepted = Instant::now();
        let age = format!("framepipe_queue_oldest_age_seconds{{stage=\"{stage}\"}}");
        wait_until("the frame to have waited", LIMIT, || Scrape::of(address).value(&age) > WAIT.as_secs_f64());
        server.signal_stage(stage, Signal::SIGCONT);
        let result = next(&mut results).await;
        let (longest, shortest) = (began.elapsed(), accepted.elapsed());
        let times: Vec<Duration> =
            result.times.iter().map(|time| Duration::from_micros(time.queued_us + time.busy_us)).collect();
        let names: Vec<&str> = result.times.iter().map(|time| time.stage.as_str()).collect();
        assert_eq!(names, [&STAGES[..], &["gateway"]].concat());
        // It came there soon, and went on soon: nearly all of its wait was there.
        let queued = Duration::from_micros(result.times[place].queued_us);
        assert!(queued + SLACK > WAIT && queued < longest, "{stage}: {:?} of {longest:?}", result.times);
        let sum: Duration = times.iter().sum();
        assert!(
            sum <= longest && sum + SLACK > shortest,
            "{stage}: {sum:?}, the client waited {shortest:?} to {longest:?}"
        );
    }
    server.stop();
}
