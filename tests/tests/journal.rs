//! The result journal in the whole system: unread results fill memory and spill to the disk, survive the gateway's death and
//! the pipeline's end, and are dropped for their age only where that is wanted, which their reader is told.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use framepipe_client::{Client, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_proto::v1::PushDataRequest;
use framepipe_tests::{Home, Server, images::png, wait_until};
use tonic::{Code, Status};

const LIMIT: Duration = Duration::from_secs(120);
const FRAMES: usize = 100;

fn config(journal: &str) -> String {
    format!("name = \"journal\"\n[pipeline]\ndetector = \"tiny-face-416\"\n[journal]\n{journal}\n")
}

async fn push(client: &Client, stream: &str) {
    let image = png(16, 16);
    let request = PushRequest::images(std::iter::repeat_n(&image, FRAMES)).stream(stream);
    client.push(request).await.expect("the push is good");
}

async fn results(client: &Client, stream: &str) -> Vec<FrameResult> {
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results = client.results(stream, options).map(|result| result.expect("it is readable")).collect();
    tokio::time::timeout(LIMIT, results).await.expect("all results in time")
}

fn is_done(server: &Server) -> bool {
    server.status().in_flight() == 0
}

/// Bytes of the files below a folder that end so.
fn bytes(folder: &Path, end: &str) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let bytes = |path: &Path| match path.is_dir() {
        true => bytes(path, end),
        false if path.to_string_lossy().ends_with(end) => fs::metadata(path).map_or(0, |file| file.len()),
        false => 0,
    };
    entries.flatten().map(|entry| bytes(&entry.path())).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_results_spill_to_the_disk_and_survive_the_gateway_and_the_end() {
    let home = Home::new();
    let config = config("memory_bytes_max = \"16 KiB\"");
    let server = Server::start(&home, &config).await;
    let (memory, disk) = (home.shm().join("framepipe-journal.journal"), home.path("state/journal/streams"));
    let streams = ["a", "b", "c"];
    for stream in streams {
        push(&server.client(), stream).await;
    }
    wait_until("all frames to be done", LIMIT, || is_done(&server));
    let (in_memory, on_disk) = (bytes(&memory, ".log"), bytes(&disk, ".log"));
    assert!((1..=16 << 10).contains(&in_memory), "{in_memory} bytes lie in memory");
    assert!(on_disk > 8 << 10, "{on_disk} bytes lie on the disk");
    server.kill_one("gateway");
    assert_eq!(results(&server.client(), "a").await.len(), FRAMES);
    assert!(bytes(&memory, ".log") <= 16 << 10);
    server.stop();
    assert!(!memory.exists(), "an end that is no death leaves nothing in memory");
    let server = Server::start(&home, &config).await;
    for stream in ["b", "c"] {
        let sequences: BTreeSet<u64> = results(&server.client(), stream).await.iter().map(|one| one.sequence).collect();
        assert_eq!(sequences, (1..=FRAMES as u64).collect(), "stream {stream}: each once");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_that_are_too_old_are_dropped_and_their_reader_is_told() {
    let home = Home::new();
    let server = Server::start(&home, &config("retention_s = 3")).await;
    let client = server.client();
    push(&client, "a").await;
    wait_until("the results to be dropped", LIMIT, || server.output().contains("dropped unread for their age"));
    wait_until("all of them", LIMIT, || server.status().stage("gateway").all(|it| it.dropped == FRAMES as u64));
    server.kill_one("gateway"); // the next one knows of it
    push(&client, "a").await;
    let results = results(&client, "a").await;
    let Some(Outcome::Gap(gap)) = &results[0].outcome else { panic!("{:?}", results[0]) };
    assert_eq!((gap.first_sequence, gap.last_sequence, results[0].sequence), (1, FRAMES as u64, FRAMES as u64));
    let last = results.last().expect("there are some");
    assert_eq!(last.sequence, 2 * FRAMES as u64, "{last:?}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_refused_makes_no_stream_and_makes_none_give_way() {
    let home = Home::new();
    // Results that may have 64 MiB each: of 8000 of them no disk of a test machine has room.
    let limits =
        "result_bytes_max = \"64 MiB\"\nstream_bytes_max = \"1 TiB\"\nstreams_max = 1\n[server]\nframes_max = 32768";
    let server = Server::start(&home, &config(limits)).await;
    push_files(&home, &server, "kept", 1, 0).await.expect("one fits");
    results(&server.client(), "kept").await;
    for stream in ["", "other"] {
        for wait_ms in [0, 1500] {
            let refusal =
                push_files(&home, &server, stream, 8000, wait_ms).await.expect_err("no disk has so much room");
            assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
            assert!(refusal.message().contains("free some space"), "{refusal:?}");
        }
    }
    let streams = fs::read_dir(home.path("state/journal/streams")).expect("it is there");
    let names: Vec<_> = streams.map(|entry| entry.expect("it is readable").file_name()).collect();
    assert_eq!(names, ["kept"]);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_for_the_disk_keeps_nothing_from_others() {
    let home = Home::new();
    let limits = "result_bytes_max = \"64 MiB\"\nstream_bytes_max = \"1 TiB\"\n[server]\nframes_max = 32768\nbytes_max = \"1 MiB\"";
    let server = Server::start(&home, &config(limits)).await;
    // Within its half of the budget, but not of what the disk has room for.
    let small = home.store("small", &[0; 60]).display().to_string();
    let request = PushDataRequest { files: vec![small; 8000], stream: "a".into(), ..PushDataRequest::default() };
    let waiting = PushDataRequest { wait_ms: 60_000, ..request };
    let mut raw = server.raw_client();
    let waiting = tokio::spawn(async move { raw.push_data(waiting).await });
    // Beside it there would be no room for this one, of which one at a time is in flight.
    let large = home.store("large", &[0; 700_000]).display().to_string();
    let request = PushDataRequest { files: vec![large], stream: "b".into(), ..PushDataRequest::default() };
    for _ in 0..50 {
        server.raw_client().push_data(request.clone()).await.expect("there is room");
        wait_until("its result", LIMIT, || is_done(&server));
    }
    assert!(!waiting.is_finished(), "it waits");
    waiting.abort();
    server.stop();
}

async fn push_files(home: &Home, server: &Server, stream: &str, frames: usize, wait_ms: u64) -> Result<(), Status> {
    let file = home.store("one.png", &png(16, 16)).display().to_string();
    let request =
        PushDataRequest { files: vec![file; frames], stream: stream.into(), wait_ms, ..PushDataRequest::default() };
    server.raw_client().push_data(request).await.map(drop)
}
