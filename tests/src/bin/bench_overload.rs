//! `scripts/bench-overload`: five times what the pipeline can do is offered to it, in open loop, by two streams at 10:1.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use framepipe_client::{Client, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_proto::v1::PushDataRequest;
use framepipe_tests::{
    Home, Server, Status,
    figures::{Figure, quantile, report},
    images::photo,
    repository,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// Frames in flight: the budget of the run.
const BUDGET: usize = 128;
const OVERLOAD: f64 = 5.0;
/// Of the offered load, the light stream's share.
const LIGHT: f64 = 1.0 / 11.0;
const PEAK_TIME: Duration = Duration::from_secs(15);
/// The pipeline's way to a steady state.
const SETTLE: Duration = Duration::from_secs(3);
/// One call in so many is accompanied by a health call.
const HEALTH_EVERY: u64 = 5;
const PHOTOS: [&str; 4] = ["sample1.jpg", "sample4.jpg", "zidane.jpg", "bus.jpg"];

/// What one stream's calls and results were.
#[derive(Default)]
struct Tally {
    offered: u64,
    accepted: HashMap<u64, Instant>,
    /// Results that came before the answer to their push was read.
    early: HashMap<u64, Instant>,
    latencies_ms: Vec<f64>,
    results: Vec<Instant>,
    refusals_ms: Vec<f64>,
    health_ms: Vec<f64>,
    failures: Vec<String>,
}

type Shared = Arc<Mutex<Tally>>;

impl Tally {
    fn answered(&mut self, frame: u64, now: Instant) {
        match self.early.remove(&frame) {
            Some(_) => self.latencies_ms.push(0.0),
            None => drop(self.accepted.insert(frame, now)),
        }
    }

    fn result(&mut self, frame: u64, now: Instant) {
        self.results.push(now);
        match self.accepted.remove(&frame) {
            Some(answered) => self.latencies_ms.push(now.duration_since(answered).as_secs_f64() * 1e3),
            None => drop(self.early.insert(frame, now)),
        }
    }

    fn results_since(&self, start: Instant) -> usize {
        self.results.iter().filter(|when| **when >= start).count()
    }
}

fn lock(tally: &Shared) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().expect("no holder panics")
}

fn config() -> String {
    let street = std::fs::read_to_string(repository().join("config/street.toml")).expect("config/street.toml");
    let mut config: toml::Table = street.parse().expect("it is TOML");
    let server = config.entry("server").or_insert_with(|| toml::Table::new().into());
    server.as_table_mut().expect("a section").insert("frames_max".into(), (BUDGET as i64).into());
    config.insert("name".into(), "overload".into());
    config.to_string()
}

/// Reads a stream and notes its results.
fn read(client: Client, stream: &'static str, tally: Shared, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut results = client.results(stream, ResultsOptions::default());
        while !stop.load(Ordering::Acquire) {
            match tokio::time::timeout(Duration::from_millis(100), results.next()).await {
                Ok(Some(Ok(result))) => {
                    let mut tally = lock(&tally);
                    if !matches!(result.outcome, Some(Outcome::Detections(_))) {
                        tally.failures.push(format!("{:?}", result.outcome));
                    }
                    tally.result(result.frame, Instant::now());
                }
                Ok(Some(Err(framepipe_client::Error::NotFound(_)))) => {
                    results = client.results(stream, ResultsOptions::default()); // nobody has pushed to it yet
                }
                Ok(other) => panic!("{stream}: {other:?}"),
                Err(_) => {}
            }
        }
    })
}

