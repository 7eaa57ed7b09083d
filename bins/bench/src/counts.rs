//! What a frame costs in counts, which no neighbour on the machine changes much: system calls, futex calls and calls of `malloc` of each
//! process, by the kernel's own counters (`perf stat`), and bytes copied, by the pipeline's. Of the system as it is configured,
//! kept full by this client.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use framepipe_model::Manifest;
use framepipe_pipeline::{Config, Overrides};
use framepipe_temporary::{Member, clock::now_ns};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};
use serde_json::json;

use crate::{
    load::Workload,
    running::{Running, Window},
};

/// The name of a figure, and perf's of what it counts.
type Event = (&'static str, &'static str);

/// What is counted, where the kernel lets it be.
const EVENTS: [Event; 3] = [
    ("syscalls", "raw_syscalls:sys_enter"),
    ("futex_calls", "syscalls:sys_enter_futex"),
    ("malloc_calls", "probe_libc:malloc"),
];
/// For perf to open its counters of all threads.
const ANSWER_MS: u16 = 20_000;
const ADVICE: &str = "perf is needed: apt-get install linux-perf";

#[derive(Args)]
pub struct Arguments {
    /// The pipeline's configuration, without attribute models.
    #[arg(long, value_name = "FILE", default_value = "config/noop.toml")]
    config: PathBuf,
    /// Frames in one push.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Most frames in flight.
    #[arg(long, default_value_t = 256)]
    in_flight: usize,
    /// Length of the window.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
}

/// Counts, and prints one JSON object.
pub fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config, &Overrides::default())?;
    let input = Manifest::find(&config.models, &config.detector)?.input.plan;
    let workload = Workload {
        size: [input.width(), input.height()],
        batch: arguments.batch,
        in_flight_max: arguments.in_flight,
        crops: 0,
        attributes: 0,
    };
    let mut running = Running::start(&arguments.config, &config.server.inbox[0], workload)?;
    let window = Window { warm_up: Duration::from_secs(1), length: Duration::from_secs_f64(arguments.seconds) };
    let events = countable()?;
    let mut perf = if events.is_empty() { None } else { Some(Perf::start(&running.members, &events)?) };
    let copied_before = running.bytes_copied()?;
    let (mut begin, mut end) = (0, 0);
    let system = running.measure_with(window, |is_on| {
        let before = now_ns()?;
        perf.iter_mut().try_for_each(|perf| perf.turn(is_on))?;
        // Perf's own answer lies outside, on either side: as much is counted as frames are.
        if is_on {
            begin = now_ns()?
        } else {
            end = before
        }
        Ok(())
    })?;
    let copied = running.bytes_copied()? - copied_before;
    let counts = perf.map_or_else(|| Ok(Counts::new()), Perf::end)?;
    running.stop()?;

    let all = system.sample.completed.len() as f64;
    let frames = system.sample.completed.iter().filter(|at| (begin..end).contains(at)).count() as f64;
    let frame_bytes = 3.0 * f64::from(workload.size[0]) * f64::from(workload.size[1]);
    let mut object = json!({
        "fps": system.fps,
        "frames": frames,
        "copies_per_frame": copied as f64 / all / frame_bytes,
        "cpu_us_per_frame": system.cpu_s.iter().map(|(_, seconds)| seconds).sum::<f64>() * 1e6 / all,
    });
    for (name, _) in events {
        let of = |group: &BTreeMap<&str, u64>| group.get(name).copied().unwrap_or(0) as f64 / frames;
        let by_group: BTreeMap<&str, f64> = counts.iter().map(|(group, events)| (group.as_str(), of(events))).collect();
        object[format!("{name}_per_frame")] = json!(by_group.values().sum::<f64>());
        object[format!("{name}_by_process")] = json!(by_group);
    }
    println!("{object}");
    Ok(())
}

/// By stage, and "client": by figure.
type Counts = BTreeMap<String, BTreeMap<&'static str, u64>>;

/// `perf stat` of all threads of the system and of this client, which counts while it is turned on.
struct Perf {
    child: Child,
    control: fs::File,
    acknowledged: fs::File,
    /// By thread: its group.
    groups: BTreeMap<u32, String>,
    output: PathBuf,
    folder: tempfile::TempDir,
}

