//! What the launcher does for a pipeline on a GPU, on a machine without one: `framepipe-gpu`, the stages and NVIDIA's MPS
//! daemon are stand-ins, scripts that write down how they were called. What they stand for is tested on a GPU alone.

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use framepipe_tests::{Home, is_alive, program, wait_until};
use nix::{
    fcntl::OFlag,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const CONFIG: &str = "name = \"gpu\"\n[pipeline]\ndetector = \"tiny-face-416\"\ndevice = \"gpu\"\n";
const UUID: &str = "GPU-00112233-4455-6677-8899-aabbccddeeff";
const LIMIT: Duration = Duration::from_secs(60);

/// Sends a memfd in place of a GPU's memory, or fails as it is told.
const GPU_TOOL: &str = r#"#!/usr/bin/env python3
import array, os, socket, sys
seen = [os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "CUDA_MPS_PIPE_DIRECTORY")]
with open("CALLS", "a") as calls:
    print("gpu", *sys.argv[1:3], *seen, file=calls)
if sys.argv[1] == "list":
    print('[{"uuid": "UUID", "name": "Stand-in", "pci_bus_id": "ffff:00:00.0"}]')
elif os.path.exists("CALLS.no-slab"):
    sys.exit("no memory is left")
else:
    size = int(sys.argv[sys.argv.index("--bytes") + 1])
    memory = os.memfd_create("stand-in")
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]))
    socket.socket(fileno=3).sendmsg([size.to_bytes(8, "little")], [rights])
"#;

/// A stage that never gets ready. Detect ends as one that has lost the GPU, when it is told so.
const STAGE: &str = r#"#!/bin/sh
echo "stage ${0##*/} ${CUDA_VISIBLE_DEVICES-unset} ${CUDA_MPS_PIPE_DIRECTORY-unset}" >> CALLS
case $0 in *detect)
    mkfifo CALLS.detect.$$
    mv CALLS.detect.$$ CALLS.fault
    read -r word < CALLS.fault
    exit 4
esac
exec sleep 600
"#;

/// A daemon that leaves its parent, and lives until it is told to quit.
const CONTROL: &str = r#"#!/bin/sh
pipes=$CUDA_MPS_PIPE_DIRECTORY
if [ "$1" = -d ]; then
    if [ -e CALLS.no-daemon ]; then
        echo "An instance of this daemon is already running" >&2
        exit 1
    fi
    echo "daemon $CUDA_VISIBLE_DEVICES $pipes" >> CALLS
    mkfifo "$pipes/control" || exit 1
    (
        read -r word < "$pipes/control"
        echo "daemon ends: $word" >> CALLS
    ) < /dev/null > /dev/null 2>&1 &
    echo $! >> CALLS.pids
    if [ -e CALLS.half ]; then
        echo "no shared memory is left" >&2
        exit 1
    fi
else
    [ -e CALLS.deaf ] && exec sleep 600
    if [ -e CALLS.refuses ]; then
        echo "Cannot find MPS control daemon process"
        exit 1
    fi
    read -r word
    echo "$word" > "$pipes/control"
fi
"#;

/// A build of framepipe whose other programs are stand-ins.
struct Stage {
    home: Home,
}

impl Stage {
    /// With NVIDIA's program, or without.
    fn new(has_daemon: bool) -> Self {
        let stage = Self { home: Home::new() };
        let (bin, tools) = (stage.home.path("bin"), stage.home.path("tools"));
        [&bin, &tools].into_iter().for_each(|folder| fs::create_dir(folder).expect("a folder of the test's own"));
        fs::copy(program(), bin.join("framepipe")).expect("the program can be copied");
        stage.write(&bin.join("framepipe-gpu"), GPU_TOOL);
        for name in ["cache", "ingest", "preprocess", "detect", "postprocess", "attribute"] {
            stage.write(&bin.join(format!("framepipe-{name}")), STAGE);
        }
        if has_daemon {
            stage.write(&tools.join("nvidia-cuda-mps-control"), CONTROL);
        }
        stage
    }

    fn write(&self, path: &Path, script: &str) {
        let calls = self.calls_path();
        let script = script.replace("CALLS", calls.to_str().expect("UTF-8")).replace("UUID", UUID);
        fs::write(path, script).expect("it can be written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is the test's own");
    }

    fn calls_path(&self) -> PathBuf {
        self.home.path("calls")
    }

