//! The store behind PushData: images that were copied, or uploaded, outlive their files; where memory has no room they lie on
//! disk, and where neither has, the call is refused; whatever ends a call, nothing of it is left.

use std::{fs, time::Duration};

use framepipe_client::{
    Client, FrameResult, Hold, Outcome, PixelFormat, RawFrameFormat, ResultsOptions, StreamExt as _,
};
use framepipe_proto::v1::{
    AckResultsRequest, PushDataRequest, PushDataResponse, UploadRequest, framepipe_client::FramepipeClient,
    upload_request::Part,
};
use framepipe_tests::{
    Home, Server,
    images::{photo, png},
    kept::Store,
    wait_until,
};
use nix::sys::signal::Signal;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status, transport::Channel};

const LIMIT: Duration = Duration::from_secs(60);
const CONFIG: &str = "name = \"store\"\n[pipeline]\ndetector = \"tiny-face-416\"\n[server]\nframes_max = 64\n";
/// Room for three small images in memory.
const SMALL: &str = "[cache]\nmemory_bytes_max = \"1 MiB\"\n";

/// A pipeline, and what it keeps.
struct Bench {
    home: Home,
    server: Server,
    store: Store,
}

impl Bench {
    async fn start(config: &str) -> Self {
        let home = Home::new();
        let server = Server::start(&home, &format!("{CONFIG}{config}")).await;
        let store = Store::of(&home, "store");
        Self { home, server, store }
    }

    /// Bytes of blocks that are not free.
    fn memory_bytes(&self) -> u64 {
        self.store.area.memory_bytes()
    }

    fn files(&self) -> usize {
        self.store.spilled()
    }

    fn wait_empty(&self, why: &str) {
        let is_empty = || self.memory_bytes() == 0 && self.store.memory_bytes() == 0 && self.files() == 0;
        wait_until(why, LIMIT, is_empty);
    }

    /// A batch of small images, the first of which is `16 + first` pixels wide, so that each result is known as its own.
    fn files_of(&self, stream: &str, first: u32, count: u32) -> PushDataRequest {
        let store = |number| {
            let file = self.home.store(&format!("{stream}-{number}.png"), &png(16 + number, 16));
            file.display().to_string()
        };
        PushDataRequest {
            files: (first..first + count).map(store).collect(),
            stream: stream.into(),
            hold: Hold::Copy.into(),
            ..PushDataRequest::default()
        }
    }

    async fn push(&self, request: &PushDataRequest) -> Result<PushDataResponse, Status> {
        self.server.raw_client().push_data(request.clone()).await.map(Response::into_inner)
    }

    async fn results(&self, stream: &str) -> Vec<FrameResult> {
        results(&self.server.client(), stream).await
    }

    /// The widths of the images of a stream that come back, in order.
    async fn widths(&self, stream: &str) -> Vec<u32> {
        let mut widths: Vec<u32> = self.results(stream).await.iter().map(width).collect();
        widths.sort_unstable();
        widths
    }

    fn upload(&self) -> Upload {
        Upload::begin(self.server.raw_client())
    }
}

async fn results(client: &Client, stream: &str) -> Vec<FrameResult> {
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results = client.results(stream, options).map(|result| result.expect("it is readable")).collect();
    timeout(LIMIT, results).await.expect("all results in time")
}

fn width(result: &FrameResult) -> u32 {
    let Some(Outcome::Detections(found)) = &result.outcome else { panic!("{}: {:?}", result.name, result.outcome) };
    found.image_width
}

fn retry_ms(refusal: &Status) -> u64 {
    let hint = refusal.metadata().get("grpc-retry-pushback-ms").expect("a refusal has a hint");
    hint.to_str().expect("it is text").parse().expect("it is a number")
}

/// An upload, message by message.
struct Upload {
    messages: mpsc::Sender<UploadRequest>,
    call: JoinHandle<Result<Response<PushDataResponse>, Status>>,
}

