//! `scripts/chaos`: loads a pipeline, strikes at it from a seed, and checks the ledger.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use framepipe_tests::{
    Home, Server,
    chaos::{Clients, Counts, Ledger, Striker, Strikes, Target, send},
    is_alive, program,
};
use nix::sys::signal::Signal;
use serde::Serialize;

/// A light detector, so that many frames are on their way. Kills from outside look like a frame's fault: a frame that meets
/// three of them would be given up, rightly; so many attempts are allowed that none is.
const CONFIG: &str = r#"
    name = "chaos"
    [pipeline]
    detector = "tiny-face-416"
    attempts_max = 15
    [server]
    frames_max = 512
    [journal]
    memory_bytes_max = "1 MiB"
    [stages.preprocess]
    processes = 2
    [stages.detect]
    processes = 2
"#;

/// For the pipeline to come back, and for the last frames.
const PATIENCE: Duration = Duration::from_secs(120);

/// Results come in at least this share of the seconds without a strike at the launcher.
const RESULTS_SHARE_MIN: f64 = 0.9;

struct Options {
    seconds: usize,
    seed: u64,
    rate: f64,
    report: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    seed: u64,
    #[serde(flatten)]
    counts: Counts,
    #[serde(flatten)]
    strikes: Strikes,
    faults: Vec<String>,
}

fn options() -> Result<Options, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut options = Options { seconds: 60, seed: now.as_nanos() as u64 % 1_000_000, rate: 3.0, report: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name} needs a value"))?;
        let wrong = |_| format!("{name} {value}: give a number");
        match name.as_str() {
            "--seconds" => options.seconds = value.parse().map_err(wrong)?,
            "--seed" => options.seed = value.parse().map_err(wrong)?,
            "--rate" => options.rate = value.parse().map_err(|_| format!("{name} {value}: give a number"))?,
            "--report" => options.report = Some(value.into()),
            _ => return Err(format!("unknown argument {name}")),
        }
    }
    if !(0.1..=100.0).contains(&options.rate) || options.seconds == 0 {
        return Err("give --seconds 1 or more, and a --rate of 0.1 to 100 strikes a second".into());
    }
    Ok(options)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("chaos: {error}");
            return ExitCode::from(2);
        }
    };
    let Options { seconds, seed, rate, .. } = options;
    println!("chaos: seed {seed}; the same again: scripts/chaos --seed {seed} --seconds {seconds} --rate {rate}");
    let home = Home::new();
    let report = run(&home, &options).await;
    let even = report.faults.is_empty();
    print(&report);
    if let Some(path) = &options.report {
        let text = serde_json::to_string_pretty(&report).expect("a report is JSON");
        std::fs::write(path, text).expect("the report can be written");
    }
    if even {
        println!("chaos: nothing lost, repeated, leaked or harmed");
        return ExitCode::SUCCESS;
    }
    let log = std::env::temp_dir().join(format!("framepipe-chaos-{seed}.log"));
    let kept = std::fs::copy(home.path("up.log"), &log).map(|_| log);
    println!("chaos: FAILED with seed {seed}; the pipeline's log: {kept:?}");
    ExitCode::FAILURE
}

