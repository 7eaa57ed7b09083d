//! One image of 40 MB, kept by framepipe, once in memory and once on disk: what it takes of memory on its way.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use framepipe_client::Outcome;
use framepipe_tests::{
    Home, Memory, Server,
    figures::Figures,
    kept::{Store, camera_frame, jpeg, push_kept, results_of},
};

/// Below the limit of 100 million pixels.
const SIZE: (u32, u32) = (11_500, 8_600);
const BYTES: usize = 40_000_000;
const CHUNK_BYTES: u64 = 256 << 10;
const WAIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

fn config(memory: &str) -> String {
    format!(
        "name = \"large\"\n[pipeline]\ndetector = \"nanodet416-4c-int8\"\n[cache]\nmemory_bytes_max = \"{memory}\"\n"
    )
}

struct Took {
    /// Of the store's memory, at most.
    store: u64,
    /// Own memory of gateway and ingest, at most, above what they had before.
    carriers_mib: f64,
    /// Of preprocess.
    preprocess_mib: f64,
    found: usize,
    size: (u32, u32),
    preprocess_ms: f64,
}

async fn send(image: &[u8], memory: &str) -> Took {
    let home = Home::new();
    let server = Server::start(&home, &config(memory)).await;
    let (store, own) = (Store::of(&home, "large"), Memory::of(&home));
    let of = |stages: &[&str]| own.mib_of(stages) - own.mib_of(&["launcher"]);
    let before = (of(&["gateway", "ingest"]), of(&["preprocess"]));
    let (most, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (results, after) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut after = before;
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(store.memory_bytes(), Ordering::Relaxed);
                after = (after.0.max(of(&["gateway", "ingest"])), after.1.max(of(&["preprocess"])));
                std::thread::park_timeout(LOOK);
            }
            after
        });
        let results = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let batch = [("large.jpg".to_owned(), image.to_vec())];
                push_kept(&home, &server, "large", &batch, WAIT).await.expect("there is room");
                results_of(&server, "large").await
            })
        });
        over.store(true, Ordering::Relaxed);
        (results, looking.join().expect("it looks"))
    });
    let result = &results["large.jpg"];
    let Some(Outcome::Detections(found)) = &result.outcome else { panic!("{:?}", result.outcome) };
    let time = result.times.iter().find(|time| time.stage == "preprocess").expect("it was there");
    let took = Took {
        store: most.into_inner(),
        carriers_mib: after.0 - before.0,
        preprocess_mib: after.1 - before.1,
        found: found.detections.len(),
        size: (found.image_width, found.image_height),
        preprocess_ms: time.busy_us as f64 / 1e3,
    };
    server.stop();
    took
}

/// Measures both.
pub async fn measure(figures: &mut Figures) {
    let image = jpeg(&camera_frame("bus.jpg", SIZE.0, SIZE.1, 1), BYTES);
    let bytes = image.len() as u64;
    println!("a JPEG of {} x {} pixels, {bytes} bytes", SIZE.0, SIZE.1);
    figures.at_least("large_bytes", "bytes of the image", bytes as f64, 35e6);
    for (name, memory) in [("memory", "64 MiB"), ("disk", "1 MiB")] {
        let took = send(&image, memory).await;
        assert_eq!(took.size, SIZE);
        figures.at_least(
            format!("large_{name}_found"),
            format!("kept in {name}: objects found"),
            took.found as f64,
            1.0,
        );
        let over = (took.store as f64 - bytes as f64) / CHUNK_BYTES as f64;
        figures.at_most(
            format!("large_{name}_over_chunks"),
            format!("kept in {name}: the store's memory above the image's bytes, in chunks"),
            over,
            2.0,
        );
        let carriers = took.carriers_mib * f64::from(1 << 20) / CHUNK_BYTES as f64;
        figures.told(
            format!("large_{name}_carriers_chunks"),
            format!("kept in {name}: own memory that gateway and ingest gained, in chunks"),
            carriers,
        );
        figures.at_most(
            format!("large_{name}_preprocess_mib"),
            "own memory that preprocess gained, MiB; decoded whole it would be 283",
            took.preprocess_mib,
            64.0,
        );
        figures.told(format!("large_{name}_preprocess_ms"), "preprocess of it, ms", took.preprocess_ms);
    }
}
