//! `scripts/bench-recovery`: how fast what a killed worker had in hand can be claimed again, and results flow again.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use framepipe_client::{PushRequest, ResultsOptions, StreamExt as _};
use framepipe_shm::monotonic_ns;
use framepipe_tests::{
    Home, Server, Status,
    figures::{Figure, quantile, report},
    images::png,
    wait_for,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{PidfdFlags, pidfd_open},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Frames that are out at a time.
const OUT: usize = 64;
const STREAM: &str = "load";

/// What the load's reader notes of each result: when it came, and how long detect had its frame.
type Arrivals = Arc<Mutex<Vec<(u64, u64)>>>;

fn config(name: &str, detect: u32) -> String {
    format!("name = \"{name}\"\n[pipeline]\ndetector = \"tiny-face-416\"\n[stages.detect]\nprocesses = {detect}\n")
}

/// A pipeline under steady load.
struct Loaded {
    server: Server,
    home: Home,
    arrivals: Arrivals,
    stop: Arc<AtomicBool>,
    load: tokio::task::JoinHandle<()>,
}

impl Loaded {
    async fn start(home: Home, name: &str, detect: u32) -> Self {
        let server = Server::start(&home, &config(name, detect)).await;
        let client = server.client();
        let (arrivals, stop) = (Arrivals::default(), Arc::new(AtomicBool::new(false)));
        let (noted, ends) = (arrivals.clone(), stop.clone());
        let load = tokio::spawn(async move {
            let image = png(416, 416);
            let mut results = client.results(STREAM, ResultsOptions::default());
            let mut out = 0;
            while !ends.load(Ordering::Acquire) {
                while out < OUT {
                    let batch = PushRequest::images(std::iter::repeat_n(&image, OUT / 8)).stream(STREAM).wait(PATIENCE);
                    client.push(batch).await.expect("the push is good");
                    out += OUT / 8;
                }
                let result = results.next().await.expect("it goes on").expect("it is readable");
                let detect_us = result.times.iter().find(|time| time.stage == "detect").map_or(0, |time| time.busy_us);
                noted.lock().expect("no holder panics").push((monotonic_ns(), detect_us));
                out -= 1;
            }
        });
        let this = Self { server, home, arrivals, stop, load };
        wait_for("results to flow", PATIENCE, || {
            (this.arrivals.lock().expect("no holder panics").len() > 200).then_some(())
        });
        this
    }

    /// Kills one process of a stage.
    fn kill(&self, stage: &str, instance: usize) -> Kill {
        let run = self.home.run();
        let before = wait_for("all to be ready", PATIENCE, || {
            let status = Status::ask(&run)?;
            status.processes.iter().all(|one| one.state == "ready").then_some(status)
        });
        let pid = before.stage(stage).nth(instance).expect("it is there").pid;
        let (killed_ns, dead_ns) = kill_and_watch(pid);
        let repair = wait_for("the repair", PATIENCE, || {
            Status::ask(&run)?.repairs.into_iter().find(|repair| repair.pid == pid)
        });
        Kill { killed_ns, dead_ns, noticed_ns: repair.noticed_ns, repaired_ns: repair.repaired_ns }
    }

    /// The longest time without a result that ended after `from_ns`: where it ended, and how long it was, in milliseconds.
    fn longest_gap(&self, from_ns: u64, until_ns: u64) -> (u64, f64) {
        let arrivals = self.arrivals.lock().expect("no holder panics");
        let pairs = arrivals.windows(2).map(|pair| (pair[0].0, pair[1].0));
        let near = pairs.filter(|(_, end)| *end > from_ns).take_while(|(start, _)| *start < until_ns);
        let longest = near.max_by_key(|(start, end)| end - start).expect("results came");
        (longest.1, ms(longest.1 - longest.0))
    }

    fn detect_ms(&self) -> f64 {
        let arrivals = self.arrivals.lock().expect("no holder panics");
        quantile(&arrivals.iter().map(|(_, us)| *us as f64 / 1e3).collect::<Vec<_>>(), 0.5)
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.load.await.expect("the load's own checks hold");
        self.server.stop();
    }
}

struct Kill {
    killed_ns: u64,
    dead_ns: u64,
    noticed_ns: u64,
    repaired_ns: u64,
}

/// Kills a process; when that was, and when this observer's pidfd told its death.
fn kill_and_watch(pid: u32) -> (u64, u64) {
    let pidfd = pidfd_open(rustix::process::Pid::from_raw(pid as i32).expect("a pid"), PidfdFlags::empty());
    let pidfd = pidfd.expect("it lives");
    let killed_ns = monotonic_ns();
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("it lives");
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).expect("it can be waited for");
    (killed_ns, monotonic_ns())
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn signed_ms(later_ns: u64, earlier_ns: u64) -> f64 {
    (later_ns as f64 - earlier_ns as f64) / 1e6
}

/// How long the newest process of a stage took to be ready, by its own account.
fn start_ms(server: &Server, stage: &str) -> f64 {
    let output = server.output();
    let mut lines = output.lines().filter(|line| line.starts_with(stage) && line.contains("is ready after"));
    let words = lines.next_back().and_then(|line| line.split("is ready after ").nth(1)).expect("it was ready");
    words.trim_end_matches(" ms").parse().expect("milliseconds")
}

async fn one_of_two(kills: usize, figures: &mut Vec<Figure>) {
    let home = Home::new();
    let bystander_home = home.beside();
    // Equal processes without frames in hand: the same binary, model and mappings, on the same busy machine.
    let bystander = Server::start(&bystander_home, &config("bystander", 2)).await;
    let loaded = Loaded::start(home, "recovery", 2).await;
    let (mut repair, mut over_own, mut over_bare, mut bare, mut gaps) = (vec![], vec![], vec![], vec![], vec![]);
    for number in 0..kills {
        let idle = wait_for("the bystander", PATIENCE, || {
            let status = Status::ask(&bystander_home.run())?;
            status.processes.iter().all(|one| one.state == "ready").then_some(status)
        });
        let (start, end) = kill_and_watch(idle.stage("detect").nth(number % 2).expect("it is there").pid);
        let kill = loaded.kill("detect", number % 2);
        let settled = Instant::now() + Duration::from_millis(300);
        tokio::time::sleep_until(settled.into()).await; // the window in which the gap is looked for
        bare.push(signed_ms(end, start));
        repair.push(signed_ms(kill.repaired_ns, kill.noticed_ns));
        over_own.push(signed_ms(kill.repaired_ns, kill.dead_ns));
        over_bare.push(signed_ms(kill.repaired_ns, kill.killed_ns) - signed_ms(end, start));
        gaps.push(loaded.longest_gap(kill.killed_ns, kill.killed_ns + 300_000_000).1);
        if (number + 1) % 20 == 0 {
            eprintln!("bench-recovery: {} of {kills} kills of one of two", number + 1);
        }
    }
    let inference = loaded.detect_ms();
    let over_inference: Vec<f64> = gaps.iter().map(|gap| gap - inference).collect();
    figures.extend([
        Figure::told("kills of one of two detect workers", kills as f64),
        Figure::at_most("noticed (pidfd readable) to hints pushed again, ms, median", quantile(&repair, 0.5), 1.0),
        Figure::at_most("noticed to hints pushed again, ms, p99", quantile(&repair, 0.99), 10.0),
        Figure::told("bare teardown of an equal process (kill to pidfd readable), ms, median", quantile(&bare, 0.5)),
        Figure::told("bare teardown, ms, p99", quantile(&bare, 0.99)),
        Figure::at_most(
            "kill to claimable, beyond the equal process's teardown, ms, median",
            quantile(&over_bare, 0.5),
            5.0,
        ),
        Figure::at_most(
            "kill to claimable, beyond the equal process's teardown, ms, p99",
            quantile(&over_bare, 0.99),
            25.0,
        ),
        Figure::at_most(
            "kill to claimable, beyond its own teardown as a bystander saw it, ms, median",
            quantile(&over_own, 0.5),
            5.0,
        ),
        Figure::at_most("kill to claimable, beyond its own teardown, ms, p99", quantile(&over_own, 0.99), 25.0),
        Figure::told("detect has a frame, ms, median", inference),
        Figure::told("longest gap between results, beyond that, ms, median", quantile(&over_inference, 0.5)),
        Figure::told("longest gap between results, beyond that, ms, p99", quantile(&over_inference, 0.99)),
        Figure::at_most("longest gap between results, beyond that, ms, worst", quantile(&over_inference, 1.0), 50.0),
    ]);
    loaded.end().await;
    bystander.stop();
}

async fn the_only_one(stage: &str, kills: usize, figures: &mut Vec<Figure>) {
    let loaded = Loaded::start(Home::new(), "recovery", 1).await;
    let mut beyond = Vec::new();
    for _ in 0..kills {
        let kill = loaded.kill(stage, 0);
        // Ready again, and results for a while.
        let pause = loaded.arrivals.lock().expect("no holder panics").len();
        wait_for("results again", PATIENCE, || {
            (loaded.arrivals.lock().expect("no holder panics").len() > pause + 2 * OUT).then_some(())
        });
        let (resumed_ns, _) = loaded.longest_gap(kill.killed_ns, monotonic_ns());
        beyond.push(signed_ms(resumed_ns, kill.killed_ns) - start_ms(&loaded.server, stage));
    }
    eprintln!("bench-recovery: {kills} kills of the only {stage}");
    figures.extend([
        Figure::told(format!("kills of the only {stage} worker"), kills as f64),
        Figure::at_most(
            format!("kill of the only {stage} to the first new result, beyond its start-up, ms, median"),
            quantile(&beyond, 0.5),
            50.0,
        ),
        Figure::told(format!("the same for {stage}, worst"), quantile(&beyond, 1.0)),
    ]);
    loaded.end().await;
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (kills, json): (usize, Option<PathBuf>) = match arguments.as_slice() {
        [kills] if kills.parse::<usize>().is_ok() => (kills.parse().unwrap_or(200), None),
        [kills, json] if kills.parse::<usize>().is_ok() => (kills.parse().unwrap_or(200), Some(json.into())),
        _ => {
            eprintln!("bench_recovery: started by scripts/bench-recovery, with the number of kills [and a JSON file]");
            return ExitCode::from(2);
        }
    };
    let mut figures = Vec::new();
    one_of_two(kills, &mut figures).await;
    for stage in ["detect", "preprocess"] {
        the_only_one(stage, kills.div_ceil(10), &mut figures).await;
    }
    report(&figures, json.as_deref());
    ExitCode::SUCCESS
}
