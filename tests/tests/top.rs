//! `framepipe top` on a real terminal: what is there is shown, keys do what they say, and the terminal is given back.

use std::{process::Command, time::Duration};

use framepipe_client::{PushRequest, ResultsOptions, StreamExt as _};
use framepipe_tests::{Home, Server, Status, Terminal, images::png, program, scrape::free_address, wait_until};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(60);
const CONFIG: &str = r#"
    name = "top"
    [pipeline]
    detector = "tiny-face-416"
    [stages.detect]
    processes = 1
    batch_max = 4
"#;
const STAGES: [&str; 7] = ["ingest", "preprocess", "detect", "postprocess", "attribute", "gateway", "keeper"];

fn start(home: &Home, arguments: &[&str], size: (u16, u16)) -> Terminal {
    let config = home.path("config.toml").display().to_string();
    Terminal::start(&program(), &[&["top", "--config", &config, "--interval", "0.1"], arguments].concat(), size)
}

/// The words of a stage's line.
fn line(screen: &str, stage: &str) -> Option<Vec<String>> {
    let mut lines = screen.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    lines.find(|words| words.first().is_some_and(|word| word == stage))
}

/// Milliseconds, in words: "0.50 ms", "1.5 s".
fn times(words: &[String]) -> Option<Vec<f64>> {
    let time = |pair: &[String]| {
        let unit =
            [("ms", 1.0), ("s", 1000.0)].into_iter().find(|(unit, _)| pair.get(1).is_some_and(|word| word == unit))?;
        Some(pair[0].parse::<f64>().ok()? * unit.1)
    };
    words.chunks(2).map(time).collect()
}

/// Of a stage's second line: p50, p95 and p99 in its hands, then before it.
fn latencies(screen: &str, stage: &str) -> Option<Vec<f64>> {
    let below = screen.split_once("accept→result")?.1;
    times(&line(below, stage)?[1..]).filter(|times| times.chunks(3).all(|three| three.is_sorted()))
}

/// True where a stage has so many processes, and shall have them.
fn has_processes(screen: &str, stage: &str, said: &str) -> bool {
    line(screen, stage).is_some_and(|words| words[1] == said)
}

