//! What processes say: events of `tracing`. Each becomes a [`Line`], of which a process writes one line of JSON to its standard
//! error; the launcher takes it in there, and writes it in the form that its operator reads.
//!
//! One line an event, never one a frame that is served: what may come in bursts is a warning or an error, of which `bursts.rs`
//! lets so many through, and counts the others.

mod bursts;
mod layer;
mod line;

use std::{io::Write as _, sync::OnceLock};

use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _};

pub use line::{Level, Line};

use self::layer::Lines;

/// What a process is told in its environment: the least level of what it says.
pub const LEVEL_VARIABLE: &str = "FRAMEPIPE_LOG";

/// framepipe's own crates all begin so.
const OWN_TARGETS: &str = "framepipe";

/// Once events are lines.
static LINES: OnceLock<Lines> = OnceLock::new();

/// From now on each event of this level, or a graver one, is a line that is given to `sink`; of other people's crates, warnings and
/// errors alone. To be called once.
pub fn start(level: Level, sink: impl Fn(Line) + Send + Sync + 'static) {
    let lines = LINES.get_or_init(|| Lines::new(Box::new(sink)));
    let others = level.min(Level::Warn);
    let targets = Targets::new().with_default(others.filter()).with_target(OWN_TARGETS, level.filter());
    let subscriber = tracing_subscriber::registry().with(targets).with(lines);
    // An error: there is one already, which is this one, started before.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Starts a process's log: lines of JSON on standard error. That a line cannot be written (a full disk, a logger that died) is no
/// reason to stop serving.
pub(crate) fn start_in_process() {
    let level = std::env::var(LEVEL_VARIABLE).ok().and_then(|level| level.parse().ok()).unwrap_or_default();
    start(level, |line| {
        let _ = std::io::stderr().lock().write_all(&line.to_json());
    });
}

/// Says how much was left out of bursts: the last that a process does.
pub fn end() {
    LINES.get().into_iter().for_each(Lines::end);
}
