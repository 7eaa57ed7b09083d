//! What clients do wrong. A call that cannot be fails with its code and the value, and accepts nothing; a frame that
//! cannot be gets its typed error, and its neighbours in the batch get their detections.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use framepipe_client::{ErrorCode, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_proto::v1::{PullResultRequest, PushDataRequest};
use framepipe_tests::{
    Home, Server,
    images::{photo, png},
    wait_until,
};
use nix::sys::{signal::Signal, stat::Mode};
use tonic::Code;

const FRAMES_MAX: usize = 8;
const LIMIT: Duration = Duration::from_secs(60);
const PHOTO: &str = "sample6.jpg";
/// In it.
const FACES: usize = 4;

fn config() -> String {
    // At full size, as FACES was counted.
    format!("[pipeline]\ndetector = \"tiny-face-416\"\n[server]\nframes_max = {FRAMES_MAX}\n")
}

fn text(path: &Path) -> String {
    path.to_str().expect("the tests' paths are UTF-8").to_owned()
}

/// Sends a call that must be refused, with this code and these words, and sees that nothing was accepted.
async fn refused(server: &Server, request: PushDataRequest, code: Code, words: &[&str]) {
    let before = server.status();
    let answer = server.raw_client().push_data(request).await;
    let status = answer.expect_err(&format!("it must be refused: {words:?}"));
    assert_eq!(status.code(), code, "{}", status.message());
    for word in words {
        assert!(status.message().contains(word), "{word:?} is wanted in {:?}", status.message());
    }
    let after = server.status();
    assert_eq!((after.accepted, after.jobs), (before.accepted, before.jobs), "{}", status.message());
}

fn blob(location: &Path, sizes: &[u64]) -> PushDataRequest {
    PushDataRequest { location: text(location), sizes: sizes.into(), stream: "s".into(), ..Default::default() }
}

