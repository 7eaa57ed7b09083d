//! `scripts/bench-recovery`: how fast what a killed worker had in hand can be claimed again, and results flow again.

use std::{
    io::Read as _,
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
    Home, Repair, Server, Status,
    figures::{Arguments, Figures, finish, quantile},
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
        Kill { killed_ns, dead_ns, repair }
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
    repair: Repair,
}

impl Kill {
    /// From the death, as whoever saw it first saw it, to the hints' being pushed again.
    fn repair_ms(&self) -> f64 {
        self.repair.took_ms([self.dead_ns].into_iter())
    }

    /// From the kill until what the process had can be claimed again.
    fn claimable_ms(&self) -> f64 {
        signed_ms(self.repair.repaired_ns, self.killed_ns)
    }
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

/// How long each process of a stage took to be ready, by its own account.
fn starts_ms(server: &Server, stage: &str) -> Vec<f64> {
    let output = server.output();
    let lines = output.lines().filter(|line| line.starts_with(stage));
    let words = lines.filter_map(|line| line.split_once("is ready after ")?.1.strip_suffix(" ms"));
    words.map(|ms| ms.parse().expect("milliseconds")).collect()
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

async fn one_of_two(kills: usize, figures: &mut Figures) {
    let loaded = Loaded::start(Home::new(), "recovery", 2).await;
    let memory_kib = own_memory_kib(loaded.server.pids("detect")[0]);
    let (mut repair, mut from_poll, mut over_own, mut over_bare) = (vec![], vec![], vec![], vec![]);
    let (mut bare, mut gaps) = (vec![], vec![]);
    for number in 0..kills {
        let bystander = Bystander::start(memory_kib);
        let teardown = bystander.kill();
        let kill = loaded.kill("detect", number % 2);
        bare.push(teardown);
        repair.push(kill.repair_ms());
        from_poll.push(signed_ms(kill.repair.repaired_ns, kill.repair.noticed_ns));
        over_own.push(signed_ms(kill.repair.repaired_ns, kill.dead_ns));
        over_bare.push(kill.claimable_ms() - teardown);
        gaps.push(loaded.longest_gap(kill.killed_ns, kill.killed_ns + 300_000_000));
        if (number + 1) % 20 == 0 {
            eprintln!("bench-recovery: {} of {kills} kills of one of two", number + 1);
        }
    }
    let inference = loaded.detect_ms();
    let over_inference: Vec<f64> = gaps.iter().map(|gap| gap - inference).collect();
    figures.told("kills", "kills of one of two detect workers", kills as f64);
    let what = "pidfd readable (seen by launcher or observer, whoever was first) to hints pushed again, ms";
    both(figures, "repair_ms", what, &repair, Some([1.0, 10.0]));
    let what = "the same from the launcher's own return from poll, ms";
    both(figures, "repair_from_launcher_poll_ms", what, &from_poll, None);
    let what = "bare teardown of an equal process (kill to pidfd readable), ms";
    both(figures, "bare_teardown_ms", what, &bare, None);
    let what = "kill to claimable, beyond the equal process's teardown, ms";
    both(figures, "claimable_over_teardown_ms", what, &over_bare, Some([5.0, 25.0]));
    let what = "kill to claimable, beyond its own teardown as an observer's pidfd saw it, ms";
    both(figures, "claimable_over_own_teardown_ms", what, &over_own, Some([5.0, 25.0]));
    figures.told("inference_ms_p50", "detect has a frame, ms, median", inference);
    let what = "longest time between results around a kill, beyond one inference, ms";
    both(figures, "result_gap_over_inference_ms", what, &over_inference, None);
    let worst = quantile(&over_inference, 1.0);
    figures.at_most("result_gap_over_inference_ms_max", format!("{what}, worst"), worst, 50.0);
    loaded.end().await;
}

/// The median and the 99th percentile of what was measured, and the most that each may be.
fn both(figures: &mut Figures, name: &str, what: &str, values: &[f64], wanted: Option<[f64; 2]>) {
    for (place, (part, share)) in [("p50", 0.5), ("p99", 0.99)].into_iter().enumerate() {
        let (name, what, found) = (format!("{name}_{part}"), format!("{what}, {part}"), quantile(values, share));
        match wanted {
            Some(most) => figures.at_most(name, what, found, most[place]),
            None => figures.told(name, what, found),
        }
    }
}

/// From kills of a stage's only worker, all beyond the new worker's own start-up, in milliseconds.
#[derive(Default)]
struct OnlyOne {
    /// To the first result whose frame passed the new worker.
    first: Vec<f64>,
    /// The same without that frame's wait in later stages, behind the frames that were there before it.
    unqueued: Vec<f64>,
    /// The longest time without any result.
    gaps: Vec<f64>,
}

impl OnlyOne {
    async fn measure(stage: &str, kills: usize) -> Self {
        let loaded = Loaded::start(Home::new(), "recovery", 1).await;
        let mut found = Self::default();
        for _ in 0..kills {
            let starts_before = starts_ms(&loaded.server, stage).len();
            let kill = loaded.kill(stage, 0);
            // The worker is dead from `dead_ns` on: what passed the stage later passed the new one.
            let (first_ns, queued) = loaded.first_past(stage, kill.dead_ns);
            let start_up = wait_for("the new worker's word", PATIENCE, || {
                starts_ms(&loaded.server, stage).get(starts_before).copied()
            });
            let first = signed_ms(first_ns, kill.killed_ns) - start_up;
            found.first.push(first);
            found.unqueued.push(first - queued);
            found.gaps.push(loaded.longest_gap(kill.killed_ns, first_ns + 100_000_000) - start_up);
        }
        eprintln!("bench-recovery: {kills} kills of the only {stage}");
        loaded.end().await;
        found
    }

    fn tell(&self, stage: &str, figures: &mut Figures) {
        figures.told(
            format!("kills_only_{stage}"),
            format!("kills of the only {stage} worker"),
            self.first.len() as f64,
        );
        for (name, what, values) in [
            ("first_result_after_kill", "kill to its first result", &self.first),
            ("first_result_unqueued", "the same without its wait behind older frames in later stages", &self.unqueued),
            ("result_gap", "longest time without any result", &self.gaps),
        ] {
            let (name, what) = (format!("{name}_{stage}_ms"), format!("only {stage}: {what}, beyond its start-up, ms"));
            both(figures, &name, &what, values, Some([50.0, 50.0]));
            figures.told(format!("{name}_max"), format!("{what}, worst"), quantile(values, 1.0));
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let [role, memory_kib] = given.as_slice()
        && role == "bystander"
    {
        Bystander::be(memory_kib.parse().expect("a number"));
    }
    let asked = || {
        let mut arguments = Arguments::parse()?;
        let kills: usize = arguments.number("--kills", 200)?;
        let asked = (kills, arguments.number("--kills-only", kills.div_ceil(5))?, arguments.path("--json"));
        arguments.end()?;
        if asked.0.min(asked.1) == 0 { Err("give 1 kill or more".to_owned()) } else { Ok(asked) }
    };
    let (kills, kills_only, json) = match asked() {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("bench-recovery: {error}");
            return ExitCode::from(2);
        }
    };
    let mut figures = Figures::default();
    one_of_two(kills, &mut figures).await;
    let mut first = Vec::new();
    for stage in ["detect", "preprocess"] {
        let found = OnlyOne::measure(stage, kills_only).await;
        found.tell(stage, &mut figures);
        first.extend(found.first);
    }
    let what = "a stage's only worker: kill to its first result, beyond its start-up, ms, both stages";
    both(&mut figures, "first_result_after_kill_ms", what, &first, Some([50.0, 50.0]));
    finish(&figures, json.as_deref())
}
