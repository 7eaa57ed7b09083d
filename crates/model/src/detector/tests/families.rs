//! The families that tests/tests/families.rs compares with the reference, number by number: here their shapes, their
//! manifests' faults, and what no draw can be trusted to meet.

use framepipe_frame::masks::{Masks, masks};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::ManifestError;

const YOLOV3_RAW: &str = r#"yolov3.raw = { outputs = ["o0", "o1", "o2"], strides = [4, 8, 16], sigmoid_done = false,
    anchors = [[[4, 5], [9, 6]], [[10, 20], [16, 8]], [[30, 40], [50, 60]]] }"#;
const YOLOV3_EXPORTED: &str = r#"yolov3.exported = { output = "out", strides = [8, 16], anchors_per_cell = 3 }"#;
const YOLOV8_RAW: &str = r#"yolov8.raw = { outputs = ["p3", "p4"], strides = [8, 16], bins = 16 }"#;
const YOLOV8_EXPORTED: &str = r#"yolov8.exported = { output = "out", strides = [8, 16] }"#;
const SSD_PRIORS: &str = r#"ssd.priors = { boxes = "loc", scores = "conf", activation = "softmax", clip = true,
    variances = [0.1, 0.1, 0.2, 0.2],
    levels = [{ grid = [6, 4], step = 8, min_sizes = [6], max_sizes = [9], aspect_ratios = [2] }] }"#;
const SSD_EXPORTED: &str = r#"ssd.exported = { boxes = "b", classes = "c", scores = "s", count = "n", count_max = 3,
    order = "yxyx", normalized = true, first_class = 1 }"#;
const RTDETR: &str = r#"rtdetr = { boxes = "b", scores = "s", queries = 30, activation = "sigmoid" }"#;
const MASKRCNN: &str = r#"maskrcnn = { boxes = "b", classes = "c", scores = "s", masks = "m", count_max = 3, mask_side = 2,
    mask_bytes_max = 100, first_class = 1 }"#;
const DBNET: &str = r#"dbnet = { output = "map", threshold = 0.3, unclip_ratio = 1.5, side_min = 3 }"#;
const ALL: [&str; 9] =
    [YOLOV3_RAW, YOLOV3_EXPORTED, YOLOV8_RAW, YOLOV8_EXPORTED, SSD_PRIORS, SSD_EXPORTED, RTDETR, MASKRCNN, DBNET];

