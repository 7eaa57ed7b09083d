//! What may be served from the cache: the result of the same bytes by the same models, and nothing else. A cached result, or
//! one of a cached tensor, is what it was at first.

use std::{fs, os::unix::fs::FileExt as _, time::Duration};

use framepipe_cache::{Count, Kind};
use framepipe_client::{ErrorCode, FrameResult, Outcome, PixelFormat, PushRequest, RawFrameFormat};
use framepipe_tests::{
    Home, Server,
    images::photo,
    kept::{Store, camera_frame, jpeg, numbered, push_kept, results_of},
    swaps::{MODEL, Models},
    wait_until,
};
use nix::sys::signal::Signal;

const NAME: &str = "cached";
const WAIT: Duration = Duration::from_secs(60);
const BOTH: &str = "tensor_bytes_max = \"64 MiB\"\nresult_bytes_max = \"1 MiB\"";

fn config(pipeline: &str, cache: &str) -> String {
    format!("name = \"{NAME}\"\n[pipeline]\n{pipeline}\n[cache]\n{cache}\n")
}

const STREET: &str = "detector = \"nanodet416-4c-int8\"";

/// Pushes one request, and returns its one result.
async fn one(server: &Server, stream: &str, request: PushRequest<'_>) -> FrameResult {
    server.client().push(request.stream(stream)).await.expect("there is room");
    results_of(server, stream).await.into_values().next().expect("one result")
}

/// Waits until the keeper has heard of so many insertions.
fn wait_kept(store: &Store, kind: Kind, count: u64) {
    wait_until("it is kept", WAIT, || store.area.counted(Count::Insertion(kind)) >= count);
}

fn hits(store: &Store, kind: Kind) -> u64 {
    store.area.counted(Count::Hit(kind))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_given_again_whoever_brings_the_bytes() {
    let home = Home::new();
    let server = Server::start(&home, &config(STREET, BOTH)).await;
    let (store, image) = (Store::of(&home, NAME), photo("zidane.jpg"));
    let first = one(&server, "first", PushRequest::images([&image])).await;
    assert!(!first.cached && matches!(first.outcome, Some(Outcome::Detections(_))));
    wait_kept(&store, Kind::Results, 1);
    wait_kept(&store, Kind::Metadata, 1);
    let again = one(&server, "again", PushRequest::images([&image])).await;
    assert!(again.cached && again.outcome == first.outcome, "{again:?}");
    push_kept(&home, &server, "kept", &[("a".into(), image.clone())], WAIT).await.expect("there is room");
    let kept = results_of(&server, "kept").await.remove("a").expect("its result");
    assert!(kept.cached && kept.outcome == first.outcome, "{kept:?}");
    assert_eq!((hits(&store, Kind::Results), hits(&store, Kind::Metadata)), (2, 1), "a kept image is not looked at");
    assert!(server.run(&["cache", "drop", "results"]).status.success());
    let remade = one(&server, "remade", PushRequest::images([&image])).await;
    assert!(!remade.cached && remade.outcome == first.outcome);
    assert_eq!(hits(&store, Kind::Tensors), 1, "its tensor is there still");
    server.stop();
}

/// A file in tmpfs that is changed by a mapping bears no trace of it: neither size nor time, nor inode.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_in_the_same_file_are_another_image() {
    let home = Home::new();
    let server = Server::start(&home, &config(STREET, BOTH)).await;
    let (store, people) = (Store::of(&home, NAME), photo("zidane.jpg"));
    let empty = jpeg(&image::RgbImage::from_pixel(640, 480, image::Rgb([90, 90, 90])), 4000);
    let mut padded = vec![0; people.len()];
    padded[..empty.len()].copy_from_slice(&empty); // behind its end a JPEG may have anything
    let path = home.store("buffer.jpg", &people);
    let request = || PushRequest::files([path.display().to_string()]);
    let first = one(&server, "first", request()).await;
    wait_kept(&store, Kind::Results, 1);
    let before = fs::metadata(&path).expect("it is there");
    let file = fs::File::options().write(true).open(&path).expect("the test's own file");
    file.write_all_at(&padded, 0).expect("it has room");
    file.set_times(fs::FileTimes::new().set_modified(before.modified().expect("it has one")))
        .expect("it is the test's");
    let other = one(&server, "other", request()).await;
    assert!(!other.cached && other.outcome != first.outcome, "the first image's result: {other:?}");
    let expected = one(&server, "expected", PushRequest::images([&padded])).await;
    assert_eq!(other.outcome, expected.outcome);
    server.stop();
}

