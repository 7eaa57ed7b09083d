//! Every detector family against tests/reference/families.py, which writes the same meaning a second time in numpy: from
//! the same raw outputs come the same boxes, one by one, in the same order.

use framepipe_frame::{
    TensorMap,
    detections::Detection,
    masks::{Masks, masks},
    raw::Output,
};
use framepipe_model::{Detector, Manifest};
use framepipe_tests::findings::{differing_pixels, iou, run_python};
use serde::Deserialize;

/// Least overlap of a box with the reference's.
const IOU_MIN: f64 = 0.999;
/// Largest difference of a score from the reference's.
const SCORE_DIFFERENCE_MAX: f64 = 1e-5;

/// Largest share of masks' pixels that are others than the reference's.
const PIXEL_SHARE_MAX: f64 = 1e-4;

/// One case of `cases.json`.
#[derive(Deserialize)]
struct Case {
    name: String,
    tensors: Vec<Tensor>,
    map: [f32; 4],
    source: [u32; 2],
    boxes: Vec<(u32, f64, f64, f64, f64, f64)>,
    masks: Vec<Vec<u32>>,
    dropped: usize,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
}

/// What the postprocess stage makes of the case's raw outputs.
struct Decoded {
    found: Vec<Detection>,
    /// Boxes that the limit cuts off.
    dropped: usize,
    /// Run lengths.
    masks: Vec<Vec<u32>>,
}

fn decode(case: &Case, folder: &std::path::Path) -> Decoded {
    let manifest = Manifest::load(folder).expect("the manifest is good");
    let detector = Detector::new(&manifest).expect("so is its head");
    let bytes = std::fs::read(folder.join("raw.f32")).expect("the reference wrote it");
    let numbers: Vec<f32> = bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
    let mut rest = &numbers[..];
    let mut tensors = std::collections::BTreeMap::new();
    for tensor in &case.tensors {
        let (numbers, tail) = rest.split_at(tensor.shape.iter().product());
        tensors.insert(tensor.name.as_str(), Output { shape: tensor.shape.clone(), numbers });
        rest = tail;
    }
    assert!(rest.is_empty() && detector.outputs().len() == tensors.len(), "{}: the tensors", case.name);
    let outputs: Vec<Output<'_>> = detector.outputs().iter().map(|name| tensors[name].clone()).collect();

    let [scale_x, scale_y, pad_x, pad_y] = case.map;
    let map = TensorMap { scale_x, scale_y, pad_x, pad_y };
    let mut found = Vec::new();
    let dropped = detector.find(&outputs, &map, case.source.into(), &mut found).expect(&case.name);
    let mut drawn = Masks::new(detector.mask_bytes_max());
    detector.draw(&outputs, &map, &found, &mut drawn).expect(&case.name);
    let masks: Vec<_> = masks(drawn.bytes()).collect::<Result<_, _>>().expect(&case.name);
    assert!(masks.iter().enumerate().all(|(index, (mask, _))| mask.detection as usize == index), "{}", case.name);
    Decoded { found, dropped, masks: masks.into_iter().map(|(_, runs)| runs).collect() }
}

#[test]
fn each_family_finds_the_boxes_of_the_reference() {
    let home = tempfile::tempdir().unwrap();
    run_python("families.py", |command| {
        command.arg("--out").arg(home.path());
    });
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(home.path().join("cases.json")).unwrap()).unwrap();
    let (mut boxes, mut least, mut most) = (0, 1.0f64, 0.0f64);
    for case in &cases {
        let Decoded { found, dropped, masks } = decode(case, &home.path().join(&case.name));
        assert_eq!((found.len(), dropped), (case.boxes.len(), case.dropped), "{}: boxes, and those cut off", case.name);
        for (index, (one, other)) in found.iter().zip(&case.boxes).enumerate() {
            let (class, score, x0, y0, x1, y1) = *other;
            let overlap = iou(&[one.x0, one.y0, one.x1, one.y1].map(f64::from), &[x0, y0, x1, y1]);
            let difference = (f64::from(one.score) - score).abs();
            let is_same = one.class == class && overlap >= IOU_MIN && difference <= SCORE_DIFFERENCE_MAX;
            assert!(is_same, "{}: box {index} is {one:?}, the reference's {other:?}", case.name);
            (boxes, least, most) = (boxes + 1, least.min(overlap), most.max(difference));
        }
        let pixels = masks.iter().flatten().sum::<u32>();
        let differing: u32 = masks.iter().zip(&case.masks).map(|(one, other)| differing_pixels(one, other)).sum();
        assert_eq!(masks.len(), case.masks.len(), "{}: masks", case.name);
        assert!(f64::from(differing) <= f64::from(pixels) * PIXEL_SHARE_MAX, "{}: {differing} of {pixels}", case.name);
        let is_empty = case.name.ends_with("-empty");
        assert_eq!(found.is_empty(), is_empty, "{}: a case that says nothing", case.name);
    }
    println!("{} cases, {boxes} boxes; least overlap {least:.6}, largest difference of scores {most:.1e}", cases.len());
    assert!(cases.iter().any(|case| case.dropped > 0), "no case has more boxes than its limit");
}