/// A manifest's text of 32 columns and 48 rows, two labels and this head.
fn text(head: &str) -> String {
    let start = DETECTOR.find("[detector.head").expect("it is there");
    let iou_threshold = if is_end_to_end(head) { "1.0" } else { "0.6" };
    let labels = if head.starts_with("dbnet") { r#"["text"]"# } else { r#"["person", "car"]"# };
    format!("{}[detector.head]\n{}\n", &DETECTOR[..start], head.replace('\n', ""))
        .replace(r#"["person", "car"]"#, labels)
        .replace("width = 416, height = 416", "width = 32, height = 48")
        .replace("iou_threshold = 0.6", &format!("iou_threshold = {iou_threshold}"))
}

fn is_end_to_end(head: &str) -> bool {
    ["ssd.exported", "rtdetr", "maskrcnn", "dbnet"].iter().any(|family| head.starts_with(family))
}

fn build(head: &str) -> Result<Detector, ManifestError> {
    Detector::new(&load(&text(head))?)
}

#[test]
fn the_shapes_are_those_of_published_models() {
    let of = |head: &str, labels: usize, side: usize| {
        let labels: Vec<String> = (0..labels).map(|label| format!("class {label}")).collect();
        let text = text(head)
            .replace("width = 32, height = 48", &format!("width = {side}, height = {side}"))
            .replace(r#"["person", "car"]"#, &format!("{labels:?}"));
        Detector::new(&load(&text).unwrap()).unwrap().raw_shapes().to_vec()
    };
    let strides = |head: &str| head.replace("[8, 16]", "[8, 16, 32]");
    assert_eq!(of(&strides(YOLOV8_EXPORTED), 80, 640), [[84, 8400]]);
    let raw = strides(YOLOV8_RAW).replace(r#"["p3", "p4"]"#, r#"["p3", "p4", "p5"]"#);
    assert_eq!(of(&raw, 80, 640), [[144, 80, 80], [144, 40, 40], [144, 20, 20]]);
    assert_eq!(of(&strides(YOLOV3_EXPORTED), 80, 416), [[10647, 85]]);
    let three = r#"yolov3.raw = { outputs = ["a", "b", "c"], strides = [8, 16, 32], sigmoid_done = true, anchors = [
        [[10, 13], [16, 30], [33, 23]], [[30, 61], [62, 45], [59, 119]], [[116, 90], [156, 198], [373, 326]]] }"#;
    assert_eq!(of(three, 80, 416), [[255, 52, 52], [255, 26, 26], [255, 13, 13]]);
    assert_eq!(of(&RTDETR.replace("30", "300"), 80, 640), [[300, 4], [300, 80]]);
    assert_eq!(of(&RTDETR.replace("sigmoid", "softmax"), 91, 640), [[30, 4], [30, 92]]);
    // SSD300 of the paper: 8732 priors.
    let level = |grid: usize, step: usize, min: usize, max: usize, ratios: &str| {
        format!(
            "{{ grid = [{grid}, {grid}], step = {step}, min_sizes = [{min}], max_sizes = [{max}], aspect_ratios = {ratios} }}"
        )
    };
    let levels = [
        level(38, 8, 30, 60, "[2]"),
        level(19, 16, 60, 111, "[2, 3]"),
        level(10, 32, 111, 162, "[2, 3]"),
        level(5, 64, 162, 213, "[2, 3]"),
        level(3, 100, 213, 264, "[2]"),
        level(1, 300, 264, 315, "[2]"),
    ];
    let (start, _) = SSD_PRIORS.split_once("levels").expect("it has levels");
    let ssd300 = format!("{start}levels = [{}] }}", levels.join(", "));
    assert_eq!(of(&ssd300, 20, 300), [[8732, 4], [8732, 21]]);
    let torchvision = MASKRCNN.replace("count_max = 3, mask_side = 2", "count_max = 100, mask_side = 28");
    assert_eq!(of(&torchvision, 90, 800), [vec![100, 4], vec![100], vec![100], vec![100, 1, 28, 28]]);
    assert_eq!(of(SSD_EXPORTED, 90, 300), [vec![3, 4], vec![3], vec![3], vec![]]);
}

#[test]
fn rows_vary_where_the_manifest_says_so() {
    for head in ALL {
        assert_eq!(build(head).unwrap().rows_max().is_some(), head == MASKRCNN, "{head}");
    }
    let varying = build(&SSD_EXPORTED.replace("count_max = 3", "count_max = 3, rows_vary = true")).unwrap();
    assert_eq!(varying.rows_max(), Some(varying.raw_shapes()));
}

#[test]
fn a_value_that_cannot_be_right_is_named_with_its_key() {
    let cases = [
        (YOLOV3_RAW, "[4, 8, 16]", "[]", "detector.head.yolov3.raw.strides = []"),
        (YOLOV3_RAW, "[4, 8, 16]", "[4, 8, 15]", "divides the input's 32x48"),
        (YOLOV3_RAW, r#""o0", "#, "", "detector.head.yolov3.raw.outputs"),
        (YOLOV3_RAW, "[[4, 5], [9, 6]], ", "", "one list of anchors for each of the 3 strides"),
        (YOLOV3_RAW, "[4, 5]", "[-4, 5]", "detector.head.yolov3.raw.anchors"),
        (YOLOV3_RAW, "sigmoid_done = false,", "", "missing field `sigmoid_done`"),
        (YOLOV3_RAW, r#""o1""#, r#""o0""#, "\"o0\" stands there twice"),
        (YOLOV3_EXPORTED, "per_cell = 3", "per_cell = 0", "detector.head.yolov3.exported.anchors_per_cell = 0"),
        (YOLOV3_EXPORTED, "[8, 16]", "[8, 7]", "detector.head.yolov3.exported.strides = 7"),
        (YOLOV8_RAW, r#"["p3", "p4"]"#, r#"["p3"]"#, "one tensor for each of the 2 strides"),
        (YOLOV8_RAW, "bins = 16", "bins = 65", "detector.head.yolov8.raw.bins = 65: give 2 to 64"),
        (YOLOV8_EXPORTED, "[8, 16]", "[8, 0]", "detector.head.yolov8.exported.strides = 0"),
        (YOLOV8_EXPORTED, "output =", "anchors = [], output =", "anchors"),
        (SSD_PRIORS, "[0.1, 0.1", "[0.0, 0.1", "detector.head.ssd.priors.variances"),
        (SSD_PRIORS, "grid = [6, 4]", "grid = [6, 0]", "detector.head.ssd.priors.levels[0].grid = [6, 0]"),
        (SSD_PRIORS, "grid = [6, 4]", "grid = [4294967296, 4294967296]", "levels[0].grid"),
        (SSD_PRIORS, "step = 8", "step = nan", "detector.head.ssd.priors.levels[0].step = NaN"),
        (SSD_PRIORS, "min_sizes = [6]", "min_sizes = []", "levels[0].min_sizes = []: give 1 to 16"),
        (SSD_PRIORS, "max_sizes = [9]", "max_sizes = [9, 10]", "one for each of the 1 min_sizes"),
        (SSD_PRIORS, "aspect_ratios = [2]", "aspect_ratios = [0]", "levels[0].aspect_ratios = [0.0]"),
        (SSD_PRIORS, "\"softmax\"", "\"relu\"", "relu"),
        (SSD_EXPORTED, "count_max = 3", "count_max = 0", "detector.head.ssd.exported.count_max = 0"),
        (SSD_EXPORTED, "count_max = 3", "count_max = 100000", "give 1 to 10000"),
        (SSD_EXPORTED, "\"yxyx\"", "\"xywh\"", "xywh"),
        (SSD_EXPORTED, "\"n\"", "\"s\"", "\"s\" stands there twice"),
        (RTDETR, "queries = 30", "queries = 0", "detector.head.rtdetr.queries = 0"),
        (MASKRCNN, "count_max = 3", "count_max = 10001", "detector.head.maskrcnn.count_max = 10001: give 1 to 10000"),
        (MASKRCNN, "mask_side = 2", "mask_side = 0", "detector.head.maskrcnn.mask_side = 0: give 1 to 256"),
        (DBNET, "threshold = 0.3", "threshold = nan", "detector.head.dbnet.threshold = NaN: give a number from 0 to 1"),
        (DBNET, "ratio = 1.5", "ratio = -1.5", "detector.head.dbnet.unclip_ratio = -1.5: give 0 to 10"),
        (
            DBNET,
            "side_min = 3",
            "side_min = 0",
            "detector.head.dbnet.side_min = 0: give 1 to 32, the input's shorter side",
        ),
        (MASKRCNN, "bytes_max = 100", "bytes_max = 16777217", "detector.head.maskrcnn.mask_bytes_max = 16777217"),
    ];
    for (head, from, to, expected) in cases {
        assert!(head.contains(from), "{from:?} is not in {head}");
        let words = build(&head.replacen(from, to, 1)).expect_err(&format!("{to} was taken")).to_string();
        assert!(words.contains(expected), "{to}: {words}");
    }
    let words = load(&text(DBNET).replace(r#"["text"]"#, r#"["text", "face"]"#)).unwrap_err().to_string();
    assert!(words.contains("detector.labels = 2: give one"), "{words}");
    let (start, _) = SSD_PRIORS.split_once("levels").expect("it has levels");
    let words = build(&format!("{start}levels = [] }}")).unwrap_err().to_string();
    assert!(words.contains("detector.head.ssd.priors.levels = []"), "{words}");
}

#[test]
fn a_head_without_duplicates_is_not_thinned_out() {
    for head in [SSD_EXPORTED, RTDETR, MASKRCNN, DBNET] {
        let text = text(head).replace("iou_threshold = 1.0", "iou_threshold = 0.6");
        let words = load(&text).expect_err("it was taken").to_string();
        assert!(words.contains("detector.iou_threshold = 0.6: give 1.0"), "{words}");
    }
}

#[test]
fn an_exported_count_cuts_and_a_class_without_a_label_is_no_detection() {
    let detector = build(SSD_EXPORTED).unwrap();
    let found = |classes: [f32; 3], count: f32| {
        let boxes = [0.25, 0.5, 0.5, 1.0].repeat(3);
        let numbers: Vec<f32> = [&boxes[..], &classes, &[0.9, 0.8, 0.7], &[count]].concat();
        decode(&detector, &numbers, &IDENTITY)
    };
    let all = found([1.0, 2.0, 1.0], 3.0);
    let one = all[0];
    assert_eq!((one.class, one.score, one.x0, one.y0, one.x1, one.y1), (0, 0.9, 16.0, 12.0, 32.0, 24.0));
    assert_eq!(all.iter().map(|one| one.class).collect::<Vec<_>>(), [0, 1, 0]);
    for (count, expected) in [(2.0, 2), (1.0, 1), (0.0, 0), (-1.0, 0), (9.0, 3), (f32::INFINITY, 3), (f32::NAN, 0)] {
        assert_eq!(found([1.0, 2.0, 1.0], count).len(), expected, "{count} boxes");
    }
    for class in [0.0, 3.0, -1.0, 1e9, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(found([1.0, class, 1.0], 3.0).len(), 2, "class {class}");
    }
}

#[test]
fn a_mask_without_room_is_left_out_and_its_box_is_not() {
    let mut numbers = [[0.0, 0.0, 8.0, 4.0], [-4.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 2.0]].concat();
    numbers.extend([1.0, 2.0, 2.0, 0.7, 0.9, 0.8]);
    // The second covers the right half of its box, which is what lies in the image.
    numbers.extend([1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    // A head takes 24 bytes, each run one.
    for (room, expected) in [(1000, &[0, 1, 2][..]), (31, &[0]), (30, &[1]), (25, &[])] {
        let detector = build(MASKRCNN).unwrap();
        let outputs = tensors(&detector, &numbers);
        let (mut found, mut drawn) = (Vec::new(), Masks::new(room));
        detector.find(&outputs, &IDENTITY, (32, 48), &mut found).unwrap();
        assert_eq!(found.iter().map(|one| (one.class, one.row)).collect::<Vec<_>>(), [(1, 1), (1, 2), (0, 0)]);
        detector.draw(&outputs, &IDENTITY, &found, &mut drawn).unwrap();
        let all: Vec<_> = masks(drawn.bytes()).collect::<Result<_, _>>().unwrap();
        let heads: Vec<u32> = all.iter().map(|(mask, _)| mask.detection).collect();
        assert_eq!(heads, expected, "{room}");
        if let Some((mask, runs)) = all.first().filter(|(mask, _)| mask.detection == 0) {
            assert_eq!((mask.x, mask.y, mask.width, mask.height), (0, 0, 4, 4));
            // The corner's pixel is 0.375 of a column and 0.25 of a row outside: 0.625 * 0.75 is less than a half.
            assert_eq!(runs, &[1, 2, 1, 8, 1, 2, 1]);
        }
    }
}

#[test]
fn tensors_that_the_manifest_does_not_describe_are_refused_by_name() {
    for head in ALL {
        let detector = build(head).unwrap();
        let numbers = vec![0.9; number_count(&detector)];
        for (index, name) in detector.outputs().into_iter().enumerate() {
            let mut outputs = tensors(&detector, &numbers);
            outputs[index].shape.push(1);
            let error = detector.decode(&outputs, &IDENTITY, &mut Vec::new()).unwrap_err();
            assert!(error.message.contains(&format!("output {name:?} to be")), "{}", error.message);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_the_numbers_each_box_is_one(
        head in prop::sample::select(&ALL[..]),
        numbers in vec(prop_oneof![any::<f32>(), -3f32..3.0, Just(f32::NAN), Just(f32::INFINITY)], 2048),
        map in (any::<f32>(), any::<f32>(), any::<f32>(), any::<f32>()),
    ) {
        let detector = build(head).unwrap();
        let map = TensorMap { scale_x: map.0, scale_y: map.1, pad_x: map.2, pad_y: map.3 };
        for map in [map, IDENTITY] {
            let found = decode(&detector, &numbers[..number_count(&detector)], &map);
            for one in &found {
                prop_assert!(one.class < 2);
                prop_assert!(one.score > 0.35 && one.score <= 1.0, "{one:?}");
                let edges = [one.x0, one.y0, one.x1, one.y1];
                prop_assert!(edges.iter().all(|edge| edge.is_finite()), "{one:?}");
                prop_assert!(one.x0 < one.x1 && one.y0 < one.y1, "{one:?}");
            }
        }
    }
}
