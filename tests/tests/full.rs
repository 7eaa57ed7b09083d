//! No room: in the tmpfs, or on the disk, at any moment: a call is refused with words that say what to do, or its images are
//! kept elsewhere. What was accepted is answered, with its own result.

use std::{collections::HashMap, fs, time::Duration};

use framepipe_client::Outcome;
use framepipe_tests::{
    Home, Server, SmallTmpfs,
    images::photo,
    kept::{Store, numbered, push_kept, results_of},
    wait_until,
};
use tonic::Code;

const NAME: &str = "full";
const WAIT: Duration = Duration::from_secs(60);

fn config(cache: &str) -> String {
    format!(
        "name = \"{NAME}\"\n[pipeline]\ndetector = \"nanodet416-4c-int8\"\n[pools]\n\
         encoded = [{{ bytes = \"1 MiB\", slots = 4 }}]\n[cache]\n{cache}\n"
    )
}

fn images(count: usize) -> Vec<(String, Vec<u8>)> {
    let photo = photo("zidane.jpg");
    (0..count).map(|number| (number.to_string(), numbered(&photo, number))).collect()
}

/// The one result that all these images have.
async fn expected(server: &Server) -> Outcome {
    let image = photo("zidane.jpg");
    let request = framepipe_client::PushRequest::images([&image]).names(["whole"]).stream("whole");
    server.client().push(request).await.expect("there is room");
    results_of(server, "whole").await.remove("whole").and_then(|result| result.outcome).expect("it has one")
}

fn check_all_equal(results: &HashMap<String, framepipe_client::FrameResult>, count: usize, expected: &Outcome) {
    assert_eq!(results.len(), count);
    for (name, result) in results {
        assert_eq!(result.outcome.as_ref(), Some(expected), "image {name}");
    }
}

fn check_nobody_died(server: &Server) {
    let status = server.status();
    assert!(status.processes.iter().all(|process| process.restarts == 0), "{status:?}\n{}", server.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_tmpfs_sends_images_to_the_disk() {
    let home = Home::new();
    let Some(tmpfs) = SmallTmpfs::mount(&home.shm(), 512 << 20) else { return };
    let server = Server::start(&home, &config("memory_bytes_max = \"64 MiB\"")).await;
    let (store, expected) = (Store::of(&home, NAME), expected(&server).await);
    let bytes = photo("zidane.jpg").len() as u64;
    // From nothing at all to a little more than one image.
    let mut on_disk = 0;
    for (round, free) in [0, 4096, bytes / 2, bytes, bytes + (256 << 10), 0].into_iter().enumerate() {
        tmpfs.leave(free);
        let stream = format!("round-{round}");
        push_kept(&home, &server, &stream, &images(12), WAIT).await.expect("there is room on the disk");
        check_all_equal(&results_of(&server, &stream).await, 12, &expected);
        let spilled = store.area.counted(framepipe_cache::Count::Spilled);
        assert!(free > 0 || spilled >= on_disk + 12, "without memory all of them go to the disk: {spilled}");
        on_disk = spilled;
    }
    tmpfs.leave(256 << 20);
    wait_until("there is memory again, and the keeper has seen it", WAIT, || {
        store.area.level() == framepipe_cache::Level::InPlace && store.spilled() == 0
    });
    push_kept(&home, &server, "again", &images(12), WAIT).await.expect("there is room");
    check_all_equal(&results_of(&server, "again").await, 12, &expected);
    assert!(store.area.counted(framepipe_cache::Count::Held) >= 12, "images are kept in memory again");
    check_nobody_died(&server);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_loses_nothing() {
    let home = Home::new();
    let spill = home.path("state").join("spill");
    fs::create_dir_all(&spill).expect("a folder of the test's own");
    let Some(_tmpfs) = SmallTmpfs::mount(&spill, 2 << 20) else { return };
    let server = Server::start(&home, &config("memory_bytes_max = \"1 MiB\"\nchunk_bytes = \"64 KiB\"")).await;
    let (store, expected) = (Store::of(&home, NAME), expected(&server).await);
    let all = images(64);
    let refusal = push_kept(&home, &server, "batch", &all, Duration::ZERO).await.expect_err("nobody has that room");
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
    assert!(refusal.message().contains("cache.disk_bytes_max"), "{refusal}");
    wait_until("a refused call leaves nothing", WAIT, || store.memory_bytes() == 0 && store.spilled() == 0);
    let (mut accepted, mut refused) = (0, 0);
    for image in &all {
        match push_kept(&home, &server, "single", std::slice::from_ref(image), Duration::ZERO).await {
            Ok(_) => accepted += 1,
            Err(refusal) => {
                assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
                refused += 1;
            }
        }
    }
    assert!(accepted > 0 && refused > 0, "{accepted} accepted, {refused} refused");
    check_all_equal(&results_of(&server, "single").await, accepted, &expected);
    // A call that waits has its turn when the others are done.
    for image in &all {
        push_kept(&home, &server, "waiting", std::slice::from_ref(image), WAIT).await.expect("room comes with results");
    }
    check_all_equal(&results_of(&server, "waiting").await, all.len(), &expected);
    wait_until("the store is empty", WAIT, || store.memory_bytes() == 0 && store.spilled() == 0);
    check_nobody_died(&server);
    server.stop();
}