impl Perf {
    fn start(members: &[Member], events: &[Event]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("framepipe-bench-perf-").tempdir()?;
        let [control, acknowledged, output] =
            ["control", "acknowledged", "counts"].map(|name| folder.path().join(name));
        let mut groups = BTreeMap::new();
        let own = (std::process::id(), "client".to_owned());
        for (pid, group) in members.iter().map(|member| (member.pid, member.stage.clone())).chain([own]) {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("threads of {group}"))?;
            for thread in threads {
                let name = thread?.file_name();
                let tid = name.to_str().and_then(|tid| tid.parse().ok()).context("a thread's id")?;
                groups.insert(tid, group.clone());
            }
        }
        let pids: Vec<String> =
            members.iter().map(|member| member.pid).chain([std::process::id()]).map(|pid| pid.to_string()).collect();
        let events: Vec<&str> = events.iter().map(|(_, event)| *event).collect();
        [&control, &acknowledged].into_iter().try_for_each(|path| mkfifo(path, Mode::S_IRWXU))?;
        let mut command = Command::new("perf");
        command.args(["stat", "--per-thread", "-x", ",", "-D", "-1", "-e", &events.join(","), "-p", &pids.join(",")]);
        command.arg("-o").arg(&output);
        command.arg("--control").arg(format!("fifo:{},{}", control.display(), acknowledged.display()));
        let child = command.stdin(Stdio::null()).stderr(Stdio::inherit()).spawn().context(ADVICE)?;
        Ok(Self {
            child,
            control: both_ways(&control)?,
            acknowledged: both_ways(&acknowledged)?,
            groups,
            output,
            folder,
        })
    }

    /// Begins to count, or ends.
    fn turn(&mut self, is_on: bool) -> anyhow::Result<()> {
        self.control.write_all(if is_on { b"enable\n" } else { b"disable\n" })?;
        // perf holds no end open that would be closed by its death: without an answer in time it is dead.
        let mut fds = [PollFd::new(self.acknowledged.as_fd(), PollFlags::POLLIN)];
        let answers = poll(&mut fds, PollTimeout::from(ANSWER_MS))?;
        ensure!(answers == 1, "perf does not answer, {:?}: {ADVICE}", self.child.try_wait()?);
        self.acknowledged.read_exact(&mut [0; 4])?; // "ack\n"
        Ok(())
    }

    fn end(mut self) -> anyhow::Result<Counts> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT)?;
        self.child.wait()?; // it ends by the signal, whatever it counted
        let text = fs::read_to_string(&self.output)?;
        self.folder.close()?;
        sum(&text, &self.groups)
    }
}

/// What this kernel lets be counted; what it does not, and why, is printed.
fn countable() -> anyhow::Result<Vec<Event>> {
    let probed = probe_malloc()?;
    let mut events = Vec::new();
    for (name, event) in EVENTS {
        let tried = Command::new("perf").args(["stat", "-e", event, "true"]).output().context(ADVICE)?;
        if tried.status.success() {
            events.push((name, event));
        } else {
            let why = [probed.as_slice(), &tried.stderr].concat();
            println!("NOT COUNTED: {name}: {}", String::from_utf8_lossy(&why).trim());
        }
    }
    Ok(events)
}

/// Opens a fifo for both ways, so that neither end waits for the other.
fn both_ways(path: &Path) -> anyhow::Result<fs::File> {
    Ok(fs::File::options().read(true).write(true).open(path)?)
}

/// Has the kernel count calls of the C library's `malloc`, which is the allocator of every process. What perf says of it.
fn probe_malloc() -> anyhow::Result<Vec<u8>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let library =
        maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5)).find(|path| path.contains("/libc.so"));
    let library = library.context("this program maps no C library")?;
    let known = Command::new("perf").args(["probe", "-l"]).output().context(ADVICE)?;
    if String::from_utf8_lossy(&known.stdout).contains("probe_libc:malloc ") {
        return Ok(Vec::new());
    }
    Ok(Command::new("perf").args(["probe", "-q", "-x", library, "malloc"]).output()?.stderr)
}

/// Reads lines `NAME-TID,COUNT,UNIT,EVENT,…`.
fn sum(text: &str, groups: &BTreeMap<u32, String>) -> anyhow::Result<Counts> {
    let mut counts = Counts::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split(',');
        let mut next = || words.next().with_context(|| format!("perf said {line:?}"));
        let (thread, count, _, event) = (next()?, next()?, next()?, next()?);
        let tid = thread.rsplit('-').next().and_then(|tid| tid.parse().ok()).context("perf names no thread")?;
        let group = groups.get(&tid).cloned().unwrap_or_else(|| "other".to_owned());
        let event = EVENTS.iter().find(|(_, theirs)| event.starts_with(theirs));
        let (name, _) = event.with_context(|| format!("perf said {line:?}"))?;
        // "<not counted>": the thread did not run meanwhile.
        *counts.entry(group).or_default().entry(name).or_default() += count.parse::<u64>().unwrap_or(0);
    }
    ensure!(!counts.is_empty(), "perf counted nothing");
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_by_group() {
        let groups = BTreeMap::from([(10, "detect".to_owned()), (11, "detect".to_owned()), (20, "client".to_owned())]);
        let text = "# started on …\n\nframepipe-det-10,3,,raw_syscalls:sys_enter,5,100.00,,\nx-11,4,,raw_syscalls:sys_enter,5,1,,\n\
                    a-b-20,<not counted>,,probe_libc:malloc,0,1,,\n";
        let counts = sum(text, &groups).unwrap();
        assert_eq!(counts["detect"], BTreeMap::from([("syscalls", 7)]));
        assert_eq!(counts["client"], BTreeMap::from([("malloc_calls", 0)]));
        assert!(sum("", &groups).is_err() && sum("x-1,2,,cycles", &groups).is_err());
    }
}
