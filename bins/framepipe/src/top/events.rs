//! What happens, in one queue: keys, the launcher's answers, signals. Each is waited for by a thread of its own, which ends with
//! the program.

use std::{path::PathBuf, thread, time::Duration};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender, bounded};
use framepipe_shm::monotonic_ns;
use nix::sys::signal::{SigSet, Signal};
use ratatui::crossterm::event::{self, Event as TerminalEvent, KeyEvent, KeyEventKind};

use super::latency;
use crate::{
    control::{self, Answer, Request},
    status::Status,
};

/// What has happened and is not shown yet; who has more to say waits.
const EVENTS_MAX: usize = 64;

/// Something happened.
pub enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    /// The launcher said how the pipeline is, at that moment of CLOCK_MONOTONIC.
    Status(Box<Status>, u64),
    /// It does not answer.
    Silence(String),
    /// How long frames take, or why that is not known, at that moment of CLOCK_MONOTONIC.
    Latency(Result<latency::Reading, String>, u64),
    /// What it was told to do goes on.
    Said(String),
    /// What it was told to do is done, or is not.
    Ended(String),
    /// Somebody wants this program to end, or its terminal is gone.
    End,
}

/// The queue.
pub struct Events {
    run: PathBuf,
    says: Sender<Event>,
    heard: Receiver<Event>,
    looks: Sender<()>,
}

/// Takes the signals that end a program from now on. To be called before any thread is started.
pub fn take_signals() -> anyhow::Result<SigSet> {
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|signal| signals.add(signal));
    signals.thread_block().context("cannot take signals")?;
    Ok(signals)
}

impl Events {
    /// Begins to wait for all of them. The launcher whose run folder this is is asked every `interval`, and so is the gateway at `http`.
    pub fn start(run: PathBuf, http: Option<String>, interval: Duration, signals: SigSet) -> anyhow::Result<Self> {
        let (says, heard) = bounded(EVENTS_MAX);
        let (looks, look) = bounded(1);
        let (said, path) = (says.clone(), run.clone());
        spawn("ask", move || {
            loop {
                let event = match control::status(&path) {
                    Ok(status) => Event::Status(status, monotonic_ns()),
                    Err(error) => Event::Silence(format!("{error:#}")),
                };
                if said.send(event).is_err() {
                    return;
                }
                let _ = look.recv_timeout(interval); // or as soon as somebody wants to know
            }
        })?;
        let said = says.clone();
        // Beside: where the gateway does not answer, the launcher's answers are shown all the same.
        spawn("latency", move || {
            while said.send(Event::Latency(latency::look(http.as_deref()), monotonic_ns())).is_ok() {
                thread::sleep(interval);
            }
        })?;
        let said = says.clone();
        spawn("keys", move || {
            loop {
                let event = match event::read() {
                    Ok(TerminalEvent::Key(key)) if key.kind != KeyEventKind::Release => Event::Key(key),
                    Ok(TerminalEvent::Resize(..)) => Event::Resized,
                    Ok(_) => continue,
                    Err(_) => Event::End,
                };
                let is_end = matches!(event, Event::End);
                if said.send(event).is_err() || is_end {
                    return;
                }
            }
        })?;
        let said = says.clone();
        spawn("signals", move || {
            let _ = signals.wait(); // an error: there are none to wait for
            let _ = said.send(Event::End);
        })?;
        Ok(Self { run, says, heard, looks })
    }

    /// Waits for the next one.
    pub fn next(&self) -> Event {
        self.heard.recv().unwrap_or(Event::End)
    }

    /// Looks at once, not only after the interval.
    pub fn look(&self) {
        let _ = self.looks.try_send(()); // full: it looks already
    }

    /// Tells the launcher to do something.
    pub fn order(&self, request: Request) -> anyhow::Result<()> {
        let (run, says) = (self.run.clone(), self.says.clone());
        spawn("order", move || {
            let progress = says.clone();
            let answer = control::ask(&run, &request, move |words| drop(progress.send(Event::Said(words))));
            let words = match answer {
                Ok(Answer::Done(words) | Answer::Failed(words) | Answer::Progress(words)) => words,
                Ok(Answer::Status(_)) => "the launcher's answer is of another version".into(),
                Err(error) => format!("{error:#}"),
            };
            let _ = says.send(Event::Ended(words));
        })
    }
}

fn spawn(name: &str, what: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    thread::Builder::new().name(name.into()).spawn(what).map(drop).context("cannot start a thread")
}
