//! The load: a closed loop that finds the peak, and streams that offer calls in open loop, whatever becomes of them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use framepipe_client::{Client, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_proto::v1::{PushDataRequest, framepipe_client::FramepipeClient};
use framepipe_tests::Server;
use tokio::task::JoinHandle;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// The pipeline's way to a steady state.
pub const SETTLE: Duration = Duration::from_secs(3);
/// One call in so many is accompanied by a health call.
const HEALTH_EVERY: u64 = 5;
/// For a push of the closed loop.
const PATIENCE: Duration = Duration::from_secs(30);

type Raw = FramepipeClient<Channel>;
type Health = HealthClient<Channel>;

/// What one stream's calls and results were.
#[derive(Default)]
pub struct Tally {
    /// When each call was made.
    pub offered: Vec<Instant>,
    accepted: HashMap<u64, Instant>,
    /// Results that came before the answer to their push was read.
    early: HashMap<u64, Instant>,
    /// From a call's answer to its frame's result.
    pub latencies_ms: Vec<f64>,
    /// When each result came.
    pub results: Vec<Instant>,
    /// How long each refusal took.
    pub refusals_ms: Vec<f64>,
    /// How long each health call took.
    pub health_ms: Vec<f64>,
    /// What must not be.
    pub failures: Vec<String>,
}

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
}

/// A tally that a stream's calls and its reader share.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().expect("no holder panics")
    }
}

/// How many moments lie in a window.
pub fn within(moments: &[Instant], from: Instant, until: Instant) -> usize {
    moments.iter().filter(|moment| (from..until).contains(moment)).count()
}

/// Reads a stream and notes its results.
pub struct Reader {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Reader {
    pub fn start(client: Client, stream: String, tally: Shared) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut results = client.results(&stream, ResultsOptions::default());
            while !stopped.load(Ordering::Acquire) {
                match tokio::time::timeout(Duration::from_millis(100), results.next()).await {
                    Ok(Some(Ok(result))) => {
                        let mut tally = tally.lock();
                        if !matches!(result.outcome, Some(Outcome::Detections(_))) {
                            tally.failures.push(format!("{:?}", result.outcome));
                        }
                        tally.result(result.frame, Instant::now());
                    }
                    Ok(Some(Err(framepipe_client::Error::NotFound(_)))) => {
                        results = client.results(&stream, ResultsOptions::default()); // nobody has pushed to it yet
                    }
                    Ok(other) => panic!("{stream}: {other:?}"),
                    Err(_) => {}
                }
            }
        });
        Self { stop, task }
    }

    pub async fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.task.await.expect("the reader's own checks hold");
    }
}

/// A closed loop that always has so many frames in the pipeline, until that moment; results a second once it has
/// settled.
pub async fn closed_loop(server: &Server, stream: &str, files: &[String], out: usize, until: Instant) -> f64 {
    let (client, tally) = (server.client(), Shared::default());
    let push = async |number: usize| {
        let request = PushRequest::files([&files[number % files.len()]]).stream(stream).wait(PATIENCE);
        client.push(request).await.expect("there is room");
    };
    let from = Instant::now() + SETTLE;
    push(0).await;
    let reader = Reader::start(client.clone(), stream.to_owned(), tally.clone());
    let mut pushed = 1;
    while Instant::now() < until {
        if pushed - tally.lock().results.len() < out {
            push(pushed).await;
            pushed += 1;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let until = Instant::now();
    reader.end().await;
    within(&tally.lock().results, from, until) as f64 / (until - from).as_secs_f64()
}

/// A stream that offers so many frames a second, each in a call of its own.
#[derive(Clone)]
pub struct Offer {
    pub stream: String,
    pub rate: f64,
    /// How long the gateway lets a call wait for room.
    pub wait: Duration,
    pub tally: Shared,
}

impl Offer {
    pub fn new(stream: impl Into<String>, rate: f64, wait: Duration) -> Self {
        Self { stream: stream.into(), rate, wait, tally: Shared::default() }
    }

    /// Offers until that moment, on a connection of its own, and counts in `under_way` the calls without an answer.
    pub fn spawn(
        &self,
        server: &Server,
        files: &Arc<[String]>,
        until: Instant,
        under_way: &Arc<AtomicUsize>,
    ) -> JoinHandle<()> {
        let (offer, files, under_way) = (self.clone(), files.clone(), under_way.clone());
        let (raw, health) = (server.raw_client(), HealthClient::new(server.channel()));
        tokio::spawn(async move { offer.run(&raw, &health, &files, until, &under_way).await })
    }

    async fn run(&self, raw: &Raw, health: &Health, files: &[String], until: Instant, under_way: &Arc<AtomicUsize>) {
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / self.rate));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let mut number = 0u64;
        while Instant::now() < until {
            ticks.tick().await;
            number += 1;
            self.tally.lock().offered.push(Instant::now());
            let request = PushDataRequest {
                files: vec![files[number as usize % files.len()].clone()],
                stream: self.stream.clone(),
                wait_ms: self.wait.as_millis() as u64,
                ..PushDataRequest::default()
            };
            under_way.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(push(raw.clone(), request, self.tally.clone(), under_way.clone()));
            if number.is_multiple_of(HEALTH_EVERY) {
                tokio::spawn(ask_health(health.clone(), self.tally.clone()));
            }
        }
    }
}

async fn push(mut raw: Raw, request: PushDataRequest, tally: Shared, under_way: Arc<AtomicUsize>) {
    let start = Instant::now();
    let answer = raw.push_data(request).await;
    let took_ms = start.elapsed().as_secs_f64() * 1e3;
    under_way.fetch_sub(1, Ordering::Relaxed);
    let mut tally = tally.lock();
    match answer {
        Ok(answer) => tally.answered(answer.get_ref().first_frame, Instant::now()),
        Err(refusal) if refusal.code() == Code::ResourceExhausted => tally.refusals_ms.push(took_ms),
        Err(other) => tally.failures.push(other.to_string()),
    }
}

async fn ask_health(mut health: Health, tally: Shared) {
    let start = Instant::now();
    let answer = health.check(HealthCheckRequest::default()).await;
    let mut tally = tally.lock();
    match answer {
        Ok(_) => tally.health_ms.push(start.elapsed().as_secs_f64() * 1e3),
        Err(error) => tally.failures.push(format!("health: {error}")),
    }
}
