//! Results in words for people: what several programs print of them, said in one way.

use framepipe_proto::v1::{Attribute, Detection, ErrorCode, FrameError, FrameResult, Gap, attribute::Value};

/// Score from which a point is counted as sure.
const SURE: f32 = 0.5;

/// An attribute's value.
pub fn attribute(attribute: &Attribute) -> String {
    match &attribute.value {
        Some(Value::Classification(class)) => format!("{} {:.2}", class.label, class.score),
        Some(Value::Number(number)) => format!("{number:.1}"),
        Some(Value::Embedding(vector)) => format!("vector of {}", vector.values.len()),
        Some(Value::Classifications(found)) => {
            let words = found.classes.iter().map(|class| format!("{} {:.2}", class.label, class.score));
            words.collect::<Vec<_>>().join(", ")
        }
        Some(Value::Keypoints(found)) => {
            let sure = found.points.iter().filter(|point| point.score >= SURE).count();
            format!("{} points, {sure} of them with {SURE} or more", found.points.len())
        }
        Some(Value::Text(line)) => format!("{:?} {:.2}", line.text, line.score),
        None => "?".into(),
    }
}

/// A detection's box, in whole pixels: its top left corner, and its bottom right one.
pub fn corners(detection: &Detection) -> String {
    let place = detection.r#box.unwrap_or_default();
    format!("{:.0},{:.0} to {:.0},{:.0}", place.x0, place.y0, place.x1, place.y1)
}

/// The name of an error's code, as the service definition has it; the number of one that this client does not know.
pub fn error_code(error: &FrameError) -> String {
    match ErrorCode::try_from(error.code) {
        Ok(code) => code.as_str_name().trim_start_matches("ERROR_CODE_").into(),
        Err(_) => error.code.to_string(),
    }
}

/// Why a frame has no detections.
pub fn error(error: &FrameError) -> String {
    format!("{}: {}", error_code(error), error.message)
}

/// A report of results that are gone.
pub fn gap(gap: &Gap) -> String {
    format!("results {} to {} were dropped unread for their age", gap.first_sequence, gap.last_sequence)
}

/// Milliseconds from a frame's acceptance to its delivery.
pub fn total_ms(result: &FrameResult) -> f64 {
    let us = result.times.iter().map(|time| time.queued_us.saturating_add(time.busy_us)).fold(0, u64::saturating_add);
    us as f64 / 1000.0
}

/// A text as it may stand on a terminal: without characters that would steer it. Names are whatever clients chose.
pub fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use framepipe_proto::v1::StageTime;

    use super::*;

    #[test]
    fn an_error_has_the_name_that_the_service_gives_it_and_a_newer_one_its_number() {
        let said = |code| error(&FrameError { code, message: "the words".into() });
        assert_eq!(said(ErrorCode::CorruptImage.into()), "CORRUPT_IMAGE: the words");
        assert_eq!(said(4711), "4711: the words");
    }

    #[test]
    fn a_frames_time_is_that_of_all_its_stages_and_no_number_overflows() {
        let time = |queued_us, busy_us| StageTime { stage: "detect".into(), queued_us, busy_us };
        let result = |times| FrameResult { times, ..FrameResult::default() };
        assert_eq!(total_ms(&result(vec![time(500, 1500), time(0, 1000)])), 3.0);
        assert_eq!(total_ms(&result(vec![time(u64::MAX, 1), time(1, 1)])), u64::MAX as f64 / 1000.0);
    }

    #[test]
    fn a_name_does_not_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\nc\u{9b}1m.jpg"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}1m.jpg");
        assert_eq!(printable("Straße 7.jpg"), "Straße 7.jpg");
    }
}
