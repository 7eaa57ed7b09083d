//! Traces: what a collector gets of frames, and that nobody waits for one that is away or hangs.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use framepipe_client::{Client, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_tests::{
    Collector, Home, Server, Trace,
    images::png,
    scrape::{Scrape, free_address},
    wait_until,
};
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    trace::v1::{Span, status::StatusCode},
};

const CONFIG: &str = "name = \"traces\"\n[pipeline]\ndetector = \"tiny-face-416\"\n";
const STREAM: &str = "camera";
const LIMIT: Duration = Duration::from_secs(120);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// Pushes so many frames, named after `title`, in the trace of this header.
async fn push(client: &Client, title: &str, frames: usize, traceparent: &str) {
    let images = vec![png(16, 16); frames];
    let names = (0..frames).map(|number| format!("{title} {number}"));
    let request = PushRequest::images(&images).names(names).stream(STREAM).traceparent(traceparent);
    client.push(request).await.expect("the push is good");
}

/// All results, by their names.
async fn results(client: &Client) -> BTreeMap<String, FrameResult> {
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results = client.results(STREAM, options).map(|result| result.expect("it is readable")).collect::<Vec<_>>();
    let results = tokio::time::timeout(LIMIT, results).await.expect("all results in time");
    let count = results.len();
    let results: BTreeMap<_, _> = results.into_iter().map(|result| (result.name.clone(), result)).collect();
    assert_eq!(results.len(), count, "each once");
    results
}

