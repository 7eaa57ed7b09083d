//! Results: nothing lost, nothing twice, acknowledged when done with; and the blobs' end.

use std::{future::Future, time::Duration};

use framepipe_client::{Error, FrameResult, Gap, Outcome, Results, ResultsOptions, StreamExt};
use tokio::time::timeout;
use tonic::Code;

mod support;
use support::{Bench, PATIENCE};

fn live() -> ResultsOptions {
    ResultsOptions { ack_every: 1, ..Default::default() }
}

fn until_drained() -> ResultsOptions {
    ResultsOptions { until_drained: true, ..Default::default() }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it comes before the deadline")
}

async fn next(results: &mut Results) -> FrameResult {
    soon(results.next()).await.expect("the stream goes on").expect("the stream is sound")
}

async fn rest(results: Results) -> Vec<u64> {
    soon(results.map(|result| result.expect("the stream is sound").sequence).collect()).await
}

#[tokio::test]
async fn a_stream_broken_in_every_way_loses_and_repeats_nothing() {
    let bench = Bench::new();
    bench.push(100).await;
    bench.fake.change(|state| {
        state.repeat = 3;
        let codes = [Code::Unavailable, Code::Unavailable, Code::Cancelled, Code::Unavailable];
        state.pull_faults.extend([0, 10, 25, 4].into_iter().zip(codes.map(Some)));
        state.pull_faults.extend([(3, Some(Code::Unavailable)), (30, Some(Code::Unavailable))]); // 3: repeats only
    });
    assert_eq!(rest(bench.client.results("cam-1", until_drained())).await, (1..=100).collect::<Vec<_>>());
    assert!(bench.fake.state().pull_faults.is_empty());
    assert_eq!(bench.fake.state().acknowledged, 100);
}

#[tokio::test]
async fn a_stream_that_ends_early_is_resumed() {
    let bench = Bench::new();
    bench.push(10).await;
    bench.fake.change(|state| state.pull_faults.extend([(3, None), (0, None), (2, None)]));
    let results = bench.client.results("cam-1", live());
    assert_eq!(rest_of(results, 10).await, (1..=10).collect::<Vec<_>>());
    let begins: Vec<u64> = bench.fake.state().pulls.iter().map(|pull| pull.after_sequence).collect();
    assert_eq!(begins, [0, 3, 3, 5]);
}

#[tokio::test]
async fn a_gap_is_handed_on_and_resumed_behind() {
    let bench = Bench::new();
    bench.push(5).await;
    bench.fake.change(|state| {
        // The first three were dropped for their age; the connection breaks right behind the report of it.
        let gap = Outcome::Gap(Gap { first_sequence: 1, last_sequence: 3 });
        state.journal[2] = FrameResult { sequence: 3, outcome: Some(gap), ..Default::default() };
        state.acknowledged = 2; // the fake's way to begin with the third entry
        state.pull_faults.push_back((1, Some(Code::Unavailable)));
    });
    let mut results = bench.client.results("cam-1", until_drained());
    let gap = next(&mut results).await;
    assert!(matches!(gap.outcome, Some(Outcome::Gap(_))), "{gap:?}");
    assert_eq!(rest(results).await, [4, 5]);
    let begins: Vec<u64> = bench.fake.state().pulls.iter().map(|pull| pull.after_sequence).collect();
    assert_eq!((begins, bench.fake.state().acknowledged), (vec![0, 3], 5));
}

async fn rest_of(mut results: Results, count: usize) -> Vec<u64> {
    let mut sequences = Vec::new();
    for _ in 0..count {
        sequences.push(next(&mut results).await.sequence);
    }
    sequences
}

#[tokio::test]
async fn who_acknowledges_nothing_leaves_everything_to_the_next_reader() {
    let bench = Bench::new();
    bench.push(5).await;
    bench.fake.change(|state| state.pull_faults.push_back((2, Some(Code::Unavailable))));
    let looking = ResultsOptions { acknowledge: false, ..until_drained() };
    assert_eq!(rest(bench.client.results("cam-1", looking.clone())).await, [1, 2, 3, 4, 5], "over a broken connection");
    let behind = ResultsOptions { after: 3, ..looking };
    assert_eq!(rest(bench.client.results("cam-1", behind)).await, [4, 5]);
    let state = bench.fake.state();
    let begins: Vec<u64> = state.pulls.iter().map(|pull| pull.after_sequence).collect();
    assert_eq!((begins, state.acknowledged, state.acks.len()), (vec![0, 0, 0], 0, 0));
}

#[tokio::test]
async fn reading_goes_on_over_a_server_that_died_and_came_back() {
    let mut bench = Bench::new();
    bench.fake.change(|state| state.complete_at_once = false);
    bench.push(4).await;
    bench.fake.change(|state| state.complete(&[100, 101]));
    let mut results = bench.client.results("cam-1", until_drained());
    assert_eq!([next(&mut results).await.frame, next(&mut results).await.frame], [100, 101]);
    bench.stop();
    bench.start();
    bench.fake.change(|state| state.complete(&[102, 103]));
    assert_eq!(rest(results).await, [3, 4]);
}

