//! The screen, drawn: a pure function of what is on it. What does not fit is left out, the least important first.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Row as TableRow, Table, TableState},
};

use super::{
    latency::{QUANTILES, Quantiles},
    rows::Row,
    screen::Screen,
    words::{bytes, count, per_cent, rate, seconds, time},
};
use crate::status::Status;

/// Lines above the table.
const HEAD_LINES: u16 = 2;
/// Deaths that are shown, the newest first.
const DEATHS_MAX: usize = 8;

/// A column of the table: its head, its characters, and what a line says there.
struct Column {
    head: &'static str,
    characters: u16,
    cell: fn(&Row) -> String,
}

/// The columns, the most important first: those to the right are left out where there is no room.
const COLUMNS: [Column; 9] = [
    Column { head: "stage", characters: 11, cell: |row| row.stage.clone() },
    Column { head: "procs", characters: 6, cell: |row| format!("{}/{}", row.ready, row.wanted) },
    Column { head: "frames/s", characters: 8, cell: |row| row.rate.map_or(none(), rate) },
    Column { head: "busy", characters: 6, cell: |row| row.busy.map_or(none(), per_cent) },
    Column { head: "queue", characters: 6, cell: |row| row.queue.map_or(none(), |depth| depth.to_string()) },
    Column { head: "oldest", characters: 7, cell: |row| row.oldest_ms.map_or(none(), time) },
    Column {
        head: "batch",
        characters: 7,
        cell: |row| row.fill.map_or(none(), |(fill, most)| format!("{fill:.1}/{most}")),
    },
    Column { head: "deaths", characters: 6, cell: |row| row.restarts.to_string() },
    Column { head: "memory", characters: 8, cell: |row| bytes(row.memory) },
];

fn none() -> String {
    "-".into()
}

/// Draws all of it.
pub fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let [body, foot] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    draw_body(screen, frame, body, true);
    frame.render_widget(Paragraph::new(foot_line(screen)), foot);
    if screen.is_helping {
        draw_help(frame);
    }
}

/// Draws it without what tells of keys, for who prints it.
pub fn draw_plain(screen: &Screen, frame: &mut Frame<'_>) {
    draw_body(screen, frame, frame.area(), false);
}

fn draw_body(screen: &Screen, frame: &mut Frame<'_>, area: Rect, selects: bool) {
    let Some(status) = &screen.status else {
        let words = screen.silence.as_deref().unwrap_or("asking the pipeline …");
        return frame.render_widget(Paragraph::new(words).wrap(ratatui::widgets::Wrap { trim: true }), area);
    };
    let table_lines = u16::try_from(screen.rows.len() + 1).unwrap_or(u16::MAX);
    let lines = [Constraint::Length(HEAD_LINES), Constraint::Length(table_lines), Constraint::Min(0)];
    let [head, table, rest] = Layout::vertical(lines).areas(area);
    frame.render_widget(Paragraph::new(head_lines(screen, status)), head);
    draw_table(screen, frame, table, selects);
    frame.render_widget(Paragraph::new(rest_lines(screen, status)), rest);
}

fn head_lines(screen: &Screen, status: &Status) -> Vec<Line<'static>> {
    let Status { name, pid, uptime_s, accepted, jobs, .. } = status;
    let mut first = vec![
        Span::styled(name.clone(), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!("  pid {pid}, up {}", time((uptime_s * 1000.0) as u64))),
    ];
    match (&screen.silence, screen.is_paused) {
        (Some(why), _) => first.push(Span::styled(format!("  NO ANSWER: {why}"), warning())),
        (None, true) => first.push(Span::styled("  PAUSED", warning())),
        (None, false) => {}
    }
    let in_flight = jobs.writing + jobs.ready + jobs.claimed;
    let second = format!(
        "{accepted} frames accepted, {in_flight} in flight ({} waiting, {} in hand; {} places free)",
        jobs.ready, jobs.claimed, jobs.free
    );
    vec![Line::from(first), Line::from(second)]
}

