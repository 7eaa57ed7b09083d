//! Boxes worked out with pencil and paper.

use super::*;

fn near(found: &Detection, class: u32, score: f32, edges: [f32; 4]) {
    let Detection { x0, y0, x1, y1, .. } = *found;
    assert_eq!(found.class, class);
    assert!((found.score - score).abs() < 1e-5, "{found:?} instead of {score}");
    assert!([x0, y0, x1, y1].iter().zip(edges).all(|(a, b)| (a - b).abs() < 1e-2), "{found:?} instead of {edges:?}");
}

#[test]
fn nanodet_distances_are_expectations_about_the_cells_centre() {
    let detector = detector(NANODET, &["a", "b"], 0.4);
    // Stride 8: 4 x 6 cells; stride 16: 2 x 3 cells.
    let mut numbers = vec![0.0; number_count(&detector)];
    let (scores, boxes) = numbers.split_at_mut((24 + 6) * 2);
    // Stride 16, column 1, row 2: centre (24, 40). Scores 0.3 and 0.9.
    let cell = 5;
    scores[(24 + cell) * 2..][..2].copy_from_slice(&[0.3, 0.9]);
    // Left: bin 1. Top: bin 0. Right: bins 2 and 3 alike. Bottom: all bins alike, that is 2.
    let sides = &mut boxes[24 * 20 + cell * 20..][..20];
    sides[1] = 200.0;
    sides[5] = 200.0;
    (sides[12], sides[13]) = (200.0, 200.0);
    let found = decode(&detector, &numbers, &IDENTITY);
    assert_eq!(found.len(), 1);
    near(&found[0], 1, 0.9, [24.0 - 16.0, 40.0, 24.0 + 2.5 * 16.0, 40.0 + 2.0 * 16.0]);
    // Letterboxed with 4 columns at the left, 2 source pixels to a tensor pixel, 3 rows to one.
    let map = TensorMap { scale_x: 2.0, scale_y: 3.0, pad_x: 4.0, pad_y: 0.0 };
    near(&decode(&detector, &numbers, &map)[0], 1, 0.9, [8.0, 120.0, 120.0, 216.0]);
}

/// Writes channel values of `anchor` at `cell` of a grid of `plane` cells.
fn set(grid: &mut [f32], plane: usize, channels: usize, anchor: usize, cell: usize, values: &[f32]) {
    for (channel, value) in values.iter().enumerate() {
        grid[(anchor * channels + channel) * plane + cell] = *value;
    }
}

#[test]
fn yolov2_with_one_label_scores_by_objectness() {
    let detector = detector(YOLOV2, &["face"], 0.5);
    let mut numbers = vec![-9.0; number_count(&detector)];
    // Anchor 1 (8 x 4 pixels), row 1, column 0 of 3 x 2 cells; sigmoid(ln 9) = 0.9, e^ln 2 = 2.
    set(&mut numbers, 6, 5, 1, 2, &[0.0, 3f32.ln(), 2f32.ln(), 0.0, 9f32.ln()]);
    let found = decode(&detector, &numbers, &IDENTITY);
    assert_eq!(found.len(), 1);
    near(&found[0], 0, 0.9, [8.0 - 8.0, 28.0 - 2.0, 8.0 + 8.0, 28.0 + 2.0]);
}

#[test]
fn yolov2_with_more_labels_scores_by_softmax() {
    let detector = detector(YOLOV2, &["a", "b"], 0.5);
    let mut numbers = vec![-9.0; number_count(&detector)];
    // Softmax of 0 and ln 3 is 0.25 and 0.75.
    set(&mut numbers, 6, 7, 0, 5, &[0.0, 0.0, 0.0, 0.0, 9f32.ln(), 0.0, 3f32.ln()]);
    let found = decode(&detector, &numbers, &IDENTITY);
    assert_eq!(found.len(), 1);
    near(&found[0], 1, 0.675, [24.0 - 8.0, 40.0 - 16.0, 24.0 + 8.0, 40.0 + 16.0]);
    // 0.9 * 0.55 is below the threshold that objectness alone passes.
    set(&mut numbers, 6, 7, 0, 5, &[0.0, 0.0, 0.0, 0.0, 9f32.ln(), 0.0, (0.55f32 / 0.45).ln()]);
    assert!(decode(&detector, &numbers, &IDENTITY).is_empty());
}

#[test]
fn resnet_anchor_scores_by_sigmoid_and_caps_sizes() {
    let detector = detector(RESNET, &["a", "b"], 0.5);
    let mut numbers = vec![-9.0; number_count(&detector)];
    // Stride 16, anchor 0 (30 x 40), row 0, column 1 of 3 x 2 cells; 0.9 * 0.8.
    let second = 14 * 24;
    set(&mut numbers[second..], 6, 7, 0, 1, &[0.0, 0.0, 0.0, 2f32.ln(), 9f32.ln(), 4f32.ln(), 0.0]);
    let found = decode(&detector, &numbers, &IDENTITY);
    assert_eq!(found.len(), 1);
    near(&found[0], 0, 0.72, [24.0 - 15.0, 8.0 - 40.0, 24.0 + 15.0, 8.0 + 40.0]);
    set(&mut numbers[second..], 6, 7, 0, 1, &[0.0, 0.0, 100.0]);
    let width = 30.0 * 8f32.exp();
    let found = decode(&detector, &numbers, &IDENTITY);
    assert!((found[0].x1 - found[0].x0 - width).abs() < 0.1, "{found:?}");
}

#[test]
fn a_score_at_the_threshold_is_not_above_it() {
    let detector = detector(NANODET, &["a", "b"], 0.5);
    let mut numbers = vec![0.0; number_count(&detector)];
    (numbers[0], numbers[2], numbers[5]) = (0.5, 0.500_001, 1.5);
    let found = decode(&detector, &numbers, &IDENTITY);
    assert_eq!(found.iter().map(|one| (one.class, one.score)).collect::<Vec<_>>(), [(0, 0.500_001), (1, 1.0)]);
}

#[test]
fn a_number_that_is_none_drops_its_box_and_no_other() {
    for (head, labels) in [(NANODET, &["a", "b"][..]), (YOLOV2, &["a"]), (YOLOV2, &["a", "b"]), (RESNET, &["a", "b"])] {
        let detector = detector(head, labels, 0.1);
        let clean: Vec<f32> = (0..number_count(&detector)).map(|index| 0.5 + (index % 7) as f32 / 20.0).collect();
        let whole = decode(&detector, &clean, &IDENTITY);
        assert!(whole.len() > 10);
        for index in 0..clean.len() {
            let mut broken = clean.clone();
            broken[index] = f32::NAN;
            let found = decode(&detector, &broken, &IDENTITY);
            // A NaN class may leave its box to another class, but moves no edge.
            let edges = |one: &Detection| [one.x0, one.y0, one.x1, one.y1];
            assert!(found.iter().all(|one| whole.iter().any(|other| edges(one) == edges(other))), "{head}: {index}");
            let intact = found.iter().filter(|one| whole.contains(one)).count();
            assert!(intact >= whole.len() - 1 && found.len() <= whole.len(), "{head}: {index}");
        }
    }
}
