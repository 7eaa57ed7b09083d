//! Pushing: what reaches the server, and what becomes of the file in the inbox.

use std::{
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use framepipe_client::{Client, Error, Hold, PixelFormat, PushRequest, RawFrameFormat};
use framepipe_proto::v1::framepipe_server::FramepipeServer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, transport::Server};

/// Of which a client asks how it is.
const SERVICE: &[u8] = b"framepipe.v1.Framepipe";

mod support;
use support::{Bench, PATIENCE, images_of};

#[tokio::test]
async fn images_become_one_blob_in_order_that_any_user_may_read() {
    let bench = Bench::new();
    let large = vec![7; 5_000_000];
    let raw = RawFrameFormat { format: PixelFormat::Gray8.into(), width: 1, height: 3, stride: 0 };
    let request = PushRequest::images([large.as_slice(), b"second"]).stream("cam-1").raw(raw);
    let batch = bench.client.push(request.deadline(Duration::from_micros(1500))).await.unwrap();
    let push = bench.fake.state().pushes[0].clone();
    assert_eq!(images_of(&push), [large, b"second".to_vec()]);
    assert_eq!(push.names, ["image-0", "image-1"]);
    assert_eq!((push.raw, push.deadline_ms), (Some(raw), 2));
    assert_eq!((batch.stream.as_str(), batch.first_frame, batch.accepted), ("cam-1", 100, 2));
    let path = batch.blob.unwrap();
    assert_eq!(path.to_str().unwrap(), push.location);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(bench.files().len(), 1, "no draft is left");
}

#[tokio::test]
async fn planar_frames_bear_their_formats_number() {
    let bench = Bench::new();
    for (format, number) in [(PixelFormat::Nv12, 4), (PixelFormat::I420, 5)] {
        let raw = RawFrameFormat { format: format.into(), width: 5, height: 3, stride: 8 };
        bench.client.push(PushRequest::images([&[7; 40]]).raw(raw)).await.unwrap();
        let push = bench.fake.state().pushes.last().unwrap().clone();
        assert_eq!((images_of(&push), push.raw), (vec![vec![7; 40]], Some(RawFrameFormat { format: number, ..raw })));
    }
}

#[tokio::test]
async fn an_absent_inbox_is_named_with_the_remedy() {
    let bench = Bench::new();
    let client = bench.client.clone().with_inbox("/nowhere");
    let error = client.push(PushRequest::images([b"x"])).await.unwrap_err();
    assert!(matches!(error, Error::Inbox { .. }));
    assert!(error.to_string().contains("/nowhere") && error.to_string().contains("start framepipe"), "{error}");
}

#[tokio::test]
async fn a_refused_push_is_typed_and_deletes_its_blob() {
    let bench = Bench::new();
    let codes =
        [Code::InvalidArgument, Code::PermissionDenied, Code::NotFound, Code::ResourceExhausted, Code::DataLoss];
    for code in codes {
        bench.fake.change(|state| state.push_faults.push_back(code));
        let error = bench.client.push(PushRequest::images([b"x"])).await.unwrap_err();
        let is_right = match code {
            Code::InvalidArgument => matches!(error, Error::InvalidRequest(_)),
            Code::PermissionDenied => matches!(error, Error::PermissionDenied(_)),
            Code::NotFound => matches!(error, Error::NotFound(_)),
            Code::ResourceExhausted => {
                matches!(&error, Error::Overloaded { retry_after, .. } if *retry_after == Some(support::RETRY))
            }
            _ => matches!(error, Error::Server(_)),
        };
        assert!(is_right && error.to_string().contains("frame table is full"), "{code:?}: {error}");
        assert!(bench.files().is_empty());
    }
}

#[tokio::test]
async fn waiting_out_an_overload_pushes_once() {
    let bench = Bench::new();
    bench.fake.change(|state| state.push_faults.extend([Code::ResourceExhausted; 2]));
    let start = Instant::now();
    let batch = bench.client.push(PushRequest::images([b"x"]).wait(PATIENCE)).await.unwrap();
    assert!(start.elapsed() >= 2 * support::RETRY, "the pauses are the server's advice: {:?}", start.elapsed());
    assert_eq!((batch.first_frame, batch.stream.as_str()), (100, "made-by-server"));
    let state = bench.fake.state();
    assert_eq!((state.pushes.len(), state.answers.len()), (3, 1));
    assert!(
        state.pushes.iter().all(|push| (15_000..=20_000).contains(&push.wait_ms)),
        "the server waits, not the client"
    );
}

