//! A frame's spans: the frame itself, from its acceptance to its result; of each stage that it passed, and of delivery, how long it
//! waited (`detect queued`) and how long it was in hand (`detect`). They follow one another without a gap.

use std::time::{SystemTime, UNIX_EPOCH};

use framepipe_pipeline::STAGES;
use framepipe_shm::monotonic_ns;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value},
    trace::v1::{Span, Status, span::SpanKind, status::StatusCode},
};

use super::story::{Outcome, Story};

/// Longest error message in a span, in bytes.
const MESSAGE_BYTES_MAX: usize = 256;
/// The flag of a sampled trace.
const SAMPLED: u32 = 1;
/// Says that the flag behind it is known, and that the parent is of another process.
const IS_REMOTE: u32 = 0x300;

/// From CLOCK_MONOTONIC to the time of day, as they are now.
#[derive(Clone, Copy)]
pub struct Clock {
    ahead_ns: u64,
}

impl Clock {
    /// The clocks compared.
    pub fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ns = u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX);
        Self { ahead_ns: unix_ns.saturating_sub(monotonic_ns()) }
    }

    fn unix_ns(self, ns: u64) -> u64 {
        ns.saturating_add(self.ahead_ns)
    }
}

/// A frame's spans.
pub fn spans(story: &Story, clock: Clock) -> Vec<Span> {
    let mut ids = story.ids.spans.iter();
    let mut next_id = || ids.next().expect("there are as many ids as spans").to_vec();
    let end_ns = story.delivery.published_ns.max(story.accepted_ns);
    let root_id = next_id();
    let span = |id: Vec<u8>, parent: Vec<u8>, name: String, (start_ns, end_ns): (u64, u64)| Span {
        trace_id: story.ids.trace.to_vec(),
        span_id: id,
        parent_span_id: parent,
        flags: SAMPLED,
        name,
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: clock.unix_ns(start_ns),
        end_time_unix_nano: clock.unix_ns(end_ns),
        ..Span::default()
    };
    let has_parent = story.ids.parent != [0; 8];
    let parent = if has_parent { story.ids.parent.to_vec() } else { Vec::new() };
    let mut spans = vec![Span {
        kind: SpanKind::Server.into(),
        flags: if has_parent { SAMPLED | IS_REMOTE } else { SAMPLED },
        attributes: attributes(story),
        status: Some(status(&story.outcome)),
        ..span(root_id.clone(), parent, "frame".into(), (story.accepted_ns, end_ns))
    }];
    let names = STAGES.iter().map(|row| row.name).chain(["gateway"]);
    let mut before_ns = story.accepted_ns;
    for (name, times) in names.zip(story.stages.iter().chain([&story.delivery])) {
        if times.published_ns == 0 {
            continue; // it did not pass there
        }
        // Another process wrote them.
        let claimed_ns = times.claimed_ns.clamp(before_ns, end_ns);
        let published_ns = times.published_ns.clamp(claimed_ns, end_ns);
        spans.push(span(next_id(), root_id.clone(), format!("{name} queued"), (before_ns, claimed_ns)));
        spans.push(span(next_id(), root_id.clone(), name.into(), (claimed_ns, published_ns)));
        before_ns = published_ns;
    }
    spans
}

fn attributes(story: &Story) -> Vec<KeyValue> {
    let text = |text: &str| Value::StringValue(text.into());
    let number = |number: u64| Value::IntValue(i64::try_from(number).unwrap_or(i64::MAX));
    let models = story.models.iter().map(|model| AnyValue { value: Some(text(model)) }).collect();
    let mut attributes = vec![
        attribute("framepipe.frame", number(story.frame)),
        attribute("framepipe.name", text(&story.name)),
        attribute("framepipe.stream", text(&story.stream)),
        attribute("framepipe.batch_index", number(story.batch_index.into())),
        attribute("framepipe.image.bytes", number(story.bytes)),
        attribute("framepipe.models", Value::ArrayValue(ArrayValue { values: models })),
    ];
    match &story.outcome {
        Outcome::Detections { count, is_cached } => attributes.extend([
            attribute("framepipe.outcome", text("detections")),
            attribute("framepipe.detections", number(*count as u64)),
            attribute("framepipe.cached", Value::BoolValue(*is_cached)),
        ]),
        Outcome::Error { code, .. } => {
            attributes.extend([attribute("framepipe.outcome", text("error")), attribute("error.type", text(code))]);
        }
    }
    attributes
}

/// An attribute.
pub fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn status(outcome: &Outcome) -> Status {
    match outcome {
        Outcome::Detections { .. } => Status::default(),
        Outcome::Error { message, .. } => {
            let message = message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)].to_owned();
            Status { message, code: StatusCode::Error.into() }
        }
    }
}

#[cfg(test)]
mod tests {
    use framepipe_frame::StageTimes;

    use super::{super::story::SPANS, *};

    fn check_nested(spans: &[Span]) {
        let (root, children) = spans.split_first().expect("a root");
        let mut before = root.start_time_unix_nano;
        for child in children {
            assert_eq!((&child.parent_span_id, &child.trace_id), (&root.span_id, &root.trace_id));
            assert!(child.start_time_unix_nano == before && child.end_time_unix_nano >= before, "{child:?}");
            before = child.end_time_unix_nano;
        }
        assert_eq!(root.end_time_unix_nano, before, "they fill the frame's time");
    }

    #[test]
    fn spans_follow_one_another_and_fill_the_frames_time() {
        let spans = spans(&Story::example(), Clock::now());
        assert_eq!(spans.len(), SPANS);
        check_nested(&spans);
        let names: Vec<_> = spans[1..5].iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["ingest queued", "ingest", "preprocess queued", "preprocess"]);
        assert!(spans[0].parent_span_id.is_empty());
    }

    #[test]
    fn what_a_stage_scribbled_bends_no_span() {
        let mut story = Story::example();
        story.stages[1] = StageTimes { claimed_ns: u64::MAX, published_ns: 1 };
        story.stages[2] = StageTimes::default();
        let spans = spans(&story, Clock::now());
        assert_eq!(spans.len(), SPANS - 2, "one stage was passed by");
        check_nested(&spans);
    }

    #[test]
    fn an_error_is_a_status_with_bounded_words() {
        let mut story = Story::example();
        story.outcome = Outcome::Error { code: "ERROR_CODE_POISON", message: "é".repeat(1000) };
        let root = spans(&story, Clock::now()).swap_remove(0);
        let status = root.status.expect("it has one");
        assert_eq!((status.code, status.message.len()), (StatusCode::Error.into(), MESSAGE_BYTES_MAX));
        let kind = root.attributes.iter().find(|attribute| attribute.key == "error.type").expect("it is named");
        assert_eq!(
            kind.value.clone().and_then(|value| value.value),
            Some(Value::StringValue("ERROR_CODE_POISON".into()))
        );
    }
}
