//! Admission: budgets in frames and bytes, refusals with a hint, calls that wait, fair shares, keys that outlive the gateway
//! and the launcher, and frames that an operator discards.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use framepipe_client::{Client, ErrorCode, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_proto::v1::{PushDataRequest, PushDataResponse};
use framepipe_tests::{Home, Server, configurations::small_budget, images::png, wait_until};
use nix::sys::signal::Signal;
use tonic::{Code, Status};

const LIMIT: Duration = Duration::from_secs(60);

fn config() -> String {
    small_budget("admission")
}

fn frames(home: &Home, stream: &str, count: usize) -> PushDataRequest {
    let file = home.store("one.png", &png(16, 16)).display().to_string();
    PushDataRequest { files: vec![file; count], stream: stream.into(), ..PushDataRequest::default() }
}

async fn push(server: &Server, request: &PushDataRequest) -> Result<PushDataResponse, Status> {
    server.raw_client().push_data(request.clone()).await.map(tonic::Response::into_inner)
}

fn retry_ms(refusal: &Status) -> u64 {
    let hint = refusal.metadata().get("grpc-retry-pushback-ms").expect("a refusal has a hint");
    hint.to_str().expect("it is text").parse().expect("it is a number")
}

async fn results(client: &Client, stream: &str) -> Vec<FrameResult> {
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results = client.results(stream, options).map(|result| result.expect("it is readable")).collect();
    tokio::time::timeout(LIMIT, results).await.expect("all results in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_exceeds_the_budget_is_refused_with_a_hint_or_waits() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    server.signal_stage("ingest", Signal::SIGSTOP); // nothing moves
    push(&server, &frames(&home, "a", 16)).await.expect("16 frames are the budget");
    let refusal = push(&server, &frames(&home, "a", 1)).await.expect_err("the budget is used up");
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
    assert!(refusal.message().contains("1 frame ") && (5..=2000).contains(&retry_ms(&refusal)), "{refusal:?}");
    // A file that is not there would be NOT_FOUND: no file is touched before there is room.
    let absent = PushDataRequest { files: vec!["/nowhere".into()], ..frames(&home, "a", 0) };
    assert_eq!(push(&server, &absent).await.expect_err("refused").code(), Code::ResourceExhausted);

    let waited = PushDataRequest { wait_ms: 100, ..frames(&home, "a", 1) };
    assert_eq!(push(&server, &waited).await.expect_err("in vain").code(), Code::ResourceExhausted);
    let waiting = PushDataRequest { wait_ms: 30_000, ..frames(&home, "a", 3) };
    let mut raw = server.raw_client();
    let waiting = tokio::spawn(async move { raw.push_data(waiting).await });
    server.signal_stage("ingest", Signal::SIGCONT);
    let accepted = tokio::time::timeout(LIMIT, waiting).await.expect("in time").expect("it ran").expect("accepted");
    assert_eq!(accepted.get_ref().accepted, 3);
    assert_eq!(results(&server.client(), "a").await.len(), 19, "and what was refused has no result");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_a_budget_too() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    server.signal_stage("ingest", Signal::SIGSTOP);
    let file = home.store("large", &vec![0; 700_000]).display().to_string();
    let request = PushDataRequest { files: vec![file], stream: "a".into(), ..PushDataRequest::default() };
    push(&server, &request).await.expect("700,000 bytes fit");
    let refusal = push(&server, &request).await.expect_err("1,400,000 do not");
    let words = "1 frame (700000 bytes) do not fit: 1 frame (700000 bytes) are in flight";
    assert!(refusal.message().starts_with(words), "{refusal:?}");
    assert!(refusal.message().contains("of 16 frames (1048576 bytes)"), "{refusal:?}");
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    server.signal_stage("ingest", Signal::SIGCONT);
    assert_eq!(results(&server.client(), "a").await.len(), 1);
    push(&server, &request).await.expect("there is room again");
    assert_eq!(results(&server.client(), "a").await.len(), 1);
    let never = PushDataRequest { files: vec![request.files[0].clone(); 2], ..request };
    let refusal = push(&server, &never).await.expect_err("1,400,000 bytes never fit");
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal:?}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_for_another_streams_share_goes_on_once_that_stream_is_idle() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    push(&server, &frames(&home, "b", 1)).await.expect("it fits");
    assert_eq!(results(&server.client(), "b").await.len(), 1);
    // Nothing is in flight, and nothing happens any more: b has its share until it was idle for a second.
    let whole = PushDataRequest { wait_ms: 60_000, ..frames(&home, "a", 16) };
    let accepted = tokio::time::timeout(LIMIT / 2, push(&server, &whole)).await.expect("long before its own limit");
    assert_eq!(accepted.expect("accepted").accepted, 16);
    server.stop();
}

