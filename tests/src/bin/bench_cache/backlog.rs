//! Four times as many bytes of images as there is memory for them, kept by framepipe, and removed by their client at once.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use framepipe_cache::Count;
use framepipe_client::{FrameResult, Outcome};
use framepipe_tests::{
    Home, Server,
    figures::Figures,
    kept::{Store, camera_frame, jpeg, number_of, numbered, push_kept, results_of, spilled_bytes},
};

const BUDGET: usize = 64 << 20;
/// Of a 1080p JPEG.
const BYTES: usize = 500_000;
const BATCH: usize = 32;
const WAIT: Duration = Duration::from_secs(60);
/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(10);

fn config(memory: usize) -> String {
    format!(
        "name = \"backlog\"\n[pipeline]\ndetector = \"nanodet416-4c-int8\"\n[cache]\nmemory_bytes_max = {memory}\n\
         disk_bytes_max = \"2 GiB\"\n"
    )
}

struct Ran {
    seconds: f64,
    results: HashMap<String, FrameResult>,
    most_bytes: u64,
    spilled: u64,
    moved: u64,
    damaged: u64,
    compared: usize,
    left: (u64, usize),
}

async fn run(images: &[Vec<u8>], memory: usize) -> Ran {
    let home = Home::new();
    let server = Server::start(&home, &config(memory)).await;
    let store = Store::of(&home, "backlog");
    let (most, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    let (results, compared) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(store.memory_bytes(), Ordering::Relaxed);
                std::thread::park_timeout(LOOK);
            }
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for batch in (0..images.len()).collect::<Vec<_>>().chunks(BATCH) {
                    let batch: Vec<_> = batch.iter().map(|it| (format!("{it}.jpg"), images[*it].clone())).collect();
                    push_kept(&home, &server, "backlog", &batch, WAIT).await.expect("there is room");
                }
                // What lies on disk meanwhile, byte by byte.
                let is_equal = |(number, path): (&usize, &std::path::PathBuf)| {
                    let bytes = spilled_bytes(path, usize::MAX).ok()?; // it has had its turn
                    assert_eq!(number_of(&bytes), Some(*number));
                    assert!(bytes == images[*number], "image {number} is another one on disk");
                    Some(())
                };
                let compared = store.images_on_disk().iter().filter_map(is_equal).count();
                let results = results_of(&server, "backlog").await;
                over.store(true, Ordering::Relaxed);
                (results, compared)
            })
        })
    });
    let seconds = started.elapsed().as_secs_f64();
    framepipe_tests::wait_until("the store is empty", WAIT, || store.memory_bytes() == 0 && store.spilled() == 0);
    let counted = |count| store.area.counted(count);
    let ran = Ran {
        seconds,
        results,
        most_bytes: most.into_inner(),
        spilled: counted(Count::Spilled),
        moved: counted(Count::Moved),
        damaged: counted(Count::ImageDamage),
        compared,
        left: (store.memory_bytes(), store.spilled()),
    };
    let restarts: u32 = server.status().processes.iter().map(|process| process.restarts).sum();
    assert_eq!(restarts, 0, "no process may have died:\n{}", server.output());
    server.stop();
    ran
}

/// Measures both: with memory for all, and for a quarter.
pub async fn measure(figures: &mut Figures) {
    let frame = jpeg(&camera_frame("bus.jpg", 1920, 1080, 1), BYTES);
    let count = 4 * BUDGET / frame.len() + 1;
    let images: Vec<Vec<u8>> = (0..count).map(|number| numbered(&frame, number)).collect();
    println!(
        "{count} images of {} bytes, {} MiB, in memory for {} MiB",
        frame.len(),
        (count * frame.len()) >> 20,
        BUDGET >> 20
    );
    let in_memory = run(&images, 8 * BUDGET).await;
    let backlog = run(&images, BUDGET).await;
    let good = |ran: &Ran| {
        let is_good = |result: &&FrameResult| matches!(result.outcome, Some(Outcome::Detections(_)));
        ran.results.values().filter(is_good).count() as f64
    };
    let same =
        backlog.results.iter().filter(|(name, result)| in_memory.results[*name].outcome == result.outcome).count();
    let rate = |ran: &Ran| count as f64 / ran.seconds;
    figures.at_least("backlog_good", "images with detections as their result", good(&backlog), count as f64);
    figures.at_least("backlog_same", "of them, with the result that they have in memory", same as f64, count as f64);
    figures.told("backlog_memory_fps", "frames a second, with memory for all", rate(&in_memory));
    figures.told("backlog_fps", "frames a second, with memory for a quarter", rate(&backlog));
    figures.at_least("backlog_rate_ratio", "the latter over the former", rate(&backlog) / rate(&in_memory), 0.5);
    let most = backlog.most_bytes as f64 / BUDGET as f64;
    figures.at_most("backlog_memory_ratio", "most memory of the store at any look, over its budget", most, 1.05);
    figures.told("backlog_spilled", "images written to disk at once", backlog.spilled as f64);
    figures.told("backlog_moved", "images moved there from memory", backlog.moved as f64);
    figures.at_least("backlog_compared", "images compared on disk, byte by byte", backlog.compared as f64, 1.0);
    figures.at_most("backlog_damaged", "images whose checksum differed on their turn", backlog.damaged as f64, 0.0);
    figures.at_most("backlog_left_bytes", "bytes left in memory afterwards", backlog.left.0 as f64, 0.0);
    figures.at_most("backlog_left_files", "files left on disk afterwards", backlog.left.1 as f64, 0.0);
}