#[tokio::test]
async fn an_outage_longer_than_the_reconnect_time_is_unavailable() {
    let mut bench = Bench::new();
    bench.push(1).await;
    let client = bench.client.clone().with_reconnect(Duration::from_millis(100));
    let mut results = client.results("cam-1", live());
    next(&mut results).await;
    bench.stop();
    let error = soon(results.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)) && error.to_string().contains("cam-1 broke off"), "{error}");
    assert!(soon(results.next()).await.is_none());
}

#[tokio::test]
async fn another_reader_ends_this_one() {
    let bench = Bench::new();
    bench.push(2).await;
    let mut first = bench.client.results("cam-1", live());
    next(&mut first).await;
    next(&mut first).await;
    let mut second = bench.client.results("cam-1", live());
    next(&mut second).await;
    let error = soon(first.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ReaderReplaced(_)), "{error}");
    assert!(soon(first.next()).await.is_none());
}

#[tokio::test]
async fn an_error_of_the_server_is_not_retried() {
    let bench = Bench::new();
    bench.fake.change(|state| state.pull_faults.push_back((0, Some(Code::NotFound))));
    let error = soon(bench.client.results("cam-1", live()).next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::NotFound(_)));
    assert_eq!(bench.fake.state().pulls.len(), 1);
}

#[tokio::test]
async fn a_result_is_acknowledged_only_once_the_consumer_asks_for_the_next() {
    let bench = Bench::new();
    bench.push(5).await;
    let mut results = bench.client.results("cam-1", live());
    next(&mut results).await;
    assert_eq!(bench.fake.state().acknowledged, 0);
    next(&mut results).await;
    bench.fake.wait_for(|state| (state.acknowledged == 1).then_some(())).await;
    assert_eq!(next(&mut results).await.sequence, 3);
    soon(results.close()).await;
    assert_eq!(bench.fake.state().acks.last(), Some(&2), "the third was still in hand");
    let mut again = bench.client.results("cam-1", live());
    assert_eq!(next(&mut again).await.sequence, 3, "so it comes again");
    assert_eq!(bench.client.ack("cam-1", 4).await.unwrap(), 1);
}

#[tokio::test]
async fn acknowledgements_go_out_while_the_consumer_waits_and_when_it_is_dropped() {
    let bench = Bench::new();
    bench.push(3).await;
    let options = ResultsOptions { ack_every: 1000, ..Default::default() };
    let mut results = bench.client.results("cam-1", options.clone());
    for _ in 0..3 {
        next(&mut results).await;
    }
    let waiting = tokio::spawn(async move { results.next().await.is_some() });
    bench.fake.wait_for(|state| (state.acknowledged == 3).then_some(())).await;
    waiting.abort();
    bench.push(2).await;
    let mut results = bench.client.results("cam-1", options);
    next(&mut results).await;
    next(&mut results).await;
    drop(results);
    bench.fake.wait_for(|state| (state.acknowledged == 4).then_some(())).await;
}

#[tokio::test]
async fn a_blob_is_deleted_with_its_last_result_and_not_before() {
    let bench = Bench::new();
    bench.fake.change(|state| state.complete_at_once = false);
    let first = bench.push(2).await.blob.unwrap();
    let second = bench.push(1).await.blob.unwrap();
    let mut results = bench.client.results("cam-1", live());
    for (frame, is_there) in [(101, (true, true)), (102, (true, false)), (100, (false, false))] {
        bench.fake.change(|state| state.complete(&[frame]));
        next(&mut results).await;
        assert_eq!((first.exists(), second.exists()), is_there, "after frame {frame}");
    }
    assert!(bench.files().is_empty());
}

#[tokio::test]
async fn results_that_overtake_the_answer_of_their_push_count() {
    let bench = Bench::new();
    let mut results = bench.client.results("cam-1", live());
    bench.fake.change(|state| state.lose_push_answers = usize::MAX);
    let client = bench.client.clone();
    let push = async {
        let request = framepipe_client::PushRequest::images([b"x"]).stream("cam-1");
        client.push(request).await.unwrap()
    };
    let read = async {
        next(&mut results).await;
        assert_eq!(bench.files().len(), 1);
        bench.fake.change(|state| state.lose_push_answers = 0);
    };
    soon(async { tokio::join!(push, read) }).await;
    assert!(bench.files().is_empty());
}

#[tokio::test]
async fn blobs_of_unread_frames_outlive_the_client() {
    let bench = Bench::new();
    let (client, blob) = (bench.client.clone(), bench.push(2).await.blob.unwrap());
    let mut results = client.results("cam-1", live());
    next(&mut results).await;
    drop((results, client));
    assert!(blob.exists());
}

#[tokio::test]
async fn a_drained_stream_ends_the_blobs_whose_results_went_elsewhere() {
    let bench = Bench::new();
    bench.push(1).await;
    bench.client.release(&bench.push(1).await);
    assert_eq!(bench.files().len(), 1);
    bench.client.ack("cam-1", 2).await.unwrap();
    assert!(rest(bench.client.results("cam-1", until_drained())).await.is_empty());
    assert!(bench.files().is_empty());
}

#[tokio::test]
async fn reading_begins_behind_what_the_caller_has_kept() {
    let bench = Bench::new();
    bench.push(5).await;
    let options = ResultsOptions { after: 3, ..until_drained() };
    assert_eq!(rest(bench.client.results("cam-1", options)).await, [4, 5]);
}
