//! The keeper killed over and over, while images are kept, moved, cached and looked up.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use framepipe_client::{FrameResult, Outcome};
use framepipe_tests::{
    Home, Server,
    figures::Figures,
    kept::{Store, camera_frame, jpeg, numbered, push_kept, results_of},
    wait_until,
};

const SIZE: (u32, u32) = (320, 240);
const BYTES: usize = 30_000;
const BATCH: usize = 16;
/// Different images, which come again and again.
const IMAGES: usize = 64;
const WAIT: Duration = Duration::from_secs(60);
/// Memory for a few tensors and a part of the images that wait.
const CONFIG: &str = "name = \"keeper\"\n[pipeline]\ndetector = \"nanodet416-4c-int8\"\n[server]\nframes_max = 256\n[cache]\n\
                      memory_bytes_max = \"24 MiB\"\ntensor_bytes_max = \"20 MiB\"\nresult_bytes_max = \"64 KiB\"\n\
                      chunk_bytes = \"16 KiB\"\n";

/// Kills it so many times.
pub async fn measure(kills: usize, figures: &mut Figures) {
    let frame = jpeg(&camera_frame("bus.jpg", SIZE.0, SIZE.1, 1), BYTES);
    let images: Vec<Vec<u8>> = (0..IMAGES).map(|number| numbered(&frame, number)).collect();
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let store = Store::of(&home, "keeper");
    let (over, batches, killed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..kills {
                let before = batches.load(Ordering::Relaxed);
                server.kill_one("keeper");
                killed.fetch_add(1, Ordering::Relaxed);
                // Frames flow meanwhile; or else the pushing thread ends this with an error.
                wait_until("frames to flow without the keeper", WAIT, || batches.load(Ordering::Relaxed) > before);
            }
            over.store(true, Ordering::Relaxed);
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                while !over.load(Ordering::Relaxed) {
                    let batch = batches.load(Ordering::Relaxed);
                    let of = |place: usize| (batch * BATCH + place) * 7 % IMAGES;
                    let named: Vec<_> =
                        (0..BATCH).map(|it| (format!("{batch}-{it}"), images[of(it)].clone())).collect();
                    push_kept(&home, &server, "keeper", &named, WAIT).await.expect("there is room");
                    batches.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
    });
    let seconds = started.elapsed().as_secs_f64();
    let results: HashMap<String, FrameResult> = results_of(&server, "keeper").await;
    let pushed = batches.load(Ordering::Relaxed) * BATCH;
    let first = results.values().next().and_then(|result| result.outcome.clone());
    let is_good =
        |result: &&FrameResult| matches!(result.outcome, Some(Outcome::Detections(_))) && result.outcome == first;
    let good = results.values().filter(is_good).count();
    let restarts = |stage: &str| server.status().stage(stage).map(|process| f64::from(process.restarts)).sum::<f64>();
    let others: f64 =
        ["ingest", "preprocess", "detect", "postprocess", "attribute", "gateway"].map(restarts).iter().sum();
    let verified = server.run(&["cache", "verify", "--state-dir", &home.path("state").display().to_string()]);
    let dropped = server.run(&["cache", "drop", "--all"]);
    assert!(dropped.status.success(), "{}", String::from_utf8_lossy(&dropped.stderr));
    wait_until("the store is empty", WAIT, || store.memory_bytes() == 0 && store.spilled() == 0);
    figures.at_least("keeper_kills", "kills of the keeper while frames flow", killed.into_inner() as f64, kills as f64);
    figures.told("keeper_seconds", "they took, s", seconds);
    figures.at_least("keeper_results", "frames with their one result, which is right", good as f64, pushed as f64);
    figures.at_most("keeper_others", "other processes that died", others, 0.0);
    let is_right = f64::from(u8::from(verified.status.success()));
    figures.at_least("keeper_verified", "the index and all checksums are right afterwards", is_right, 1.0);
    figures.at_most("keeper_left_bytes", "bytes of blocks left when all was dropped", store.memory_bytes() as f64, 0.0);
    figures.at_most("keeper_left_files", "files left on disk", store.spilled() as f64, 0.0);
    server.stop();
}
