//! `scripts/bench-recovery`: how fast what a killed worker had in hand can be claimed again, and results flow again.

use std::{
    io::Read as _,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use framepipe_client::{FrameResult, PushRequest, ResultsOptions, StreamExt as _};
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

/// What the load's reader notes of each result.
struct Arrival {
    at_ns: u64,
    /// How long detect had its frame.
    detect_us: u64,
    /// What followed each stage, by the result's own times.
    after: Vec<After>,
}

/// A frame's way from the end of a stage to its result.
struct After {
    stage: String,
    took_us: u64,
    /// Of that, how long it waited for later stages, behind the frames that were there before it.
    queued_us: u64,
}

type Arrivals = Arc<Mutex<Vec<Arrival>>>;

impl Arrival {
    fn of(result: &FrameResult) -> Self {
        let mut after = Vec::with_capacity(result.times.len());
        let (mut took_us, mut queued_us) = (0, 0);
        for time in result.times.iter().rev() {
            after.push(After { stage: time.stage.clone(), took_us, queued_us });
            took_us += time.queued_us + time.busy_us;
            queued_us += time.queued_us;
        }
        let detect_us = result.times.iter().find(|time| time.stage == "detect").map_or(0, |time| time.busy_us);
        Self { at_ns: monotonic_ns(), detect_us, after }
    }

    /// What followed the stage, if its frame passed the stage after this moment.
    fn passed(&self, stage: &str, after_ns: u64) -> Option<&After> {
        let after = self.after.iter().find(|after| after.stage == stage)?;
        (self.at_ns.saturating_sub(after.took_us * 1000) > after_ns).then_some(after)
    }
}

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
                noted.lock().expect("no holder panics").push(Arrival::of(&result));
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

    /// The longest time without a result within a window, in milliseconds.
    fn longest_gap(&self, from_ns: u64, until_ns: u64) -> f64 {
        // A gap that lasts beyond the window counts whole.
        wait_for("a result behind the window", PATIENCE, || {
            let arrivals = self.arrivals.lock().expect("no holder panics");
            (arrivals.last()?.at_ns > until_ns).then_some(())
        });
        let arrivals = self.arrivals.lock().expect("no holder panics");
        let pairs = arrivals.windows(2).map(|pair| (pair[0].at_ns, pair[1].at_ns));
        let near = pairs.filter(|(start, end)| *end > from_ns && *start < until_ns);
        near.map(|(start, end)| ms(end - start)).fold(0.0, f64::max)
    }

    /// The first result whose frame passed a stage after this moment: when it came, and how long its frame had waited for
    /// later stages.
    fn first_past(&self, stage: &str, after_ns: u64) -> (u64, f64) {
        wait_for("a frame that passed the new worker", PATIENCE, || {
            let arrivals = self.arrivals.lock().expect("no holder panics");
            arrivals.iter().find_map(|one| Some((one.at_ns, one.passed(stage, after_ns)?.queued_us as f64 / 1e3)))
        })
    }

    fn detect_ms(&self) -> f64 {
        let arrivals = self.arrivals.lock().expect("no holder panics");
        quantile(&arrivals.iter().map(|one| one.detect_us as f64 / 1e3).collect::<Vec<_>>(), 0.5)
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

/// A process like a detect worker, as far as its teardown goes: as much memory of its own, as nice, and no frame in hand.
struct Bystander(std::process::Child);

impl Bystander {
    fn start(memory_kib: u64) -> Self {
        let own = std::env::current_exe().expect("this program knows its own path");
        let mut child = std::process::Command::new(own)
            .args(["bystander", &memory_kib.to_string()])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("it can be run");
        let mut ready = [0];
        child.stdout.take().expect("it is piped").read_exact(&mut ready).expect("it says that it is ready");
        Self(child)
    }

    /// Kills it; milliseconds from the kill to the death notice.
    fn kill(mut self) -> f64 {
        let (start, end) = kill_and_watch(self.0.id());
        self.0.wait().expect("it is dead");
        signed_ms(end, start)
    }

    /// What such a process does: has memory, and waits for its end.
    fn be(memory_kib: usize) -> ! {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("prctl");
        rustix::process::setpriority_process(None, 10).expect("nice 10");
        let memory = vec![1u8; memory_kib * 1024];
        std::hint::black_box(&memory);
        println!("r");
        loop {
            std::thread::park();
        }
    }
}

/// Memory of its own that a process has, in KiB.
fn own_memory_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it lives");
    let line = text.lines().find(|line| line.starts_with("Pss_Anon:")).expect("the kernel says it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

async fn one_of_two(kills: usize, figures: &mut Vec<Figure>) {
    let loaded = Loaded::start(Home::new(), "recovery", 2).await;
    let memory_kib = own_memory_kib(loaded.server.pids("detect")[0]);
    let (mut repair, mut over_own, mut over_bare, mut bare, mut gaps) = (vec![], vec![], vec![], vec![], vec![]);
    for number in 0..kills {
        let bystander = Bystander::start(memory_kib);
        let teardown = bystander.kill();
        let kill = loaded.kill("detect", number % 2);
        bare.push(teardown);
        repair.push(signed_ms(kill.repaired_ns, kill.noticed_ns));
        over_own.push(signed_ms(kill.repaired_ns, kill.dead_ns));
        over_bare.push(signed_ms(kill.repaired_ns, kill.killed_ns) - teardown);
        gaps.push(loaded.longest_gap(kill.killed_ns, kill.killed_ns + 300_000_000));
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
}

async fn the_only_one(stage: &str, kills: usize, figures: &mut Vec<Figure>) {
    let loaded = Loaded::start(Home::new(), "recovery", 1).await;
    let (mut first, mut unqueued, mut gaps) = (vec![], vec![], vec![]);
    for _ in 0..kills {
        let kill = loaded.kill(stage, 0);
        // The worker is dead from `dead_ns` on: what passed the stage later passed the new one.
        let (first_ns, queued) = loaded.first_past(stage, kill.dead_ns);
        let start_up = start_ms(&loaded.server, stage);
        first.push(signed_ms(first_ns, kill.killed_ns) - start_up);
        unqueued.push(signed_ms(first_ns, kill.killed_ns) - start_up - queued);
        gaps.push(loaded.longest_gap(kill.killed_ns, first_ns + 100_000_000) - start_up);
    }
    eprintln!("bench-recovery: {kills} kills of the only {stage}");
    let line = |what: &str, which: &str| format!("only {stage}: {what}, beyond its start-up, ms, {which}");
    figures.extend([
        Figure::told(format!("kills of the only {stage} worker"), kills as f64),
        Figure::told(line("kill to its first result", "median"), quantile(&first, 0.5)),
        Figure::at_most(
            line("the same without its wait behind older frames in later stages", "median"),
            quantile(&unqueued, 0.5),
            50.0,
        ),
        Figure::at_most(line("the same, without that wait", "worst"), quantile(&unqueued, 1.0), 50.0),
        Figure::at_most(line("longest time without any result", "median"), quantile(&gaps, 0.5), 50.0),
        Figure::at_most(line("longest time without any result", "worst"), quantile(&gaps, 1.0), 50.0),
    ]);
    loaded.end().await;
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, memory_kib] = arguments.as_slice()
        && role == "bystander"
    {
        Bystander::be(memory_kib.parse().expect("a number"));
    }
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
