//! Every head against a twin that follows its formulas in f64, value by value, with no thought of speed.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LABELS: [&str; 3] = ["a", "b", "c"];
const COLUMNS: usize = 32;
const ROWS: usize = 48;

/// Class, score, centre or edges in the tensor: left, top, right, bottom.
type Box64 = (usize, f64, [f64; 4]);

fn sigmoid(x: f64) -> f64 {
    x.exp() / (1.0 + x.exp())
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    logits.iter().map(|logit| logit.exp() / sum).collect()
}

fn best(scores: &[f64]) -> (usize, f64) {
    let class = (0..scores.len()).rev().max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
    (class, scores[class])
}

fn nanodet(numbers: &[f64]) -> Vec<Box64> {
    let cells = |stride: usize| (ROWS / stride) * (COLUMNS / stride);
    let mut boxes_at = (cells(8) + cells(16)) * LABELS.len();
    let mut scores_at = 0;
    let mut all = Vec::new();
    for stride in [8, 16] {
        for row in 0..ROWS / stride {
            for column in 0..COLUMNS / stride {
                let (class, score) = best(&numbers[scores_at..scores_at + LABELS.len()]);
                let distance: Vec<f64> = (0..4)
                    .map(|side| {
                        let bins = softmax(&numbers[boxes_at + side * 5..boxes_at + side * 5 + 5]);
                        (0..5).map(|bin| bins[bin] * (bin * stride) as f64).sum()
                    })
                    .collect();
                let (x, y) = ((column as f64 + 0.5) * stride as f64, (row as f64 + 0.5) * stride as f64);
                all.push((class, score, [x - distance[0], y - distance[1], x + distance[2], y + distance[3]]));
                scores_at += LABELS.len();
                boxes_at += 20;
            }
        }
    }
    all
}

/// The boxes of one anchor tensor; `class_scores` of an anchor's class logits.
fn anchors(
    numbers: &[f64],
    stride: usize,
    anchors: &[[f64; 2]],
    (classes, log_size_max): (usize, f64),
    class_scores: impl Fn(&[f64]) -> Vec<f64>,
) -> Vec<Box64> {
    let (rows, columns) = (ROWS / stride, COLUMNS / stride);
    let mut all = Vec::new();
    for (index, anchor) in anchors.iter().enumerate() {
        for row in 0..rows {
            for column in 0..columns {
                let at = |channel: usize| {
                    numbers[index * (5 + classes) * rows * columns + channel * rows * columns + row * columns + column]
                };
                let logits: Vec<f64> = (5..5 + classes).map(at).collect();
                let (class, class_score) = best(&class_scores(&logits));
                let x = (sigmoid(at(0)) + column as f64) * stride as f64;
                let y = (sigmoid(at(1)) + row as f64) * stride as f64;
                let (w, h) = (anchor[0] * at(2).min(log_size_max).exp(), anchor[1] * at(3).min(log_size_max).exp());
                let edges = [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0];
                all.push((class, sigmoid(at(4)) * class_score, edges));
            }
        }
    }
    all
}

fn sigmoids(logits: &[f64]) -> Vec<f64> {
    logits.iter().map(|logit| sigmoid(*logit)).collect()
}

/// The twin of each head: its name, its labels and what it does.
fn twin(head: &str, numbers: &[f64], labels: usize) -> Vec<Box64> {
    match (head, labels) {
        (NANODET, _) => nanodet(numbers),
        (YOLOV2, 1) => anchors(numbers, 16, &[[16.0, 32.0], [8.0, 4.0]], (0, f64::INFINITY), |_| vec![1.0]),
        (YOLOV2, classes) => anchors(numbers, 16, &[[16.0, 32.0], [8.0, 4.0]], (classes, f64::INFINITY), softmax),
        _ => {
            let (first, second) = numbers.split_at(2 * (5 + labels) * 24);
            let mut all = anchors(first, 8, &[[10.0, 20.0], [16.0, 8.0]], (labels, 8.0), sigmoids);
            all.extend(anchors(second, 16, &[[30.0, 40.0], [50.0, 60.0]], (labels, 8.0), sigmoids));
            all
        }
    }
}

