//! A photo's crops are the same pixels, whether its decoded frame is kept for them or, where it fits no slot, only the part
//! that they need is decoded again.

use std::time::Duration;

use framepipe_client::{PushRequest, ResultsOptions, StreamExt as _};
use framepipe_tests::{
    Home, Server,
    findings::{Findings, matched},
    images::photo,
};
use framepipe_vision::{DecodeScale, Decoder, Limits, probe};

/// Several faces, in more pixels than 1 MiB holds.
const FACES: &str = "sample4.jpg";
const LIMIT: Duration = Duration::from_secs(120);
/// A detector that sees frames at full size, so that a frame that is not kept gives it the same tensor.
const PIPELINE: &str = r#"
name = "kept-frames"
[pipeline]
detector = "tiny-face-416"
attributes = ["face-age-gender", "face-expression"]
"#;
/// A pool of images in which the photo does not fit.
const SMALL_SLOT: &str = "[pools]\nimage = [{ bytes = \"1 MiB\", slots = 2 }]\n";

async fn find(config: &str) -> Findings {
    let home = Home::new();
    let server = Server::start(&home, config).await;
    let client = server.client();
    client.push(PushRequest::images([&photo(FACES)]).names(["photo"]).stream("one")).await.expect("the push is good");
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results = client.results("one", options).map(|result| result.expect("it is readable"));
    let results = tokio::time::timeout(LIMIT, results.collect::<Vec<_>>()).await.expect("the result in time");
    assert_eq!(results.len(), 1);
    let status = server.status();
    assert_eq!((status.in_flight(), status.pools_in_use()), (0, [""; 0].to_vec()));
    server.stop();
    Findings::of_results("one", results)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crops_are_those_of_the_kept_frame_where_only_a_part_is_decoded_again() {
    let header = probe(&photo(FACES), &Limits::default()).expect("the photo is an image");
    assert!(header.rgb_bytes(DecodeScale::Full) > 1 << 20, "{header:?} fits the slot");
    assert!(Decoder::has_rows(&header), "{header:?} is decoded whole");
    let kept = find(PIPELINE).await;
    let again = find(&format!("{PIPELINE}{SMALL_SLOT}")).await;
    let matched = matched(&kept, &again, 0.999, 0.0);
    assert!(matched.alone.is_empty(), "{:#?}", matched.alone);
    assert!(matched.pairs.len() >= 2, "the photo shows several faces");
    for (_, kept, again) in matched.pairs {
        assert_eq!(kept.attributes.len(), 3, "age, gender and expression");
        assert_eq!((&kept.corners, &kept.attributes), (&again.corners, &again.attributes));
    }
}
