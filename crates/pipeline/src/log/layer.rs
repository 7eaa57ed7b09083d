//! From events of `tracing` to lines.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use super::{Line, bursts::Bursts};

/// Makes lines of events, and gives them to a sink: one after the other, so that they stay in their order.
pub struct Lines {
    bursts: Mutex<Bursts>,
    sink: Box<dyn Fn(Line) + Send + Sync>,
}

impl Lines {
    /// Lines for this sink.
    pub fn new(sink: Box<dyn Fn(Line) + Send + Sync>) -> Self {
        Self { bursts: Mutex::default(), sink }
    }

    /// Says what was left out and not counted yet.
    pub fn end(&self) {
        let mut bursts = self.bursts.lock().unwrap_or_else(PoisonError::into_inner);
        bursts.end().into_iter().for_each(&self.sink);
    }
}

impl<S: Subscriber> Layer<S> for &'static Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut bursts = self.bursts.lock().unwrap_or_else(PoisonError::into_inner);
        let line = line_of(event); // its time is of its turn
        bursts.pass(event.metadata().callsite(), line, Instant::now()).into_iter().for_each(&self.sink);
    }
}

fn line_of(event: &Event<'_>) -> Line {
    let metadata = event.metadata();
    let mut words = Words::default();
    event.record(&mut words);
    let line = Line::now(metadata.level().into(), words.message);
    Line { target: metadata.target().into(), fields: words.fields, ..line }
}

#[derive(Default)]
struct Words {
    message: String,
    fields: Map<String, Value>,
}

impl Words {
    fn add(&mut self, field: &Field, value: Value) {
        match value {
            Value::String(words) if field.name() == "message" => self.message = words,
            value => drop(self.fields.insert(field.name().into(), value)),
        }
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into()); // `message`, and what is said with `%`, are shown so without quotes
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::{super::Level, *};

    /// What is said while `say` runs.
    fn said(say: impl FnOnce()) -> Vec<Line> {
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = said.clone();
        let lines = Box::leak(Box::new(Lines::new(Box::new(move |line| sink.lock().expect("no panic").push(line)))));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(&*lines), say);
        lines.end();
        said.lock().expect("no panic").clone()
    }

    #[test]
    fn an_event_is_a_line_with_its_level_words_and_fields() {
        let stream = "live \"one\"";
        let lines = said(|| {
            tracing::warn!(frame = 7u64, stream, part = 0.5, is_late = true, "frame {}: too late", 7);
            tracing::info!("two\nrows");
        });
        assert_eq!((lines[0].level, &lines[0].message[..]), (Level::Warn, "frame 7: too late"));
        assert_eq!(lines[0].target, module_path!());
        let fields = serde_json::json!({"frame": 7, "stream": "live \"one\"", "part": 0.5, "is_late": true});
        assert_eq!(Value::Object(lines[0].fields.clone()), fields);
        assert_eq!((lines[1].level, &lines[1].message[..]), (Level::Info, "two\nrows"));
        assert!(lines[0].timestamp <= lines[1].timestamp);
    }

    #[test]
    fn a_burst_of_one_warning_is_bounded_and_counted() {
        let lines = said(|| {
            for number in 0..1000 {
                tracing::warn!("warning {number}");
                tracing::info!("news {number}");
            }
            tracing::warn!("another warning");
        });
        let of = |level, words: &str| {
            lines.iter().filter(|line| line.level == level && line.message.starts_with(words)).count()
        };
        assert_eq!(of(Level::Info, "news "), 1000, "what happens is said");
        let said = of(Level::Warn, "warning ");
        assert!((1..100).contains(&said), "{said}");
        assert_eq!(of(Level::Warn, "another warning"), 1, "each warning has a bound of its own");
        let count = format!("{} like this were left out: warning 999", 1000 - said);
        assert_eq!(lines.last().map(|line| &line.message[..]), Some(&count[..]));
    }
}