impl Upload {
    fn begin(mut grpc: FramepipeClient<Channel>) -> Self {
        let (messages, received) = mpsc::channel(1);
        let call = tokio::spawn(async move { grpc.upload(ReceiverStream::new(received)).await });
        Self { messages, call }
    }

    async fn send(&self, part: Part) {
        let message = UploadRequest { part: Some(part) };
        // An error: the call has ended, and its status tells more.
        let _ = timeout(LIMIT, self.messages.send(message)).await.expect("it is taken, or the call ends");
    }

    async fn push(&self, stream: &str, sizes: &[u64]) {
        let push = PushDataRequest { stream: stream.into(), sizes: sizes.into(), ..PushDataRequest::default() };
        self.send(Part::Push(push)).await;
    }

    async fn data(&self, data: &[u8]) {
        self.send(Part::Data(data.into())).await;
    }

    /// Sends no more.
    async fn end(self) -> Result<PushDataResponse, Status> {
        drop(self.messages);
        timeout(LIMIT, self.call).await.expect("it ends").expect("it ran").map(Response::into_inner)
    }

    /// Sends nothing, and yet the call ends.
    async fn ended(self) -> Result<PushDataResponse, Status> {
        let answer = timeout(LIMIT, self.call).await.expect("it ends").expect("it ran").map(Response::into_inner);
        drop(self.messages);
        answer
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_image_outlives_its_file() {
    let bench = Bench::start("").await;
    bench.server.signal_stage("ingest", Signal::SIGSTOP); // nothing is read before the files are gone
    let gone = bench.files_of("gone", 0, 8);
    let changed = bench.files_of("changed", 8, 8);
    bench.push(&gone).await.expect("accepted");
    let keyed = PushDataRequest { idempotency_key: "one".into(), ..changed };
    let first = bench.push(&keyed).await.expect("accepted");
    // Two images in one file, and raw frames in another.
    let images = [png(100, 16), png(101, 16)];
    let sizes = images.iter().map(|image| image.len() as u64).collect();
    let blob = bench.home.store("blob", &images.concat()).display().to_string();
    let hold = Hold::Copy.into();
    let raw = RawFrameFormat { format: PixelFormat::Gray8.into(), width: 40, height: 30, stride: 0 };
    let grays = bench.home.store("grays", &[9; 2 * 1200]).display().to_string();
    let blob = PushDataRequest { location: blob, sizes, stream: "blob".into(), hold, ..Default::default() };
    let grays =
        PushDataRequest { location: grays, sizes: vec![1200; 2], stream: "raw".into(), raw: Some(raw), ..blob.clone() };
    for request in [&blob, &grays] {
        bench.push(request).await.expect("accepted");
    }
    assert!(bench.memory_bytes() > 0 && bench.files() == 0);

    for path in gone.files.iter().chain([&blob.location, &grays.location]) {
        fs::remove_file(path).expect("it was there");
    }
    for path in &keyed.files {
        fs::write(path, png(300, 16)).expect("rewritten");
    }
    assert_eq!(bench.push(&keyed).await.expect("the first answer"), first);
    fs::remove_file(&keyed.files[0]).expect("it was there");
    assert_eq!(bench.push(&keyed).await.expect("the first answer"), first, "no file is looked at");
    let absent = bench.push(&gone).await.expect_err("the files are gone");
    assert_eq!(absent.code(), Code::NotFound, "{absent:?}");

    bench.server.signal_stage("ingest", Signal::SIGCONT);
    assert_eq!(bench.widths("gone").await, (16..24).collect::<Vec<_>>());
    assert_eq!(bench.widths("changed").await, (24..32).collect::<Vec<_>>());
    assert_eq!((bench.widths("blob").await, bench.widths("raw").await), (vec![100, 101], vec![40, 40]));
    bench.wait_empty("what frames held to be free");
    bench.server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_over_tcp_has_the_results_of_the_file() {
    const PHOTOS: [&str; 3] = ["sample4.jpg", "zidane.jpg", "bus.jpg"];
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let home = Home::new();
    let config = CONFIG.replace("[server]\n", &format!("[server]\ntcp = \"127.0.0.1:{port}\"\n"));
    let server = Server::start(&home, &config).await;
    let photos = PHOTOS.map(photo);
    let request = |stream| framepipe_client::PushRequest::images(&photos).names(PHOTOS).stream(stream);
    server.client().push(request("pushed")).await.expect("accepted");
    let remote = Client::connect(&format!("127.0.0.1:{port}")).await.expect("it listens").with_inbox("/nowhere");
    let batch = remote.upload(request("uploaded")).await.expect("accepted");
    assert_eq!((batch.accepted, batch.blob), (3, None));
    let outcomes = |results: Vec<FrameResult>| {
        let mut outcomes: Vec<_> = results.into_iter().map(|result| (result.name, result.outcome)).collect();
        outcomes.sort_by(|a, b| a.0.cmp(&b.0));
        outcomes
    };
    let pushed = outcomes(results(&server.client(), "pushed").await);
    let uploaded = outcomes(results(&remote, "uploaded").await);
    assert!(matches!(&pushed[1].1, Some(Outcome::Detections(found)) if found.detections.len() > 1), "{pushed:?}");
    assert_eq!(pushed, uploaded);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_not_what_it_says_leaves_nothing() {
    for cache in ["", "[cache]\nmemory_bytes_max = 0\n"] {
        let bench = Bench::start(cache).await;
        let image = png(16, 16);
        let size = image.len() as u64;
        let refused = async |upload: Upload, words: &str| {
            let refusal = upload.end().await.expect_err(words);
            assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal:?}");
            assert!(refusal.message().contains(words), "{refusal:?}");
            bench.wait_empty(words);
        };
        let upload = bench.upload();
        refused(upload, "none came").await;
        let upload = bench.upload();
        upload.data(&image).await;
        refused(upload, "first message is `push`: `data` came").await;
        let upload = bench.upload();
        upload.send(Part::Push(bench.files_of("a", 0, 1))).await;
        refused(upload, "neither `location` nor `files`").await;
        let upload = bench.upload();
        upload.push("a", &[size, 1 << 40]).await;
        refused(upload, "can never fit").await;
        let upload = bench.upload();
        upload.push("a", &[size, 5]).await;
        upload.data(&image).await;
        upload.data(&image[..4]).await;
        refused(upload, &format!("{} bytes came: `sizes` says {}", size + 4, size + 5)).await;
        let upload = bench.upload();
        upload.push("a", &[size]).await;
        upload.data(&image).await;
        upload.data(b"x").await;
        refused(upload, &format!("{} bytes came, and more may", size + 1)).await;
        for bytes in [(1 << 20) + 1, 5 << 20] {
            let upload = bench.upload();
            upload.push("a", &[8 << 20]).await;
            upload.data(&vec![7; bytes]).await;
            refused(upload, "1048576").await;
        }
        let upload = bench.upload();
        upload.push("a", &[size]).await;
        upload.push("a", &[size]).await;
        refused(upload, "`push` came twice").await;

        // A client that goes away in the middle of its second image.
        let upload = bench.upload();
        upload.push("a", &[size, 1 << 20]).await;
        upload.data(&image).await;
        upload.data(&vec![7; 1 << 19]).await;
        wait_until("some of it to be kept", LIMIT, || bench.memory_bytes() + bench.files() as u64 > 1);
        upload.call.abort();
        bench.wait_empty("what a client left that went away");

        // And a good one, after all.
        let upload = bench.upload();
        upload.push("good", &[size, 0, size]).await;
        upload.data(&[&image[..], &image[..10]].concat()).await;
        upload.data(&image[10..]).await;
        assert_eq!(upload.end().await.expect("accepted").accepted, 3);
        let results = bench.results("good").await;
        let good: Vec<&str> = results
            .iter()
            .filter(|one| matches!(one.outcome, Some(Outcome::Detections(_))))
            .map(|one| &one.name[..])
            .collect();
        assert_eq!((results.len(), good.len()), (3, 2), "an image without bytes is none");
        assert!(good.contains(&"upload#0") && good.contains(&"upload#2"), "{good:?}");
        bench.wait_empty("what frames held to be free");
        bench.server.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_memory_has_no_room_for_lies_on_disk() {
    let bench = Bench::start(SMALL).await;
    bench.server.signal_stage("ingest", Signal::SIGSTOP);
    for batch in 0..4 {
        let request = bench.files_of("a", 10 * batch, 10);
        bench.push(&request).await.expect("accepted");
        request.files.iter().for_each(|path| fs::remove_file(path).expect("it was there"));
    }
    assert!(bench.files() >= 30 && bench.memory_bytes() <= 1 << 20, "{} files", bench.files());
    bench.server.signal_stage("ingest", Signal::SIGCONT);
    assert_eq!(bench.widths("a").await, (16..56).collect::<Vec<_>>());
    bench.wait_empty("what frames held to be free");
    bench.server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_neither_memory_nor_disk_has_room_a_call_is_refused_or_waits_and_nothing_is_lost() {
    let bench = Bench::start(&format!("{SMALL}disk_bytes_max = 0\n")).await;
    bench.server.signal_stage("ingest", Signal::SIGSTOP);
    let (mut accepted, mut refusal) = (0, None);
    while refusal.is_none() && accepted < 40 {
        match bench.push(&bench.files_of("a", accepted, 1)).await {
            Ok(_) => accepted += 1,
            Err(status) => refusal = Some(status),
        }
    }
    let refusal = refusal.expect("40 images do not fit into 1 MiB of chunks");
    assert!((1..=4).contains(&accepted) && refusal.code() == Code::ResourceExhausted, "{accepted}: {refusal:?}");
    let words = refusal.message();
    assert!(words.contains("cache.memory_bytes_max") && words.contains("cache.disk_bytes_max"), "{refusal:?}");
    assert!(retry_ms(&refusal) > 0);
    let upload = bench.upload();
    upload.push("a", &[1000]).await;
    let refused = upload.ended().await.expect_err("there is no room");
    assert_eq!(refused.code(), Code::ResourceExhausted, "before a byte is sent: {refused:?}");
    let never = PushDataRequest {
        files: vec![bench.home.store("x", &vec![0; 1 << 20]).display().to_string()],
        ..bench.files_of("a", 0, 0)
    };
    assert_eq!(bench.push(&never).await.expect_err("it never fits").code(), Code::InvalidArgument);

    let waiting = PushDataRequest { wait_ms: 30_000, ..bench.files_of("a", accepted, 2) };
    let mut raw = bench.server.raw_client();
    let waiting = tokio::spawn(async move { raw.push_data(waiting).await });
    let in_vain = PushDataRequest { wait_ms: 200, ..bench.files_of("a", 0, 1) };
    assert_eq!(bench.push(&in_vain).await.expect_err("in vain").code(), Code::ResourceExhausted);
    // What is kept by its client needs no room in the store.
    let referenced = PushDataRequest { hold: Hold::Reference.into(), ..bench.files_of("b", 0, 5) };
    bench.push(&referenced).await.expect("accepted");
    bench.server.signal_stage("ingest", Signal::SIGCONT);
    timeout(LIMIT, waiting).await.expect("in time").expect("it ran").expect("accepted");
    assert_eq!(bench.widths("a").await, (16..18 + accepted).collect::<Vec<_>>());
    assert_eq!(bench.widths("b").await.len(), 5);
    bench.wait_empty("what frames held to be free");
    bench.server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_waits_for_room_elsewhere_is_made_once() {
    // A stream's journal has room for the results of 7 frames, and memory for no image.
    const CACHE: &str = "[cache]\nmemory_bytes_max = 0\n";
    let journal = "[journal]\nstream_bytes_max = \"1 MiB\"\nresult_bytes_max = \"128 KiB\"\n";
    let bench = Bench::start(&format!("{CACHE}{journal}")).await;
    bench.server.signal_stage("ingest", Signal::SIGSTOP);
    let referenced = PushDataRequest { hold: Hold::Reference.into(), ..bench.files_of("a", 0, 7) };
    bench.push(&referenced).await.expect("they fit");
    let mut raw = bench.server.raw_client();
    let waiting = PushDataRequest { wait_ms: 60_000, ..bench.files_of("a", 7, 2) };
    let copied = waiting.files.clone();
    let waiting = tokio::spawn(async move { raw.push_data(waiting).await });
    let files = || {
        let entries = fs::read_dir(bench.home.path("state").join("spill")).expect("it is there").flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().display().to_string()).collect();
        names.sort_unstable();
        names.retain(|name| !name.ends_with(".new"));
        names
    };
    wait_until("both are copied", LIMIT, || files().len() == 2);
    let first = files();
    copied.iter().for_each(|path| fs::remove_file(path).expect("it was there"));
    for _ in 0..20 {
        let ack = AckResultsRequest { stream: "a".into(), sequence: 0 }; // it wakes the stream's calls
        bench.server.raw_client().ack_results(ack).await.expect("nothing is acknowledged");
        assert_eq!(files(), first);
    }
    bench.server.signal_stage("ingest", Signal::SIGCONT);
    timeout(LIMIT, waiting).await.expect("in time").expect("it ran").expect("accepted");
    assert_eq!(bench.widths("a").await, (16..25).collect::<Vec<_>>());
    bench.wait_empty("what frames held to be free");
    bench.server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_wait_hold_up_no_call_of_their_connection() {
    let bench = Bench::start("[cache]\nuploads_max = 1\n").await;
    let grpc = bench.server.raw_client();
    let first = Upload::begin(grpc.clone());
    first.push("first", &[200_000]).await;
    first.data(&[7; 100_000]).await;
    wait_until("the first one to be read", LIMIT, || bench.memory_bytes() > 0);
    // Each of them sends what its window takes, as no one reads it.
    let waiting: Vec<Upload> = (0..4).map(|_| Upload::begin(grpc.clone())).collect();
    let image = vec![7; 1 << 20];
    for upload in &waiting {
        upload.push("waiting", &[1 << 20]).await;
        upload.data(&image).await;
    }
    let beyond = Upload::begin(grpc.clone());
    beyond.push("beyond", &[1]).await;
    let refusal = beyond.ended().await.expect_err("five are there");
    assert!(
        refusal.code() == Code::ResourceExhausted && refusal.message().contains("cache.uploads_max"),
        "{refusal:?}"
    );
    assert!(retry_ms(&refusal) > 0);
    let mut same = grpc.clone();
    let pushed = same.push_data(bench.files_of("pushed", 0, 1));
    timeout(LIMIT, pushed).await.expect("nothing holds it up").expect("accepted");
    first.data(&[7; 100_000]).await;
    first.end().await.expect("accepted");
    // They are read in the order in which they came, which nobody knows here.
    let ends: Vec<_> = waiting.into_iter().map(|upload| tokio::spawn(upload.end())).collect();
    for end in ends {
        end.await.expect("it ran").expect("accepted");
    }
    assert_eq!(
        (bench.results("waiting").await.len(), bench.results("first").await.len()),
        (4, 1),
        "no images, but results"
    );
    bench.wait_empty("what frames held to be free");
    bench.server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_wait_for_room_hold_up_neither_their_connection_nor_other_uploads() {
    let bench = Bench::start(&format!("{SMALL}disk_bytes_max = 0\nuploads_max = 1\n")).await;
    bench.server.signal_stage("ingest", Signal::SIGSTOP);
    bench.push(&bench.files_of("held", 0, 2)).await.expect("there is room for three");
    let grpc = bench.server.raw_client();
    // Each of them needs the room of two small images, and waits until there is; its window is full meanwhile.
    let image = vec![7; 400_000];
    let mut waiting = Vec::new();
    for number in 0..12 {
        let upload = Upload::begin(grpc.clone());
        let sizes = vec![image.len() as u64];
        let stream = "waiting".into();
        let push = PushDataRequest { sizes, stream, wait_ms: 60_000, ..PushDataRequest::default() };
        upload.send(Part::Push(push)).await;
        upload.data(&image).await;
        waiting.push(upload);
        let referenced = PushDataRequest { hold: Hold::Reference.into(), ..bench.files_of("pushed", number, 1) };
        let mut same = grpc.clone();
        timeout(LIMIT, same.push_data(referenced)).await.expect("nothing holds it up").expect("accepted");
    }
    let small = png(16, 16);
    let other = bench.upload();
    other.push("other", &[small.len() as u64]).await;
    other.data(&small).await;
    other.end().await.expect("there is room for it, and a turn");
    bench.server.signal_stage("ingest", Signal::SIGCONT);
    let ends: Vec<_> = waiting.into_iter().map(|upload| tokio::spawn(upload.end())).collect();
    for end in ends {
        end.await.expect("it ran").expect("accepted");
    }
    assert_eq!(
        (bench.results("waiting").await.len(), bench.widths("pushed").await.len(), bench.widths("other").await),
        (12, 12, vec![16])
    );
    bench.wait_empty("what frames held to be free");
    bench.server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_with_a_key_that_was_answered_needs_no_bytes() {
    let bench = Bench::start("").await;
    let image = png(16, 16);
    let push = PushDataRequest {
        sizes: vec![image.len() as u64],
        stream: "a".into(),
        idempotency_key: "one".into(),
        ..PushDataRequest::default()
    };
    let upload = bench.upload();
    upload.send(Part::Push(push.clone())).await;
    upload.data(&image).await;
    let first = upload.end().await.expect("accepted");
    bench.server.kill_one("gateway");
    let again = bench.upload();
    again.send(Part::Push(push)).await;
    assert_eq!(again.ended().await.expect("the first answer"), first);
    assert_eq!(bench.widths("a").await, [16]);
    bench.wait_empty("what frames held to be free");
    bench.server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_while_images_come_leaves_nothing() {
    for cache in ["", "[cache]\nmemory_bytes_max = 0\n"] {
        let bench = Bench::start(cache).await;
        bench.server.signal_stage("ingest", Signal::SIGSTOP);
        bench.push(&bench.files_of("a", 0, 8)).await.expect("accepted");
        let (memory, files) = (bench.memory_bytes(), bench.files());
        let upload = bench.upload();
        upload.push("a", &[500_000, 500_000]).await;
        upload.data(&vec![7; 700_000]).await;
        let more = || bench.memory_bytes() > memory + 500_000 || bench.files() >= files + 2;
        wait_until("one whole image and a part of the next", LIMIT, more);
        bench.server.kill_one("gateway");
        assert_ne!(upload.ended().await.expect_err("cut off").code(), Code::Ok);
        let is_swept = || (bench.memory_bytes(), bench.files()) == (memory, files);
        wait_until("what the dead gateway took", LIMIT, is_swept);
        bench.server.signal_stage("ingest", Signal::SIGCONT);
        assert_eq!(bench.widths("a").await, (16..24).collect::<Vec<_>>(), "what was accepted before has its results");
        bench.wait_empty("what frames held to be free");
        bench.server.stop();
    }
}