/// More calls than the budget has frames, always: whatever room there is, one of them waits for it already.
const FLOOD_CALLS: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_does_not_starve_a_trickle() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    let flood = PushDataRequest { wait_ms: 30_000, ..frames(&home, "flood", 1) };
    let floods = (0..FLOOD_CALLS).map(|_| {
        let (mut raw, request) = (server.raw_client(), flood.clone());
        tokio::spawn(async move {
            for accepted in 0.. {
                match raw.push_data(request.clone()).await {
                    Ok(_) => {}
                    Err(other) if other.code() == Code::Unavailable => return accepted,
                    Err(other) => panic!("{other:?}"),
                }
            }
            unreachable!("the flood ends with the server")
        })
    });
    let floods: Vec<_> = floods.collect();
    wait_until("the flood to fill the budget", LIMIT, || server.status().in_flight() > 12);
    // It does not wait: with the flood's calls in the line before it, it is its share alone that gives it room.
    let trickle = frames(&home, "trickle", 1);
    let (mut refused, end) = (0, Instant::now() + LIMIT);
    for number in 0..30 {
        while let Err(refusal) = push(&server, &trickle).await {
            assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
            assert!(Instant::now() < end, "push {number} of the trickle, after {refused} refusals: {refusal:?}");
            refused += 1;
            tokio::time::sleep(Duration::from_millis(retry_ms(&refusal))).await;
        }
        assert!(!results(&server.client(), "trickle").await.is_empty());
    }
    assert!(refused < 30, "{refused} refusals of 30 pushes");
    server.stop();
    for flood in floods {
        assert!(flood.await.expect("the flood ended with the server") > 0, "it was a flood");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_refused_for_their_own_faults_shrink_nobodys_share() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    server.signal_stage("ingest", Signal::SIGSTOP);
    push(&server, &frames(&home, "a", 8)).await.expect("half of the budget");
    for number in 0..5 {
        for (wait_ms, count) in [(0, 1), (0, 9), (10, 1)] {
            let stream = format!("phantom-{number}");
            let absent = vec![home.inbox().join("absent").display().to_string(); count];
            let absent = PushDataRequest { files: absent, stream, wait_ms, ..PushDataRequest::default() };
            assert_eq!(push(&server, &absent).await.expect_err("refused").code(), Code::NotFound);
        }
    }
    push(&server, &frames(&home, "a", 8)).await.expect("it is alone");
    server.signal_stage("ingest", Signal::SIGCONT);
    assert_eq!(results(&server.client(), "a").await.len(), 16);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_for_its_own_journal_goes_on_once_that_has_room() {
    let home = Home::new();
    // A stream's journal has room for the results of 7 frames.
    let config = format!("{}\n[journal]\nstream_bytes_max = \"1 MiB\"\nresult_bytes_max = \"128 KiB\"\n", config());
    let server = Server::start(&home, &config).await;
    server.signal_stage("ingest", Signal::SIGSTOP);
    push(&server, &frames(&home, "a", 7)).await.expect("they fit");
    let refusal = push(&server, &frames(&home, "a", 7)).await.expect_err("the journal is full");
    assert!(refusal.message().contains("stream a has no room"), "{refusal:?}");
    let waiting = PushDataRequest { wait_ms: 30_000, ..frames(&home, "a", 7) };
    let mut raw = server.raw_client();
    let waiting = tokio::spawn(async move { raw.push_data(waiting).await });
    server.signal_stage("ingest", Signal::SIGCONT);
    // Results are smaller than what was reserved for them: the journal has room again, without an acknowledgement.
    let accepted = tokio::time::timeout(LIMIT / 2, waiting).await.expect("in time").expect("it ran").expect("accepted");
    assert_eq!(accepted.get_ref().accepted, 7);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_remembered_across_the_gateways_and_the_launchers_death() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    let request = PushDataRequest { idempotency_key: "once".into(), ..frames(&home, "a", 3) };
    let first = push(&server, &request).await.expect("it is good");
    assert_eq!(push(&server, &request).await.expect("known"), first);
    server.kill_one("gateway");
    server.client().wait_ready(LIMIT).await.expect("it serves again");
    assert_eq!(push(&server, &request).await.expect("known"), first);
    server.kill();
    let server = Server::start(&home, &config()).await;
    assert_eq!(push(&server, &request).await.expect("known"), first);
    assert_eq!(server.status().accepted, 3);
    let other = PushDataRequest { idempotency_key: "another".into(), ..request };
    assert_ne!(push(&server, &other).await.expect("new"), first);
    assert_eq!(results(&server.client(), "a").await.len(), 6);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discarded_frames_get_an_error_each() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    server.signal_stage("ingest", Signal::SIGSTOP);
    let first = push(&server, &frames(&home, "a", 5)).await.expect("it is good");
    server.kill();
    let other = config().replace("frames_max = 16", "frames_max = 17");
    let mut refused = Server::launch(&home, &other);
    assert_eq!(refused.wait_end().code(), Some(1), "it cannot take the segment over");
    assert!(refused.output().contains("--discard"), "{}", refused.output());
    let mut server = Server::launch_with(&home, &other, &["--discard"]);
    server.wait_ready().await;
    let results = results(&server.client(), "a").await;
    let expected: BTreeSet<u64> = (first.first_frame..first.first_frame + 5).collect();
    assert_eq!(results.iter().map(|result| result.frame).collect::<BTreeSet<_>>(), expected);
    assert_eq!(results.len(), 5);
    for result in results {
        let Some(Outcome::Error(error)) = result.outcome else { panic!("{result:?}") };
        assert_eq!(error.code(), ErrorCode::Discarded);
    }
    let client = server.client();
    let batch = client.push(PushRequest::images(&[png(16, 16)]).stream("a")).await.expect("it goes on");
    assert_eq!(self::results(&client, "a").await[0].frame, batch.first_frame);
    server.stop();
}