fn draw_table(screen: &Screen, frame: &mut Frame<'_>, area: Rect, selects: bool) {
    let mut used = 0;
    let has_room = |column: &&Column| {
        used += column.characters + 1;
        used <= area.width + 1
    };
    let columns: Vec<&Column> = COLUMNS.iter().take_while(has_room).collect();
    let right = |text: String, column: &Column| match column.head {
        "stage" => text,
        _ => format!("{text:>width$}", width = usize::from(column.characters)),
    };
    let head = columns.iter().map(|column| right(column.head.into(), column));
    let lines = screen.rows.iter().map(|row| {
        let cells = columns.iter().map(|column| right((column.cell)(row), column));
        TableRow::new(cells.collect::<Vec<_>>()).style(style_of(row))
    });
    let widths = columns.iter().map(|column| Constraint::Length(column.characters));
    let table = Table::new(lines, widths)
        .header(TableRow::new(head.collect::<Vec<_>>()).style(Style::new().add_modifier(Modifier::UNDERLINED)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(selects.then(|| screen.selected_line()));
    frame.render_stateful_widget(table, area, &mut state);
}

/// A stage that lacks processes, or has no time left, is to be seen.
fn style_of(row: &Row) -> Style {
    match row.busy {
        _ if row.ready < row.wanted => Style::new().fg(Color::Red),
        Some(busy) if busy > 0.95 => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}

fn warning() -> Style {
    Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD)
}

fn rest_lines(screen: &Screen, status: &Status) -> Vec<Line<'static>> {
    let shared =
        status.memory.iter().filter(|note| ["segment", "cache", "journal", "launcher"].contains(&note.owner.as_str()));
    let shared: Vec<String> = shared.map(|note| format!("{} {}", note.owner, bytes(note.bytes))).collect();
    let all: u64 = status.memory.iter().map(|note| note.bytes).sum();
    let mut lines = vec![Line::default()];
    lines.extend(latency_lines(screen));
    lines.extend([Line::from(format!("memory {}: {}, and the processes' own", bytes(all), shared.join(", ")))]);
    lines.extend(status.cache.in_short().lines().map(|line| Line::from(line.to_owned())));
    for one in &status.generations {
        let what = if one.serves { "" } else { " (takes no new frames)" };
        lines.push(Line::from(format!("generation {}{what}: {}", one.number, one.models.join(", "))));
    }
    for death in status.repairs.iter().rev().take(DEATHS_MAX) {
        let ago = time(screen.read_ns.saturating_sub(death.noticed_ns) / 1_000_000);
        let repair_ms = death.repaired_ns.saturating_sub(death.noticed_ns) as f64 / 1e6;
        let frames = count(death.frames as u64, "frame");
        let who = format!("{}[{}] (pid {})", death.stage, death.instance, death.pid);
        lines.push(Line::from(format!("death {ago} ago: {who}, {frames} in hand, repaired in {repair_ms:.1} ms")));
    }
    lines
}

fn latency_lines(screen: &Screen) -> Vec<Line<'static>> {
    if let Some(why) = &screen.latency.silence {
        return vec![Line::from(format!("latency: not known: {why}"))];
    }
    let Some(shown) = &screen.latency.shown else {
        return vec![Line::from("latency: no frame was answered since the first look")];
    };
    let line = |name: &str, cells: [String; 2 * QUANTILES.len()]| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>9}")).collect();
        format!("{name:<14}{cells}")
    };
    let cells =
        |quantiles: &Quantiles| quantiles.map_or([(); QUANTILES.len()].map(|()| none()), |all| all.map(seconds));
    let [p50, p95, p99] = QUANTILES.map(|(_, name)| name.to_owned());
    let waits = QUANTILES.map(|(_, name)| format!("wait {name}"));
    let both = |[a, b, c]: [String; 3], [d, e, f]: [String; 3]| [a, b, c, d, e, f];
    let ago = time(screen.read_ns.saturating_sub(shown.read_ns) / 1_000_000);
    let of = format!("   of {}, {ago} ago", count(shown.frames, "frame"));
    let total = line("accept→result", both(cells(&shown.total), Default::default()));
    let mut lines = vec![
        Line::styled(line("latency", both([p50, p95, p99], waits)), Style::new().add_modifier(Modifier::UNDERLINED)),
        Line::from(total.trim_end().to_owned() + &of),
    ];
    lines
        .extend(shown.stages.iter().map(|(stage, hand, wait)| Line::from(line(stage, both(cells(hand), cells(wait))))));
    lines
}

fn foot_line(screen: &Screen) -> Line<'static> {
    if let Some(stage) = &screen.asks_restart {
        return Line::styled(
            format!("restart {stage}, one process after the other? y: yes, any other key: no"),
            warning(),
        );
    }
    match &screen.words {
        Some(words) => Line::styled(words.clone(), warning()),
        None => Line::from(format!(
            "q quit  ↑↓ select  +/- scale  r restart  p pause  s sort ({})  ? help",
            screen.sort.name()
        )),
    }
}

const HELP: &str = "\
q, Esc   quit
↑ ↓      select a stage
+ -      one process more, or less, of the stage
r        replace its processes, one after the other
p        pause, and go on
s        order: pipeline, busy, queue, memory

procs    processes that take frames / wanted
busy     part of the time in which its processes work
queue    frames that wait for the stage
oldest   how long ago the oldest of them was accepted
batch    frames in a batch / most
deaths   processes that died and were replaced
latency  of the frames answered last: in hand, and waiting before
memory   its processes' own, without shared memory
any key closes this";

fn draw_help(frame: &mut Frame<'_>) {
    let lines = HELP.lines().count() as u16 + 2;
    let columns = HELP.lines().map(|line| line.chars().count()).max().unwrap_or(0) as u16 + 4;
    let all = frame.area();
    let [_, middle, _] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(lines.min(all.height)), Constraint::Fill(1)])
            .areas(all);
    let [_, place, _] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(columns.min(all.width)), Constraint::Fill(1)])
            .areas(middle);
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" keys and columns ")), place);
}
