//! `scripts/bench-start`: how long a pipeline takes from `framepipe up` to ready; and a worker that was killed to be ready again,
//! with and without optimised graphs on disk, beside the engine's own time to load the same models.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use framepipe_client::{PushRequest, ResultsOptions, StreamExt as _};
use framepipe_infer::{CpuModel, ModelFile, Options, Runtime};
use framepipe_model::{AttributeHead, Detector, Manifest, ModelRef};
use framepipe_tests::{
    Home, Server, Status,
    figures::{Arguments, Figures, finish, quantile},
    images::png,
    repository, wait_until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const LIMIT: Duration = Duration::from_secs(60);

/// The pipeline whose start is timed: as it is shipped, with a segment of the default size.
const UP: &str = include_str!("../../../config/street.toml");
/// Most from `framepipe up` to ready, in milliseconds.
const UP_MS_MAX: f64 = 1000.0;

/// A stage whose worker is killed, and what it loads.
struct Case {
    name: &'static str,
    stage: &'static str,
    config: &'static str,
    models: &'static [&'static str],
    batch_max: usize,
}

const CASES: [Case; 3] = [
    Case {
        name: "nanodet",
        stage: "detect",
        config: "name = \"start\"\n[pipeline]\ndetector = \"nanodet416-4c-int8\"\n[stages.detect]\nprocesses = 1\n",
        models: &["nanodet416-4c-int8"],
        batch_max: 1,
    },
    Case {
        name: "resnet18",
        stage: "detect",
        config: "name = \"start\"\n[pipeline]\ndetector = \"resnet18-4class-416-random-int8\"\n[stages.detect]\nprocesses = 1\n",
        models: &["resnet18-4class-416-random-int8"],
        batch_max: 1,
    },
    Case {
        name: "faces",
        stage: "attribute",
        config: "name = \"start\"\n[pipeline]\ndetector = \"tiny-face-416\"\ncrop_batch_max = 4\nattributes = [\"face-resnet34-descriptor\", \
                 \"face-age-gender\", \"face-expression\", \"faceres\"]\n",
        models: &["face-resnet34-descriptor", "face-age-gender", "face-expression", "faceres"],
        batch_max: 4,
    },
];

/// Milliseconds of each try.
#[derive(Default)]
struct Times {
    /// From the kill to readiness, without optimised graphs on disk.
    cold: Vec<f64>,
    /// With them.
    warm: Vec<f64>,
    /// The engine's own: a process that loads library and models, from the same optimised graphs.
    load: Vec<f64>,
    /// And run for the first time.
    warm_up: Vec<f64>,
}

/// Kills the stage's worker, and waits until the next one is ready. It has had a frame before: one that dies without starts
/// again later and later.
async fn restart(home: &Home, server: &Server, stage: &str) -> f64 {
    let client = server.client();
    client.push(PushRequest::images(&[png(64, 64)]).stream("start")).await.expect("the push is good");
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let mut results = client.results("start", options);
    while let Some(result) = results.next().await {
        result.expect("it is readable");
    }
    results.close().await;

    let worker = || Status::ask(&home.run()).and_then(|status| status.stage(stage).next().cloned());
    let before = worker().expect("the stage is in the status");
    let start = Instant::now();
    kill(Pid::from_raw(before.pid as i32), Signal::SIGKILL).expect("it lives");
    wait_until("the worker to be ready again", LIMIT, || {
        worker().is_some_and(|now| now.pid != before.pid && now.state == "ready")
    });
    start.elapsed().as_secs_f64() * 1e3
}

/// What a process does that is nothing but the engine: it loads library and models, and runs each for the first time. Prints
/// the milliseconds of both.
fn be_the_engine_alone(case: &Case, graphs: &Path) {
    let start = Instant::now();
    let library = repository().join("build/lib/libonnxruntime.so");
    let runtime = Runtime::load(&library).expect("run scripts/setup").caching_graphs_in(graphs.to_owned());
    let (mut loading, mut running) = (start.elapsed(), Duration::ZERO);
    for name in case.models {
        let model: ModelRef = name.parse().expect("a model's name");
        let manifest = Manifest::find(&repository().join("models"), &model).expect("run scripts/setup");
        let path = manifest.model_path();
        let file = ModelFile { path: &path, sha256: &manifest.sha256 };
        let options = Options { threads: 1, batch_max: case.batch_max };
        let (detector, attributes) = (Detector::new(&manifest), AttributeHead::new(&manifest));
        let outputs = match (&detector, &attributes) {
            (Ok(detector), _) => detector.outputs(),
            (_, Ok(head)) => head.outputs(),
            (Err(error), _) => panic!("{error}"),
        };
        let start = Instant::now();
        let mut session =
            CpuModel::open(&runtime, file, &manifest.input, &outputs, options).expect("the engine takes it");
        loading += start.elapsed();
        let start = Instant::now();
        session.warm_up(&[]).expect("it runs");
        running += start.elapsed();
    }
    println!("{} {}", loading.as_secs_f64() * 1e3, running.as_secs_f64() * 1e3);
}

