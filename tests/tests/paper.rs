//! The pipeline `paper`, as it ships: random weights, so what it says means nothing; how much it says, and how its crops are
//! batched, does.

use std::{fs, time::Duration};

use framepipe_client::{Outcome, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_tests::{Home, Server, images::photo, repository};

const LIMIT: Duration = Duration::from_secs(120);
const PHOTOS: [&str; 4] = ["bus.jpg", "zidane.jpg", "sample1.jpg", "sample4.jpg"];
/// `pipeline.crops_max` and `pipeline.crop_batch_max` of the file.
const CROPS: u64 = 4;
const MODELS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_frame_has_its_crops_described_by_four_models_and_runs_are_full() {
    let home = Home::new();
    let config = fs::read_to_string(repository().join("config/paper.toml")).expect("the pipeline ships");
    let server = Server::start(&home, &config).await;
    let client = server.client();
    client.push(PushRequest::images(PHOTOS.map(photo).iter()).stream("paper")).await.expect("the push is good");
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results = client.results("paper", options).collect::<Vec<_>>();
    let results = tokio::time::timeout(LIMIT, results).await.expect("the results in time");
    assert_eq!(results.len(), PHOTOS.len());
    for result in results {
        let result = result.expect("it is readable");
        let Some(Outcome::Detections(found)) = &result.outcome else { panic!("{:?}", result.outcome) };
        let counts: Vec<usize> = found.detections.iter().map(|one| one.attributes.len()).collect();
        assert!(counts.len() as u64 >= CROPS, "{}: {counts:?}", result.name);
        let described = counts.iter().filter(|count| **count as u64 == MODELS).count();
        assert_eq!(described as u64, CROPS, "{}: {counts:?}", result.name);
        assert!(counts[CROPS as usize..].iter().all(|count| *count == 0), "the highest scores come first: {counts:?}");
    }
    // A frame alone fills a run of each model.
    let crops = PHOTOS.len() as u64 * CROPS * MODELS;
    let status = server.status();
    let counted = status.stage("attribute").fold((0, 0), |sum, one| (sum.0 + one.crops, sum.1 + one.crop_runs));
    assert_eq!(counted, (crops, crops / CROPS));
    assert_eq!((status.in_flight(), status.pools_in_use()), (0, [""; 0].to_vec()));
    server.stop();
}
