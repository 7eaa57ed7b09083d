//! What framepipe keeps of images may be damaged: no damaged image is served, each is an error that says so, and nobody else
//! sees anything of it.

use std::collections::HashMap;

use framepipe_cache::{Count, Kind};
use framepipe_client::{ErrorCode, FrameResult, Outcome, PushRequest};
use framepipe_tests::{
    Home, Server, damage,
    images::photo,
    kept::{Store, camera_frame, jpeg, numbered, results_of},
    wait_until,
};
use std::{os::unix::fs::FileExt as _, time::Duration};

const WAIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_image_is_an_error_in_memory_and_on_disk() {
    let frame = jpeg(&camera_frame("bus.jpg", 320, 240, 1), 30_000);
    let images: Vec<Vec<u8>> = (0..damage::ROUND).map(|number| numbered(&frame, number)).collect();
    let home = Home::new();
    let server = Server::start(&home, &damage::config(images[0].len())).await;
    let names = (0..images.len()).map(|it| it.to_string());
    server.client().push(PushRequest::images(&images).names(names).stream("whole")).await.expect("there is room");
    let outcome =
        |(name, result): (String, FrameResult)| (name.parse().expect("a number"), result.outcome.expect("one"));
    let expected: HashMap<usize, Outcome> = results_of(&server, "whole").await.into_iter().map(outcome).collect();
    let mut total = damage::Done::default();
    for round in 0..2 {
        let done = damage::round(&home, &server, round, &images, &expected).await;
        (total.in_memory, total.on_disk) = (total.in_memory + done.in_memory, total.on_disk + done.on_disk);
    }
    assert!(total.in_memory > 10 && total.on_disk > 10, "{total:?}");
    let store = Store::of(&home, damage::NAME);
    assert!(store.area.counted(Count::ImageDamage) >= (total.in_memory + total.on_disk) as u64);
    wait_until("the store is empty", WAIT, || store.memory_bytes() == 0 && store.spilled() == 0);
    assert!(server.status().processes.iter().all(|process| process.restarts == 0), "{}", server.output());
    server.stop();
}

/// Bits of cached tensors and results are flipped while the same images come again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_tensor_or_result_is_never_another_images() {
    const CONFIG: &str = "name = \"damage\"\n[pipeline]\ndetector = \"nanodet416-4c-int8\"\n[cache]\n";
    let photos = ["zidane.jpg", "bus.jpg", "2011_000003.jpg", "2011_000006.jpg"];
    for (arena, cache) in [("tensors", "tensor_bytes_max = \"64 MiB\""), ("results", "result_bytes_max = \"1 MiB\"")] {
        let home = Home::new();
        let server = Server::start(&home, &format!("{CONFIG}{cache}\n")).await;
        let images: Vec<Vec<u8>> = photos.iter().map(|name| photo(name)).collect();
        let push = async |stream: &str| {
            let request = PushRequest::images(&images).names(photos).stream(stream);
            server.client().push(request).await.expect("there is room");
            results_of(&server, stream).await
        };
        let whole = push("whole").await;
        let store = Store::of(&home, "damage");
        wait_until("all are cached", WAIT, || {
            store.resident_bytes(arena) > 0 && store.area.all().count() >= photos.len()
        });
        let (mut damaged, mut served) = (0, 0);
        for round in 0..20 {
            let file = store.arena(arena);
            let block_bytes = store.area.geometry().arenas[if arena == "tensors" { 1 } else { 2 }].block_bytes;
            let blocks = file.metadata().expect("it is open").len() / block_bytes;
            for block in (0..blocks).filter(|block| block % 2 == round % 2) {
                let at = block * block_bytes + (round * 7919) % 300;
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).expect("it is that long");
                if byte[0] != 0 {
                    file.write_all_at(&[byte[0] ^ 1], at).expect("it can be written");
                }
            }
            for (name, result) in push(&format!("round-{round}")).await {
                match &result.outcome {
                    Some(Outcome::Error(error)) => {
                        assert_eq!(error.code(), ErrorCode::StoreDamaged, "{}", error.message);
                        damaged += 1;
                    }
                    outcome => {
                        assert_eq!(outcome, &whole[&name].outcome, "{arena}: {name}");
                        served += 1;
                    }
                }
            }
        }
        // A tensor is compared once the detector has run, and is its frame's error; a result before anything relies on it, and is
        // made again.
        let kind = if arena == "tensors" { Kind::Tensors } else { Kind::Results };
        wait_until("the damage is counted", WAIT, || store.area.counted(Count::Damage(kind)) > 0);
        assert_eq!(damaged > 0, arena == "tensors", "{arena}: {damaged} damaged, {served} served");
        assert!(served > 0, "{arena}: {damaged} damaged, {served} served");
        assert!(server.status().processes.iter().all(|process| process.restarts == 0), "{}", server.output());
        server.stop();
    }
}