#[tokio::test]
async fn a_push_whose_answer_was_lost_is_repeated_under_the_same_key_and_enqueues_once() {
    let bench = Bench::new();
    bench.fake.change(|state| state.lose_push_answers = 2);
    assert_eq!(bench.push(2).await.first_frame, 100);
    let pushes = bench.fake.state().pushes.clone();
    assert!(pushes.len() == 3 && pushes[0] == pushes[1] && pushes[1] == pushes[2]);
    assert!(!pushes[0].idempotency_key.is_empty());
    assert_eq!(bench.push(1).await.first_frame, 102, "each push has a key of its own");
}

#[tokio::test]
async fn a_failed_push_with_a_key_of_the_callers_keeps_its_blob_for_the_retry() {
    let bench = Bench::new();
    let client = bench.client.clone().with_reconnect(Duration::ZERO);
    bench.fake.change(|state| state.lose_push_answers = 2);
    let error = client.push(PushRequest::images([b"x"])).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)));
    assert!(bench.files().is_empty(), "nobody can repeat a push whose key nobody knows");
    let request = PushRequest::images([b"x"]).idempotency_key("mine");
    client.push(request.clone()).await.unwrap_err();
    client.push(request).await.unwrap();
    let pushes = bench.fake.state().pushes.clone();
    assert_eq!(pushes[1], pushes[2], "the server may have the first call's location on its books");
    assert_eq!((images_of(&pushes[2]), bench.files().len()), (vec![b"x".to_vec()], 1));
}

#[tokio::test]
async fn files_and_locations_pass_through_uncopied() {
    let bench = Bench::new();
    bench.client.push(PushRequest::files(["/srv/a.jpg", "/srv/b.jpg"])).await.unwrap();
    let batch = bench.client.push(PushRequest::location("/srv/blob", [3, 4]).names(["a", "b"])).await.unwrap();
    let pushes = bench.fake.state().pushes.clone();
    assert_eq!(pushes[0].files, ["/srv/a.jpg", "/srv/b.jpg"]);
    assert_eq!((pushes[1].location.as_str(), pushes[1].sizes.as_slice()), ("/srv/blob", [3, 4].as_slice()));
    assert!(batch.blob.is_none() && bench.files().is_empty());
}

#[tokio::test]
async fn what_the_server_copies_the_client_need_not_keep() {
    let bench = Bench::new();
    let batch = bench.client.push(PushRequest::images([b"x"]).hold(Hold::Copy)).await.unwrap();
    assert!(batch.blob.is_none() && bench.files().is_empty(), "the server has it");
    bench.client.push(PushRequest::files(["/srv/a.jpg"]).hold(Hold::Copy)).await.unwrap();
    bench.client.push(PushRequest::files(["/srv/a.jpg"])).await.unwrap();
    let holds: Vec<Hold> = bench.fake.state().pushes.iter().map(|push| push.hold()).collect();
    assert_eq!(holds, [Hold::Copy, Hold::Copy, Hold::Unspecified]);
    let client = bench.client.clone().with_reconnect(Duration::ZERO);
    bench.fake.change(|state| state.lose_push_answers = 1);
    let request = PushRequest::images([b"y"]).hold(Hold::Copy).idempotency_key("mine");
    client.push(request.clone()).await.unwrap_err();
    assert_eq!(bench.files().len(), 1, "it may have to be pushed again");
    client.push(request).await.unwrap();
    assert!(bench.files().is_empty());
}