fn heads() -> impl Strategy<Value = (&'static str, usize)> {
    prop_oneof![Just((NANODET, 3)), Just((YOLOV2, 1)), Just((YOLOV2, 3)), Just((RESNET, 3)), Just((RESNET, 1))]
}

fn maps() -> impl Strategy<Value = TensorMap> {
    (0.1f32..8.0, 0.1f32..8.0, 0.0f32..20.0, 0.0f32..20.0).prop_map(|(scale_x, scale_y, pad_x, pad_y)| TensorMap {
        scale_x,
        scale_y,
        pad_x,
        pad_y,
    })
}

const NUMBER_COUNT_MAX: usize = 30 * 23;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_head_finds_what_its_twin_finds(
        (head, labels) in heads(),
        numbers in vec(-5.0f32..9.0, NUMBER_COUNT_MAX),
        map in maps(),
        threshold in 0.0f32..0.99,
    ) {
        let detector = detector(head, &LABELS[..labels], threshold);
        // The scores of NanoDet are behind a sigmoid already.
        let score_count = if head == NANODET { 30 * labels } else { 0 };
        let squash = |(index, x): (usize, &f32)| if index < score_count { x.abs() / 9.0 } else { *x };
        let numbers: Vec<f32> = numbers.iter().enumerate().map(squash).take(number_count(&detector)).collect();
        let found = decode(&detector, &numbers, &map);
        let wide: Vec<f64> = numbers.iter().map(|x| f64::from(*x)).collect();
        let mut all = twin(head, &wide, labels);
        prop_assume!(all.iter().all(|(_, score, _)| (score - f64::from(threshold)).abs() > 1e-5));
        all.retain(|(_, score, _)| *score > f64::from(threshold));
        prop_assert_eq!(found.len(), all.len());
        for (one, (class, score, edges)) in found.iter().zip(all) {
            prop_assert_eq!(one.class as usize, class);
            prop_assert!((f64::from(one.score) - score).abs() < 1e-5, "{:?}: {}", one, score);
            let pads = [map.pad_x, map.pad_y, map.pad_x, map.pad_y].map(f64::from);
            let scales = [map.scale_x, map.scale_y, map.scale_x, map.scale_y].map(f64::from);
            for (index, edge) in [one.x0, one.y0, one.x1, one.y1].into_iter().enumerate() {
                let expected = (edges[index] - pads[index]) * scales[index];
                let slack = 1e-3 + expected.abs() * 1e-4;
                prop_assert!((f64::from(edge) - expected).abs() < slack, "{:?}: edge {} at {}", one, index, expected);
            }
        }
    }

    #[test]
    fn whatever_the_numbers_each_box_is_one(
        (head, labels) in heads(),
        numbers in vec(any::<f32>(), NUMBER_COUNT_MAX),
        map in (any::<f32>(), any::<f32>(), any::<f32>(), any::<f32>()),
        threshold in 0.0f32..=1.0,
    ) {
        let detector = detector(head, &LABELS[..labels], threshold);
        let map = TensorMap { scale_x: map.0, scale_y: map.1, pad_x: map.2, pad_y: map.3 };
        let found = decode(&detector, &numbers[..number_count(&detector)], &map);
        prop_assert!(found.len() <= 2 * 30);
        for one in &found {
            prop_assert!((one.class as usize) < labels);
            prop_assert!(one.score > threshold && one.score <= 1.0, "{one:?}");
            let edges = [one.x0, one.y0, one.x1, one.y1];
            prop_assert!(edges.iter().all(|edge| edge.is_finite()), "{one:?}");
            prop_assert!(one.x0 < one.x1 && one.y0 < one.y1, "{one:?}");
        }
    }
}
