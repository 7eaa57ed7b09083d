//! What the demo prints of each result, and the totals.

use std::fmt;

use framepipe_client::{Attribute, FrameResult, Outcome, Value};

/// Score from which a point is counted as sure.
const SURE: f32 = 0.5;

/// One photo's result.
pub fn print(result: &FrameResult) {
    println!("\n{}", result.name);
    match &result.outcome {
        Some(Outcome::Detections(found)) => {
            for one in &found.detections {
                let place = one.r#box.unwrap_or_default();
                let (x0, y0, x1, y1) = (place.x0, place.y0, place.x1, place.y1);
                println!("  {:<8} {:.2}  box {x0:.0},{y0:.0} to {x1:.0},{y1:.0}", one.label, one.score);
                for attribute in &one.attributes {
                    println!("    {:<12} {}  ({})", attribute.name, words(attribute), attribute.model);
                }
            }
            if found.detections.is_empty() {
                println!("  nothing found");
            }
        }
        Some(Outcome::Error(error)) => println!("  {:?}: {}", error.code(), error.message),
        Some(Outcome::Gap(gap)) => {
            println!("  results {} to {} were dropped unread for their age", gap.first_sequence, gap.last_sequence);
        }
        None => println!("  an outcome that this client does not know"),
    }
    let times =
        result.times.iter().map(|time| format!("{} {:.1}+{:.1}", time.stage, ms(time.queued_us), ms(time.busy_us)));
    println!("  ms (waited+worked): {}", times.collect::<Vec<_>>().join(", "));
}

/// An attribute's value, for people.
pub fn words(attribute: &Attribute) -> String {
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

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// What all photos came to.
#[derive(Default)]
pub struct Totals {
    photos: usize,
    detections: usize,
    attributes: usize,
    /// Photos without a result.
    pub errors: usize,
    ready_ms: u64,
}

impl Totals {
    /// Of a pipeline that took frames `ready_ms` milliseconds after its start.
    pub fn new(ready_ms: u64) -> Self {
        Self { ready_ms, ..Self::default() }
    }

    /// Counts a result.
    pub fn add(&mut self, result: &FrameResult) {
        self.photos += 1;
        match &result.outcome {
            Some(Outcome::Detections(found)) => {
                self.detections += found.detections.len();
                self.attributes += found.detections.iter().map(|one| one.attributes.len()).sum::<usize>();
            }
            _ => self.errors += 1,
        }
    }

    /// The totals as a JSON object.
    pub fn json(&self) -> String {
        let Self { photos, detections, attributes, errors, ready_ms } = self;
        let object = serde_json::json!({
            "photos": photos, "detections": detections, "attributes": attributes, "errors": errors, "ready_ms": ready_ms
        });
        format!("{object:#}\n")
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { photos, detections, attributes, errors, ready_ms } = self;
        write!(
            f,
            "\n{photos} photos: {detections} detections, {attributes} attributes, {errors} errors; the pipeline was \
             ready after {ready_ms} ms"
        )
    }
}