#[tokio::test]
async fn a_push_that_is_given_up_leaves_its_file_only_where_the_server_reads_it_later() {
    let bench = Bench::new();
    for (hold, left) in [(Hold::Copy, 0), (Hold::Reference, 1)] {
        bench.fake.change(|state| state.push_faults.push_back(Code::ResourceExhausted));
        let refused = bench.fake.state().pushes.len() + 1;
        let pushing = bench.client.push(PushRequest::images([b"x"]).hold(hold).wait(PATIENCE));
        let is_refused = bench.fake.wait_for(|state| (state.pushes.len() == refused).then_some(()));
        tokio::select! {
            answer = pushing => panic!("{answer:?} came before the refusal was heeded"),
            () = is_refused => {}
        }
        assert_eq!(bench.files().len(), left, "{hold:?}");
    }
}

#[tokio::test]
async fn an_upload_sends_the_images_in_pieces_and_makes_no_file() {
    let bench = Bench::new();
    let client = bench.client.clone().with_inbox("/nowhere");
    let large: Vec<u8> = (0..3_000_000u32).map(|at| (at >> 7) as u8).collect();
    let request = PushRequest::images([large.as_slice(), b"", b"third"]).stream("cam-1");
    let batch = client.upload(request.deadline(Duration::from_millis(5))).await.unwrap();
    assert_eq!((batch.first_frame, batch.accepted, batch.blob), (100, 3, None));
    let state = bench.fake.state();
    let (push, (images, largest)) = (&state.pushes[0], &state.uploads[0]);
    assert_eq!(*images, [large, Vec::new(), b"third".to_vec()]);
    assert_eq!((push.names.join(" "), push.deadline_ms), ("image-0 image-1 image-2".to_owned(), 5));
    assert!(push.location.is_empty() && *largest <= 1 << 20, "{largest}");
}

#[tokio::test]
async fn an_upload_is_refused_waits_and_is_repeated_as_a_push_is() {
    let bench = Bench::new();
    let large = vec![7; 3_000_000];
    let upload = || PushRequest::images([&large]);
    for (code, wait) in [(Code::InvalidArgument, Duration::ZERO), (Code::ResourceExhausted, PATIENCE)] {
        bench.fake.change(|state| state.push_faults.push_back(code));
        let answer = bench.client.upload(upload().wait(wait)).await;
        assert_eq!(answer.is_ok(), code == Code::ResourceExhausted, "{answer:?}");
    }
    bench.fake.change(|state| state.lose_push_answers = 1);
    bench.client.upload(upload()).await.unwrap();
    let files = bench.client.upload(PushRequest::files(["/srv/a.jpg"])).await;
    assert!(matches!(files, Err(Error::InvalidRequest(_))));
    let state = bench.fake.state();
    assert_eq!((state.uploads.len(), state.answers.len()), (3, 2), "the answer that was lost was asked for again");
}

#[tokio::test]
async fn ready_means_that_the_server_says_so() {
    let mut bench = Bench::new();
    bench.client.wait_ready(PATIENCE).await.unwrap();
    bench.stop();
    let error = bench.client.wait_ready(Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)) && error.to_string().contains("not ready"), "{error}");
    for nobody in ["unix:/nowhere/s", "127.0.0.1:1"] {
        assert!(matches!(Client::connect(nobody).await, Err(Error::Unreachable(_))));
    }
    assert!(matches!(Client::connect("http://[").await, Err(Error::InvalidRequest(_))));
}

/// Who answers whoever connects with these bytes, or, without any, with nothing at all.
fn answering(bytes: &'static [u8]) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it listens").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(bytes); // who has gone has read enough
            let _ = stream.read_to_end(&mut Vec::new()); // until it goes
        }
    });
    address
}

#[tokio::test]
async fn who_is_no_framepipe_is_told_at_once_and_has_been_sent_nothing() {
    for bytes in [b"HTTP/1.0 505 Invalid HTTP version (2.0)\r\n\r\n".as_slice(), b"SSH-2.0-x\r\n"] {
        let address = answering(bytes);
        let error = Client::connect(&address).await.unwrap_err();
        let told = format!("no framepipe answers: {address}: what listens there is no framepipe");
        assert!(matches!(error, Error::Unreachable(_)) && error.is_refusal(), "{error:?}");
        assert_eq!(error.to_string(), told);
        let lazy = Client::connect_lazy(&address).unwrap();
        assert_eq!(lazy.wait_ready(Duration::from_secs(3600)).await.unwrap_err().to_string(), told);
    }
}

