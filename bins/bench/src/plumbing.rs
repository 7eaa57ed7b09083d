//! A pipeline without a model, under this client's load, against what cannot be avoided, in the same rounds: its latency against the sum
//! of a gRPC call, six threads woken one by another, and one read of a frame; its frames a second against those that two threads
//! can read, and do nothing else with.

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::mpsc::sync_channel,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use framepipe_model::Manifest;
use framepipe_pipeline::{Config, Overrides};
use serde_json::{Map, Value};

use crate::{
    load::{Workload, pixels},
    running::{Running, System, Window},
    statistics::{median, percentile},
};

/// Frames of a push, where throughput is measured, and pushes that are out.
const BATCH: usize = 32;
const PUSHES: usize = 8;
/// From the gateway to ingest, preprocess, detect, postprocess, attribute, and back.
const WAKES: f64 = 6.0;
/// Of calls, wake-ups and reads: so many are made in a round, and the first are not counted.
const TRIES: usize = 2000;
const WARM_UP: usize = 200;
/// For a thread to fall asleep, and its core with it.
const ASLEEP: Duration = Duration::from_micros(200);
/// Readers at once.
const READERS: usize = 2;
const READ_LENGTH: Duration = Duration::from_secs(1);
/// The aims.
const OVER_FLOOR_MAX: f64 = 1.25;
const SHARE_OF_READS_MIN: f64 = 0.55;

#[derive(Args)]
pub struct Arguments {
    /// The pipeline's configuration, without attribute models.
    #[arg(long, value_name = "FILE", default_value = "config/noop.toml")]
    config: PathBuf,
    /// How often everything is measured.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of each window under load.
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    seconds: f64,
    /// Also write the figures, as one flat JSON object.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What a round gave: times in microseconds.
struct Round {
    latency: f64,
    call: f64,
    wake: f64,
    read: f64,
    fps: f64,
    reads: f64,
    others: f64,
}

impl Round {
    fn floor(&self) -> f64 {
        self.call + WAKES * self.wake + self.read
    }
}

/// Measures, and prints a table.
pub fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!((0.5..=3600.0).contains(&arguments.seconds), "--seconds {}: give 0.5 to 3600", arguments.seconds);
    let config = Config::load(&arguments.config, &Overrides::default())?;
    let input = Manifest::find(&config.models, &config.detector)?.input.plan;
    let of = |batch, in_flight_max| Workload {
        size: [input.width(), input.height()],
        batch,
        in_flight_max,
        crops: 0,
        attributes: 0,
    };
    let inbox = &config.server.inbox[0];
    let mut one = Running::start(&arguments.config, inbox, of(1, 1))?;
    let mut many = Running::start(&arguments.config, inbox, of(BATCH, BATCH * PUSHES))?;
    let frame_bytes = 3 * input.width() as usize * input.height() as usize;
    let (small, large) = (file_of(inbox, frame_bytes)?, file_of(inbox, frame_bytes * BATCH)?);
    let window = Window { warm_up: Duration::from_millis(500), length: Duration::from_secs_f64(arguments.seconds) };
    let mut rounds = Vec::new();
    println!(
        "{:>5} {:>11} {:>8} {:>8} {:>8} {:>8} {:>8}   {:>9} {:>9} {:>6}  others",
        "round", "latency p50", "call", "wake", "read", "floor", "over it", "frames/s", "reads/s", "share"
    );
    for number in 1..=arguments.rounds {
        let alone = one.measure(window)?;
        let (call, wake, read) = (one.call_us(TRIES, WARM_UP)?, wake_us()?, read_us(small.path(), frame_bytes)?);
        let full = many.measure(window)?;
        let reads = reads_per_s(large.path(), frame_bytes)?;
        let latency = 1e3 * percentile(&alone.sample.latencies_ms, 0.5);
        let others = System::others_of(&[&alone, &full]);
        let round = Round { latency, call, wake, read, fps: full.fps, reads, others };
        println!(
            "{number:>5} {latency:>8.0} us {call:>8.0} {wake:>8.1} {read:>8.0} {:>8.0} {:>8.2}   {:>9.0} {reads:>9.0} {:>6.2}  {:.1}%",
            round.floor(),
            latency / round.floor(),
            full.fps,
            full.fps / reads,
            100.0 * others
        );
        rounds.push(round);
    }
    one.stop()?;
    many.stop()?;
    let figures = figures(&rounds);
    let aims = [
        ("noop_p50_over_floor", "at most", OVER_FLOOR_MAX),
        ("noop_fps_share_of_pread_limit", "at least", SHARE_OF_READS_MIN),
    ];
    for (name, way, aim) in aims {
        println!("{name} {:.3}; {way} {aim} is wanted", figures[name].as_f64().unwrap_or(f64::NAN));
    }
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", Value::Object(figures));
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Medians over the rounds, of ratios within each.
fn figures(rounds: &[Round]) -> Map<String, Value> {
    let of = |value: fn(&Round) -> f64| Value::from(median(&rounds.iter().map(value).collect::<Vec<_>>()));
    Map::from_iter([
        ("noop_rust_p50_ms".into(), of(|round| round.latency / 1e3)),
        ("noop_p50_over_floor".into(), of(|round| round.latency / round.floor())),
        ("noop_rust_fps_batch32".into(), of(|round| round.fps)),
        ("noop_fps_share_of_pread_limit".into(), of(|round| round.fps / round.reads)),
        ("others_share".into(), of(|round| round.others)),
    ])
}

fn file_of(inbox: &Path, bytes: usize) -> anyhow::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("framepipe-bench.").tempfile_in(inbox)?;
    file.write_all(&pixels(bytes))?;
    Ok(file)
}