/// The most that the pipeline does: a closed loop with work enough at hand.
async fn peak(server: &Server, stream: &'static str, files: &[String]) -> f64 {
    let client = server.client();
    let (tally, stop) = (Shared::default(), Arc::new(AtomicBool::new(false)));
    push(&client, stream, &files[0]).await;
    let reader = read(client.clone(), stream, tally.clone(), stop.clone());
    let start = Instant::now();
    let (mut pushed, mut from) = (1, None);
    while start.elapsed() < SETTLE + PEAK_TIME {
        if from.is_none() && start.elapsed() >= SETTLE {
            from = Some(Instant::now());
        }
        if pushed - lock(&tally).results.len() < BUDGET / 2 {
            push(&client, stream, &files[pushed % files.len()]).await;
            pushed += 1;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let from = from.expect("it settled");
    let rate = lock(&tally).results_since(from) as f64 / from.elapsed().as_secs_f64();
    stop.store(true, Ordering::Release);
    reader.await.expect("the reader's own checks hold");
    rate
}

async fn push(client: &Client, stream: &str, file: &str) {
    let request = PushRequest::files([file]).stream(stream).wait(Duration::from_secs(30));
    client.push(request).await.expect("there is room");
}

/// Offers so many frames a second, whatever becomes of them.
async fn offer(server: &Server, stream: &'static str, rate: f64, files: Vec<String>, until: Instant, tally: Shared) {
    let raw = server.raw_client();
    let health = HealthClient::new(server.channel());
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut number = 0u64;
    while Instant::now() < until {
        ticks.tick().await;
        number += 1;
        lock(&tally).offered += 1;
        let request = PushDataRequest {
            files: vec![files[number as usize % files.len()].clone()],
            stream: stream.into(),
            ..PushDataRequest::default()
        };
        let (mut raw, noted) = (raw.clone(), tally.clone());
        tokio::spawn(async move {
            let start = Instant::now();
            let answer = raw.push_data(request).await;
            let took_ms = start.elapsed().as_secs_f64() * 1e3;
            let mut tally = lock(&noted);
            match answer {
                Ok(answer) => tally.answered(answer.get_ref().first_frame, Instant::now()),
                Err(refusal) if refusal.code() == Code::ResourceExhausted => tally.refusals_ms.push(took_ms),
                Err(other) => tally.failures.push(other.to_string()),
            }
        });
        if number.is_multiple_of(HEALTH_EVERY) {
            let (mut health, noted) = (health.clone(), tally.clone());
            tokio::spawn(async move {
                let start = Instant::now();
                let answer = health.check(HealthCheckRequest::default()).await;
                let mut tally = lock(&noted);
                match answer {
                    Ok(_) => tally.health_ms.push(start.elapsed().as_secs_f64() * 1e3),
                    Err(error) => tally.failures.push(format!("health: {error}")),
                }
            });
        }
    }
}

/// Memory of all processes (their proportional shares) and of the files in tmpfs, in MiB.
fn memory_mib(status: &Status, shm: &Path) -> f64 {
    let pids = status.processes.iter().map(|one| one.pid).chain([status.pid]);
    let pss_kib = |pid: u32| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let private = |line: &&str| line.starts_with("Pss_Anon:") || line.starts_with("Pss_File:");
        let kib = |line: &str| line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        text.lines().filter(private).filter_map(kib).sum()
    };
    pids.map(pss_kib).sum::<u64>() as f64 / 1024.0 + file_bytes(shm) as f64 / f64::from(1 << 20)
}

fn file_bytes(folder: &Path) -> u64 {
    let bytes = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => file_bytes(&entry.path()),
        _ => entry.metadata().map_or(0, |file| file.len()),
    };
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(bytes).sum()
}