    /// Has a stand-in behave otherwise.
    fn ask_for(&self, what: &str) {
        fs::write(self.home.path(&format!("calls.{what}")), "").expect("it can be written");
    }

    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.calls_path()).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn is_called(&self, what: &str) -> bool {
        self.calls().iter().any(|call| call.starts_with(what))
    }

    fn pipes(&self) -> String {
        self.home.run().join("mps").display().to_string()
    }

    fn daemons_alive(&self) -> usize {
        let pids = fs::read_to_string(self.home.path("calls.pids")).unwrap_or_default();
        pids.lines().filter(|pid| is_alive(pid.parse().expect("a pid"))).count()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.home.path("bin").join("framepipe"));
        command.arg("up").arg("--config").arg(self.home.configure(CONFIG)).args(arguments);
        let others = std::env::var("PATH").expect("there is a path");
        command.env("PATH", format!("{}:{others}", self.home.path("tools").display())).stdin(Stdio::null());
        command.env_remove("CUDA_MPS_PIPE_DIRECTORY").env_remove("CUDA_VISIBLE_DEVICES");
        command
    }

    /// Starts a launcher that shares the GPU, and waits until its stages run.
    fn launch(&self) -> Launcher {
        self.launch_with("auto")
    }

    fn launch_with(&self, mps: &str) -> Launcher {
        let log = fs::File::create(self.home.path("log")).expect("the log can be written");
        let launcher = self.command(&["--mps", mps, "--cores", "1"]).stderr(log).spawn().expect("it can be started");
        // On one core each stage has one process; and there is the cache's keeper.
        wait_until("the stages to be started", LIMIT, || {
            self.calls().iter().filter(|call| call.starts_with("stage ")).count() >= 6
        });
        Launcher(launcher)
    }

    fn output(&self, arguments: &[&str]) -> (Output, String) {
        let output = self.command(arguments).output().expect("it can be run");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output, said)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Nobody else may be there to end a detect that listens.
        let _ =
            fs::File::options().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(self.home.path("calls.fault"));
        // A test that failed has left a daemon.
        let pids = fs::read_to_string(self.home.path("calls.pids")).unwrap_or_default();
        for pid in pids.lines().filter_map(|pid| pid.parse().ok()).filter(|pid| is_alive(*pid)) {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
    }
}

/// A launcher, killed with the test. Its stages that are `sleep` end with the next launcher, or in ten minutes.
struct Launcher(Child);

