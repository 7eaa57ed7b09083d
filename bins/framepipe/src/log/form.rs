//! A line as people, programs or the journal read it, and where it is written.

use std::{
    env,
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
};

use framepipe_pipeline::{
    LogFormat,
    log::{Level, Line},
};
use serde_json::Value;

use super::journal::Journal;

/// What a line takes beside its texts: its fields' names, its time, its places in queues.
const LINE_OVERHEAD: usize = 256;

/// What no terminal shall obey, or be led to show in another order than it was said in.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Makes what a line says harmless: control characters are shown as they are written in source text.
pub fn make_harmless(line: &mut Line) {
    let texts = [&mut line.process, &mut line.target, &mut line.message];
    let of_fields = line.fields.values_mut().filter_map(|value| match value {
        Value::String(text) => Some(text),
        _ => None,
    });
    for text in texts.into_iter().chain(of_fields) {
        if text.contains(is_harmful) {
            *text = harmless(text);
        }
    }
}

/// Words of several lines, made harmless as those of a line are; their ends of lines stay.
pub fn harmless_lines(words: &str) -> String {
    words.split('\n').map(harmless).collect::<Vec<_>>().join("\n")
}

fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\t' => shown.push(' '),
            character if is_harmful(character) => shown.extend(character.escape_default()),
            character => shown.push(character),
        }
    }
    shown
}

/// About how much memory a line takes.
pub fn bytes_of(line: &Line) -> usize {
    let of_fields: usize =
        line.fields.iter().map(|(name, value)| name.len() + value.as_str().map_or(8, str::len)).sum();
    line.message.len() + line.target.len() + line.process.len() + of_fields + LINE_OVERHEAD
}

/// A form that text has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Human {
        /// True where a terminal shows it.
        has_colour: bool,
    },
    /// A line of JSON each.
    Json,
}

impl Form {
    /// For people who read it here, with colours where that is a terminal and nobody forbids them.
    pub fn human(place: &impl IsTerminal) -> Self {
        let is_forbidden = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::Human { has_colour: place.is_terminal() && !is_forbidden }
    }

    /// The line, with its end.
    pub fn of(self, line: &Line) -> Vec<u8> {
        match self {
            Self::Human { has_colour } => human(line, has_colour).into_bytes(),
            Self::Json => line.to_json(),
        }
    }
}

fn human(line: &Line, has_colour: bool) -> String {
    let (colour, dim, plain) = match (has_colour, line.level) {
        (false, _) => ("", "", ""),
        (true, Level::Error) => ("\x1b[31m", "\x1b[2m", "\x1b[0m"),
        (true, Level::Warn) => ("\x1b[33m", "\x1b[2m", "\x1b[0m"),
        (true, _) => ("\x1b[32m", "\x1b[2m", "\x1b[0m"),
    };
    let time = humantime::format_rfc3339_millis(line.timestamp);
    let level = line.level.name().to_uppercase();
    let mut text = String::with_capacity(line.message.len() + 64);
    let (process, message) = (&line.process, &line.message);
    writeln!(text, "{dim}{time}{plain} {colour}{level:<5}{plain} {process}: {message}").expect("a string takes it");
    text
}

/// Where lines are written.
pub enum Out {
    /// Standard error.
    Stderr(Form),
    /// The journal.
    Journal(Journal),
}

impl Out {
    /// The one of a format, here.
    pub fn choose(format: LogFormat) -> Self {
        let to_journal = match format {
            LogFormat::Json => return Self::Stderr(Form::Json),
            LogFormat::Human => false,
            LogFormat::Auto => Journal::hears_stderr(),
            LogFormat::Journald => true,
        };
        to_journal
            .then(Journal::connect)
            .and_then(Result::ok)
            .map_or_else(|| Self::Stderr(Form::human(&io::stderr())), Self::Journal)
    }

    /// Writes a line. That it cannot be written (a full disk, a logger that died) is no reason to stop.
    pub fn write(&self, line: &Line) {
        let form = match self {
            Self::Stderr(form) => *form,
            Self::Journal(journal) => match journal.send(line) {
                Ok(()) => return,
                Err(_) => Form::human(&io::stderr()), // it is away: what hears standard error may be there
            },
        };
        let _ = io::stderr().write_all(&form.of(line));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn line(message: &str) -> Line {
        let mut line = Line::now(Level::Warn, message);
        (line.process, line.pid) = ("detect[0]".into(), 7);
        line.timestamp = UNIX_EPOCH + Duration::from_millis(1_767_225_600_042);
        make_harmless(&mut line);
        line
    }

    fn shown(form: Form, line: &Line) -> String {
        String::from_utf8(form.of(line)).expect("it is text")
    }

    #[test]
    fn people_see_the_time_the_level_and_the_process() {
        let plain = Form::Human { has_colour: false };
        assert_eq!(shown(plain, &line("words")), "2026-01-01T00:00:00.042Z WARN  detect[0]: words\n");
        let coloured = shown(Form::Human { has_colour: true }, &line("words"));
        assert!(coloured.contains("\x1b[33mWARN \x1b[0m detect[0]: words\n"), "{coloured:?}");
    }

    #[test]
    fn no_terminal_obeys_what_a_line_says() {
        let hostile = "a\x1b]0;title\x07b\u{9b}31mc\r\nd\u{202e}e\u{7f}f\tg";
        let mut line = line(hostile);
        line.fields.insert("stream".into(), "\x1b[2J".into());
        make_harmless(&mut line);
        for form in [Form::Human { has_colour: false }, Form::Json] {
            let shown = shown(form, &line);
            assert_eq!(shown.chars().filter(|c| is_harmful(*c)).collect::<String>(), "\n", "{shown:?}");
            assert!(shown.contains("title") && shown.contains("f g"), "{shown:?}");
        }
        assert_eq!(harmless("\x1b[2J"), "\\u{1b}[2J");
        assert_eq!(harmless_lines("a\x1b\n\tb\r\n"), "a\\u{1b}\n b\\r\n");
    }

    #[test]
    fn programs_read_back_what_was_said() {
        let mut said = line("words \"here\"");
        said.fields.insert("frame".into(), 5.into());
        assert_eq!(Line::from_json(&Form::Json.of(&said)), Some(said));
    }
}
