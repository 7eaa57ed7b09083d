//! The whole pipeline on a GPU: what it finds is what the CPU finds, and no death loses a frame. Skipped where there is no GPU,
//! unless FRAMEPIPE_GPU_TESTS=require says that there has to be one.

use std::{path::PathBuf, process::Command, time::Duration};

use framepipe_tests::{
    Home, Server,
    cameras::{Run, check_baseline_of},
    findings::{Findings, Found},
    images::photo,
    program, wait_until,
};
use nix::sys::signal::Signal;

const DEVICE: [&str; 2] = ["--device", "gpu"];
const LIMIT: Duration = Duration::from_secs(120);
const DETECTOR: &str = "nanodet416-4c-int8";
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

/// Of each camera: a GPU is through 500 before a killed process is back.
const FRAMES: usize = 4000;

fn has_gpu() -> bool {
    let listed = Command::new(program().with_file_name("framepipe-gpu")).arg("list").output().expect("it can be run");
    let said = String::from_utf8_lossy(&listed.stderr);
    if !listed.status.success() {
        assert!(std::env::var("FRAMEPIPE_GPU_TESTS").as_deref() != Ok("require"), "{said}");
        println!("skipped: {said}");
    }
    listed.status.success()
}

async fn start(home: &Home, config: &str, arguments: &[&str]) -> Server {
    let mut server = Server::launch_with(home, config, arguments);
    server.wait_ready().await;
    server
}

async fn find(arguments: &[&str]) -> Findings {
    let home = Home::new();
    let config = format!("name = \"gpu\"\n[pipeline]\ndetector = \"{DETECTOR}\"\n[stages.detect]\nbatch_max = 4\n");
    let server = start(&home, &config, arguments).await;
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
    server.stop();
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
    let (on_cpu, on_gpu) = (find(&[]).await, find(&DEVICE).await);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_frame_is_lost_or_doubled_while_the_gpus_stages_are_killed() {
    const STAGES: [&str; 3] = ["preprocess", "detect", "attribute"];
    if !has_gpu() {
        return;
    }
    let home = Home::new();
    let server = start(&home, CASCADE, &DEVICE).await;
    let run = Run::of(&server, FRAMES);
    for (place, stage) in STAGES.iter().chain(&STAGES).enumerate() {
        run.wait_received(400 * (place + 1));
        assert!(run.received() < run.frames_all(), "{stage} must be killed while frames flow");
        server.kill_one(stage);
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