async fn run(home: &Home, options: &Options) -> Report {
    let ledger = Arc::new(Ledger::default());
    let mut striker = Striker::new(options.seed, home.run());
    let mut server = Server::start(home, CONFIG).await;
    let mut clients = Clients::start(home, &server, options.seed, &ledger);
    let mut launchers = BTreeSet::new();
    let end = Instant::now() + Duration::from_secs(options.seconds as u64);
    let mut told = Instant::now();
    while Instant::now() < end {
        let pause = striker.pause(options.rate);
        tokio::time::sleep(pause).await;
        match striker.target() {
            Target::Process => striker.strike_process(),
            Target::Client => {
                if let Some(pid) = clients.python_pid() {
                    striker.count("reader");
                    send(pid, Signal::SIGKILL);
                }
            }
            Target::Launcher => {
                striker.look();
                striker.count("launcher");
                ledger.launcher_struck();
                launchers.insert(server.pid());
                server.kill_launcher();
                server = Server::launch(home, CONFIG);
            }
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            let (results, out) = ledger.progress();
            let kills: u64 = striker.strikes.kills.values().sum();
            eprintln!(
                "chaos: {:>4} s to go, {kills} kills, {results} results, {out} out",
                (end - told.min(end)).as_secs()
            );
        }
    }
    finish(&ledger, &mut striker, &mut clients, &mut server).await;
    clients.stop_reading().await;
    launchers.insert(server.pid());
    check_end(home, &ledger, server, striker.pids.iter().chain(&launchers));
    let (counts, mut faults) = ledger.close(options.seconds);
    // A pipeline that stands still loses nothing.
    if share(&counts) < RESULTS_SHARE_MIN {
        faults.push(format!("results came in less than {:.0}% of the seconds", 100.0 * RESULTS_SHARE_MIN));
    }
    Report { seed: options.seed, counts, strikes: striker.strikes, faults }
}

/// Waits until the last frame has its result, and the pipeline is as it was at first.
async fn finish(ledger: &Ledger, striker: &mut Striker, clients: &mut Clients, server: &mut Server) {
    server.wait_ready().await;
    let stopped = tokio::time::timeout(PATIENCE, clients.stop_pushing()).await;
    if stopped.is_err() {
        ledger.fault(format!("pushes have no answer after {PATIENCE:?}"));
    }
    let deadline = Instant::now() + PATIENCE;
    while ledger.progress().1 > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    match striker.look() {
        None => ledger.fault("the launcher does not answer at the end".into()),
        Some(status) => {
            if status.in_flight() + status.jobs.writing > 0 || !status.pools_in_use().is_empty() {
                ledger.fault(format!(
                    "not all is free at the end: {:?}, pools {:?}",
                    status.jobs,
                    status.pools_in_use()
                ));
            }
            if status.jobs.free == 0 {
                ledger.fault("no job is free at the end".into());
            }
        }
    }
}

/// Ends the pipeline as an operator does; nothing is left of it.
fn check_end<'p>(home: &Home, ledger: &Ledger, mut server: Server, pids: impl Iterator<Item = &'p u32>) {
    server.signal(Signal::SIGTERM);
    let status = server.wait_end();
    if !status.success() {
        ledger.fault(format!("the pipeline ended with {status}"));
    }
    let left = home.left_in_memory();
    if !left.is_empty() {
        ledger.fault(format!("left in memory: {left:?}"));
    }
    let own = program();
    let is_ours = |pid: &u32| {
        let runs = std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.parent() == own.parent());
        runs && is_alive(*pid)
    };
    for pid in pids.filter(|pid| is_ours(pid)) {
        ledger.fault(format!("process {pid} is left"));
    }
}

/// In what share of the seconds without a strike at the launcher results came.
fn share(counts: &Counts) -> f64 {
    counts.seconds_with_results as f64 / counts.seconds_with_launcher.max(1) as f64
}

fn print(report: &Report) {
    let Report { counts, strikes, faults, .. } = report;
    println!("\n{:<28}{:>10}", "killed", "times");
    for (role, times) in &strikes.kills {
        println!("{role:<28}{times:>10}");
    }
    for (what, count) in [
        ("stopped first", strikes.stopped_first),
        ("two at once", strikes.two_at_once),
        ("stopped, and went on", strikes.stopped),
        ("deaths with frames in hand", strikes.with_frames),
        ("frames accepted", counts.accepted),
        ("frames refused", counts.refused),
        ("results", counts.results),
        ("repeats dropped", counts.repeats),
    ] {
        println!("{what:<28}{count:>10}");
    }
    println!(
        "results came in {:.1}% of the {} seconds without a strike at the launcher",
        100.0 * share(counts),
        counts.seconds_with_launcher
    );
    for fault in faults {
        println!("FAULT: {fault}");
    }
}