/// All files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of the pipeline").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_cannot_be_fails_with_its_value_and_accepts_nothing() {
    let home = Home::new();
    // The second root holds the segment itself.
    let config = format!("{}inbox = [{:?}, {:?}]\n", config(), home.inbox(), home.shm());
    let server = Server::start(&home, &config).await;
    let image = png(32, 32);
    let good = home.store("good.png", &image);
    let bytes = image.len() as u64;

    let outside = home.path("outside.png");
    fs::write(&outside, &image).expect("the test's own folder");
    let climbing = home.inbox().join("../shm/../../x.png");
    for path in [&outside, &climbing, Path::new("/etc/passwd")] {
        let root = text(&home.inbox());
        refused(&server, blob(path, &[1]), Code::PermissionDenied, &[&text(path), "outside", &root]).await;
    }
    let link = home.inbox().join("link.png");
    symlink(&good, &link).expect("the test's own folder");
    refused(&server, blob(&link, &[bytes]), Code::PermissionDenied, &[&text(&link), "symlink"]).await;
    let folder = home.inbox().join("folder");
    fs::create_dir(&folder).expect("the test's own folder");
    refused(&server, blob(&folder, &[1]), Code::InvalidArgument, &[&text(&folder), "directory"]).await;
    let linked_folder = home.inbox().join("linked");
    symlink(&folder, &linked_folder).expect("the test's own folder");
    fs::write(folder.join("a.png"), &image).expect("the test's own folder");
    let through = linked_folder.join("a.png");
    refused(&server, blob(&through, &[bytes]), Code::PermissionDenied, &[&text(&through), "symlink"]).await;
    let fifo = home.inbox().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).expect("the test's own folder");
    refused(&server, blob(&fifo, &[1]), Code::InvalidArgument, &[&text(&fifo), "no regular file"]).await;
    let absent = home.inbox().join("absent.png");
    refused(&server, blob(&absent, &[1]), Code::NotFound, &[&text(&absent)]).await;

    let own = files_below(&home.shm());
    for file in &own {
        refused(&server, blob(file, &[1]), Code::PermissionDenied, &[&text(file), "own memory"]).await;
    }
    for name in ["control", "owner", "cache/images"] {
        assert!(own.iter().any(|file| file.ends_with(name)), "segment, journal and cache have a file each: {own:?}");
    }

    let more = bytes + 1;
    refused(&server, blob(&good, &[more]), Code::InvalidArgument, &[&text(&good), &format!("sizes[0] = {more}")]).await;
    let words = ["sizes[1] = 1", &text(&good)];
    refused(&server, blob(&good, &[bytes, 1]), Code::InvalidArgument, &words).await;
    let words = ["overflow", "sizes[1]", "18446744073709551615"];
    refused(&server, blob(&good, &[1, u64::MAX]), Code::InvalidArgument, &words).await;
    let words = ["1000000", &format!("{FRAMES_MAX}"), "server.frames_max"];
    refused(&server, blob(&good, &vec![1; 1_000_000]), Code::InvalidArgument, &words).await;
    refused(&server, blob(&good, &[]), Code::InvalidArgument, &["empty"]).await;
    refused(&server, PushDataRequest::default(), Code::InvalidArgument, &["empty"]).await;

    let named = |name: &str| PushDataRequest { names: vec![name.into()], ..blob(&good, &[bytes]) };
    refused(&server, named("a\0b"), Code::InvalidArgument, &["names[0]", r#""a\0b""#]).await;
    refused(&server, named(&"n".repeat(256)), Code::InvalidArgument, &["names[0]", "256 bytes", "255"]).await;
    refused(&server, named(""), Code::InvalidArgument, &["names[0]"]).await;
    let streamed = |stream: &str| PushDataRequest { stream: stream.into(), ..blob(&good, &[bytes]) };
    refused(&server, streamed("a/b"), Code::InvalidArgument, &["stream id", "'/'"]).await;
    refused(&server, streamed(&"s".repeat(65)), Code::InvalidArgument, &["stream id", "65 bytes"]).await;

    let pull = PullResultRequest { stream: "nobody".into(), ..Default::default() };
    let status = server.raw_client().pull_result(pull).await.expect_err("there is no such stream");
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("nobody"), "{}", status.message());
    assert_eq!(server.status().accepted, 0);

    // And all of that has broken nothing.
    let answer = server.raw_client().push_data(blob(&good, &[bytes])).await.expect("it is good");
    assert_eq!((answer.get_ref().accepted, server.status().accepted), (1, 1));
    let results = collect(&server, "s").await;
    assert!(detections(&results["good.png"]).is_empty());
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_job_table_refuses_until_frames_are_done() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    let image = png(32, 32);
    let file = home.store("a.png", &image);
    let bytes = image.len() as u64;
    server.signal_stage("ingest", Signal::SIGSTOP);
    for _ in 0..FRAMES_MAX {
        server.raw_client().push_data(blob(&file, &[bytes])).await.expect("there is room");
    }
    let words = ["1 frame ", &format!("{FRAMES_MAX} frames"), "server.frames_max"];
    refused(&server, blob(&file, &[bytes]), Code::ResourceExhausted, &words).await;
    server.signal_stage("ingest", Signal::SIGCONT);
    wait_until("the frames to be done", LIMIT, || server.status().jobs.free == FRAMES_MAX);
    server.raw_client().push_data(blob(&file, &[bytes])).await.expect("there is room again");
    let client = server.client();
    let options = ResultsOptions { until_drained: true, ..Default::default() };
    let results = client.results("s", options).collect::<Vec<_>>();
    let results = tokio::time::timeout(LIMIT, results).await.expect("all results in time");
    assert_eq!(results.len(), FRAMES_MAX + 1);
    server.stop();
}

/// Results of a stream by their names, once all are there.
async fn collect(server: &Server, stream: &str) -> HashMap<String, FrameResult> {
    let client = server.client();
    let options = ResultsOptions { until_drained: true, ..Default::default() };
    let results = client.results(stream, options).map(|result| result.expect("it is readable")).collect::<Vec<_>>();
    let results = tokio::time::timeout(LIMIT, results).await.expect("all results in time");
    let count = results.len();
    let by_name: HashMap<_, _> = results.into_iter().map(|result| (result.name.clone(), result)).collect();
    assert_eq!(by_name.len(), count, "each once");
    by_name
}

fn detections(result: &FrameResult) -> &[framepipe_client::Detection] {
    match &result.outcome {
        Some(Outcome::Detections(found)) => &found.detections,
        other => panic!("{}: {other:?}", result.name),
    }
}

