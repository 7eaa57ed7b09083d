//! The screen, drawn into memory, of readings that are written down here.

use std::{env, process::Command, thread};

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use serde_json::{Value, json};

use super::{
    events::Event,
    latency::Shown,
    plain,
    rows::rows,
    screen::{Act, Screen},
    view::draw,
};
use crate::{control::Request, orders::RestartWhat, status::Status};

const STAGES: [&str; 5] = ["ingest", "preprocess", "detect", "postprocess", "attribute"];

fn process(stage: &str, instance: usize, generation: Option<u64>, frames: u64, busy_s: f64) -> Value {
    json!({"stage": stage, "instance": instance, "generation": generation, "pid": 100 + instance, "state": "ready",
        "cpus": null, "restarts": 1, "heartbeat_age_ms": 5, "frames": frames, "errors": 0, "batches": frames / 2, "busy_s": busy_s,
        "put_back": 0, "bytes_copied": 0, "dropped": 0, "crop_runs": 0, "crops": 0})
}

/// A reading after so many seconds, in which each of two detect processes had so many frames.
fn reading(uptime_s: f64, frames: u64, busy_s: f64) -> Value {
    let mut processes: Vec<Value> = STAGES
        .iter()
        .filter(|stage| **stage != "detect")
        .map(|stage| process(stage, 0, Some(0), frames, 0.0))
        .collect();
    processes.extend([0, 1].map(|instance| process("detect", instance, Some(0), frames, busy_s)));
    processes.extend(["gateway", "keeper"].map(|stage| process(stage, 0, None, frames, 0.0)));
    let queues: Vec<Value> = STAGES
        .iter()
        .chain(&["gateway"])
        .map(|stage| match *stage {
            "detect" => json!({"stage": stage, "depth": 7, "oldest_ms": 1234}),
            _ => json!({"stage": stage, "depth": 0, "oldest_ms": null}),
        })
        .collect();
    let stages: Vec<Value> = STAGES
        .iter()
        .map(|stage| json!({"stage": stage, "wanted": if *stage == "detect" { 2 } else { 1 }, "batch_max": 4}))
        .collect();
    json!({
        "name": "street", "pid": 77, "uptime_s": uptime_s, "gpu": null, "accepted": 1000,
        "jobs": {"free": 4086, "writing": 0, "ready": 7, "claimed": 3},
        "generations": [{"number": 0, "models": ["finder@1"], "serves": true}],
        "stages": stages, "processes": processes, "queues": queues, "pools": [],
        "memory": [{"owner": "segment", "bytes": 512 << 20}, {"owner": "cache", "bytes": 0}, {"owner": "journal", "bytes": 4096},
            {"owner": "launcher", "bytes": 5 << 20}, {"owner": "detect", "bytes": 200 << 20}],
        "cache": {"level": "in place", "memory_bytes": 0, "memory_bytes_max": 256 << 20, "hard_bytes": 0, "disk_bytes": 0,
            "disk_bytes_max": 0, "kinds": [],
            "images": {"memory_bytes": 0, "held": 0, "spilled": 0, "moved": 0, "restored": 0, "copied_on_read": 0,
                "read_in_place": 0, "damaged": 0, "refused": 0},
            "upkeep": {"swept_blocks": 0, "swept_files": 0, "inbox_expired": 0, "repairs": 0, "offers_dropped": 0}},
        "repairs": [{"stage": "detect", "instance": 1, "pid": 99, "noticed_ns": 1_000_000_000u64, "repaired_ns": 1_000_500_000u64,
            "frames": 1}],
    })
}

fn status(reading: Value) -> Status {
    serde_json::from_value(reading).expect("it is a status")
}

/// A screen that has seen two readings, a second apart, in which each detect process had 50 frames.
fn screen() -> Screen {
    let mut screen = Screen::default();
    screen.show(status(reading(10.0, 100, 1.0)), 20_000_000_000);
    screen.show(status(reading(11.0, 150, 1.25)), 21_000_000_000);
    screen
}