/// From the moment that a thread wakes another one, which has slept for a while, as a stage has that waits for the next frame, to the
/// moment that it runs.
fn wake_us() -> anyhow::Result<f64> {
    let (wake, woken) = sync_channel::<Instant>(1);
    let other = thread::spawn(move || woken.iter().map(|sent| sent.elapsed().as_secs_f64() * 1e6).collect::<Vec<_>>());
    for _ in 0..TRIES {
        let begin = Instant::now();
        while begin.elapsed() < ASLEEP {
            std::hint::spin_loop();
        }
        wake.send(Instant::now())?;
    }
    drop(wake);
    let took = other.join().expect("it does not panic");
    Ok(median(&took[WARM_UP..]))
}

/// A frame read from a file of one, again and again.
fn read_us(path: &Path, frame_bytes: usize) -> anyhow::Result<f64> {
    let (file, mut frame) = (File::open(path)?, vec![0; frame_bytes]);
    median_us(|| {
        let start = Instant::now();
        file.read_exact_at(&mut frame, 0)?;
        Ok(start.elapsed())
    })
}

fn median_us(mut once: impl FnMut() -> anyhow::Result<Duration>) -> anyhow::Result<f64> {
    let took = (0..TRIES).map(|_| once().map(|took| took.as_secs_f64() * 1e6)).collect::<Result<Vec<_>, _>>()?;
    Ok(median(&took[WARM_UP..]))
}

/// Frames a second that so many threads read from a file of many, each into a place of its own.
fn reads_per_s(path: &Path, frame_bytes: usize) -> anyhow::Result<f64> {
    let read = || {
        let (file, mut frame) = (File::open(path)?, vec![0; frame_bytes]);
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < READ_LENGTH {
            file.read_exact_at(&mut frame, (count % BATCH * frame_bytes) as u64)?;
            count += 1;
        }
        anyhow::Ok(count as f64 / start.elapsed().as_secs_f64())
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
        readers.into_iter().map(|reader| reader.join().expect("it does not panic")).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_medians_of_ratios_within_rounds() {
        let round =
            |latency, call, fps| Round { latency, call, wake: 10.0, read: 40.0, fps, reads: 1000.0, others: 0.0 };
        // Floors: 200, 300, 400.
        let rounds = [round(400.0, 100.0, 500.0), round(300.0, 200.0, 600.0), round(1200.0, 300.0, 800.0)];
        let figures = figures(&rounds);
        assert_eq!(figures["noop_p50_over_floor"], 2.0);
        assert_eq!(figures["noop_fps_share_of_pread_limit"], 0.6);
        assert_eq!(figures["noop_rust_p50_ms"], 0.4);
    }

    #[test]
    fn what_cannot_be_avoided_takes_some_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = file_of(folder.path(), 3 * 64 * 64 * BATCH).unwrap();
        assert!(wake_us().unwrap() > 0.0);
        assert!(read_us(file.path(), 3 * 64 * 64).unwrap() > 0.0);
        assert!(reads_per_s(file.path(), 3 * 64 * 64).unwrap() > 0.0);
    }
}
