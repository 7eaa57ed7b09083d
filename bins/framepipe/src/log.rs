//! The log of a launcher and all its processes: lines, whoever said them, in the form that was chosen once. They are written by a
//! thread of its own, and the last ones are kept for `framepipe logs`.
//!
//! | file | what it does |
//! |---|---|
//! | `log/form.rs` | a line as people, programs or the journal read it |
//! | `log/journal.rs` | the journal: whether it hears us, and its protocol |
//! | `log/queue.rs` | lines that wait to be written; nobody waits for who reads them |
//! | `log/kept.rs` | the last lines, for who asks later, or follows |

mod form;
mod journal;
mod kept;
mod queue;

use std::{
    io,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use framepipe_pipeline::{
    LogConfig,
    log::{Level, Line},
};

use self::{form::Out, queue::Queue};
pub use self::{
    form::{Form, harmless_lines},
    kept::{Kept, News},
};

/// The launcher's own name in the log.
pub const LAUNCHER: &str = "launcher";
/// For the last lines to be written, and followers to have them, when the launcher ends.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

static OUT: OnceLock<Out> = OnceLock::new();
static QUEUE: Queue = Queue::new();
/// The last lines.
pub static KEPT: Kept = Kept::new();

/// Chooses the form and the level: from now on, what the launcher says is written, though by whoever says it.
pub fn choose(config: LogConfig) {
    OUT.get_or_init(|| Out::choose(config.format));
    let pid = std::process::id();
    framepipe_pipeline::log::start(config.level, move |line| pass_on(Line { process: LAUNCHER.into(), pid, ..line }));
}

/// Starts the thread that writes. To be called once signals are taken, and before any child is started.
pub fn start() -> io::Result<()> {
    thread::Builder::new().name("log".into()).spawn(|| {
        QUEUE.write_by(|line| OUT.get().into_iter().for_each(|out| out.write(line)));
    })?;
    QUEUE.has_writer();
    Ok(())
}

/// Takes a line in, whoever said it. What it holds is made harmless first: a terminal, and whoever else shows it, obeys nothing that
/// it says.
pub fn pass_on(mut line: Line) {
    form::make_harmless(&mut line);
    let line = Arc::new(line);
    KEPT.add(line.clone());
    if let Some(line) = QUEUE.push(line) {
        OUT.get().into_iter().for_each(|out| out.write(&line));
    }
}

/// Says why this program ends: in the log, if there is one.
pub fn say_end(words: &str) {
    if OUT.get().is_some() {
        tracing::error!("{words}");
    } else {
        plain(&format!("framepipe: {words}"));
    }
}

/// Writes words to standard error that are no log's, as those of a command that ends at once. That they cannot be written is no
/// reason to fail. They may be another program's, and are made harmless as the log's are.
pub fn plain(words: &str) {
    write_plain(io::stderr(), words);
}

fn write_plain(mut out: impl io::Write, words: &str) {
    let _ = writeln!(out, "{}", harmless_lines(words));
}

/// Waits until all is written, and followers have it, or the patience is over.
pub fn flush() {
    framepipe_pipeline::log::end();
    QUEUE.flush(FLUSH_PATIENCE);
    KEPT.close(FLUSH_PATIENCE);
}

/// A line of the launcher's own that says nothing of the program.
fn own(level: Level, words: String) -> Line {
    Line { process: LAUNCHER.into(), pid: std::process::id(), ..Line::now(level, words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_beside_the_log_is_harmless_too() {
        let mut said = Vec::new();
        write_plain(&mut said, "framepipe: the model says \x1b]0;title\x07\nand more");
        assert_eq!(
            String::from_utf8(said).expect("text"),
            "framepipe: the model says \\u{1b}]0;title\\u{7}\nand more\n"
        );
    }
}
