//! `framepipe top`: a running pipeline on a terminal, drawn again with each answer of its launcher.
//!
//! | file | what it holds |
//! |---|---|
//! | `events.rs` | what happens: keys, answers, signals, heard by threads of their own |
//! | `screen.rs` | what is on the screen, and what each key does to it |
//! | `latency.rs` | how long frames take, from the histograms of `/metrics` |
//! | `rows.rs` | from two readings of the status to what a stage does a second |
//! | `view.rs` | the screen, drawn: no clock, no file, no terminal is read there |
//! | `words.rs` | numbers as they fit into columns |

mod events;
mod latency;
mod rows;
mod screen;
#[cfg(test)]
mod tests;
mod view;
mod words;

use std::{
    io::{IsTerminal as _, stdout},
    path::Path,
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use framepipe_pipeline::{Config, Instance, Overrides, ServerConfig};
use framepipe_shm::monotonic_ns;
use ratatui::{DefaultTerminal, Terminal, backend::TestBackend, crossterm};

use self::{
    events::{Event, Events, take_signals},
    screen::{Act, Screen},
};
use crate::control;

/// Columns of what is printed where there is no terminal.
const COLUMNS: u16 = 120;
/// Lines that one screen may have.
const LINES_MAX: u16 = 64;
/// Exit status after a panic, as Rust has it.
const PANICKED: i32 = 101;

/// Which pipeline, and how often it is looked at.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe top --config config/street.toml
  framepipe top --once
  framepipe top --interval 0.5

Keys: q quits; ↑ and ↓ select a stage; + and - change how many processes it has; r replaces them, one after the other; p pauses;
s orders by busy, queue or memory; ? explains keys and columns. A pipeline that ends, and one that starts, are seen.

Exit status: 0 ended by q, Ctrl-C or SIGTERM, or printed; 1 no pipeline answers to --once, or there is no terminal; 2 wrong usage.")]
pub struct TopArgs {
    #[command(flatten)]
    instance: Instance,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    interval: f64,
    /// Print one screen as plain text, with rates over one interval, and end.
    #[arg(long)]
    once: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let said: f64 = text.parse().map_err(|_| "give a number of seconds".to_owned())?;
    if (0.1..=60.0).contains(&said) { Ok(said) } else { Err("give 0.1 to 60 seconds".into()) }
}

/// Shows it until somebody wants it to end.
pub fn top(arguments: &TopArgs) -> anyhow::Result<ExitCode> {
    let Config { run, server: ServerConfig { http, .. }, .. } = arguments.instance.load(Overrides::default())?;
    control::check_name(&run, &arguments.instance)?;
    let interval = Duration::from_secs_f64(arguments.interval);
    if arguments.once {
        return once(&run, http.as_deref(), interval);
    }
    if !stdout().is_terminal() {
        control::status(&run)?; // that nobody answers is what to say first
        bail!("standard output is no terminal: framepipe top --once prints one screen");
    }
    let signals = take_signals()?; // before any thread is started
    let mut terminal = ratatui::try_init().inspect_err(|_| ratatui::restore()).context("cannot take the terminal")?;
    end_with_panics();
    let shown = Events::start(run, http, interval, signals).and_then(|events| show(&mut terminal, &events));
    ratatui::try_restore().context("cannot give the terminal back")?;
    shown.map(|()| ExitCode::SUCCESS) // and the cursor is shown again, as the terminal is dropped
}

/// A panic, on any thread, gives the terminal back and ends the program: what is left of it would draw on what it gave back.
fn end_with_panics() {
    let gives_back = std::panic::take_hook(); // ratatui's
    std::panic::set_hook(Box::new(move |info| {
        gives_back(info);
        let _ = crossterm::execute!(stdout(), crossterm::cursor::Show); // as far as the terminal is there
        std::process::exit(PANICKED);
    }));
}

fn show(terminal: &mut DefaultTerminal, events: &Events) -> anyhow::Result<()> {
    let mut screen = Screen::default();
    loop {
        terminal.draw(|frame| view::draw(&screen, frame)).context("cannot write to the terminal")?;
        match screen.hear(events.next()) {
            Act::Nothing => {}
            Act::End => return Ok(()),
            Act::Look => events.look(),
            Act::Order(request) => {
                if let Err(error) = events.order(request) {
                    screen.hear(Event::Ended(format!("{error:#}")));
                }
            }
        }
    }
}

fn once(run: &Path, http: Option<&str>, interval: Duration) -> anyhow::Result<ExitCode> {
    let mut screen = Screen::default();
    let look = |screen: &mut Screen| {
        screen.show(*control::status(run)?, monotonic_ns());
        screen.latency.hear(latency::look(http), monotonic_ns());
        anyhow::Ok(())
    };
    look(&mut screen)?;
    thread::sleep(interval); // rates are over it
    look(&mut screen)?;
    let size = crossterm::terminal::size().ok().filter(|_| stdout().is_terminal());
    crate::print(&plain(&screen, size.map_or(COLUMNS, |(columns, _)| columns)))
}

/// The screen as text, without the line that tells of keys.
fn plain(screen: &Screen, columns: u16) -> String {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(columns, LINES_MAX));
    let Ok(_) = terminal.draw(|frame| view::draw_plain(screen, frame));
    let buffer = terminal.backend().buffer();
    let line = |row| (0..columns).map(|column| buffer[(column, row)].symbol()).collect::<String>();
    let lines: Vec<String> = (0..LINES_MAX).map(line).collect();
    let text: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    format!("{}\n", text.join("\n").trim_end())
}
