//! A GPU whose memory another program takes. Skipped where there is no GPU, unless FRAMEPIPE_GPU_TESTS=require says that there has to
//! be one. It takes all of the GPU's memory: a program of tests of its own, to be run beside nothing else.

use std::{path::PathBuf, process::Command, time::Duration};

use framepipe_tests::{
    Home, Server,
    cameras::{Run, check_baseline_of},
    gpu::{device, hog},
    is_alive, program, wait_until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const CONFIG: &str = "name = \"full\"\n[pipeline]\ndetector = \"resnet18-4class-416-random-int8\"\n\
    [server]\nframes_max = 256\n[stages.detect]\nprocesses = 1\nbatch_max = 8\n";
const DEVICE: [&str; 2] = ["--device", "gpu"];
const FRAMES: usize = 2000;
const LIMIT: Duration = Duration::from_secs(120);

/// First before the start, which fails; then in mid-run: a process that is killed comes back when there is memory again, and no
/// frame is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gpu_without_memory_fails_a_start_and_delays_a_restart() {
    let Some(device) = device() else { return };
    let home = Home::new();
    let taken = hog(&device);
    let output = Command::new(program()).arg("up").arg("--config").arg(home.configure(CONFIG)).args(DEVICE).output();
    let output = output.expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("has no memory for"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new());
    drop(taken);

    let mut server = Server::launch_with(&home, CONFIG, &DEVICE);
    server.wait_ready().await;
    let run = Run::of(&server, FRAMES);
    run.wait_received(200);
    // The launcher sleeps until what detect had is this program's.
    let detect = server.pids("detect")[0];
    server.signal(Signal::SIGSTOP);
    kill(Pid::from_raw(detect as i32), Signal::SIGKILL).expect("it lives");
    wait_until("detect's end", LIMIT, || !is_alive(detect));
    let taken = hog(&device);
    server.signal(Signal::SIGCONT);
    wait_until("the next detect to find no memory", LIMIT, || server.output().contains("has no memory for"));
    assert!(run.received() < run.frames_all());
    drop(taken);
    run.check().await;
    println!("{}", server.output());
    check_baseline_of(&home, server, FRAMES);
}
