//! Images that were seen before: what preprocess costs where their tensors are kept, and a whole frame where their results are,
//! by the stage times in the results.

use std::collections::HashMap;

use framepipe_client::FrameResult;
use framepipe_tests::{
    Home, Server,
    figures::{Figures, quantile},
    kept::{camera_frame, jpeg, numbered, results_of},
};

/// Different images of a round.
const IMAGES: usize = 24;
/// Rounds after the first.
const ROUNDS: usize = 5;
/// Of a 1080p JPEG.
const BYTES: usize = 500_000;

fn config(cache: &str) -> String {
    format!("name = \"repeats\"\n[pipeline]\ndetector = \"nanodet416-4c-int8\"\n[cache]\n{cache}\n")
}

/// The images pushed one after the other, each when the one before has its result, so that none waits for another.
async fn round(home: &Home, server: &Server, images: &[Vec<u8>], number: usize) -> HashMap<String, FrameResult> {
    let mut all = HashMap::new();
    for (place, image) in images.iter().enumerate() {
        let path = home.inbox().join(format!("{place}.jpg"));
        if !path.exists() {
            std::fs::write(&path, image).expect("the inbox takes a file");
        }
        let stream = format!("round-{number}-{place}");
        let request = framepipe_client::PushRequest::files([path.display().to_string()]).stream(&stream);
        server.client().push(request).await.expect("there is room");
        all.extend(results_of(server, &stream).await);
    }
    all
}

/// Microseconds that a stage had each frame.
fn busy_us(results: &HashMap<String, FrameResult>, stage: &str) -> Vec<f64> {
    let of =
        |result: &FrameResult| result.times.iter().find(|time| time.stage == stage).map(|time| time.busy_us as f64);
    results.values().filter_map(of).collect()
}

/// Microseconds from a frame's acceptance to its result.
fn whole_us(results: &HashMap<String, FrameResult>) -> Vec<f64> {
    let of = |result: &FrameResult| result.times.iter().map(|time| (time.queued_us + time.busy_us) as f64).sum();
    results.values().map(of).collect()
}

struct Seen {
    cold: HashMap<String, FrameResult>,
    warm: Vec<HashMap<String, FrameResult>>,
}

async fn see(cache: &str, images: &[Vec<u8>]) -> Seen {
    let home = Home::new();
    let server = Server::start(&home, &config(cache)).await;
    round(&home, &server, &images[IMAGES..], 1000).await; // the first frames of a process are slower
    let cold = round(&home, &server, &images[..IMAGES], 0).await;
    let mut warm = Vec::new();
    for number in 1..=ROUNDS {
        warm.push(round(&home, &server, &images[..IMAGES], number).await);
    }
    server.stop();
    Seen { cold, warm }
}

/// Measures both.
pub async fn measure(figures: &mut Figures) {
    let frame = jpeg(&camera_frame("bus.jpg", 1920, 1080, 1), BYTES);
    let images: Vec<Vec<u8>> = (0..IMAGES + 8).map(|number| numbered(&frame, number)).collect();
    let off = see("", &images).await;
    let tensors = see("tensor_bytes_max = \"128 MiB\"", &images).await;
    let last = tensors.warm.last().expect("there are rounds");
    let median = |of: &[f64]| quantile(of, 0.5);
    let cold_us = median(&busy_us(&tensors.cold, "preprocess"));
    let off_us = median(&busy_us(&off.warm[ROUNDS - 1], "preprocess"));
    let warm: Vec<f64> = tensors.warm.iter().flat_map(|round| busy_us(round, "preprocess")).collect();
    figures.told("repeat_off_us", "preprocess of a 1080p JPEG, no cache, µs, median", off_us);
    figures.told("repeat_cold_us", "the same, its tensor being kept", cold_us);
    figures.told("repeat_warm_us", "the same, seen before", median(&warm));
    figures.at_most("repeat_warm_ratio", "seen before, over the first time", median(&warm) / cold_us, 0.05);
    figures.at_most(
        "repeat_warm_p99_ratio",
        "the same, p99 over the median of the first",
        quantile(&warm, 0.99) / cold_us,
        0.05,
    );
    figures.told("repeat_cold_ratio", "the first time, over no cache", cold_us / off_us);
    for stage in ["ingest", "detect"] {
        let of = |results: &HashMap<String, FrameResult>| median(&busy_us(results, stage));
        figures.told(format!("repeat_{stage}_off_us"), format!("{stage}, no cache, µs"), of(&off.warm[ROUNDS - 1]));
        figures.told(format!("repeat_{stage}_cold_us"), format!("{stage}, the first time"), of(&tensors.cold));
        figures.told(format!("repeat_{stage}_warm_us"), format!("{stage}, seen before"), of(last));
    }
    let results = see("result_bytes_max = \"8 MiB\"", &images).await;
    let last = results.warm.last().expect("there are rounds");
    let cached = last.values().filter(|result| result.cached).count();
    figures.at_least("repeat_results_cached", "images of 24 whose result was kept", cached as f64, IMAGES as f64);
    let (cold, warm) = (median(&whole_us(&results.cold)), median(&whole_us(last)));
    figures.told("repeat_result_cold_us", "acceptance to result, the first time, µs, median", cold);
    figures.told("repeat_result_warm_us", "the same, its result kept", warm);
}
