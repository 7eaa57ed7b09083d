//! What is told of a frame: whether it is, and under which ids.

use std::sync::Arc;

use framepipe_frame::{Request, StageTimes};
use framepipe_pipeline::GATEWAY;
use framepipe_proto::v1::{self, frame_result};

/// Spans of one frame: itself, and two for each stage and the gateway.
pub const SPANS: usize = 1 + 2 * (GATEWAY + 1);

/// A frame's ids. They follow from the segment's run and the frame's number: whoever delivers the frame, and however often it was
/// tried, gives it the same ones, and a collector that is sent them twice has them once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The trace: the caller's, or the frame's own.
    pub trace: [u8; 16],
    /// The span that the caller is in; zeroes where it named none.
    pub parent: [u8; 8],
    /// Of the frame's spans, itself first.
    pub spans: [[u8; 8]; SPANS],
}

impl Ids {
    /// Those of a frame that is told of: as its caller is; else so many parts of all frames are, chosen by the trace's id, as
    /// OpenTelemetry's `TraceIdRatioBased` does.
    pub fn sampled(run: u64, request: &Request, sample: f64) -> Option<Self> {
        let caller = request.trace;
        if caller.is_given() && !caller.is_sampled() {
            return None;
        }
        let mut hash = blake3::Hasher::new();
        hash.update(&run.to_le_bytes()).update(&request.frame.to_le_bytes());
        let mut bytes = hash.finalize_xof();
        let mut own = [0; 16];
        bytes.fill(&mut own);
        if !caller.is_given() && !is_chosen(own, sample) {
            return None;
        }
        let mut spans = [[0; 8]; SPANS];
        spans.iter_mut().for_each(|span| bytes.fill(span));
        Some(Self { trace: if caller.is_given() { caller.trace } else { own }, parent: caller.span, spans })
    }
}

fn is_chosen(trace: [u8; 16], sample: f64) -> bool {
    let low = u64::from_be_bytes(*trace.last_chunk().expect("16 bytes"));
    ((low >> 1) as f64) < sample * (1u64 << 63) as f64
}

/// What is told of a frame.
#[derive(Clone, Debug)]
pub struct Story {
    /// Its ids.
    pub ids: Ids,
    /// Its number.
    pub frame: u64,
    /// Its place in its call.
    pub batch_index: u32,
    /// Its name.
    pub name: String,
    /// Its stream.
    pub stream: String,
    /// Bytes of its image.
    pub bytes: u64,
    /// When it was accepted, as all times CLOCK_MONOTONIC in nanoseconds.
    pub accepted_ns: u64,
    /// When each stage had it.
    pub stages: [StageTimes; GATEWAY],
    /// When delivery had it, and its result.
    pub delivery: StageTimes,
    /// The models that it was accepted for.
    pub models: Arc<[String]>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a frame ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With detections.
    Detections {
        /// How many.
        count: usize,
        /// True where they are those of another image of the same content.
        is_cached: bool,
    },
    /// With an error.
    Error {
        /// Its code's name, as the protocol has it.
        code: &'static str,
        /// Its words.
        message: String,
    },
}

impl Outcome {
    /// The one of a result.
    pub fn of(result: &v1::FrameResult) -> Self {
        match &result.outcome {
            Some(frame_result::Outcome::Detections(found)) => {
                Self::Detections { count: found.detections.len(), is_cached: result.cached }
            }
            Some(frame_result::Outcome::Error(error)) => {
                Self::Error { code: error.code().as_str_name(), message: error.message.clone() }
            }
            // No frame's result is a gap.
            Some(frame_result::Outcome::Gap(_)) | None => {
                Self::Error { code: v1::ErrorCode::Unspecified.as_str_name(), message: String::new() }
            }
        }
    }
}

#[cfg(test)]
impl Story {
    /// A frame that passed all stages, 100 ns apart.
    pub fn example() -> Self {
        let times = |stage: u64| StageTimes { claimed_ns: 1_100 + stage * 100, published_ns: 1_150 + stage * 100 };
        Self {
            ids: Ids::sampled(1, &bytemuck::Zeroable::zeroed(), 1.0).expect("all are"),
            frame: 7,
            batch_index: 0,
            name: "a.jpg".into(),
            stream: "live".into(),
            bytes: 5,
            accepted_ns: 1_000,
            stages: std::array::from_fn(|stage| times(stage as u64)),
            delivery: times(GATEWAY as u64),
            models: vec!["finder@1".to_owned()].into(),
            outcome: Outcome::Detections { count: 2, is_cached: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use framepipe_frame::TraceParent;

    use super::*;

    fn frame(frame: u64) -> Request {
        Request { frame, ..Request::zeroed() }
    }

    fn ids(run: u64, number: u64) -> Ids {
        Ids::sampled(run, &frame(number), 1.0).expect("all are told of")
    }

    #[test]
    fn a_frames_ids_are_its_own_and_always_the_same() {
        let one = ids(1, 7);
        assert_eq!((&one, one.parent), (&ids(1, 7), [0; 8]));
        assert_ne!(one.trace, ids(2, 7).trace);
        assert_ne!(one.trace, ids(1, 8).trace);
        let mut spans = one.spans.to_vec();
        spans.sort_unstable();
        spans.dedup();
        assert!(spans.len() == SPANS && !spans.contains(&[0; 8]));
    }

    #[test]
    fn the_caller_says_whether_and_else_so_many_of_them() {
        let sampled = |sample| (0..10_000).filter(|n| Ids::sampled(1, &frame(*n), sample).is_some()).count();
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 10_000));
        assert!((2_300..2_700).contains(&sampled(0.25)), "{}", sampled(0.25));
        for (flags, sample) in [(1, 0.0), (0, 1.0)] {
            let trace = TraceParent { trace: [1; 16], span: [2; 8], flags };
            let ids = Ids::sampled(1, &Request { trace, ..frame(7) }, sample);
            assert_eq!(ids.map(|ids| (ids.trace, ids.parent)), (flags == 1).then_some(([1; 16], [2; 8])));
        }
    }
}