fn ready(status: &Status, stage: &str) -> usize {
    status.stage(stage).filter(|process| process.state == "ready").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stages_are_shown_scaled_and_restarted_from_the_terminal_which_is_given_back() {
    let home = Home::new();
    let config = format!("{CONFIG}[server]\nhttp = \"{}\"\n", free_address());
    let server = Server::start(&home, &config).await;
    let mut terminal = start(&home, &[], (24, 80));
    terminal.wait("every stage with its process", |screen| {
        STAGES.iter().all(|stage| has_processes(screen, stage, "1/1"))
            && screen.contains("0 frames accepted")
            && screen.contains("latency: no frame was answered since the first look")
    });
    assert!(terminal.is_taken());

    let client = server.client();
    let images: Vec<_> = (32..56).map(|width| png(width, 32)).collect(); // each another: none is answered from memory
    client.push(PushRequest::images(&images).stream("s")).await.expect("there is room");
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results: Vec<_> = client.results("s", options).collect().await;
    assert_eq!(results.len(), 24);
    terminal.wait("the frames that went through", |screen| screen.contains("24 frames accepted, 0 in flight"));
    terminal.wait("how long they took", |screen| {
        let of_stages = STAGES.iter().filter(|stage| **stage != "keeper");
        line(screen, "accept→result").is_some_and(|words| words.len() > 7 && times(&words[1..7]).is_some())
            && of_stages.clone().all(|stage| latencies(screen, stage).is_some_and(|found| found.len() == 6))
    });

    terminal.press("jj+");
    terminal.wait("one more process", |screen| has_processes(screen, "detect", "2/2"));
    assert_eq!(ready(&server.status(), "detect"), 2);
    terminal.wait("the end of that change", |screen| !screen.contains("scaling: detect=2 …"));
    terminal.press("-");
    terminal.wait("one process less", |screen| has_processes(screen, "detect", "1/1"));
    wait_until("one process", LIMIT, || server.status().stage("detect").count() == 1);
    terminal.wait("the end of that change", |screen| !screen.contains("scaling: detect=1 …"));
    terminal.press("-");
    terminal.wait("a refusal", |screen| screen.contains("detect needs one process"));

    let before = server.pids("detect");
    terminal.press("r");
    terminal.wait("the question", |screen| screen.contains("restart detect, one process after the other?"));
    terminal.press("n");
    terminal.wait("the keys again", |screen| screen.contains("q quit"));
    assert_eq!(server.pids("detect"), before, "that was no yes");
    terminal.press("r");
    terminal.wait("the question", |screen| screen.contains("restart detect, one process after the other?"));
    terminal.press("y");
    wait_until("another process", LIMIT, || server.pids("detect") != before && ready(&server.status(), "detect") == 1);
    terminal.wait("the end of that change", |screen| screen.contains("restarted 1 process in"));

    terminal.press("\u{1b}[B\u{1b}[B\u{1b}[B+"); // the arrow down, three times: the gateway
    terminal.wait("a refusal", |screen| screen.contains("there is one gateway"));
    terminal.press("?");
    terminal.wait("the keys", |screen| screen.contains("keys and columns") && screen.contains("replace its processes"));
    terminal.press(" ss");
    terminal.wait("another order", |screen| screen.contains("s sort (queue)") && !screen.contains("keys and columns"));
    terminal.press("p");
    terminal.wait("the pause", |screen| screen.contains("PAUSED"));
    terminal.press("p");
    terminal.wait("no pause", |screen| !screen.contains("PAUSED"));
    terminal.press("q");
    assert_eq!(terminal.wait_end().code(), Some(0));
    wait_until("the terminal to be given back", LIMIT, || !terminal.is_taken());
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launcher_that_dies_and_the_next_one_are_seen_and_the_terminal_may_change_its_size() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let mut terminal = start(&home, &[], (24, 80));
    terminal.wait("the launcher", |screen| screen.contains(&format!("pid {}", server.pid())));
    let before = server.pids("ingest");
    server.kill_one("ingest");
    terminal.wait("the death", |screen| {
        screen.contains(&format!("ingest[0] (pid {})", before[0]))
            && line(screen, "ingest").is_some_and(|words| words.contains(&"1".into()))
    });
    for (lines, columns) in [(12, 40), (3, 10), (60, 200), (24, 80)] {
        terminal.resize(lines, columns);
        terminal.wait("what has room", |screen| {
            screen.contains("top")
                && screen.contains("memory") == (columns >= 80)
                && screen.contains("stage") == (lines >= 4)
        });
    }
    server.kill();
    terminal.wait("that nobody answers", |screen| screen.contains("NO ANSWER: no pipeline answers at"));
    let server = Server::start(&home, CONFIG).await;
    terminal.wait("the next launcher", |screen| {
        screen.contains(&format!("pid {}", server.pid()))
            && !screen.contains("NO ANSWER")
            && has_processes(screen, "detect", "1/1")
    });
    terminal.signal(Signal::SIGTERM);
    assert_eq!(terminal.wait_end().code(), Some(0));
    wait_until("the terminal to be given back", LIMIT, || !terminal.is_taken());
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_screen_is_printed_where_there_is_no_terminal() {
    let home = Home::new();
    let config = home.configure(CONFIG);
    let run = |arguments: &[&str], status: i32| {
        let output =
            Command::new(program()).arg("top").args(arguments).arg("--config").arg(&config).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{said}");
        (String::from_utf8(output.stdout).expect("UTF-8"), said)
    };
    assert!(run(&["--once"], 1).1.contains("no pipeline answers at"));
    assert!(run(&[], 1).1.contains("no pipeline answers at"));
    assert!(run(&["--interval", "0"], 2).1.contains("give 0.1 to 60 seconds"));
    let mut terminal = start(&home, &[], (24, 80));
    terminal.wait("that nobody answers", |screen| screen.contains("no pipeline answers at"));
    terminal.press("\u{3}"); // Ctrl-C
    assert_eq!(terminal.wait_end().code(), Some(0));

    let server = Server::start(&home, CONFIG).await;
    assert!(run(&[], 1).1.contains("framepipe top --once"));
    let (printed, said) = run(&["--once", "--interval", "0.2"], 0);
    assert_eq!(said, "");
    for stage in STAGES {
        let words = line(&printed, stage).unwrap_or_else(|| panic!("{stage} is missing:\n{printed}"));
        assert_eq!(words[1], "1/1", "{printed}");
        assert_eq!(words[2], if stage == "keeper" { "-" } else { "0.0" }, "rates are known: {printed}");
    }
    assert!(!printed.contains('\u{1b}') && !printed.contains("q quit"), "{printed:?}");
    assert!(
        printed.contains("latency: not known: it is told over HTTP, and server.http is \"\"\n")
            && printed.contains("memory")
            && printed.contains("segment")
            && printed.contains("generation 0: tiny-face-416@1")
    );
    server.stop();
}
