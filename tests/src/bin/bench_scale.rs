//! `scripts/bench-scale`: numbers of processes go up and down again and again, and every stage is restarted, under load: no frame may
//! be lost or fail, and results must come as steadily as they do undisturbed.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use framepipe_tests::{
    Home, Server,
    figures::{Arguments, Figures, finish, quantile},
    swaps::{Camera, Models},
    wait_until,
};

const STAGES: [&str; 5] = ["ingest", "preprocess", "detect", "postprocess", "attribute"];
/// Results that come undisturbed, of which the gaps are the measure.
const UNDISTURBED: usize = 1000;
const LIMIT: Duration = Duration::from_secs(300);

/// Runs a verb, and returns how long it took, in milliseconds.
fn run(server: &Server, arguments: &[&str]) -> f64 {
    let start = Instant::now();
    let output = server.run(arguments);
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), server.output());
    start.elapsed().as_secs_f64() * 1e3
}

/// Milliseconds that one batch of detect took, on average.
fn inference_ms(server: &Server) -> f64 {
    let status = server.status();
    let (busy_s, batches) =
        status.stage("detect").fold((0.0, 0), |(busy, batches), one| (busy + one.busy_s, batches + one.batches));
    busy_s * 1e3 / batches.max(1) as f64
}

/// The longest time between two results while `act` was done, and until more came after it.
fn longest_gap(camera: &Camera, act: impl FnOnce()) -> f64 {
    let from = camera.received();
    act();
    let after = camera.received();
    wait_until("more results", LIMIT, || camera.received() >= after + 16);
    camera.gaps_ms(from.saturating_sub(1)).into_iter().fold(0.0, f64::max)
}

async fn measure(scales: usize, figures: &mut Figures) {
    let home = Home::new();
    let config = format!("{}[stages.detect]\nprocesses = 2\n", Models::new(&home, 1).config());
    let server = Server::start(&home, &config).await;
    let camera = Camera::start(&server);
    camera.wait_for_more();
    let from = camera.received();
    wait_until("results of an undisturbed pipeline", LIMIT, || camera.received() >= from + UNDISTURBED);
    let p99 = quantile(&camera.gaps_ms(from), 0.99);
    let inference = inference_ms(&server);
    figures.told("gap_p99_ms", "between two results, undisturbed, ms, p99", p99);
    figures.told("inference_ms", "one batch of detect, ms, on average", inference);

    let mut took = Vec::new();
    for number in 0..scales {
        for count in ["detect=3", "detect=1"] {
            took.push(run(&server, &["scale", count]));
            camera.wait_for_more();
        }
        if number.is_multiple_of(10) {
            println!("{} of {scales} times up and down", number + 1);
        }
    }
    run(&server, &["scale", "detect=2"]);
    let most = p99 + inference;
    for stage in STAGES {
        let mut ms = 0.0;
        let gap = longest_gap(&camera, || ms = run(&server, &["restart", stage]));
        figures.told(format!("restart_{stage}_ms"), format!("restart of {stage}, ms"), ms);
        figures.at_most(format!("restart_{stage}_gap_ms"), format!("longest gap meanwhile, {stage}, ms"), gap, most);
    }
    let pushed = camera.pushed();
    let [lost, failed, twice] = camera.ledger().await;
    server.stop();
    figures.at_least("scales", "times up and down again", scales as f64, 50.0);
    figures.at_most("frames_lost", "frames without a result", lost as f64, 0.0);
    figures.at_most("frames_failed", "frames with an error as result", failed as f64, 0.0);
    figures.at_most("results_twice", "results beyond a frame's first", twice as f64, 0.0);
    figures.told("scale_frames", "frames accepted meanwhile", pushed as f64);
    figures.told("scale_ms", "one change of a number, ms, median", quantile(&took, 0.5));
    figures.told("scale_p99_ms", "the same, p99", quantile(&took, 0.99));
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let asked = || {
        let mut arguments = Arguments::parse()?;
        let asked: (usize, _) = (arguments.number("--scales", 50)?, arguments.path("--json"));
        arguments.end()?;
        if asked.0 == 0 { Err("give 1 scale or more".into()) } else { Ok(asked) }
    };
    let (scales, json) = match asked() {
        Ok(asked) => asked,
        Err::<_, String>(error) => {
            eprintln!("bench-scale: {error}");
            return ExitCode::from(2);
        }
    };
    let mut figures = Figures::default();
    measure(scales, &mut figures).await;
    finish(&figures, json.as_deref())
}