fn check_error(result: &FrameResult, code: ErrorCode, word: &str) {
    match &result.outcome {
        Some(Outcome::Error(error)) if error.code == code as i32 && error.message.contains(word) => {}
        other => panic!("{}: {code:?} with {word:?} is wanted: {other:?}", result.name),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_is_no_image_gets_its_error_and_its_neighbours_their_detections() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    let good = photo(PHOTO);
    let truncated = &good[..good.len() / 2];
    let huge = with_size(&good, 65_500, 65_500);
    let batch: [(&str, &[u8]); 6] = [
        ("truncated", truncated),
        ("first good", &good),
        ("huge", &huge),
        ("text", b"This is a text and no image.\n"),
        ("empty", b""),
        ("last good", &good),
    ];
    let (names, images): (Vec<&str>, Vec<&[u8]>) = batch.into_iter().unzip();
    server.client().push(PushRequest::images(images).names(names).stream("s")).await.expect("it is accepted");
    let results = collect(&server, "s").await;
    assert_eq!(results.len(), 6);
    check_error(&results["truncated"], ErrorCode::CorruptImage, "");
    check_error(&results["huge"], ErrorCode::ImageTooLarge, "65500x65500");
    check_error(&results["text"], ErrorCode::UnsupportedFormat, "");
    check_error(&results["empty"], ErrorCode::UnsupportedFormat, "0 bytes");
    for name in ["first good", "last good"] {
        assert_eq!(detections(&results[name]).len(), FACES, "{name}");
    }
    server.stop();
}

/// A model that puts out what is no number finds nothing in any image: that is said, and not "nothing found".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detector_that_puts_out_what_is_no_number_says_so() {
    let home = Home::new();
    let infinite = [("std = 255.0", "std = 1.0, scale = 1e36")];
    let models = home.models_with_threshold("tiny-face-416", "0.5", &infinite);
    // Without the canary, which would fail as every frame does: such a pipeline is never ready.
    let config = format!(
        "[pipeline]\ndetector = \"tiny-face-416\"\n[paths]\nmodels = {models:?}\n[server]\ncanary_idle_ms = 0\n"
    );
    let server = Server::start(&home, &config).await;
    server
        .client()
        .push(PushRequest::images(&[photo(PHOTO)]).names(["one"]).stream("s"))
        .await
        .expect("it is accepted");
    let results = collect(&server, "s").await;
    check_error(&results["one"], ErrorCode::Inference, "\"output\" of tiny-face-416@1 are none (NaN)");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_changes_after_it_was_accepted_is_an_error_of_its_frame_alone() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    let good = photo(PHOTO);
    let names = ["good", "rewritten", "shortened", "removed", "replaced", "linked"];
    let files = names.map(|name| home.store(name, &good));
    server.signal_stage("ingest", Signal::SIGSTOP);
    let request = PushDataRequest { files: files.iter().map(|file| text(file)).collect(), ..blob(Path::new(""), &[]) };
    server.raw_client().push_data(request).await.expect("all are good still");
    let file = |name: &str| home.inbox().join(name);
    // As long as it was: its time of modification tells.
    home.store("rewritten", &vec![7; good.len()]);
    fs::File::options().write(true).open(file("shortened")).and_then(|file| file.set_len(10)).expect("shortened");
    fs::remove_file(file("removed")).expect("removed");
    fs::write(file("new"), &good).and_then(|()| fs::rename(file("new"), file("replaced"))).expect("replaced");
    fs::remove_file(file("linked")).and_then(|()| symlink(file("good"), file("linked"))).expect("linked");
    server.signal_stage("ingest", Signal::SIGCONT);
    let results = collect(&server, "s").await;
    assert_eq!(results.len(), names.len());
    assert_eq!(detections(&results["good"]).len(), FACES);
    check_error(&results["removed"], ErrorCode::SourceGone, "removed");
    for changed in ["rewritten", "shortened", "replaced", "linked"] {
        check_error(&results[changed], ErrorCode::SourceChanged, changed);
    }
    server.stop();
}

/// A JPEG whose header claims another size.
fn with_size(jpeg: &[u8], width: u16, height: u16) -> Vec<u8> {
    let mut bytes = jpeg.to_vec();
    // A start of frame: its marker, length and sample precision stand before height and width.
    let starts = |pair: &[u8]| pair[0] == 0xff && matches!(pair[1], 0xc0 | 0xc2);
    let frame = bytes.windows(2).position(starts).expect("a JPEG has a start of frame");
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}
