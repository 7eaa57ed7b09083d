//! Damaged memory and files: none is served as an image, all are reported, none is fatal.

use std::collections::HashMap;

use framepipe_cache::Count;
use framepipe_tests::{
    Home, Server,
    damage::{self, NAME, ROUND},
    figures::Figures,
    kept::{Store, camera_frame, jpeg, numbered, results_of},
};

/// Small images, so that a thousand of them take a minute.
const SIZE: (u32, u32) = (320, 240);
const BYTES: usize = 30_000;

/// Damages so many images, a round's half at a time.
pub async fn measure(damages: usize, figures: &mut Figures) {
    let frame = jpeg(&camera_frame("bus.jpg", SIZE.0, SIZE.1, 1), BYTES);
    let images: Vec<Vec<u8>> = (0..ROUND).map(|number| numbered(&frame, number)).collect();
    let home = Home::new();
    let server = Server::start(&home, &damage::config(images[0].len())).await;
    let store = Store::of(&home, NAME);
    let request = framepipe_client::PushRequest::images(&images).names((0..ROUND).map(|it| it.to_string()));
    server.client().push(request.stream("whole")).await.expect("there is room");
    let whole = results_of(&server, "whole").await;
    let outcome = |(name, result): (String, framepipe_client::FrameResult)| {
        (name.parse().expect("a number"), result.outcome.expect("it has one"))
    };
    let expected: HashMap<usize, _> = whole.into_iter().map(outcome).collect();
    let (mut in_memory, mut on_disk, mut rounds) = (0, 0, 0);
    while in_memory + on_disk < damages {
        let done = damage::round(&home, &server, rounds, &images, &expected).await;
        (in_memory, on_disk, rounds) = (in_memory + done.in_memory, on_disk + done.on_disk, rounds + 1);
    }
    let restarts: u32 = server.status().processes.iter().map(|process| process.restarts).sum();
    let reported = store.area.counted(Count::ImageDamage);
    server.stop();
    figures.at_least(
        "damage_in_memory",
        "images damaged in memory, each an error for its frame",
        in_memory as f64,
        1.0,
    );
    figures.at_least("damage_on_disk", "images damaged on disk, each an error for its frame", on_disk as f64, 1.0);
    let all = (in_memory + on_disk) as f64;
    figures.at_least("damage_all", "images damaged, none of them served", all, damages as f64);
    figures.at_least("damage_reported", "of them, counted by framepipe cache stats", reported as f64, all);
    figures.at_most("damage_deaths", "processes that died of it", f64::from(restarts), 0.0);
}
