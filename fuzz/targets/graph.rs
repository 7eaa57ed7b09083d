//! The `[input]` table of a manifest: an error or a plan, whose tensor has a bounded size, whose text compiles to it, and whose
//! one pass gives what its operators give one by one.
#![no_main]

use framepipe_vision::graph::steps::{Picture, Step, steps};
use framepipe_vision::graph::{Levels, Operator, SIDE_MAX};
use framepipe_vision::{Cropper, DataType, DecodeScale, FrameView, InputSpec, Plan, Preprocessor, Rect};

/// Of a larger tensor the numbers are not compared: one by one they take long.
const COMPARED_MAX: usize = 1 << 13;
/// Longest side of the frame.
const FRAME_SIDE_MAX: u32 = 40;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(spec) = toml::from_str::<InputSpec>(text) else { return };
    let Ok(input) = spec.clone().compile() else { return };
    let side = SIDE_MAX as usize;
    assert!(input.plan.shape().iter().all(|length| (1..=side).contains(length)), "{:?}", input.plan.shape());
    assert!(input.plan.tensor_bytes() <= 3 * side * side * input.plan.dtype().bytes());
    let written = toml::to_string(&spec).expect("what was read can be written");
    let again = toml::from_str::<InputSpec>(&written).expect("what was written can be read");
    assert_eq!(again.compile().expect("it compiled before").plan.shape(), input.plan.shape(), "{written}");
    let resized = spec.graph.operators.iter().map(pixels_made).max().unwrap_or(0);
    if input.plan.tensor_len().max(resized) <= COMPARED_MAX {
        compare(&input.plan, crc32fast::hash(bytes));
    }
});

/// Pixels that an operator makes at most, of a frame of [`FRAME_SIDE_MAX`].
fn pixels_made(operator: &Operator) -> usize {
    let [width, height] = match *operator {
        // The longer side is as many times as long as the frame's is.
        Operator::Resize { side: Some(side), .. } => [side, side.saturating_mul(FRAME_SIDE_MAX)],
        Operator::Resize { width, height, .. } => [width, height].map(|side| side.unwrap_or(1)),
        _ => [1, 1],
    };
    width as usize * height as usize
}

/// Runs the plan on a frame whose size and pixels follow from the text.
fn compare(plan: &Plan, hash: u32) {
    let [width, height] = [hash, hash >> 8].map(|bits| bits % FRAME_SIDE_MAX + 1);
    let noise = |at: u32| (at.wrapping_add(hash).wrapping_mul(2_654_435_761) >> 24) as u8;
    let pixels: Vec<u8> = (0..3 * width * height).map(noise).collect();
    let view = FrameView::rgb(&pixels, width, height).expect("its bytes are there");
    let mut words = vec![u32::MAX; plan.tensor_bytes().div_ceil(4)]; // not numbers
    let tensor = &mut bytemuck::cast_slice_mut(&mut words)[..plan.tensor_bytes()];
    let rect = plan.crop_spec().is_ok().then(|| {
        let [x0, y0, w, h] = [hash >> 4, hash >> 12, hash >> 16, hash >> 24].map(|bits| (bits % 64) as f32);
        Rect { x0: x0 - 20.0, y0: y0 - 20.0, x1: x0 - 19.5 + w, y1: y0 - 19.5 + h }
    });
    match rect {
        Some(rect) => Cropper::new(plan.clone()).expect("a crop's plan").run(&view, &rect, tensor),
        None => {
            let mut preprocessor = Preprocessor::new(plan.clone()).expect("a frame's plan");
            let Ok(_) = preprocessor.run(&mut { view }, tensor);
        }
    }
    let found = Picture::of_tensor(plan, tensor);
    let Some(Step { picture: expected, .. }) = steps(plan, &view, DecodeScale::Full, 1, rect.as_ref()).pop() else {
        panic!("a graph has operators");
    };
    assert_eq!((found.shape(), found.dtype), (expected.shape(), expected.dtype));
    let slack = slack(plan);
    for (at, (found, expected)) in found.numbers.iter().zip(&expected.numbers).enumerate() {
        let is_same = found == expected || (found - expected).abs() <= slack;
        assert!(is_same, "number {at}: {found} instead of {expected} (slack {slack}) of a frame of {width}x{height}");
    }
}

/// A hundredth of a grey level, or half of one where it was rounded, and what floats of the numbers' size cannot tell.
fn slack(plan: &Plan) -> f32 {
    if plan.dtype() == DataType::U8 {
        return 0.51;
    }
    let largest = |levels: &Levels| match levels {
        Levels::All(level) => level.abs(),
        Levels::Each(levels) => levels.iter().fold(0.0f32, |most, level| most.max(level.abs())),
    };
    let least = |levels: &Levels| match levels {
        Levels::All(level) => level.abs(),
        Levels::Each(levels) => levels.iter().fold(f32::MAX, |most, level| most.min(level.abs())),
    };
    let normals = plan.graph().operators.iter().filter_map(|operator| match operator {
        Operator::Normalize { scale, mean, std } => {
            let step = scale.abs() / least(std);
            Some(0.01 * step + (255.0 * step + largest(mean) / least(std)) * 4.0 * f32::EPSILON)
        }
        _ => None,
    });
    normals.fold(0.0, f32::max).max(0.01)
}