fn drawn(screen: &Screen, columns: u16, lines: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).expect("memory");
    terminal.draw(|frame| draw(screen, frame)).expect("memory");
    let buffer = terminal.backend().buffer();
    let line = |row| (0..columns).map(|column| buffer[(column, row)].symbol()).collect::<String>();
    (0..lines).map(|row| line(row).trim_end().to_owned()).collect()
}

fn press(screen: &mut Screen, code: KeyCode) -> Act {
    screen.hear(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn press_all(screen: &mut Screen, keys: &str) {
    keys.chars().for_each(|key| drop(press(screen, KeyCode::Char(key))));
}

#[test]
fn a_screen_of_24_lines_and_80_columns_has_all_of_it() {
    let lines = drawn(&screen(), 80, 24);
    let wanted = "\
street  pid 77, up 11.0 s
1000 frames accepted, 10 in flight (7 waiting, 3 in hand; 4086 places free)
stage        procs frames/s   busy  queue  oldest   batch deaths   memory
ingest         1/1     50.0    0 %      0       -   2.0/4      1      0 B
preprocess     1/1     50.0    0 %      0       -   2.0/4      1      0 B
detect         2/2      100   25 %      7   1.2 s   2.0/4      2  200 MiB
postprocess    1/1     50.0    0 %      0       -   2.0/4      1      0 B
attribute      1/1     50.0    0 %      0       -   2.0/4      1      0 B
gateway        1/1     50.0    0 %      0       -       -      1      0 B
keeper         1/1        -    0 %      -       -       -      1      0 B

latency: no frame was answered since the first look
memory 717 MiB: segment 512 MiB, cache 0 B, journal 4.0 KiB, launcher 5.0 MiB, and the processes' own
cache: in place; memory 0.0 MiB of 256.0 MiB, disk 0.0 MiB of 0.0 MiB
generation 0: finder@1
death 20.0 s ago: detect[1] (pid 99), 1 frame in hand, repaired in 0.5 ms";
    for (number, wanted) in wanted.lines().enumerate() {
        assert_eq!(lines[number], wanted.chars().take(80).collect::<String>().trim_end(), "line {number}");
    }
    assert!(lines[23].starts_with("q quit") && lines[23].ends_with("? help"), "{:?}", lines[23]);
}

#[test]
fn how_long_frames_take_is_shown_or_in_one_line_why_it_is_not() {
    let mut screen = screen();
    let stages = ["ingest", "preprocess", "detect", "postprocess", "attribute", "gateway"];
    screen.latency.shown = Some(Shown {
        frames: 24,
        read_ns: 20_000_000_000,
        total: Some([0.0123, 0.2, 1.5]),
        stages: stages.map(|stage| (stage.to_owned(), Some([0.0005, 0.001, 0.002]), None)).into(),
    });
    let lines = drawn(&screen, 80, 24);
    let wanted = "\
latency             p50      p95      p99 wait p50 wait p95 wait p99
accept→result     12 ms   200 ms    1.5 s   of 24 frames, 1.0 s ago
ingest          0.50 ms  1.00 ms  2.00 ms        -        -        -";
    for (number, wanted) in wanted.lines().enumerate() {
        assert_eq!(lines[11 + number], wanted, "line {number}");
    }
    assert!(lines[18].starts_with("gateway") && lines[22].starts_with("death"), "all of it has room: {lines:?}");
    screen.hear(Event::Latency(Err("nothing answers at http://x".into()), 22_000_000_000));
    let lines = drawn(&screen, 80, 24);
    assert_eq!(lines[11], "latency: not known: nothing answers at http://x");
    assert!(lines[12].starts_with("memory"), "{lines:?}");
    press_all(&mut screen, "p");
    screen.hear(Event::Latency(Err("another".into()), 23_000_000_000));
    assert_eq!(drawn(&screen, 80, 24)[11], lines[11], "a pause shows nothing new");
}

#[test]
fn a_narrow_terminal_loses_the_columns_to_the_right_and_a_low_one_the_lines_below() {
    let narrow = drawn(&screen(), 34, 24);
    assert_eq!(narrow[2], "stage        procs frames/s   busy");
    assert_eq!(narrow[5], "detect         2/2      100   25 %");
    let low = drawn(&screen(), 80, 6);
    assert!(low[4].starts_with("preprocess") && low[5].starts_with("q quit"), "{low:?}");
    for (columns, lines) in [(1, 1), (1, 24), (80, 1), (300, 100)] {
        drawn(&screen(), columns, lines); // without a panic
    }
}

#[test]
fn rates_are_of_what_both_readings_have_and_of_one_launcher() {
    let before = status(reading(10.0, 100, 1.0));
    let mut now = reading(12.0, 300, 5.0);
    // One process is new in its place, which counted 300 frames in a former life.
    let detect = now["processes"].as_array_mut().expect("a list").iter_mut().find(|one| one["instance"] == 1);
    detect.expect("there is one")["instance"] = 5.into();
    let rate = |now: &Value, before: Option<&Status>| rows(&status(now.clone()), before)[2].rate;
    assert_eq!(rate(&now, Some(&before)), Some(100.0));
    assert_eq!(rate(&now, None), None);
    now["pid"] = 78.into();
    assert_eq!(rate(&now, Some(&before)), None, "another launcher's");
    let backwards = rows(&status(reading(11.0, 50, 0.5)), Some(&before));
    assert_eq!((backwards[2].rate, backwards[2].busy), (Some(0.0), Some(0.0)), "counters that fell tell nothing");
}

#[test]
fn two_generations_are_one_line_with_twice_the_processes() {
    let mut now = reading(11.0, 150, 1.25);
    now["generations"]
        .as_array_mut()
        .expect("a list")
        .push(json!({"number": 1, "models": ["finder@2"], "serves": false}));
    now["processes"].as_array_mut().expect("a list").push(process("detect", 0, Some(1), 0, 0.0));
    let detect = &rows(&status(now), None)[2];
    assert_eq!((detect.ready, detect.wanted, detect.scale), (3, 4, Some(2)));
}

#[test]
fn the_selected_stage_is_scaled_by_one_and_stays_selected_whatever_the_order() {
    let mut screen = screen();
    assert_eq!(screen.selected, "ingest");
    press_all(&mut screen, "jjkj");
    assert_eq!(screen.selected, "detect");
    press_all(&mut screen, "s");
    assert_eq!((screen.selected.as_str(), screen.selected_line()), ("detect", 0), "the busiest is first");
    let Act::Order(Request::Scale { processes }) = press(&mut screen, KeyCode::Char('+')) else { panic!("no order") };
    assert_eq!(processes.into_iter().collect::<Vec<_>>(), [("detect".to_owned(), 3)]);
    assert!(drawn(&screen, 80, 24)[23].contains("scaling: detect=3"));
    assert!(matches!(press(&mut screen, KeyCode::Char('+')), Act::Nothing), "one change at a time");
    assert!(drawn(&screen, 80, 24)[23].contains("a change is under way"));
    assert!(matches!(screen.hear(Event::Ended("detect has 3 processes".into())), Act::Look));
    assert!(drawn(&screen, 80, 24)[23].contains("detect has 3 processes"));
    let Act::Order(Request::Scale { processes }) = press(&mut screen, KeyCode::Char('-')) else { panic!("no order") };
    assert_eq!(processes["detect"], 1);
}

#[test]
fn what_cannot_be_scaled_is_said() {
    let mut screen = screen();
    assert!(matches!(press(&mut screen, KeyCode::Char('-')), Act::Nothing));
    assert!(drawn(&screen, 80, 24)[23].contains("ingest needs one process"));
    (0..9).for_each(|_| drop(press(&mut screen, KeyCode::Down)));
    assert_eq!(screen.selected, "keeper");
    assert!(matches!(press(&mut screen, KeyCode::Char('+')), Act::Nothing));
    assert!(drawn(&screen, 80, 24)[23].contains("there is one keeper"));
    press_all(&mut screen, "k");
    assert!(drawn(&screen, 80, 24)[23].starts_with("q quit"), "the next key takes the words away");
}

#[test]
fn a_restart_asks_first_and_only_y_is_a_yes() {
    let mut screen = screen();
    press_all(&mut screen, "jjr");
    assert!(drawn(&screen, 80, 24)[23].starts_with("restart detect"));
    assert!(matches!(press(&mut screen, KeyCode::Char('q')), Act::Nothing), "no, and no end either");
    press_all(&mut screen, "r");
    let Act::Order(Request::Restart { what: RestartWhat::Stage(stage) }) = press(&mut screen, KeyCode::Char('y'))
    else {
        panic!("no order")
    };
    assert_eq!(stage, "detect");
}

#[test]
fn a_pause_shows_nothing_new_and_silence_is_said_beside_what_was_seen_last() {
    let mut screen = screen();
    press_all(&mut screen, "p");
    screen.hear(Event::Status(Box::new(status(reading(12.0, 400, 2.0))), 22_000_000_000));
    let lines = drawn(&screen, 80, 24);
    assert!(lines[0].contains("up 11.0 s") && lines[0].contains("PAUSED"), "{:?}", lines[0]);
    assert!(matches!(press(&mut screen, KeyCode::Char('p')), Act::Look));
    screen.hear(Event::Silence("no pipeline answers".into()));
    let lines = drawn(&screen, 80, 24);
    assert!(lines[0].contains("NO ANSWER: no pipeline answers") && lines[5].starts_with("detect"), "{lines:?}");
    let mut nothing = Screen::default();
    nothing.hear(Event::Silence("no pipeline answers at /run/x: is it up?".into()));
    assert_eq!(drawn(&nothing, 80, 24)[0], "no pipeline answers at /run/x: is it up?");
    assert!(matches!(press(&mut nothing, KeyCode::Char('+')), Act::Nothing));
    assert!(matches!(press(&mut nothing, KeyCode::Down), Act::Nothing));
}

#[test]
fn help_is_over_the_rest_until_a_key_and_what_is_printed_tells_of_no_keys() {
    let mut screen = screen();
    press_all(&mut screen, "?");
    let text = drawn(&screen, 80, 24).join("\n");
    assert!(text.contains("keys and columns") && text.contains("frames that wait for the stage"), "{text}");
    press_all(&mut screen, "x");
    assert!(!drawn(&screen, 80, 24).join("\n").contains("keys and columns"));
    let printed = plain(&screen, 100);
    assert!(printed.contains("\ndetect         2/2") && !printed.contains("q quit"), "{printed}");
    assert!(printed.lines().all(|line| line == line.trim_end()) && printed.ends_with("0.5 ms\n"), "{printed}");
}

#[test]
fn q_escape_and_control_c_end_it() {
    for code in [KeyCode::Char('q'), KeyCode::Esc] {
        assert!(matches!(press(&mut screen(), code), Act::End));
    }
    let control = |key| screen().hear(Event::Key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL)));
    assert!(matches!(control('c'), Act::End) && matches!(control('z'), Act::Nothing));
    assert!(matches!(screen().hear(Event::End), Act::End));
}

#[test]
fn a_panic_on_any_thread_gives_the_terminal_back_and_ends_the_program() {
    const IS_CHILD: &str = "TEST_OF_A_PANIC";
    if env::var_os(IS_CHILD).is_some() {
        let _ = ratatui::try_init(); // which fails without a terminal, and has set its hook by then
        super::end_with_panics();
        let _ = thread::spawn(|| panic!("on purpose")).join();
        std::process::exit(0); // it goes on as if nothing had been
    }
    let name = "top::tests::a_panic_on_any_thread_gives_the_terminal_back_and_ends_the_program";
    let own = env::current_exe().expect("the test knows its own path");
    let output =
        Command::new(own).args(["--exact", name, "--nocapture"]).env(IS_CHILD, "1").output().expect("it can be run");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(101), "{printed:?}");
    assert!(printed.contains("\u{1b}[?1049l") && printed.contains("\u{1b}[?25h"), "screen and cursor: {printed:?}");
}