#[tokio::test]
async fn a_grpc_server_without_framepipe_is_told_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (_, health) = tonic_health::server::health_reporter();
    tokio::spawn(Server::builder().add_service(health).serve_with_incoming(TcpListenerStream::new(listener)));
    let error = Client::connect(&address).await.unwrap_err();
    assert!(error.to_string().ends_with("what listens there is no framepipe"), "{error}");
}

#[tokio::test]
async fn a_server_that_goes_away_is_another_for_nobody_and_its_successor_answers() {
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    let go_away_without_error = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    for is_asked_first in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            let (mut first, _) = listener.accept().await.unwrap();
            first.write_all(settings).await.unwrap();
            let mut heard = Vec::new();
            while is_asked_first && !heard.windows(SERVICE.len()).any(|bytes| bytes == SERVICE) {
                assert!(first.read_buf(&mut heard).await.unwrap() > 0, "it asks");
            }
            first.write_all(go_away_without_error).await.unwrap();
            drop(first.read_to_end(&mut heard).await); // until it goes, however
            let (health, service) = tonic_health::server::health_reporter();
            health.set_serving::<FramepipeServer<support::Fake>>().await;
            let _ = Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        Client::connect(&address).await.unwrap();
        serving.abort();
    }
}

#[tokio::test]
async fn who_says_nothing_is_told_after_the_limit() {
    let silent = answering(b"");
    let limit = Duration::from_millis(100);
    let start = Instant::now();
    for error in [
        Client::connect_lazy(&silent).unwrap().wait_ready(limit).await.unwrap_err(),
        Client::connect_within(&silent, limit).await.unwrap_err(),
    ] {
        assert!(error.to_string().ends_with("who listens there does not answer"), "{error}");
    }
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_sent_unless_by_an_earlier_push_with_the_callers_key() {
    let mut bench = Bench::new();
    let client = bench.client.clone().with_reconnect(Duration::ZERO);
    bench.fake.change(|state| state.lose_push_answers = 1);
    let with_key = PushRequest::images([b"x"]).idempotency_key("mine");
    let lost = client.push(with_key.clone()).await.unwrap_err();
    assert!(matches!(lost, Error::Unavailable(_)) && !lost.is_refusal(), "{lost:?}");
    bench.stop();
    std::fs::remove_file(bench.inbox().with_file_name("s")).unwrap();
    // The first call finds that the connection has broken; those behind it, that there is none to be had.
    let _ = client.push(PushRequest::images([b"x"])).await;
    let kept = bench.files();
    let of_another_key = PushRequest::images([b"y"]).idempotency_key("another");
    for (request, may_be_accepted) in [(PushRequest::images([b"x"]), false), (with_key, true), (of_another_key, true)] {
        for error in [client.push(request.clone()).await.unwrap_err(), client.upload(request).await.unwrap_err()] {
            assert_eq!(matches!(error, Error::Unavailable(_)), may_be_accepted, "{error:?}");
            assert_eq!(error.is_refusal(), !may_be_accepted, "{error:?}");
            assert!(error.to_string().ends_with("/s: there is no such socket"), "{error}");
        }
        assert_eq!(bench.files(), kept, "the one that was sent");
    }
    assert_eq!(kept.len(), 1);
}

#[tokio::test]
async fn a_push_that_was_sent_before_it_waited_for_room_may_have_been_accepted() {
    for is_upload in [false, true] {
        let mut bench = Bench::new();
        let client = bench.client.clone().with_reconnect(Duration::ZERO);
        bench.fake.change(|state| state.push_faults.push_back(Code::ResourceExhausted));
        let pushing = tokio::spawn(async move {
            let request = PushRequest::images([b"x"]).wait(PATIENCE);
            if is_upload { client.upload(request).await } else { client.push(request).await }
        });
        bench.fake.wait_for(|state| (state.pushes.len() == 1).then_some(())).await;
        std::fs::remove_file(bench.inbox().with_file_name("s")).unwrap();
        bench.stop();
        let error = pushing.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)) && !error.is_refusal(), "{error:?}");
        assert!(bench.files().is_empty());
    }
}