async fn measure(seconds: u64) -> Vec<Figure> {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    let files: Vec<String> = PHOTOS.iter().map(|name| home.store(name, &photo(name)).display().to_string()).collect();
    let peak = peak(&server, "peak-before", &files).await;
    let memory_at_peak = memory_mib(&server.status(), &home.shm());
    eprintln!("bench-overload: the peak is {peak:.1} frames/s; {:.1} are offered for {seconds} s", OVERLOAD * peak);

    let (heavy, light) = (Shared::default(), Shared::default());
    let stop = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let until = start + SETTLE + Duration::from_secs(seconds);
    let readers = [("heavy", &heavy), ("light", &light)]
        .map(|(stream, tally)| read(server.client(), stream, tally.clone(), stop.clone()));
    let rate = OVERLOAD * peak;
    let memory = async {
        let mut most = 0.0f64;
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_secs(1)).await;
            most = most.max(memory_mib(&server.status(), &home.shm()));
        }
        most
    };
    let ((), (), memory_most) = tokio::join!(
        offer(&server, "heavy", rate * (1.0 - LIGHT), files.clone(), until, heavy.clone()),
        offer(&server, "light", rate * LIGHT, files.clone(), until, light.clone()),
        memory,
    );
    let (from, window_s) = (start + SETTLE, (Instant::now() - start - SETTLE).as_secs_f64());
    let (heavy_rate, light_rate) =
        [&heavy, &light].map(|tally| lock(tally).results_since(from) as f64 / window_s).into();
    stop.store(true, Ordering::Release);
    for reader in readers {
        reader.await.expect("the reader's own checks hold");
    }
    let both = |part: fn(&Tally) -> &Vec<f64>| -> Vec<f64> {
        [&heavy, &light].iter().flat_map(|tally| part(&lock(tally)).clone()).collect()
    };
    let (refusals, health) = (both(|tally| &tally.refusals_ms), both(|tally| &tally.health_ms));
    let latencies = both(|tally| &tally.latencies_ms);
    let failures: Vec<String> = [&heavy, &light].iter().flat_map(|tally| lock(tally).failures.clone()).collect();
    assert!(failures.is_empty(), "{} calls or frames failed, such as {}", failures.len(), failures[0]);
    let offered = (lock(&heavy).offered + lock(&light).offered) as f64 / (SETTLE.as_secs_f64() + window_s);
    let peak_after = self::peak(&server, "peak-after", &files).await;
    server.stop();
    let (refused, healthy) = (quantile(&refusals, 0.5), quantile(&health, 0.5));
    let light_fair = (rate * LIGHT).min(peak / 2.0);
    vec![
        Figure::told("peak, frames/s (closed loop)", peak),
        Figure::told("peak once more afterwards, frames/s", peak_after),
        Figure::told("offered, times the peak", offered / peak),
        Figure::at_least("goodput, share of the peak", (heavy_rate + light_rate) / peak, 0.95),
        Figure::told("refusals", refusals.len() as f64),
        Figure::told("a health call of the same moment, ms, median", healthy),
        Figure::at_most("a refusal, health calls, median", refused / healthy, 2.0),
        Figure::at_most("a refusal, ms, p99", quantile(&refusals, 0.99), 20.0),
        Figure::told("a health call, ms, p99", quantile(&health, 0.99)),
        Figure::told("memory at the peak, MiB", memory_at_peak),
        Figure::at_most("most memory under overload, of that at the peak", memory_most / memory_at_peak, 1.05),
        Figure::told("latency of accepted frames, ms, median", quantile(&latencies, 0.5)),
        Figure::at_most(
            "latency of accepted frames, p99, in budget / peak rate",
            quantile(&latencies, 0.99) / 1e3 / (BUDGET as f64 / peak),
            1.25,
        ),
        Figure::at_least("goodput of the light stream, of its fair share", light_rate / light_fair, 0.95),
        Figure::told("goodput of the heavy stream, of what that leaves of the peak", heavy_rate / (peak - light_fair)),
    ]
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (seconds, json) = match arguments.as_slice() {
        [seconds] => (seconds.parse(), None),
        [seconds, json] => (seconds.parse(), Some(PathBuf::from(json))),
        _ => ("".parse(), None),
    };
    let Ok(seconds) = seconds else {
        eprintln!("bench_overload: started by scripts/bench-overload, with a number of seconds [and a JSON file]");
        return ExitCode::from(2);
    };
    report(&measure(seconds).await, json.as_deref());
    ExitCode::SUCCESS
}
