use super::*;
use proptest::prelude::*;

fn detection(class: u32, score: f32, x0: f32, y0: f32, x1: f32, y1: f32) -> Detection {
    Detection { class, score, x0, y0, x1, y1, row: 0 }
}

/// Boxes of few classes, on a coarse grid, with few scores: many overlaps, many ties.
fn candidates() -> impl Strategy<Value = Vec<Detection>> {
    let side = 1u32..12;
    let one = (0u32..3, 0u32..8, 0u32..20, 0u32..20, side.clone(), side).prop_map(|(class, score, x, y, w, h)| {
        let (x, y) = (x as f32, y as f32);
        detection(class, score as f32 / 8.0, x, y, x + w as f32, y + h as f32)
    });
    prop::collection::vec(one, 0..60)
}

/// The naive twin: each class by itself, boxes counted pixel by pixel (the grid's boxes have whole sides).
fn reference(mut all: Vec<Detection>, threshold: f32, candidates_max: usize) -> Vec<Detection> {
    all.sort_by(best_first);
    all.truncate(candidates_max);
    let overlap = |a: &Detection, b: &Detection| {
        let inside = |d: &Detection, x: i32, y: i32| {
            (d.x0 as i32..d.x1 as i32).contains(&x) && (d.y0 as i32..d.y1 as i32).contains(&y)
        };
        let cells: Vec<_> = (0..32)
            .flat_map(|y| (0..32).map(move |x| (x, y)))
            .map(|(x, y)| (inside(a, x, y), inside(b, x, y)))
            .collect();
        let both = cells.iter().filter(|cell| cell.0 && cell.1).count();
        let either = cells.iter().filter(|cell| cell.0 || cell.1).count();
        both as f32 / either as f32
    };
    let mut result = Vec::new();
    for class in 0..3 {
        let mut rest: Vec<_> = all.iter().filter(|one| one.class == class).copied().collect();
        while !rest.is_empty() {
            let best = rest.remove(0);
            rest.retain(|other| overlap(&best, other) <= threshold);
            result.push(best);
        }
    }
    result.sort_by(best_first);
    result
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn nms_equals_its_naive_twin(
        candidates in candidates(),
        threshold in 0.0f32..1.0,
        candidates_max in 0usize..80,
        detections_max in 0usize..20,
    ) {
        let expected = reference(candidates.clone(), threshold, candidates_max);
        let mut found = candidates;
        let dropped = nms(&mut found, threshold, candidates_max, detections_max);
        prop_assert_eq!(dropped, expected.len().saturating_sub(detections_max));
        prop_assert_eq!(&found[..], &expected[..expected.len().min(detections_max)]);
    }

    #[test]
    fn the_order_of_candidates_does_not_matter(
        (candidates, shuffled) in candidates().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let (mut a, mut b) = (candidates, shuffled);
        let dropped = (nms(&mut a, 0.5, 30, 10), nms(&mut b, 0.5, 30, 10));
        prop_assert_eq!(a, b);
        prop_assert_eq!(dropped.0, dropped.1);
    }

    #[test]
    fn iou_is_symmetric_and_between_0_and_1(corners in prop::array::uniform8(-1e6f32..1e6)) {
        let [a, b, c, d, e, f, g, h] = corners;
        let (one, other) = (detection(0, 0.0, a, b, c, d), detection(0, 0.0, e, f, g, h));
        let both = iou(&one, &other);
        prop_assert!((0.0..=1.0).contains(&both));
        prop_assert_eq!(both, iou(&other, &one));
    }
}

#[test]
fn boxes_of_other_classes_do_not_suppress() {
    let mut both = vec![detection(0, 0.9, 0.0, 0.0, 9.0, 9.0), detection(1, 0.8, 0.0, 0.0, 9.0, 9.0)];
    assert_eq!(nms(&mut both, 0.5, 100, 100), 0);
    assert_eq!(both.len(), 2);
}

#[test]
fn what_is_no_number_is_dropped_before_it_takes_a_candidates_place() {
    let good = detection(0, 0.1, 0.0, 0.0, 9.0, 9.0);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut all = vec![
            Detection { score: bad, ..good },
            Detection { x0: bad, ..good },
            Detection { y0: bad, ..good },
            Detection { x1: bad, ..good },
            Detection { y1: bad, ..good },
            good,
        ];
        assert_eq!(nms(&mut all, 0.5, 1, 10), 0);
        assert_eq!(all, [good]);
    }
}

#[test]
fn iou_of_known_boxes() {
    let a = detection(0, 0.0, 0.0, 0.0, 10.0, 10.0);
    assert_eq!(iou(&a, &a), 1.0);
    assert_eq!(iou(&a, &detection(0, 0.0, 5.0, 0.0, 15.0, 10.0)), 1.0 / 3.0);
    assert_eq!(iou(&a, &detection(0, 0.0, 10.0, 0.0, 20.0, 10.0)), 0.0, "they touch");
    let empty = detection(0, 0.0, 5.0, 5.0, 5.0, 5.0);
    assert_eq!(iou(&empty, &empty), 0.0);
}

#[test]
fn a_box_is_cut_at_the_images_edges() {
    let mut over = detection(0, 0.5, -3.0, 5.0, 700.0, 490.5);
    clamp_to(&mut over, 640, 480);
    assert_eq!(over, detection(0, 0.5, 0.0, 5.0, 640.0, 480.0));
}
