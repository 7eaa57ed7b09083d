//! How far it is: a line on a terminal's standard error that is drawn again and again. Where that is no terminal, or nobody wants
//! it, nothing is drawn.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two drawings while nothing comes: the clock goes on.
const TICK: Duration = Duration::from_millis(250);

/// The line.
pub struct Progress {
    bar: ProgressBar,
    is_quiet: bool,
}

impl Progress {
    /// Begins to draw it, unless it shall be quiet.
    pub fn new(is_quiet: bool) -> Self {
        // Of a standard error that is no terminal it draws nothing.
        let target = if is_quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style("{spinner} {pos} results, {msg}, {per_sec}, {elapsed}"));
        bar.set_message("0 errors");
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self { bar, is_quiet }
    }

    /// So many frames will have results.
    pub fn of(&self, frames: u64) {
        if self.bar.length().is_none() {
            self.bar.set_style(style("{bar:24} {pos}/{len} frames, {msg}, {per_sec}, ETA {eta}"));
        }
        self.bar.set_length(frames);
    }

    /// So many of them have, and so many are errors.
    pub fn at(&self, done: u64, errors: u64) {
        self.bar.set_position(done);
        self.bar.set_message(counted(errors, "error"));
    }

    /// Does something while the line is not drawn.
    pub fn aside<T>(&self, what: impl FnOnce() -> T) -> T {
        self.bar.suspend(what)
    }

    /// Says something on standard error, unless it shall be quiet.
    pub fn say(&self, words: &str) {
        if !self.is_quiet {
            self.aside(|| eprintln!("{words}"));
        }
    }

    /// Draws no more.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// So many of them: `1 image`, `2 images`.
pub fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is one")
}
