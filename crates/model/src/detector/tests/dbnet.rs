//! DBNet's regions by hand, and against a naive twin that fills one after another.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const COLUMNS: usize = 32;
const ROWS: usize = 48;

fn dbnet(unclip_ratio: f32, side_min: usize) -> Detector {
    let head = format!(
        r#"dbnet = {{ output = "map", threshold = 0.3, unclip_ratio = {unclip_ratio:?}, side_min = {side_min} }}"#
    );
    end_to_end(&head)
}

fn end_to_end(head: &str) -> Detector {
    let start = DETECTOR.find("[detector.head").expect("it is there");
    let text = format!("{}[detector.head]\n{head}\n", &DETECTOR[..start])
        .replace("width = 416, height = 416", "width = 32, height = 48")
        .replace(r#"["person", "car"]"#, r#"["text"]"#)
        .replace("score_threshold = 0.35", "score_threshold = 0.5")
        .replace("iou_threshold = 0.6", "iou_threshold = 1.0");
    Detector::new(&load(&text).unwrap()).unwrap()
}

/// A tensor with a number for each digit of the drawing: tenths.
fn drawn(rows: &[&str]) -> Vec<f32> {
    let mut numbers = vec![0.0; COLUMNS * ROWS];
    for (y, row) in rows.iter().enumerate() {
        for (x, digit) in row.bytes().enumerate() {
            numbers[y * COLUMNS + x] = if digit == b'N' { f32::NAN } else { f32::from(digit - b'0') / 10.0 };
        }
    }
    numbers
}

/// Score, left, top, right and bottom of each box, from the top.
fn boxes(detector: &Detector, numbers: &[f32]) -> Vec<[f32; 5]> {
    let found = decode(detector, numbers, &IDENTITY);
    let mut boxes: Vec<_> = found.iter().map(|one| [one.score, one.x0, one.y0, one.x1, one.y1]).collect();
    boxes.sort_by(|a, b| a[2].total_cmp(&b[2]).then(a[1].total_cmp(&b[1])));
    boxes
}

#[test]
fn a_box_lies_around_pixels_that_touch_and_grows_by_area_over_perimeter() {
    let numbers = drawn(&["0000000", "0888800", "0666600"]);
    let [found] = boxes(&dbnet(1.5, 1), &numbers)[..] else { panic!("one region") };
    assert!((found[0] - 0.7).abs() < 1e-6, "the mean of its pixels: {found:?}");
    assert_eq!(found[1..], [0.0, 0.0, 6.0, 4.0], "4 x 2 pixels: outwards by 8 * 1.5 / 12");
    let numbers = drawn(&["0000000", "0888800", "0666600", "0000090", "0000900"]);
    let [found] = boxes(&dbnet(0.0, 1), &numbers)[..] else { panic!("corners touch") };
    assert_eq!(found[1..], [1.0, 1.0, 6.0, 5.0]);
}

#[test]
fn branches_that_meet_below_are_one_region_and_a_ring_is_not_what_it_surrounds() {
    let branches = drawn(&["90909", "90909", "90999", "99900"]);
    assert_eq!(boxes(&dbnet(0.0, 1), &branches), [[0.9, 0.0, 0.0, 5.0, 4.0]]);
    let ring = drawn(&["99999", "90009", "90809", "90009", "99999"]);
    assert_eq!(boxes(&dbnet(0.0, 1), &ring), [[0.9, 0.0, 0.0, 5.0, 5.0], [0.8, 2.0, 2.0, 3.0, 3.0]]);
}

#[test]
fn faint_thin_and_broken_regions_are_none() {
    let faint = drawn(&["444400", "444400", "000000", "999000", "999000"]);
    assert_eq!(
        boxes(&dbnet(0.0, 1), &faint),
        [[0.9, 0.0, 3.0, 3.0, 5.0]],
        "a mean of 0.4 is below the threshold of 0.5"
    );
    let thin = drawn(&["999999", "000000", "099000", "099000"]);
    assert_eq!(boxes(&dbnet(0.0, 2), &thin), [[0.9, 1.0, 2.0, 3.0, 4.0]]);
    let parted = drawn(&["99N99"]);
    assert_eq!(boxes(&dbnet(0.0, 1), &parted).len(), 2, "what is no number is no text");
    let mut infinite = drawn(&["999"]);
    infinite[1] = f32::INFINITY;
    assert!(boxes(&dbnet(0.0, 1), &infinite).is_empty());
}

#[test]
fn hostile_tensors_give_a_bounded_number_of_boxes() {
    let of = |side_min, number: fn(usize, usize) -> f32| {
        let numbers: Vec<f32> = (0..COLUMNS * ROWS).map(|cell| number(cell % COLUMNS, cell / COLUMNS)).collect();
        boxes(&dbnet(0.0, side_min), &numbers)
    };
    assert!(of(1, |_, _| f32::NAN).is_empty());
    assert!(of(1, |_, _| f32::NEG_INFINITY).is_empty());
    assert_eq!(of(1, |_, _| 1.0), [[1.0, 0.0, 0.0, 32.0, 48.0]]);
    assert_eq!(of(1, |x, y| ((x + y) % 2) as f32), [[1.0, 0.0, 0.0, 32.0, 48.0]], "a checkerboard touches at corners");
    let dots = |x, y| f32::from(u8::from(x % 2 == 0 && y % 2 == 0));
    assert_eq!(of(1, dots).len(), COLUMNS * ROWS / 4, "there cannot be more");
    assert!(of(2, dots).is_empty());
    let squares = |x, y| f32::from(u8::from(x % 4 < 3 && y % 4 < 3));
    assert_eq!(of(3, squares).len(), COLUMNS * ROWS / 16, "there cannot be more that count");
}

/// Bounds of each region, and the sum of its pixels: filled pixel by pixel.
fn naive(numbers: &[f32]) -> Vec<[f32; 5]> {
    let mut is_text: Vec<bool> = numbers.iter().map(|number| *number > 0.3).collect();
    let mut found = Vec::new();
    for start in 0..is_text.len() {
        let (mut pixels, mut waiting) = (Vec::new(), vec![start]);
        while let Some(cell) = waiting.pop() {
            if !std::mem::take(&mut is_text[cell]) {
                continue;
            }
            let (x, y) = (cell % COLUMNS, cell / COLUMNS);
            pixels.push((x, y, f64::from(numbers[cell])));
            for y in y.saturating_sub(1)..=(y + 1).min(ROWS - 1) {
                waiting.extend((x.saturating_sub(1)..=(x + 1).min(COLUMNS - 1)).map(|x| y * COLUMNS + x));
            }
        }
        let score = pixels.iter().map(|pixel| pixel.2).sum::<f64>() / pixels.len().max(1) as f64;
        if score as f32 > 0.5 {
            let of = |edge: fn(&(usize, usize, f64)) -> usize| pixels.iter().map(edge);
            let (left, top) = (of(|one| one.0).min().unwrap(), of(|one| one.1).min().unwrap());
            let (right, bottom) = (of(|one| one.0 + 1).max().unwrap(), of(|one| one.1 + 1).max().unwrap());
            found.push([score as f32, left as f32, top as f32, right as f32, bottom as f32]);
        }
    }
    found.sort_by(|a, b| a[2].total_cmp(&b[2]).then(a[1].total_cmp(&b[1])));
    found
}

proptest! {
    #[test]
    fn regions_are_those_of_a_naive_twin(share in 0.05f32..0.9, draws in vec(0f32..1.0, COLUMNS * ROWS)) {
        let numbers: Vec<f32> = draws.iter().map(|draw| if *draw < share { 0.4 + draw / 2.0 } else { 0.1 }).collect();
        let (found, expected) = (boxes(&dbnet(0.0, 1), &numbers), naive(&numbers));
        prop_assert_eq!(found.len(), expected.len());
        for (one, other) in found.iter().zip(&expected) {
            prop_assert!((one[0] - other[0]).abs() < 1e-6 && one[1..] == other[1..], "{:?} {:?}", one, other);
        }
    }
}