/// The same bytes as a frame of another geometry are another image.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_frame_is_its_bytes_and_its_geometry() {
    let home = Home::new();
    let server = Server::start(&home, &config(STREET, &format!("{BOTH}\nraw_frames = true"))).await;
    let store = Store::of(&home, NAME);
    let bytes = camera_frame("bus.jpg", 320, 240, 1).into_raw();
    let push = async |stream: &str, format: PixelFormat, width, height| {
        let raw = RawFrameFormat { format: format.into(), width, height, stride: 0 };
        one(&server, stream, PushRequest::images([&bytes]).raw(raw)).await
    };
    let first = push("rgb", PixelFormat::Rgb24, 320, 240).await;
    wait_kept(&store, Kind::Results, 1);
    for (stream, format, width, height) in
        [("bgr", PixelFormat::Bgr24, 320, 240), ("tall", PixelFormat::Rgb24, 240, 320)]
    {
        let other = push(stream, format, width, height).await;
        assert!(!other.cached && other.outcome != first.outcome, "{stream}: {other:?}");
    }
    assert_eq!(hits(&store, Kind::Tensors), 0);
    let again = push("again", PixelFormat::Rgb24, 320, 240).await;
    assert!(again.cached && again.outcome == first.outcome);
    server.stop();
}

/// Another version of the model has another result for the same image, and the first one has its own again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_model_has_its_own_results() {
    let home = Home::new();
    let models = Models::new(&home, 2).config();
    let server = Server::start(&home, &format!("{models}[cache]\n{BOTH}\n")).await;
    let (store, image) = (Store::of(&home, "hot-swap"), photo("zidane.jpg"));
    let label = |result: &FrameResult| match &result.outcome {
        Some(Outcome::Detections(found)) => found.detections[0].label.clone(),
        other => panic!("{other:?}"),
    };
    for (kept, (version, cached)) in [(1, false), (2, false), (1, true), (2, true)].into_iter().enumerate() {
        if kept > 0 {
            let output = server.run(&["model", "use", &format!("{MODEL}@{version}")]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let result = one(&server, &format!("push-{kept}"), PushRequest::images([&image])).await;
        assert_eq!((label(&result), result.cached), (format!("face {version}"), cached), "push {kept}");
        wait_kept(&store, Kind::Results, (kept as u64 + 1).min(2));
    }
    server.stop();
}

/// An image that is damaged where framepipe keeps it, and can be decoded still, leaves no tensor under the key of the whole one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_made_of_a_damaged_image_is_kept_as_its() {
    let home = Home::new();
    let config = config(STREET, BOTH) + "[stages.ingest]\nhang_ms_max = 600000\n";
    let server = Server::start(&home, &config).await;
    let store = Store::of(&home, NAME);
    let frame = jpeg(&camera_frame("bus.jpg", 640, 480, 1), 60_000);
    let images: Vec<Vec<u8>> = (0..8).map(|number| numbered(&frame, number)).collect();
    let expected = one(&server, "expected", PushRequest::images([&frame])).await.outcome;
    wait_kept(&store, Kind::Tensors, 1);
    server.signal_stage("ingest", Signal::SIGSTOP);
    let batch: Vec<_> = images.iter().enumerate().map(|(it, bytes)| (it.to_string(), bytes.clone())).collect();
    push_kept(&home, &server, "damaged", &batch, WAIT).await.expect("there is room");
    let arena = store.arena("images");
    let places = store.images_in_memory();
    assert_eq!(places.len(), images.len(), "there is memory for all");
    for (image, offset) in places {
        // The last bits of the picture: whatever they are, it can be decoded.
        let at = offset + images[image].len() as u64 - 12;
        let mut byte = [0];
        arena.read_exact_at(&mut byte, at).expect("it is that long");
        let flipped = if byte[0] == 0xff { 0x55 } else { byte[0] ^ 1 };
        arena.write_all_at(&[flipped], at).expect("it can be written");
    }
    server.signal_stage("ingest", Signal::SIGCONT);
    for (name, result) in results_of(&server, "damaged").await {
        let Some(Outcome::Error(error)) = &result.outcome else { panic!("{name} was served: {result:?}") };
        assert_eq!(error.code(), ErrorCode::StoreDamaged, "{name}: {}", error.message);
    }
    // As the error says: pushed again.
    let inserted = store.area.counted(Count::Insertion(Kind::Tensors));
    assert_eq!(inserted, 1, "of the whole frame alone");
    for (name, result) in [("again", 0), ("once-more", 8)] {
        push_kept(&home, &server, name, &batch, WAIT).await.expect("there is room");
        let results = results_of(&server, name).await;
        assert!(results.values().all(|it| it.outcome == expected), "{name}");
        wait_kept(&store, Kind::Results, 9);
        assert_eq!(results.values().filter(|it| it.cached).count(), result, "{name}");
        assert_eq!(hits(&store, Kind::Tensors), 0, "{name}: of a damaged image, offered late");
    }
    server.stop();
}