/// Milliseconds of loading a case's models, and of their first runs, in a new process that is as nice as a worker.
fn load(case: &Case, graphs: &Path) -> (f64, f64) {
    let own = std::env::current_exe().expect("it runs");
    let mut command = Command::new("nice");
    command.args(["-n", "10"]).arg(own).args(["engine", case.name]).arg(graphs).env("ORT_DISABLE_TELEMETRY", "1");
    let output = command.output().expect("this program can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    let mut numbers = said.split_whitespace().map(|number| number.parse().expect("a number"));
    let mut next = || numbers.next().expect("two numbers");
    (next(), next())
}

async fn measure(case: &Case, rounds: usize) -> Times {
    let home = Home::new();
    let server = Server::start(&home, case.config).await;
    let graphs: PathBuf = home.path("state").join("graphs");
    let mut times = Times::default();
    for _ in 0..rounds {
        fs::remove_dir_all(&graphs).expect("the first start made it");
        times.cold.push(restart(&home, &server, case.stage).await);
        assert!(graphs.is_dir(), "no optimised graph was kept");
        times.warm.push(restart(&home, &server, case.stage).await);
        let (load, warm_up) = load(case, &graphs);
        times.load.push(load);
        times.warm_up.push(warm_up);
    }
    server.stop();
    times
}

/// Milliseconds from `framepipe up` until the gateway says that frames get through: without optimised graphs on disk, and with
/// them. Each start makes its segment anew.
async fn starts(rounds: usize) -> (f64, Vec<f64>) {
    let home = Home::new();
    let mut took = Vec::new();
    for _ in 0..=rounds {
        let start = Instant::now();
        let server = Server::start(&home, UP).await;
        took.push(start.elapsed().as_secs_f64() * 1e3);
        server.stop();
        fs::remove_dir_all(home.shm()).and_then(|()| fs::create_dir(home.shm())).expect("a folder of its own");
    }
    (took[0], took.split_off(1))
}

fn tell_starts((first, took): &(f64, Vec<f64>), figures: &mut Figures) {
    figures.told("up_first_ms", "street: `framepipe up` to ready, no graph on disk, ms", *first);
    figures.at_most("up_ms", "street: `framepipe up` to ready, ms, median", quantile(took, 0.5), UP_MS_MAX);
    figures.told("up_max_ms", "the same, the longest", quantile(took, 1.0));
}

fn tell(case: &Case, times: &Times, figures: &mut Figures) {
    let median = |values: &[f64]| quantile(values, 0.5);
    let (name, of) = (case.name, format!("{} ({})", case.stage, case.name));
    figures.told(
        format!("start_cold_{name}_ms"),
        format!("{of}: kill to ready, no graph on disk, ms"),
        median(&times.cold),
    );
    figures.told(format!("start_{name}_ms"), format!("{of}: kill to ready, ms"), median(&times.warm));
    figures.told(format!("load_{name}_ms"), format!("{of}: the engine's own loading, ms"), median(&times.load));
    figures.told(
        format!("warm_up_{name}_ms"),
        format!("{of}: the first runs of every batch size, ms"),
        median(&times.warm_up),
    );
    let over = median(&times.warm) - median(&times.load);
    figures.at_most(format!("start_over_load_{name}_ms"), format!("{of}: ready, beyond loading, ms"), over, 100.0);
    let over = over - median(&times.warm_up);
    figures.told(
        format!("start_over_warm_up_{name}_ms"),
        format!("{of}: ready, beyond loading and first runs, ms"),
        over,
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let [role, case, graphs] = given.as_slice()
        && role == "engine"
    {
        be_the_engine_alone(CASES.iter().find(|one| one.name == case).expect("a case"), Path::new(graphs));
        return ExitCode::SUCCESS;
    }
    let asked = || {
        let mut arguments = Arguments::parse()?;
        let asked: (usize, _) = (arguments.number("--rounds", 15)?, arguments.path("--json"));
        arguments.end()?;
        if asked.0 == 0 { Err("give 1 round or more".to_owned()) } else { Ok(asked) }
    };
    let (rounds, json) = match asked() {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("bench-start: {error}");
            return ExitCode::from(2);
        }
    };
    let mut figures = Figures::default();
    println!("street: {rounds} starts");
    tell_starts(&starts(rounds).await, &mut figures);
    for case in &CASES {
        println!("{}: {rounds} kills without optimised graphs on disk, and as many with them", case.name);
        tell(case, &measure(case, rounds).await, &mut figures);
    }
    finish(&figures, json.as_deref())
}
