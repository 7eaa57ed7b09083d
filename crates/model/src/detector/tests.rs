mod dbnet;
mod families;
mod hand;
mod twin;

use framepipe_frame::raw::Output;
use framepipe_frame::{TensorMap, detections::Detection};

use super::Detector;
use crate::manifest::tests::{DETECTOR, load};

const IDENTITY: TensorMap = TensorMap { scale_x: 1.0, scale_y: 1.0, pad_x: 0.0, pad_y: 0.0 };

const NANODET: &str = r#"nanodet = { scores = ["s8", "s16"], boxes = ["b8", "b16"], strides = [8, 16], bins = 5 }"#;
const YOLOV2: &str = r#"yolov2 = { output = "out", cell = 16, anchors = [[1.0, 2.0], [0.5, 0.25]] }"#;
const RESNET: &str = r#"resnet_anchor = { outputs = ["o0", "o1"], strides = [8, 16],
    anchors = [[[10, 20], [16, 8]], [[30, 40], [50, 60]]] }"#;

/// A detector of 32 columns and 48 rows.
fn detector(head: &str, labels: &[&str], score_threshold: f32) -> Detector {
    let start = DETECTOR.find("[detector.head").expect("it is there");
    let text = format!("{}[detector.head]\n{}\n", &DETECTOR[..start], head.replace('\n', ""))
        .replace("width = 416, height = 416", "width = 32, height = 48")
        .replace(r#"["person", "car"]"#, &format!("{labels:?}"))
        .replace("score_threshold = 0.35", &format!("score_threshold = {score_threshold:?}"));
    Detector::new(&load(&text).unwrap()).unwrap()
}

/// The tensors of `detector`, one after another in `numbers`.
fn tensors<'a>(detector: &Detector, mut numbers: &'a [f32]) -> Vec<Output<'a>> {
    let cut = |shape: &Vec<usize>| {
        let (head, tail) = numbers.split_at(shape.iter().product());
        numbers = tail;
        Output { shape: shape.clone(), numbers: head }
    };
    detector.raw_shapes().iter().map(cut).collect()
}

fn number_count(detector: &Detector) -> usize {
    detector.raw_shapes().iter().map(|shape| shape.iter().product::<usize>()).sum()
}

fn decode(detector: &Detector, numbers: &[f32], map: &TensorMap) -> Vec<Detection> {
    let mut found = Vec::new();
    detector.decode(&tensors(detector, numbers), map, &mut found).unwrap();
    found
}

#[test]
fn the_shapes_are_those_of_the_real_models() {
    let of = |head: &str, labels: &str| {
        let start = DETECTOR.find("[detector.head").expect("it is there");
        let text = format!("{}[detector.head]\n{head}\n", &DETECTOR[..start]).replace(r#"["person", "car"]"#, labels);
        Detector::new(&load(&text).unwrap()).unwrap().raw_shapes().to_vec()
    };
    let four = r#"["person", "bicycle", "car", "bus"]"#;
    let head = r#"nanodet = { scores = ["a", "b", "c"], boxes = ["d", "e", "f"], strides = [8, 16, 32], bins = 11 }"#;
    let nanodet = [[2704, 4], [676, 4], [169, 4], [2704, 44], [676, 44], [169, 44]];
    assert_eq!(of(head, four), nanodet.map(|shape| shape.to_vec()));
    let head = r#"yolov2 = { output = "o", cell = 32, anchors = [[1, 1], [2, 2], [3, 3], [4, 4], [5, 5]] }"#;
    assert_eq!(of(head, r#"["face"]"#), [[25, 13, 13]]);
    assert_eq!(of(head, four), [[45, 13, 13]]);
    let head = r#"resnet_anchor = { outputs = ["out0", "out1"], strides = [16, 32],
        anchors = [[[1, 1], [2, 2], [3, 3]], [[4, 4], [5, 5], [6, 6]]] }"#;
    assert_eq!(of(&head.replace('\n', ""), four), [[27, 26, 26], [27, 13, 13]]);
}

#[test]
fn tensors_that_the_manifest_does_not_describe_are_refused() {
    for (head, name) in [(NANODET, "s8"), (YOLOV2, "out"), (RESNET, "o0")] {
        let detector = detector(head, &["a", "b"], 0.3);
        let numbers = vec![9.0; number_count(&detector)];
        let good = tensors(&detector, &numbers);
        let mut found = Vec::new();
        let mut refused = |outputs: &[Output<'_>]| {
            let error = detector.decode(outputs, &IDENTITY, &mut found).unwrap_err();
            assert_eq!(error.code, framepipe_frame::ErrorCode::Inference);
            error.message
        };
        assert!(refused(&good[1..]).contains("expected"));
        assert!(refused(&[]).contains("got 0"));
        let more: Vec<_> = good.iter().chain(&good[..1]).cloned().collect();
        assert!(refused(&more).contains(&format!("got {}", good.len() + 1)));

        let mut turned = good.clone();
        turned[0].shape.reverse();
        let words = refused(&turned);
        let (expected, got) = (&good[0].shape, &turned[0].shape);
        assert!(words.contains(&format!("output \"{name}\" to be {expected:?}, got {got:?}")), "{words}");
        let mut batched = good.clone();
        batched[0].shape.insert(0, 1);
        refused(&batched);
        let mut short = good.clone();
        short[0].numbers = &short[0].numbers[1..];
        assert!(refused(&short).contains("numbers"));
        let mut huge = good.clone();
        huge[0].shape[0] = usize::MAX;
        refused(&huge);
        assert!(found.is_empty());
    }
}

#[test]
fn found_is_appended_to() {
    let detector = detector(YOLOV2, &["face"], 0.5);
    let numbers = vec![1.0; number_count(&detector)];
    let first = Detection { class: 7, score: 0.1, x0: 0.0, y0: 0.0, x1: 1.0, y1: 1.0, row: 0 };
    let mut found = vec![first];
    detector.decode(&tensors(&detector, &numbers), &IDENTITY, &mut found).unwrap();
    assert_eq!((found[0], found.len()), (first, 1 + 2 * 2 * 3));
}
