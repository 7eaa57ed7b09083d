//! Images and tensors in slabs that are handed to the stages as descriptors, as a GPU's are: results are those of the files
//! of the segment, no death loses a frame, and that of the launcher, with whom the slabs die, neither.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use framepipe_tests::{
    Home, Server,
    cameras::{FRAMES_ALL, Run, check_baseline},
    findings::Findings,
    images::photo,
    program,
    swaps::{Camera, MODEL, Models},
    wait_until,
};
use nix::sys::signal::Signal;

/// Frames are kept for the crops, so that both handed pools are used.
const CONFIG: &str = r#"
    name = "slabs"
    [pipeline]
    detector = "tiny-face-416"
    attributes = ["face-age-gender", "face-expression"]
    [server]
    frames_max = 256
"#;
const DEVICE: [&str; 2] = ["--device", "memfd"];
const LIMIT: Duration = Duration::from_secs(120);

async fn start(home: &Home, config: &str) -> Server {
    let mut server = Server::launch_with(home, config, &DEVICE);
    server.wait_ready().await;
    server
}

/// The slabs that a process has, by name.
fn slabs_of(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives");
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let names = links.filter_map(|link| Some(link.to_str()?.strip_prefix("/memfd:framepipe-")?.to_owned()));
    let mut names: Vec<String> = names.map(|name| name.trim_end_matches(" (deleted)").to_owned()).collect();
    names.sort();
    names
}

fn pool_files(home: &Home) -> Vec<String> {
    let entries = fs::read_dir(home.shm().join("framepipe-slabs")).expect("the segment is there");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    let mut names: Vec<String> = names.filter(|name| name.starts_with("pool-")).collect();
    names.sort();
    names
}

