//! Pools of one slot each: waits for slots point downstream only, so that the pipeline crawls but never stands still.

use std::time::Duration;

use framepipe_client::{Outcome, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_tests::{Home, Server, images::photo};

const CONFIG: &str = r#"
name = "one-slot"
[pipeline]
detector = "tiny-face-416"
attributes = ["face-expression"]
[stages.preprocess]
processes = 2
[stages.detect]
processes = 2
batch_max = 4
[stages.attribute]
batch_max = 4
[pools]
encoded = [{ bytes = "8 MiB", slots = 1 }]
image = [{ bytes = "48 MiB", slots = 1 }]
tensor = [{ slots = 1 }]
raw = [{ slots = 1 }]
detections = [{ slots = 1 }]
attributes = [{ slots = 1 }]
"#;
const ROUNDS: usize = 4;
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_of_one_slot_stop_no_frame() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let client = server.client();
    let photos = ["sample1.jpg", "sample4.jpg", "zidane.jpg"];
    let images: Vec<Vec<u8>> = (0..ROUNDS).flat_map(|_| photos).map(photo).collect();
    client.push(PushRequest::images(&images).stream("crawl")).await.expect("the push is good");
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results = client.results("crawl", options).collect::<Vec<_>>();
    let results = tokio::time::timeout(LIMIT, results).await.expect("no frame waits for ever");
    assert_eq!(results.len(), images.len());
    for result in results {
        let result = result.expect("it is readable");
        let Some(Outcome::Detections(found)) = &result.outcome else { panic!("{:?}", result.outcome) };
        assert!(found.detections.iter().any(|face| face.attributes.len() == 1), "{}: {found:?}", result.name);
    }
    let status = server.status();
    assert_eq!((status.in_flight(), status.pools_in_use()), (0, [""; 0].to_vec()));
    server.stop();
}
