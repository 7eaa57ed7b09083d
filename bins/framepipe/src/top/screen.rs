//! What is on the screen, and what each event does to it.

use std::{cmp::Ordering, collections::BTreeMap};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    events::Event,
    latency::Latency,
    rows::{Row, rows},
};
use crate::{control::Request, orders::RestartWhat, status::Status};

/// By what the lines are ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sort {
    /// As frames pass them.
    #[default]
    Pipeline,
    /// The busiest first.
    Busy,
    /// The longest queue first.
    Queue,
    /// The most memory first.
    Memory,
}

impl Sort {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Pipeline, "pipeline"), (Self::Busy, "busy"), (Self::Queue, "queue"), (Self::Memory, "memory")];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(sort, _)| *sort == self).map_or("", |(_, name)| name)
    }

    fn next(self) -> Self {
        let place = Self::ALL.iter().position(|(sort, _)| *sort == self).unwrap_or(0);
        Self::ALL[(place + 1) % Self::ALL.len()].0
    }
}

/// What the screen shows.
#[derive(Default)]
pub struct Screen {
    /// The newest reading.
    pub status: Option<Box<Status>>,
    /// When it was taken, CLOCK_MONOTONIC.
    pub read_ns: u64,
    /// Why there is no newer one.
    pub silence: Option<String>,
    /// How long frames take.
    pub latency: Latency,
    /// The lines of the table, in order.
    pub rows: Vec<Row>,
    /// The stage whose line is chosen.
    pub selected: String,
    /// By what they are ordered.
    pub sort: Sort,
    /// True while nothing new is shown.
    pub is_paused: bool,
    /// True while the keys are explained.
    pub is_helping: bool,
    /// The stage whose restart waits for a yes.
    pub asks_restart: Option<String>,
    /// What was said last of an order.
    pub words: Option<String>,
    /// True while an order is under way.
    pub is_changing: bool,
}

/// What shall be done.
#[derive(Debug)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// A look at the pipeline at once.
    Look,
    /// The launcher shall do this.
    Order(Request),
    /// The end.
    End,
}

impl Screen {
    /// Takes in what happened.
    pub fn hear(&mut self, event: Event) -> Act {
        match event {
            Event::Key(key) => return self.key(key),
            Event::Status(status, read_ns) if !self.is_paused => self.show(*status, read_ns),
            Event::Silence(why) if !self.is_paused => self.silence = Some(why),
            Event::Latency(looked, read_ns) if !self.is_paused => self.latency.hear(looked, read_ns),
            Event::Resized | Event::Status(..) | Event::Silence(_) | Event::Latency(..) => {}
            Event::Said(words) => self.words = Some(words),
            Event::Ended(words) => {
                self.words = Some(words);
                self.is_changing = false;
                return Act::Look;
            }
            Event::End => return Act::End,
        }
        Act::Nothing
    }

    /// Shows a reading, taken at this moment of CLOCK_MONOTONIC.
    pub fn show(&mut self, status: Status, read_ns: u64) {
        self.rows = rows(&status, self.status.as_deref());
        self.order_rows();
        if !self.rows.iter().any(|row| row.stage == self.selected) {
            self.selected = self.rows.first().map_or(String::new(), |row| row.stage.clone());
        }
        (self.status, self.read_ns, self.silence) = (Some(Box::new(status)), read_ns, None);
    }

    /// Where the chosen line is.
    pub fn selected_line(&self) -> usize {
        self.rows.iter().position(|row| row.stage == self.selected).unwrap_or(0)
    }

    fn order_rows(&mut self) {
        let Some(newest) = &self.status else { return self.by_sort() };
        let place = |row: &Row| newest.queues.iter().position(|queue| queue.stage == row.stage);
        self.rows.sort_by_key(|row| place(row).unwrap_or(usize::MAX));
        self.by_sort();
    }

    fn by_sort(&mut self) {
        let busiest = |one: &Row, other: &Row| other.busy.partial_cmp(&one.busy).unwrap_or(Ordering::Equal);
        match self.sort {
            Sort::Pipeline => {}
            Sort::Busy => self.rows.sort_by(busiest),
            Sort::Queue => self.rows.sort_by_key(|row| std::cmp::Reverse(row.queue)),
            Sort::Memory => self.rows.sort_by_key(|row| std::cmp::Reverse(row.memory)),
        }
    }

    fn key(&mut self, key: KeyEvent) -> Act {
        self.words.take_if(|_| !self.is_changing); // read by now
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Act::End } else { Act::Nothing };
        }
        if let Some(stage) = self.asks_restart.take() {
            return match key.code {
                KeyCode::Char('y') => self.order(Request::Restart { what: RestartWhat::Stage(stage) }),
                _ => Act::Nothing,
            };
        }
        if std::mem::take(&mut self.is_helping) && key.code != KeyCode::Char('q') {
            return Act::Nothing;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Act::End,
            KeyCode::Up | KeyCode::Char('k') => self.select(-1),
            KeyCode::Down | KeyCode::Char('j') => self.select(1),
            KeyCode::Char('+' | '=') => return self.scale(1),
            KeyCode::Char('-' | '_') => return self.scale(-1),
            KeyCode::Char('r') if self.silence.is_none() && !self.rows.is_empty() => {
                self.asks_restart = Some(self.selected.clone());
            }
            KeyCode::Char('p') => {
                self.is_paused = !self.is_paused;
                return if self.is_paused { Act::Nothing } else { Act::Look };
            }
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                self.order_rows();
            }
            KeyCode::Char('?' | 'h') => self.is_helping = true,
            _ => {}
        }
        Act::Nothing
    }

    fn select(&mut self, by: isize) {
        let line = self.selected_line().saturating_add_signed(by).min(self.rows.len().saturating_sub(1));
        self.selected = self.rows.get(line).map_or(String::new(), |row| row.stage.clone());
    }

    fn scale(&mut self, by: i64) -> Act {
        let Some(row) = self.rows.iter().find(|row| row.stage == self.selected) else { return Act::Nothing };
        let Some(scale) = row.scale else {
            self.words = Some(format!("there is one {}, always: stages can be scaled", row.stage));
            return Act::Nothing;
        };
        let wanted = u32::try_from(i64::from(scale) + by).unwrap_or(0);
        if wanted == 0 {
            self.words = Some(format!("{} needs one process", row.stage));
            return Act::Nothing;
        }
        self.order(Request::Scale { processes: BTreeMap::from([(row.stage.clone(), wanted)]) })
    }

    fn order(&mut self, request: Request) -> Act {
        if self.is_changing {
            self.words = Some("a change is under way: wait until it is done".into());
            return Act::Nothing;
        }
        self.is_changing = true;
        self.words = Some(match &request {
            Request::Scale { processes } => {
                let wanted: Vec<String> = processes.iter().map(|(stage, count)| format!("{stage}={count}")).collect();
                format!("scaling: {} …", wanted.join(" "))
            }
            _ => "restarting …".into(),
        });
        Act::Order(request)
    }
}
