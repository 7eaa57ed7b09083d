//! What `/metrics` tells. What processes count lies in shared memory and is read at each scrape; what the gateway alone sees
//! (times, results, refusals, calls) it counts here, from its start on. No label is a client's word, so that their number is
//! bounded.
//!
//! | file | what it holds |
//! |---|---|
//! | `table.rs` | **the table**: each metric's name, kind, labels and meaning |
//! | `gpu.rs` | what the management library says of the pipeline's GPU |
//! | `page.rs` | a scrape: every row of the table, filled |

mod gpu;
mod page;
mod table;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use framepipe_frame::ErrorCode;
use framepipe_pipeline::{GATEWAY, process_name};
use framepipe_proto::v1::StageTime;
use prometheus_client::metrics::histogram::Histogram;
use tonic::{Code, Status};

pub use self::page::{CONTENT_TYPE, Scrape};

/// Upper bounds of the buckets of times, in seconds: from a decoded word to a pipeline that is full.
const SECONDS: [f64; 18] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// gRPC's codes.
const CODES: [(Code, &str); 17] = [
    (Code::Ok, "ok"),
    (Code::Cancelled, "cancelled"),
    (Code::Unknown, "unknown"),
    (Code::InvalidArgument, "invalid_argument"),
    (Code::DeadlineExceeded, "deadline_exceeded"),
    (Code::NotFound, "not_found"),
    (Code::AlreadyExists, "already_exists"),
    (Code::PermissionDenied, "permission_denied"),
    (Code::ResourceExhausted, "resource_exhausted"),
    (Code::FailedPrecondition, "failed_precondition"),
    (Code::Aborted, "aborted"),
    (Code::OutOfRange, "out_of_range"),
    (Code::Unimplemented, "unimplemented"),
    (Code::Internal, "internal"),
    (Code::Unavailable, "unavailable"),
    (Code::DataLoss, "data_loss"),
    (Code::Unauthenticated, "unauthenticated"),
];

/// The calls of the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// PushData.
    PushData,
    /// Upload.
    Upload,
    /// PullResult: counted as it begins.
    PullResult,
    /// AckResults.
    AckResults,
}

const METHODS: [(Method, &str); 4] = [
    (Method::PushData, "PushData"),
    (Method::Upload, "Upload"),
    (Method::PullResult, "PullResult"),
    (Method::AckResults, "AckResults"),
];

/// Why a push was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("refused: {}", self.name())]
pub enum Refusal {
    /// The budget of frames and bytes, or the stream's share of it, had no room.
    Budget,
    /// Too many calls waited for room already.
    Line,
    /// The results had no room in the journal.
    Journal,
    /// The images had no room in the cache's memory or on disk.
    Store,
    /// A repair was under way.
    Repair,
    /// The pipeline drains or stops.
    Draining,
    /// The call asked for what cannot be.
    Invalid,
    /// None of these.
    Other,
}

const REFUSALS: [Refusal; 8] = [
    Refusal::Budget,
    Refusal::Line,
    Refusal::Journal,
    Refusal::Store,
    Refusal::Repair,
    Refusal::Draining,
    Refusal::Invalid,
    Refusal::Other,
];

impl Refusal {
    fn name(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Line => "line",
            Self::Journal => "journal",
            Self::Store => "store",
            Self::Repair => "repair",
            Self::Draining => "draining",
            Self::Invalid => "invalid",
            Self::Other => "other",
        }
    }

    fn of(status: &Status) -> Self {
        let said = std::error::Error::source(status).and_then(|source| source.downcast_ref::<Self>());
        said.copied().unwrap_or(match status.code() {
            Code::Unavailable => Self::Draining,
            Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange => Self::Invalid,
            _ => Self::Other,
        })
    }
}

/// What the gateway counts.
pub struct Metrics {
    /// By stage and the gateway: time in the queue before it, and in its hands.
    queued: Vec<Histogram>,
    busy: Vec<Histogram>,
    /// From acceptance to result.
    latency: Histogram,
    results: AtomicU64,
    /// By error code, from 1.
    errors: Vec<AtomicU64>,
    refusals: [AtomicU64; REFUSALS.len()],
    calls: [[AtomicU64; CODES.len()]; METHODS.len()],
    canaries: [AtomicU64; 2],
    canary: Histogram,
    /// What was not told to the collector of traces.
    pub traces: Arc<Untold>,
}

/// What was not told to the collector of traces.
#[derive(Debug, Default)]
pub struct Untold {
    /// Frames whose spans were dropped for want of room, or with a batch that was refused.
    pub dropped_frames: AtomicU64,
    /// Spans that were refused of batches that were taken.
    pub rejected_spans: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let histograms = || (0..=GATEWAY).map(|_| Histogram::new(SECONDS)).collect();
        Self {
            queued: histograms(),
            busy: histograms(),
            latency: Histogram::new(SECONDS),
            results: AtomicU64::new(0),
            errors: ErrorCode::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            refusals: Default::default(),
            calls: Default::default(),
            canaries: Default::default(),
            canary: Histogram::new(SECONDS),
            traces: Arc::default(),
        }
    }
}

impl Metrics {
    /// A frame has its result, which is or is not an error, and spent its time so.
    pub fn delivered(&self, error: Option<ErrorCode>, times: &[StageTime]) {
        self.results.fetch_add(1, Ordering::Relaxed);
        if let Some(counter) = error.and_then(|code| self.errors.get(code as usize - 1)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let mut total_us = 0;
        for time in times {
            let Some(stage) = (0..=GATEWAY).find(|stage| process_name(*stage) == time.stage) else { continue };
            self.queued[stage].observe(time.queued_us as f64 / 1e6);
            self.busy[stage].observe(time.busy_us as f64 / 1e6);
            total_us += time.queued_us + time.busy_us;
        }
        if !times.is_empty() {
            self.latency.observe(total_us as f64 / 1e6);
        }
    }

    /// A call was answered.
    pub fn answered<T>(&self, method: Method, answer: Result<T, Status>) -> Result<T, Status> {
        let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        let code = CODES.iter().position(|(one, _)| *one == code).expect("every code is in the table");
        self.calls[method as usize][code].fetch_add(1, Ordering::Relaxed);
        if let (Method::PushData | Method::Upload, Err(status)) = (method, &answer) {
            let why = Refusal::of(status);
            self.refusals[why as usize].fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// A canary came back after so long, as it should or as an error.
    pub fn canary(&self, is_good: bool, took: Duration) {
        self.canaries[usize::from(is_good)].fetch_add(1, Ordering::Relaxed);
        self.canary.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn tables_are_in_the_order_of_their_enums() {
        assert!(METHODS.iter().enumerate().all(|(place, (method, _))| *method as usize == place));
        assert!(REFUSALS.iter().enumerate().all(|(place, refusal)| *refusal as usize == place));
        assert!(CODES.iter().enumerate().all(|(place, (code, _))| *code as usize == place));
        assert!(ErrorCode::ALL.iter().enumerate().all(|(place, code)| *code as usize == place + 1));
        assert!(SECONDS.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_refusal_is_known_by_what_was_said_where_it_was_refused() {
        let mut status = Status::resource_exhausted("full");
        assert_eq!(Refusal::of(&status), Refusal::Other);
        status.set_source(Arc::new(Refusal::Journal));
        assert_eq!(Refusal::of(&status), Refusal::Journal);
        assert_eq!(Refusal::of(&Status::unavailable("draining")), Refusal::Draining);
        assert_eq!(Refusal::of(&Status::not_found("no file")), Refusal::Invalid);
    }
}
