//! What the demo prints of each result, and the totals.

use std::fmt;

use framepipe_client::{FrameResult, Outcome, words};

/// One photo's result.
pub fn print(result: &FrameResult) {
    println!("\n{}", result.name);
    match &result.outcome {
        Some(Outcome::Detections(found)) => {
            for one in &found.detections {
                println!("  {:<8} {:.2}  box {}", one.label, one.score, words::corners(one));
                for attribute in &one.attributes {
                    println!("    {:<12} {}  ({})", attribute.name, words::attribute(attribute), attribute.model);
                }
            }
            if found.detections.is_empty() {
                println!("  nothing found");
            }
        }
        Some(Outcome::Error(error)) => println!("  {}", words::error(error)),
        Some(Outcome::Gap(gap)) => println!("  {}", words::gap(gap)),
        None => println!("  an outcome that this client does not know"),
    }
    let times =
        result.times.iter().map(|time| format!("{} {:.1}+{:.1}", time.stage, ms(time.queued_us), ms(time.busy_us)));
    println!("  ms (waited+worked): {}", times.collect::<Vec<_>>().join(", "));
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
