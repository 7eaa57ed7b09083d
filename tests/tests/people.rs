//! The pipeline `people` through gRPC and every process: keypoints of persons alone, each where the Python reference puts it
//! from the same boxes, and most of them where a person has them.

use std::collections::BTreeMap;

use framepipe_client::{PushRequest, ResultsOptions, StreamExt as _, Value};
use framepipe_tests::{
    Home, Server,
    findings::{Findings, Found},
    images::{labelled, photo},
    repository,
};

const DETECTOR: &str = "nanodet416-80c-fp32";
/// Largest distance of a point from the reference's, as a share of its box's longer side (measured: 2e-6), and difference of
/// its score (measured: 1e-5): both run the float model on the same crop.
const DISTANCE_MAX: f64 = 1e-3;
const SCORE_DIFFERENCE_MAX: f64 = 2e-3;

fn config() -> String {
    std::fs::read_to_string(repository().join("config/people.toml")).expect("the example is there")
}

/// The points of a person; nobody else has any.
fn points(one: &Found) -> Option<&[[f64; 3]]> {
    assert_eq!(one.attributes.len(), usize::from(one.label == "person"), "{one:?}");
    let said = one.attributes.first()?;
    assert_eq!((said.model.as_str(), said.name.as_str()), ("posenet385", "keypoints"));
    Some(said.points.as_deref().expect("keypoints are points"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_persons_keypoints_are_the_references_and_most_lie_where_people_have_them() {
    let home = Home::new();
    let photos: Vec<_> = labelled().into_iter().map(|(label, bytes)| (label.file, bytes)).collect();
    let server = Server::start(&home, &config()).await;
    let found = Findings::of_server(&server, DETECTOR, &photos).await;
    server.stop();

    let boxes = home.path("found.json");
    std::fs::write(&boxes, serde_json::to_vec(&found).expect("it is JSON")).expect("it can be written");
    let boxes = boxes.to_str().expect("the tests' paths are UTF-8");
    let files: Vec<String> = photos.iter().map(|(file, _)| file.clone()).collect();
    let arguments = ["--attributes", "posenet385", "--found", boxes];
    let out = home.path("reference.json");
    let reference = Findings::of_reference(&repository().join("models"), DETECTOR, &arguments, &files, &out);

    let (mut persons, mut sensible, mut furthest, mut score_difference) = (0, 0, 0.0f64, 0.0f64);
    for (photo, twin) in found.photos.iter().zip(&reference.photos) {
        assert_eq!((&photo.file, photo.detections.len()), (&twin.file, twin.detections.len()));
        for (one, other) in photo.detections.iter().zip(&twin.detections) {
            let Some(here) = points(one) else { continue };
            let there = points(other).expect("the reference has a person's points");
            assert_eq!((here.len(), there.len()), (17, 17));
            let [x0, y0, x1, y1] = one.corners;
            for (a, b) in here.iter().zip(there) {
                furthest = furthest.max((a[0] - b[0]).hypot(a[1] - b[1]) / (x1 - x0).max(y1 - y0));
                score_difference = score_difference.max((a[2] - b[2]).abs());
            }
            persons += 1;
            sensible += usize::from(is_sensible(here, one.corners));
        }
    }
    println!(
        "{persons} persons, {sensible} of them with face and shoulders where they belong; points differ by {furthest:.1e} \
         of a side, scores by {score_difference:.1e}"
    );
    assert!(furthest <= DISTANCE_MAX && score_difference <= SCORE_DIFFERENCE_MAX);
    assert!(persons >= 25, "{persons} of 36 labelled people were found");
    assert!(
        sensible * 100 >= persons * 70,
        "{sensible} of {persons} persons have face and shoulders where they belong"
    );
    let others = found.photos.iter().flat_map(|photo| &photo.detections).filter(|one| one.label != "person").count();
    assert!(others >= 5, "{others} other objects, which have no keypoints, say little");
}

/// Nose, eyes and shoulders lie in the box, and the face above the shoulders.
fn is_sensible(points: &[[f64; 3]], [x0, y0, x1, y1]: [f64; 4]) -> bool {
    let [nose, left_eye, right_eye, _, _, left_shoulder, right_shoulder, ..] = points else { return false };
    let face = [nose, left_eye, right_eye];
    let shoulders = [left_shoulder, right_shoulder];
    let inside = |point: &&[f64; 3]| (x0..=x1).contains(&point[0]) && (y0..=y1).contains(&point[1]);
    let lowest = face.iter().map(|point| point[1]).fold(f64::MIN, f64::max);
    let highest = shoulders.iter().map(|point| point[1]).fold(f64::MAX, f64::min);
    face.iter().chain(&shoulders).copied().all(|point| inside(&point)) && lowest < highest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keypoints_bear_cocos_names() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    let client = server.client();
    client.push(PushRequest::images([&photo("zidane.jpg")]).stream("names")).await.expect("the push is good");
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results: Vec<_> = client.results("names", options).collect().await;
    let Ok(Some(framepipe_client::Outcome::Detections(found))) = results[0].as_ref().map(|one| one.outcome.as_ref())
    else {
        panic!("{results:?}")
    };
    let mut labels = BTreeMap::new();
    for one in &found.detections {
        *labels.entry(one.label.as_str()).or_insert(0) += 1;
        for attribute in &one.attributes {
            let Some(Value::Keypoints(keypoints)) = &attribute.value else { panic!("{attribute:?}") };
            let names: Vec<&str> = keypoints.points.iter().map(|point| point.name.as_str()).collect();
            assert_eq!(names[..3], ["nose", "left_eye", "right_eye"]);
            assert_eq!((names.len(), names[16]), (17, "right_ankle"));
        }
    }
    assert_eq!(labels.get("person"), Some(&2), "{labels:?}");
    server.stop();
}
