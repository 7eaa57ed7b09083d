//! A warning that comes again and again is said a few times, then counted: a client that sends a thousand broken images, or a disk
//! that stays full, fills no log. What happens (info) is never left out, nor what somebody asked to see (debug).

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tracing::callsite::Identifier;

use super::{Level, Line};

/// How often one place in the program may warn in a window.
const SAID_MAX: u32 = 25;
/// How long a window is.
const WINDOW: Duration = Duration::from_secs(10);

/// What was said, by the place in the program: there are as many as the program has.
#[derive(Default)]
pub struct Bursts(HashMap<Identifier, Window>);

struct Window {
    began: Instant,
    said: u32,
    left_out: u64,
    /// The last that was left out.
    last: Option<Line>,
}

impl Bursts {
    /// What is to be said when this line comes.
    pub fn pass(&mut self, place: Identifier, line: Line, now: Instant) -> Vec<Line> {
        if line.level > Level::Warn {
            return vec![line];
        }
        let window = self.0.entry(place).or_insert_with(|| Window { began: now, said: 0, left_out: 0, last: None });
        let mut lines = Vec::new();
        if now.duration_since(window.began) >= WINDOW {
            lines.extend(window.close());
            (window.began, window.said) = (now, 0);
        }
        if window.said < SAID_MAX {
            window.said += 1;
            lines.push(line);
        } else {
            if window.left_out == 0 {
                let words =
                    format!("more lines like this come: they are counted for {} s, not shown", WINDOW.as_secs());
                lines.push(Line { message: format!("{words}: {}", line.message), ..line.clone() });
            }
            window.left_out += 1;
            window.last = Some(line);
        }
        lines
    }

    /// What was left out and not said yet.
    pub fn end(&mut self) -> Vec<Line> {
        self.0.values_mut().filter_map(Window::close).collect()
    }
}

impl Window {
    fn close(&mut self) -> Option<Line> {
        let count = std::mem::take(&mut self.left_out);
        let last = self.last.take()?;
        Some(Line { message: format!("{count} like this were left out: {}", last.message), ..last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Here;

    impl tracing::callsite::Callsite for Here {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}
        fn metadata(&self) -> &tracing::Metadata<'_> {
            unreachable!("nobody asks")
        }
    }

    #[test]
    fn the_next_window_begins_with_what_the_last_one_left_out() {
        static HERE: Here = Here;
        let place = || Identifier(&HERE);
        let (mut bursts, start) = (Bursts::default(), Instant::now());
        let mut say = |level, at: Duration| {
            let lines = bursts.pass(place(), Line::now(level, "full"), start + at);
            lines.into_iter().map(|line| line.message).collect::<Vec<_>>()
        };
        for _ in 0..SAID_MAX {
            assert_eq!(say(Level::Warn, Duration::ZERO), ["full"]);
        }
        let first = say(Level::Warn, Duration::ZERO);
        assert!(first.len() == 1 && first[0].contains("not shown"), "{first:?}");
        assert!(say(Level::Error, WINDOW / 2).is_empty());
        assert_eq!(say(Level::Info, WINDOW / 2), ["full"]);
        assert_eq!(say(Level::Warn, WINDOW), ["2 like this were left out: full", "full"]);
        assert_eq!(say(Level::Warn, 3 * WINDOW), ["full"]);
        assert!(bursts.end().is_empty());
    }
}