async fn find(arguments: &[&str], look: impl FnOnce(&Home, &Server)) -> Findings {
    let home = Home::new();
    let mut server = Server::launch_with(&home, CONFIG, arguments);
    server.wait_ready().await;
    look(&home, &server);
    let photos = ["sample1.jpg", "sample4.jpg", "zidane.jpg", "bus.jpg"].map(|name| (name.to_owned(), photo(name)));
    let found = Findings::of_server(&server, "tiny-face-416", &photos).await;
    assert_eq!(server.status().pools_in_use(), [""; 0]);
    server.stop();
    assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new());
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_are_those_of_a_segment_of_files_and_each_stage_has_the_slabs_that_it_uses() {
    let in_files = find(&[], |home, server| {
        assert_eq!(pool_files(home), [0, 1, 2, 3, 4, 5, 6, 7].map(|pool| format!("pool-{pool}")));
        assert_eq!(slabs_of(server.pid()), [""; 0]);
    });
    let in_files = in_files.await;
    let in_slabs = find(&DEVICE, |home, server| {
        assert_eq!(pool_files(home), [0, 3, 4, 5, 6, 7].map(|pool| format!("pool-{pool}")));
        assert_eq!(slabs_of(server.pid()), ["image", "tensor"]);
        let both = vec!["image".to_owned(), "tensor".to_owned()];
        let expected: BTreeMap<&str, Vec<String>> = [
            ("ingest", vec![]),
            ("preprocess", both),
            ("detect", vec!["tensor".to_owned()]),
            ("postprocess", vec![]),
            ("attribute", vec!["image".to_owned()]),
            ("gateway", vec![]),
            ("keeper", vec![]),
        ]
        .into();
        for (stage, slabs) in expected {
            server.pids(stage).into_iter().for_each(|pid| assert_eq!(slabs_of(pid), slabs, "{stage}"));
        }
    });
    let in_slabs = in_slabs.await;
    let boxes: usize = in_files.photos.iter().map(|photo| photo.detections.len()).sum();
    assert!(boxes >= 4, "the photos show faces: {in_files:?}");
    for (here, there) in in_files.photos.iter().zip(&in_slabs.photos) {
        assert_eq!(format!("{here:#?}"), format!("{there:#?}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_frame_is_lost_or_doubled_while_the_stages_are_killed_that_have_the_slabs() {
    const STAGES: [&str; 3] = ["preprocess", "detect", "attribute"];
    let home = Home::new();
    let server = start(&home, CONFIG).await;
    let run = Run::start(&server);
    for (place, stage) in STAGES.iter().chain(&STAGES).enumerate() {
        run.wait_received(150 * (place + 1));
        assert!(run.received() < FRAMES_ALL, "{stage} must be killed while frames flow");
        server.kill_one(stage);
    }
    run.check().await;
    check_baseline(&home, server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_launchers_death_takes_the_slabs_and_the_next_one_leads_their_frames_back() {
    let home = Home::new();
    let mut server = start(&home, CONFIG).await;
    let run = Run::start(&server);
    for (kills, stage) in ["attribute", "detect", "postprocess"].into_iter().enumerate() {
        run.wait_received(200 * (kills + 1));
        assert!(run.pushed() < FRAMES_ALL, "killed while frames are pushed");
        // So that frames wait there, with slots of the slabs.
        server.signal_stage(stage, Signal::SIGSTOP);
        let used = |name: &str| server.status().pools.iter().find(|pool| pool.name == name).map_or(0, |pool| pool.used);
        wait_until("frames to wait with their slots", LIMIT, || used("image") >= 4);
        server.kill_launcher();
        server = start(&home, CONFIG).await;
        let led_back = server.led_back();
        assert_eq!(led_back.len(), kills + 1, "{}", server.output());
        assert!(led_back[kills] >= 4, "frames waited before {stage}: {led_back:?}");
    }
    run.check().await;
    check_baseline(&home, server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_change_and_the_new_workers_have_the_slabs() {
    let home = Home::new();
    let server = start(&home, &Models::new(&home, 2).config()).await;
    let camera = Camera::start(&server);
    for version in [2, 1] {
        camera.wait_for_more();
        let former = server.pids("detect");
        let output = server.run(&["model", "use", &format!("{MODEL}@{version}")]);
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), server.output());
        // The former ones may be ending.
        let of_now: Vec<u32> =
            server.pids("detect").into_iter().filter(|pid| *pid != 0 && !former.contains(pid)).collect();
        assert!(!of_now.is_empty(), "{former:?}");
        of_now.into_iter().for_each(|pid| assert_eq!(slabs_of(pid), ["tensor"]));
    }
    camera.wait_for_more();
    assert_eq!(camera.versions().await, ["face 1", "face 2", "face 1"]);
    server.stop();
    assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_files_are_not_taken_over_with_slabs() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    server.kill();
    let mut server = Server::launch_with(&home, CONFIG, &DEVICE);
    assert_eq!(server.wait_end().code(), Some(1));
    assert!(server.output().contains("another configuration"), "{}", server.output());
    let server = Server::start(&home, CONFIG).await;
    server.stop();
}

/// No machine has a GPU of the second name.
#[test]
fn a_gpu_that_is_not_there_is_an_error_within_seconds_that_names_the_reason() {
    let home = Home::new();
    let config = home.configure(CONFIG);
    let has_gpu = Path::new("/dev/nvidiactl").exists();
    let devices = ["gpu", "GPU-00000000-0000-0000-0000-000000000000"];
    for device in devices.into_iter().filter(|device| !has_gpu || *device != "gpu") {
        let began = Instant::now();
        let output = Command::new(program()).arg("up").arg("--config").arg(&config).args(["--device", device]).output();
        let output = output.expect("it can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let words = format!("pipeline.device = \"{device}\": framepipe-gpu");
        assert!(said.contains(&words), "{words:?} is not in: {said}");
        assert!(began.elapsed() < Duration::from_secs(30), "after {:?}: {said}", began.elapsed());
        assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new(), "and nothing is left");
    }
}