/// A frame's spans are those of its result: nested, in order, without gaps, and as long as it says.
fn check_spans(trace: &Trace, result: &FrameResult) {
    assert_eq!(trace.attribute("framepipe.frame"), Some(Value::IntValue(result.frame as i64)));
    let mut before = trace.root.start_time_unix_nano;
    for child in &trace.children {
        assert_eq!(child.trace_id, trace.root.trace_id);
        assert!(child.start_time_unix_nano == before && child.end_time_unix_nano >= before, "{trace:#?}");
        before = child.end_time_unix_nano;
    }
    assert_eq!(trace.root.end_time_unix_nano, before, "{trace:#?}");
    let names: Vec<_> = trace.children.iter().map(|span| span.name.clone()).collect();
    let wanted: Vec<_> =
        result.times.iter().flat_map(|time| [format!("{} queued", time.stage), time.stage.clone()]).collect();
    assert_eq!(names, wanted);
    let us = |span: &Span| (span.end_time_unix_nano - span.start_time_unix_nano) / 1000;
    let said: Vec<u64> = result.times.iter().flat_map(|time| [time.queued_us, time.busy_us]).collect();
    // What is rounded is the time since acceptance at each step: a part of it may be rounded up.
    assert!(trace.children.iter().zip(&said).all(|(span, said)| us(span).abs_diff(*said) <= 1), "{said:?}: {trace:#?}");
    assert_eq!(us(&trace.root), said.iter().sum::<u64>(), "{trace:#?}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_frames_that_shall_be_are_traced_and_no_other() {
    let (home, collector) = (Home::new(), Collector::start().await);
    let server = Server::start(&home, &format!("{CONFIG}{}", collector.config(0.0))).await;
    let client = server.client();
    push(&client, "asked for", 40, &format!("00-{TRACE}-{SPAN}-01")).await;
    push(&client, "not asked for", 40, &format!("00-{TRACE}-{SPAN}-00")).await;
    push(&client, "malformed", 40, &format!("00-{TRACE}-{SPAN}-1")).await;
    push(&client, "silent", 40, "").await;
    push(&client, "fault:detect:scribble.", 1, &format!("00-{TRACE}-{SPAN}-01")).await;
    let images = [png(16, 16)];
    let uploaded = PushRequest::images(&images).names(["uploaded"]).stream(STREAM);
    client.upload(uploaded.traceparent(format!("00-{TRACE}-{SPAN}-01"))).await.expect("the upload is good");
    let results = results(&client).await;
    assert_eq!(results.len(), 162);
    server.stop(); // it sends what it has

    let traces = collector.traces();
    let mut told: Vec<_> = traces.iter().map(Trace::name).collect();
    told.sort_unstable();
    let mut wanted: Vec<_> = (0..40).map(|number| format!("asked for {number}")).collect();
    wanted.extend(["fault:detect:scribble. 0".into(), "uploaded".into()]);
    wanted.sort_unstable();
    assert_eq!(told, wanted);
    for trace in &traces {
        let result = &results[&trace.name()];
        assert_eq!((hex(&trace.root.trace_id), hex(&trace.root.parent_span_id)), (TRACE.into(), SPAN.into()));
        let status = trace.root.status.clone().expect("it has one");
        if trace.name().starts_with("fault") {
            assert_eq!(status.code, i32::from(StatusCode::Error), "{trace:#?}");
            assert_eq!(trace.attribute("error.type"), Some(Value::StringValue("ERROR_CODE_INTERNAL".into())));
        } else {
            check_spans(trace, result);
            assert_eq!(status.code, i32::from(StatusCode::Unset));
            let Some(Outcome::Detections(found)) = &result.outcome else { panic!("{result:?}") };
            let count = found.detections.len() as i64;
            assert_eq!(trace.attribute("framepipe.detections"), Some(Value::IntValue(count)));
            let models = format!("{:?}", trace.attribute("framepipe.models"));
            assert!(models.contains("tiny-face-416@1"), "{models}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_the_frames_is_traced_and_all_that_lived_through_deaths() {
    let (home, collector) = (Home::new(), Collector::start().await);
    let server = Server::start(&home, &format!("{CONFIG}{}", collector.config(1.0))).await;
    let client = server.client();
    server.signal_stage("detect", Signal::SIGSTOP);
    push(&client, "survivor", 60, "").await;
    server.kill_one("gateway");
    server.kill_one("ingest");
    server.signal_stage("detect", Signal::SIGCONT);
    let results = results(&client).await;
    server.stop();
    let traces = collector.traces();
    assert_eq!((results.len(), traces.len()), (60, 60));
    traces.iter().for_each(|trace| check_spans(trace, &results[&trace.name()]));
    let mut ids: Vec<_> = traces.iter().map(|trace| trace.root.trace_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 60, "each is a trace of its own");

    let collector = Collector::start().await;
    let server = Server::start(&home, &format!("{CONFIG}{}", collector.config(0.25))).await;
    push(&server.client(), "one of many", 400, "").await;
    assert_eq!(self::results(&server.client()).await.len(), 400);
    server.stop();
    let traces = collector.traces();
    assert!((50..160).contains(&traces.len()), "{} of 400", traces.len()); // 100 are expected, give or take 9
    let low = |trace: &Trace| u64::from_be_bytes(*trace.root.trace_id.last_chunk().expect("16 bytes"));
    assert!(traces.iter().all(|trace| low(trace) >> 1 < 1 << 61), "those that OpenTelemetry's sampler takes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_costs_nothing_and_gets_the_spans_when_it_is_back() {
    let home = Home::new();
    let address: SocketAddr = {
        let reserved = TcpListener::bind("127.0.0.1:0").expect("a port");
        reserved.local_addr().expect("an address")
    };
    let config = format!("{CONFIG}[traces]\nendpoint = \"http://{address}\"\nsample = 1.0\n");
    let server = Server::start(&home, &config).await;
    push(&server.client(), "early", 100, "").await;
    let results = results(&server.client()).await;
    assert_eq!(results.len(), 100);
    wait_until("the failure to be said", LIMIT, || server.output().contains("traces cannot be sent to http://"));
    let collector = Collector::start_at(address).await;
    wait_until("the spans to come", LIMIT, || collector.traces().len() == 100);
    collector.traces().iter().for_each(|trace| check_spans(trace, &results[&trace.name()]));
    let said = server.stop();
    assert!(said.contains("traces are sent again; the spans of 0 frames have been dropped"), "{said}");
    assert_eq!(said.matches("traces cannot be sent").count(), 1, "once: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_delays_no_result_and_the_end_for_a_bounded_time() {
    let (home, collector) = (Home::new(), Collector::hanging().await);
    let server = Server::start(&home, &format!("{CONFIG}{}", collector.config(1.0))).await;
    for round in 0..5 {
        push(&server.client(), &format!("round {round}"), 100, "").await;
    }
    assert_eq!(results(&server.client()).await.len(), 500);
    let start = Instant::now();
    let said = server.stop();
    assert!(start.elapsed() < Duration::from_secs(9), "the end came after {:?}", start.elapsed());
    assert!(said.contains("the spans of 500 frames were dropped"), "{said}");
    assert!(collector.traces().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_collector_refuses_is_counted_in_spans_of_a_batch_that_it_takes_else_in_frames() {
    const FRAMES: usize = 30;
    // More spans than a batch can have are refused: all of it is, and no more is counted.
    for (collector, rejected) in [
        (Collector::rejecting(3).await, Some(3)),
        (Collector::rejecting(i64::MAX).await, None),
        (Collector::refusing().await, Some(0)),
    ] {
        let (home, address) = (Home::new(), free_address());
        let config = format!("{CONFIG}[server]\nhttp = \"{address}\"\n{}", collector.config(1.0));
        let server = Server::start(&home, &config).await;
        push(&server.client(), "frame", FRAMES, "").await;
        assert_eq!(results(&server.client()).await.len(), FRAMES);
        let told = || {
            let scrape = Scrape::of(address);
            ["dropped_frames", "rejected_spans"]
                .map(|name| scrape.value(&format!("framepipe_trace_{name}_total")) as usize)
        };
        if rejected == Some(0) {
            wait_until("all frames to be dropped", LIMIT, || told() == [FRAMES, 0]);
            assert!(server.stop().contains(&format!("the spans of {FRAMES} frames were dropped")));
            assert!(collector.traces().is_empty());
            continue;
        }
        wait_until("all frames to be sent", LIMIT, || collector.traces().len() == FRAMES);
        // They may have come in several batches, and the last one's answer may be on its way.
        let spans: usize = collector.traces().iter().map(|trace| 1 + trace.children.len()).sum();
        let expected = rejected.map_or(spans, |each| each * collector.batches());
        wait_until(&format!("{expected} of {spans} spans to be refused"), LIMIT, || told() == [0, expected]);
        let said = server.stop();
        let told = said.matches(" spans of a batch, and takes the others: spans are too old").count();
        assert_eq!(told, 1, "not of each batch: {said}");
        assert!(!said.contains("frames were dropped") && !said.contains("traces cannot be sent"), "{said}");
    }
}
