//! Results as a table for people. It is printed as results come, so that its columns have fixed widths; what is longer pushes the
//! rest of its line aside.

use framepipe_client::{FrameResult, Outcome, words};

/// Characters of a name that are shown: its end says most.
const NAME_CHARACTERS: usize = 28;

/// The first line.
pub const HEAD: &str =
    "name                          label           score  box                          ms  attributes\n";

/// The lines of a result: one an object, or one that says why there is none.
pub fn result(result: &FrameResult) -> String {
    let (name, ms) = (shown(&result.name), format!("{:.1}", words::total_ms(result)));
    let found = match &result.outcome {
        Some(Outcome::Detections(found)) => found,
        Some(Outcome::Error(error)) => return note(&name, &words::error(error)),
        Some(Outcome::Gap(gap)) => return note("", &words::gap(gap)),
        None => return note(&name, "an outcome that this client does not know"),
    };
    if found.detections.is_empty() {
        return row(&name, "nothing found", "", "", &ms, "");
    }
    let line = |(number, one): (usize, &framepipe_client::Detection)| {
        let attributes: Vec<String> =
            one.attributes.iter().map(|value| format!("{} {}", value.name, words::attribute(value))).collect();
        let (score, attributes) = (format!("{:.2}", one.score), words::printable(&attributes.join(", ")));
        let (name, ms) = if number == 0 { (name.as_str(), ms.as_str()) } else { ("", "") };
        row(name, &words::printable(&one.label), &score, &words::corners(one), ms, &attributes)
    };
    found.detections.iter().enumerate().map(line).collect()
}

/// The line of a file that has become no frame.
pub fn refused(name: &str, code: &str, message: &str) -> String {
    note(&shown(name), &format!("{code}: {message}"))
}

fn row(name: &str, label: &str, score: &str, corners: &str, ms: &str, attributes: &str) -> String {
    let line = format!("{name:<NAME_CHARACTERS$}  {label:<14}  {score:>5}  {corners:<22}  {ms:>7}  {attributes}");
    format!("{}\n", line.trim_end())
}

fn note(name: &str, message: &str) -> String {
    format!("{name:<NAME_CHARACTERS$}  {}\n", words::printable(message))
}

fn shown(name: &str) -> String {
    let name = words::printable(name);
    let count = name.chars().count();
    if count <= NAME_CHARACTERS {
        return name;
    }
    format!("…{}", name.chars().skip(count - (NAME_CHARACTERS - 1)).collect::<String>())
}

#[cfg(test)]
mod tests {
    use framepipe_client::{Attribute, BoundingBox, Detection, Detections, ErrorCode, FrameError, StageTime, Value};

    use super::*;

    fn object(label: &str, attributes: Vec<Attribute>) -> Detection {
        let place = BoundingBox { x0: 56.2, y0: 390.0, x1: 231.6, y1: 897.9 };
        Detection { label: label.into(), score: 0.816, r#box: Some(place), attributes, ..Detection::default() }
    }

    fn of(name: &str, outcome: Outcome) -> FrameResult {
        let times = vec![StageTime { stage: "detect".into(), queued_us: 1000, busy_us: 21_340 }];
        FrameResult { name: name.into(), outcome: Some(outcome), times, ..FrameResult::default() }
    }

    #[test]
    fn each_object_has_a_line_and_the_columns_are_those_of_the_head() {
        let age = Attribute { name: "age".into(), value: Some(Value::Number(31.26)), ..Attribute::default() };
        let detections = vec![object("person", vec![age]), object("bus", Vec::new())];
        let found = Outcome::Detections(Detections { detections, ..Detections::default() });
        let table = format!("{HEAD}{}", result(&of("bus.jpg", found)));
        let wanted = "\
name                          label           score  box                          ms  attributes
bus.jpg                       person           0.82  56,390 to 232,898          22.3  age 31.3
                              bus              0.82  56,390 to 232,898
";
        assert_eq!(table, wanted);
    }

    #[test]
    fn what_has_no_objects_says_why() {
        let nothing = Outcome::Detections(Detections::default());
        assert_eq!(
            result(&of("a.jpg", nothing)).split_whitespace().collect::<Vec<_>>(),
            ["a.jpg", "nothing", "found", "22.3"]
        );
        let error = FrameError { code: ErrorCode::CorruptImage.into(), message: "cut \u{1b}[31moff".into() };
        let line = result(&of(&"x".repeat(40), Outcome::Error(error)));
        assert_eq!(line, format!("…{}  CORRUPT_IMAGE: cut \u{fffd}[31moff\n", "x".repeat(27)));
        assert_eq!(refused("a", "UNREADABLE", "no"), format!("a{}UNREADABLE: no\n", " ".repeat(29)));
    }
}
