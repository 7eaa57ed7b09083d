//! The whole pipeline on a GPU: what it finds is what the CPU finds, and no death loses a frame. Skipped where there is no GPU,
//! unless FRAMEPIPE_GPU_TESTS=require says that there has to be one.

use std::{
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use framepipe_tests::{
    Home, Server,
    cameras::{Run, check_baseline_of},
    findings::{Findings, Found},
    gpu::has_to_be_there,
    images::photo,
    program, repository,
    scrape::{Scrape, free_address, get},
    send, wait_until,
};
use nix::sys::signal::Signal;

const DEVICE: [&str; 2] = ["--device", "gpu"];
const SHARED: [&str; 4] = ["--device", "gpu", "--mps", "require"];
const LIMIT: Duration = Duration::from_secs(120);
const DETECTOR: &str = "nanodet416-4c-int8";
const ATTRIBUTE: &str = "resnet18-a-224-random-int8";
/// A detector and an attribute model that run there, so that both handed pools are used. What they say means nothing.
const CASCADE: &str = r#"
    name = "gpu"
    [pipeline]
    detector = "resnet18-4class-416-random-int8"
    attributes = ["resnet18-a-224-random-int8"]
    crops_max = 2
    [server]
    frames_max = 256
    [stages.preprocess]
    processes = 2
    [stages.detect]
    processes = 2
    batch_max = 8
    [stages.attribute]
    processes = 2
    batch_max = 8
"#;
/// Least overlap, and largest difference of scores, of an object found on both: sums and enlargements are rounded
/// otherwise by ONNX Runtime's fused operators, and pixels by the other sampler, by a step here and there.
const OVERLAP_MIN: f64 = 0.9;
const SCORE_DIFFERENCE_MAX: f64 = 0.05;
/// An object whose score is less than so much above the threshold may be found on one side alone.
const NEAR_THRESHOLD: f64 = 0.05;

/// Of each camera: a GPU is soon through 500.
const FRAMES: usize = 4000;

fn has_gpu() -> bool {
    let listed = Command::new(program().with_file_name("framepipe-gpu")).arg("list").output().expect("it can be run");
    let said = String::from_utf8_lossy(&listed.stderr);
    if !listed.status.success() {
        assert!(!has_to_be_there(), "{said}");
        println!("skipped: {said}");
    }
    listed.status.success()
}

fn has_mps() -> bool {
    let there =
        Command::new("nvidia-cuda-mps-control").arg("--version").output().is_ok_and(|said| said.status.success());
    if !there {
        assert!(!has_to_be_there(), "nvidia-cuda-mps-control is not in $PATH");
        println!("skipped: nvidia-cuda-mps-control is not in $PATH");
    }
    there
}

/// Says something to NVIDIA's daemon, and returns its answer.
fn tell_mps(pipes: &Path, words: &str) -> String {
    let mut command = Command::new("nvidia-cuda-mps-control");
    command.env("CUDA_MPS_PIPE_DIRECTORY", pipes).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut control = command.spawn().expect("it can be run");
    let mut input = control.stdin.take().expect("it was piped");
    input.write_all(words.as_bytes()).and_then(|()| input.write_all(b"\n")).expect("it listens");
    drop(input);
    let output = control.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{words}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn start(home: &Home, config: &str, arguments: &[&str]) -> Server {
    let mut server = Server::launch_with(home, config, arguments);
    server.wait_ready().await;
    server
}

async fn find(arguments: &[&str]) -> Findings {
    let config = format!("name = \"gpu\"\n[pipeline]\ndetector = \"{DETECTOR}\"\n[stages.detect]\nbatch_max = 4\n");
    find_with(&Home::new(), &config, arguments).await
}

async fn find_with(home: &Home, config: &str, arguments: &[&str]) -> Findings {
    let server = start(home, config, arguments).await;
    let names = [
        "sample1.jpg",
        "sample2.jpg",
        "sample3.jpg",
        "sample4.jpg",
        "sample5.jpg",
        "sample6.jpg",
        "bus.jpg",
        "zidane.jpg",
    ];
    let photos = names.map(|name| (name.to_owned(), photo(name)));
    let found = Findings::of_server(&server, DETECTOR, &photos).await;
    assert_eq!(server.status().pools_in_use(), [""; 0]);
    let said = server.stop();
    assert_eq!(said.contains("decodes JPEGs on the GPU"), config.contains("jpeg = \"gpu\""), "{said}");
    assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new());
    found
}

fn overlap(one: &Found, other: &Found) -> f64 {
    let [a, b] = [one.corners, other.corners];
    let side = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    let area = |corners: [f64; 4]| (corners[2] - corners[0]) * (corners[3] - corners[1]);
    let both = side(0) * side(1);
    both / (area(a) + area(b) - both)
}

fn is_same(one: &Found, other: &Found) -> bool {
    one.class == other.class
        && (one.score - other.score).abs() <= SCORE_DIFFERENCE_MAX
        && overlap(one, other) >= OVERLAP_MIN
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gpu_finds_what_the_cpu_finds() {
    if !has_gpu() {
        return;
    }
    compare(&find(&[]).await, &find(&DEVICE).await);
}

/// Images are kept for an attribute model, and nvJPEG decodes those that it can. The detector's classes get the names of those that
/// the attribute model takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_so_it_does_of_jpegs_that_it_decodes_itself() {
    if !has_gpu() {
        return;
    }
    let mut found = Vec::new();
    for (more, arguments) in [("", &[][..]), ("jpeg = \"gpu\"\n", &DEVICE[..])] {
        let home = Home::new();
        let labels = [("\"person\"", "\"class_0\""), ("\"car\"", "\"class_1\"")];
        let models = home.models_with_threshold(DETECTOR, "0.35", &labels);
        symlink(repository().join("models").join(ATTRIBUTE), models.join(ATTRIBUTE)).expect("a link of the test's own");
        let config = format!(
            "name = \"gpu\"\n[pipeline]\ndetector = \"{DETECTOR}\"\nattributes = [\"{ATTRIBUTE}\"]\n{more}\
             [paths]\nmodels = {models:?}\n"
        );
        found.push(find_with(&home, &config, arguments).await);
    }
    compare(&found[0], &found[1]);
}

fn compare(on_cpu: &Findings, on_gpu: &Findings) {
    let (mut same, mut all) = (0, 0);
    for (here, there) in on_cpu.photos.iter().zip(&on_gpu.photos) {
        let least = here.detections.iter().chain(&there.detections).map(|found| found.score).fold(1.0, f64::min);
        for (found, others) in [(&here.detections, &there.detections), (&there.detections, &here.detections)] {
            for found in found {
                let is_found = others.iter().any(|other| is_same(found, other));
                (same, all) = (same + usize::from(is_found), all + 1);
                assert!(
                    is_found || found.score < least + NEAR_THRESHOLD,
                    "{}: {found:?} in one of {here:#?} {there:#?}",
                    here.file
                );
            }
        }
    }
    println!("{same} of {all} objects are found on both");
    assert!(all >= 40, "the photos show people and cars: {all}");
}

/// Of each stage, as the cascade's configuration says.
const PROCESSES: usize = 2;
/// The stages that use the GPU.
const STAGES: [&str; 3] = ["preprocess", "detect", "attribute"];

/// Kills every process of every stage, one after another while frames flow.
async fn kill_stages(arguments: &[&str]) {
    let home = Home::new();
    let server = start(&home, CASCADE, arguments).await;
    let pids = STAGES.map(|stage| server.pids(stage));
    let run = Run::of(&server, FRAMES);
    for process in 0..PROCESSES {
        for (stage, pids) in pids.iter().enumerate() {
            run.wait_received(200 * (1 + process * STAGES.len() + stage));
            assert!(run.received() < run.frames_all(), "{} must be killed while frames flow", STAGES[stage]);
            send(pids[process], Signal::SIGKILL);
        }
    }
    run.check().await;
    let status = server.status();
    for (stage, before) in STAGES.iter().zip(&pids) {
        assert!(status.stage(stage).all(|process| !before.contains(&process.pid)), "{stage}: {status:?}");
    }
    check_baseline_of(&home, server, FRAMES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_frame_is_lost_or_doubled_while_the_gpus_stages_are_killed() {
    if has_gpu() {
        kill_stages(&DEVICE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_while_they_share_the_gpu_by_mps() {
    if has_gpu() && has_mps() {
        kill_stages(&SHARED).await;
    }
}

/// NVIDIA's daemon ends a stage's use of the GPU in mid-work: the stage says so and ends, the others that share the GPU with it are
/// ended, all are started again, and no frame is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_loses_its_gpu_ends_and_no_frame_is_lost() {
    if !has_gpu() || !has_mps() {
        return;
    }
    let home = Home::new();
    let server = start(&home, CASCADE, &SHARED).await;
    let pipes = home.run().join("mps");
    let run = Run::of(&server, FRAMES);
    for (losses, stage) in STAGES.iter().enumerate() {
        run.wait_received(400 * (losses + 1));
        assert!(run.received() < run.frames_all(), "{stage} must lose its GPU while frames flow");
        let before = server.pids(stage);
        let daemon = tell_mps(&pipes, "get_server_list");
        tell_mps(&pipes, &format!("terminate_client {} {}", daemon.trim(), before[0]));
        wait_until(&format!("{stage} to be ready again without {}", before[0]), LIMIT, || {
            let status = server.status();
            let now: Vec<_> = status.stage(stage).collect();
            let are_new = now.iter().all(|process| process.pid != before[0] && process.state == "ready");
            are_new && now.len() == PROCESSES
        });
        // By its own words and with its own status, and not as one that shared the GPU.
        let said = server.output();
        let lines = || said.lines().filter(|line| line.contains(&format!("(pid {}) died", before[0])));
        assert!(
            lines().any(|line| line.contains("GPU is lost to this process") || line.contains("status: 4")),
            "{said}"
        );
    }
    run.check().await;
    check_baseline_of(&home, server, FRAMES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_launchers_death_takes_the_gpus_memory_and_the_next_one_leads_its_frames_back() {
    if !has_gpu() {
        return;
    }
    let home = Home::new();
    let mut server = start(&home, CASCADE, &DEVICE).await;
    let run = Run::of(&server, FRAMES);
    for (kills, stage) in ["attribute", "postprocess"].into_iter().enumerate() {
        run.wait_received(200 * (kills + 1));
        assert!(run.pushed() < run.frames_all(), "killed while frames are pushed");
        // So that frames wait there, with slots of the slabs.
        server.signal_stage(stage, Signal::SIGSTOP);
        let used = |name: &str| server.status().pools.iter().find(|pool| pool.name == name).map_or(0, |pool| pool.used);
        wait_until("frames to wait with their slots", LIMIT, || used("image") >= 4);
        server.kill_launcher();
        server = start(&home, CASCADE, &DEVICE).await;
        let led_back = server.led_back();
        assert_eq!(led_back.len(), kills + 1, "{}", server.output());
        assert!(led_back[kills] >= 4, "frames waited before {stage}: {led_back:?}");
    }
    run.check().await;
    check_baseline_of(&home, server, FRAMES);
}

/// What NVIDIA's management library says of the GPU is told to whoever scrapes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gpus_figures_are_among_the_metrics() {
    if !has_gpu() {
        return;
    }
    let home = Home::new();
    let address = free_address();
    let server = start(&home, CASCADE, &[&DEVICE[..], &["--http", &address.to_string()]].concat()).await;
    wait_until("the GPU's figures", LIMIT, || {
        get(address, "/metrics").is_ok_and(|page| page.body.contains("\nframepipe_gpu_memory_used_bytes "))
    });
    let scrape = Scrape::of(address);
    let memory = ["framepipe_gpu_memory_used_bytes", "framepipe_gpu_memory_bytes"].map(|series| scrape.value(series));
    let others = ["framepipe_gpu_busy_ratio", "framepipe_gpu_temperature_celsius", "framepipe_gpu_power_watts"];
    let [busy, celsius, watts] = others.map(|series| scrape.value(series));
    println!("{memory:?} bytes, {busy} busy, {celsius} C, {watts} W");
    assert!(0.0 < memory[0] && memory[0] < memory[1], "{memory:?}");
    assert!((0.0..=1.0).contains(&busy) && (1.0..120.0).contains(&celsius) && watts > 1.0, "{busy} {celsius} {watts}");
    server.stop();
}

/// A model that the GPU cannot run is refused at the start, with the operator that is not known and what to do.
#[test]
fn a_model_that_the_gpu_cannot_run_is_refused_at_the_start() {
    if !has_gpu() {
        return;
    }
    let home = Home::new();
    let config = home.configure("name = \"gpu\"\n[pipeline]\ndetector = \"tiny-face-416\"\n");
    let output = Command::new(program()).arg("up").arg("--config").arg(&config).args(DEVICE).output();
    let output = output.expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot be run on the GPU") && said.contains("not quantised"), "{said}");
    assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new(), "and nothing is left");
}
