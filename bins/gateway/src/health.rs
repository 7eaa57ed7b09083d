//! Readiness: whether a frame that is pushed now will get through. Every stage must have a worker that lives, is warm and goes
//! round its loop; frames must come out at the end (`passage.rs`), which a frame of the gateway's own shows while there are no
//! others; and the pipeline must take new ones. A full pipeline is ready: its clients are told to wait.

mod passage;
mod workers;

use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytemuck::Zeroable as _;
use framepipe_frame::{Descriptor, FrameError, Request, Text};
use framepipe_pipeline::{Process, canary};
use framepipe_proto::v1::framepipe_server::SERVICE_NAME;
use framepipe_shm::monotonic_ns;
use serde::Serialize;
use tokio::sync::Notify;
use tonic_health::{ServingStatus, server::HealthReporter};

use self::{
    passage::Passage,
    workers::{StageWorkers, Workers},
};
use crate::hub::Hub;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// How ready the pipeline is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// What is in the way; empty: nothing.
    why: Vec<String>,
    /// The workers of each stage that new frames enter.
    stages: Vec<StageWorkers>,
}

impl Report {
    /// True where nothing is in the way.
    pub fn is_ready(&self) -> bool {
        self.why.is_empty()
    }

    /// For `/readyz` of this pipeline.
    pub fn json(&self, pipeline: &str) -> String {
        #[derive(Serialize)]
        struct Told<'r> {
            pipeline: &'r str,
            ready: bool,
            #[serde(flatten)]
            report: &'r Report,
        }
        serde_json::to_string(&Told { pipeline, ready: self.is_ready(), report: self }).expect("words and numbers")
    }
}

/// Who looks.
pub struct Health {
    passage: Mutex<Passage>,
    report: Mutex<Report>,
    /// Results cannot be written.
    is_journal_stuck: AtomicBool,
    /// There is a reason to look at once.
    news: Notify,
}

impl Health {
    /// Nothing was looked at yet.
    pub fn new(canary_idle: Duration, canary_max: Duration) -> Self {
        let report = Report { why: vec!["the gateway has not looked yet".into()], stages: Vec::new() };
        let passage = Mutex::new(Passage::new(canary_idle, canary_max));
        Self { passage, report: Mutex::new(report), is_journal_stuck: AtomicBool::new(false), news: Notify::new() }
    }

    /// How it was at the last look.
    pub fn report(&self) -> Report {
        self.report.lock().expect("no holder of this lock panics").clone()
    }

    /// Something has changed that a look will find.
    pub fn wake(&self) {
        self.news.notify_one();
    }

    /// A frame has its result.
    pub fn result_came(&self) {
        self.lock().result_came(monotonic_ns());
    }

    /// Whether results wait that cannot be written: the canary, which has none, says nothing of that.
    pub fn journal_is_stuck(&self, is_stuck: bool) {
        if self.is_journal_stuck.swap(is_stuck, Ordering::Relaxed) != is_stuck {
            self.wake();
        }
    }

    /// The canary came back, and its job is free.
    pub fn canary_came(&self, error: Option<FrameError>) {
        self.lock().canary_came(monotonic_ns(), error.map(|error| error.to_string()));
        self.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Passage> {
        self.passage.lock().expect("no holder of this lock panics")
    }

    /// Sends a canary, where it is time for one, and says what is in the way of frames.
    fn why_none_gets_through(&self, hub: &Hub) -> Option<String> {
        let now_ns = monotonic_ns();
        let mut passage = self.lock(); // held until it is sent, so that it does not come back before
        passage.is_away(hub.gate.is_reserved_away(), now_ns);
        if !hub.is_draining() && passage.wants_canary(now_ns) && send_canary(hub, now_ns) {
            passage.is_away(true, now_ns);
        }
        passage.why_not(now_ns)
    }
}

/// False where it cannot be sent now.
fn send_canary(hub: &Hub, now_ns: u64) -> bool {
    let Some(mut draft) = hub.gate.draft_reserved() else { return false };
    let Some(generation) = hub.encoders.entering_at(draft.queue()) else { return false };
    let request = Request {
        frame: canary::FRAME,
        accepted_ns: now_ns,
        bytes: canary::IMAGE.len() as u64,
        generation,
        name: Text::truncated(&canary::name()),
        ..Request::zeroed()
    };
    draft.write(0, bytemuck::bytes_of(&request), bytemuck::bytes_of(&Descriptor::zeroed()));
    hub.gate.send_reserved(draft).is_ok() // an error: this process is held for dead, which delivery finds as well
}

/// Looks again and again, and tells the health service, until the server must end.
pub async fn watch(process: &'static Process, hub: std::sync::Arc<Hub>, reporter: HealthReporter) {
    let (mut workers, mut stopping) = (Workers::new(process), hub.stopping());
    let mut told = None;
    loop {
        let report = look(&mut workers, &hub);
        let is_ready = report.is_ready();
        let words = report.why.join("; ");
        *hub.health.report.lock().expect("no holder of this lock panics") = report;
        if told != Some(is_ready) {
            match (is_ready, told) {
                (true, _) => tracing::info!("ready: frames get through"),
                (false, None) => {} // it has just begun
                (false, Some(_)) => tracing::warn!("not ready: {words}"),
            }
            let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status("", status).await;
            reporter.set_service_status(SERVICE_NAME, status).await;
            told = Some(is_ready);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = hub.health.news.notified() => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

fn look(workers: &mut Workers, hub: &Hub) -> Report {
    let stages = workers.look();
    let mut why: Vec<String> = stages.iter().filter_map(StageWorkers::why_none).collect();
    why.extend(hub.health.why_none_gets_through(hub));
    if hub.health.is_journal_stuck.load(Ordering::Relaxed) {
        why.push("results cannot be written: see the log, and the room in paths.shm and paths.state".into());
    }
    if hub.is_draining() {
        why.push("the pipeline finishes what it has accepted, and takes no more".into());
    }
    Report { why, stages }
}