impl Launcher {
    fn end(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).expect("it lives");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_daemon_serves_before_the_gpu_is_opened_and_quits_when_all_have_ended() {
    let stage = Stage::new(true);
    let mut launcher = stage.launch();
    let calls = stage.calls();
    let pipes = stage.pipes();
    let expected = [
        "gpu list --json None None".to_owned(),
        format!("daemon {UUID} {pipes}"),
        format!("gpu slab --device {UUID} {pipes}"),
    ];
    assert_eq!(calls[..3], expected);
    let mut stages = calls[3..].to_vec();
    stages.sort();
    let on_gpu = |name: &str| format!("stage framepipe-{name} {UUID} {pipes}");
    let elsewhere = |name: &str| format!("stage framepipe-{name}  unset");
    let expected = [
        on_gpu("attribute"),
        elsewhere("cache"),
        on_gpu("detect"),
        elsewhere("ingest"),
        elsewhere("postprocess"),
        on_gpu("preprocess"),
    ];
    assert_eq!(stages, expected);
    let status = Command::new(stage.home.path("bin").join("framepipe"))
        .args(["status", "--config"])
        .arg(stage.home.path("config.toml"))
        .output()
        .expect("it can be run");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    let line = format!("GPU Stand-in ({UUID}), shared by MPS");
    assert!(status.contains(&line), "{status}");
    assert!(fs::read_to_string(stage.home.path("log")).expect("a log").contains(&line));
    assert_eq!(stage.daemons_alive(), 1);
    launcher.end(Signal::SIGTERM);
    assert!(stage.is_called("daemon ends: quit"), "{:?}", stage.calls());
    assert_eq!(stage.daemons_alive(), 0);
    assert!(!Path::new(&pipes).exists(), "and its sockets are gone");
}

#[test]
fn a_start_that_fails_half_way_quits_the_daemon() {
    let stage = Stage::new(true);
    stage.ask_for("no-slab");
    let (output, said) = stage.output(&["--mps", "auto"]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no memory is left"), "{said}");
    assert!(stage.is_called("daemon ends: quit"), "{:?}", stage.calls());
    assert_eq!(stage.daemons_alive(), 0);
    assert_eq!(stage.home.left_in_memory(), Vec::<PathBuf>::new());
}

#[test]
fn a_dead_launchers_daemon_is_ended_by_the_next_launcher_before_it_starts_its_own() {
    let stage = Stage::new(true);
    stage.launch().end(Signal::SIGKILL);
    assert_eq!(stage.daemons_alive(), 1, "it outlives its launcher");
    fs::remove_file(stage.calls_path()).expect("it is there");
    let mut launcher = stage.launch();
    let calls = stage.calls();
    let own = format!("daemon {UUID} {}", stage.pipes());
    let place = |call: &str| calls.iter().position(|one| one == call);
    assert!(place("daemon ends: quit").expect("it was told") < place(&own).expect("another one"), "{calls:?}");
    assert_eq!(stage.daemons_alive(), 1);
    launcher.end(Signal::SIGTERM);
    assert_eq!(stage.daemons_alive(), 0);
}

#[test]
fn a_daemon_that_hears_nobody_is_killed() {
    let stage = Stage::new(true);
    ["no-slab", "deaf"].into_iter().for_each(|what| stage.ask_for(what));
    let (_, said) = stage.output(&["--mps", "auto"]);
    assert!(said.contains("the MPS daemon does not quit, and is killed"), "{said}");
    assert_eq!(stage.daemons_alive(), 0);
    stage.ask_for("refuses");
    fs::remove_file(stage.home.path("calls.deaf")).expect("it is there");
    let (_, said) = stage.output(&["--mps", "auto"]);
    assert!(said.contains("and is killed: quit: Cannot find MPS control daemon process"), "{said}");
    assert_eq!(stage.daemons_alive(), 0);
}

#[test]
fn a_daemon_that_runs_although_its_start_failed_is_ended() {
    let stage = Stage::new(true);
    ["no-slab", "half"].into_iter().for_each(|what| stage.ask_for(what));
    let (_, said) = stage.output(&["--mps", "auto"]);
    assert!(said.contains("no shared memory is left") && said.contains("without MPS"), "{said}");
    assert!(stage.is_called("daemon ends: quit"), "{:?}", stage.calls());
    assert_eq!(stage.daemons_alive(), 0);
    assert!(!Path::new(&stage.pipes()).exists());
}

#[test]
fn who_loses_a_gpu_that_is_shared_takes_all_that_share_it_along_and_nobody_else() {
    for (mps, again) in [("auto", vec!["attribute", "detect", "preprocess"]), ("off", vec!["detect"])] {
        let stage = Stage::new(true);
        let mut launcher = stage.launch_with(mps);
        let first = stage.calls();
        wait_until("detect to listen", LIMIT, || stage.home.path("calls.fault").exists());
        fs::write(stage.home.path("calls.fault"), "now\n").expect("it is read");
        let more = || stage.calls()[first.len()..].to_vec();
        wait_until("all to be started again", LIMIT, || more().len() >= again.len());
        launcher.end(Signal::SIGTERM);
        let mut more: Vec<String> = more()
            .iter()
            .filter_map(|call| Some(call.strip_prefix("stage framepipe-")?.split(' ').next()?.to_owned()))
            .collect();
        more.sort();
        assert_eq!(more, again, "{mps}");
        let log = fs::read_to_string(stage.home.path("log")).expect("a log");
        assert_eq!(log.matches("died (the GPU that it shares had a fault)").count(), again.len() - 1, "{log}");
    }
}

#[test]
fn without_the_daemon_auto_goes_on_and_require_says_what_to_do() {
    let stage = Stage::new(false);
    stage.ask_for("no-slab");
    let says = |arguments: &[&str]| {
        let (output, said) = stage.output(arguments);
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    };
    let missing = "there is no nvidia-cuda-mps-control in $PATH";
    let said = says(&["--mps", "require"]);
    assert!(said.contains(missing) && said.contains("--mps") && said.contains("pipeline.mps = \"off\""), "{said}");
    assert!(!stage.is_called("gpu slab"), "it was not started: {:?}", stage.calls());
    let said = says(&["--mps", "auto"]);
    assert!(said.contains(missing) && said.contains("without MPS") && said.contains("no memory is left"), "{said}");
    assert!(stage.is_called(&format!("gpu slab --device {UUID} None")), "{:?}", stage.calls());
}

#[test]
fn a_daemon_that_does_not_start_is_told_with_its_words_and_none_is_started_where_none_is_asked_for() {
    let stage = Stage::new(true);
    ["no-slab", "no-daemon"].into_iter().for_each(|what| stage.ask_for(what));
    let (_, said) = stage.output(&["--mps", "require"]);
    assert!(said.contains("An instance of this daemon is already running"), "{said}");
    assert!(!stage.is_called("gpu slab"), "{:?}", stage.calls());
    fs::remove_file(stage.home.path("calls.no-daemon")).expect("it is there");
    let (_, said) = stage.output(&[]);
    assert!(said.contains("without MPS"), "{said}");
    assert!(!stage.is_called("daemon"), "{:?}", stage.calls());
    assert!(stage.is_called(&format!("gpu slab --device {UUID} None")), "{:?}", stage.calls());
}
