use super::*;
use crate::generate::{Frame, any_plan, frames, noise};
use crate::graph::tests::{compile, numbers, plain};
use crate::{DecodeScale, FrameView};
use proptest::prelude::*;

fn run(preprocessor: &mut Preprocessor, mut view: FrameView<'_>) -> (Vec<f32>, TensorMap) {
    let mut map = None;
    let plan = preprocessor.plan().clone();
    let found = numbers(&plan, |tensor| {
        let Ok(found) = preprocessor.run(&mut view, tensor);
        map = Some(found);
    });
    (found, map.expect("it ran"))
}

fn preprocessor(plan: &Plan) -> Preprocessor {
    Preprocessor::new(plan.clone()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_used_preprocessor_gives_what_a_new_one_gives(
        frames in prop::collection::vec(frames(20), 4),
        plan in any_plan(20),
    ) {
        let mut used = preprocessor(&plan);
        for frame in frames.iter().chain(&frames) {
            prop_assert_eq!(run(&mut used, frame.view()), run(&mut preprocessor(&plan), frame.view()));
        }
    }

    #[test]
    fn pixels_that_are_not_scaled_are_not_interpolated(frame in frames(40)) {
        let plan = plain(frame.raw.width, frame.raw.height, "");
        let (found, _) = run(&mut preprocessor(&plan), frame.view());
        prop_assert!(found.iter().all(|number| number.fract() == 0.0));
    }
}

#[test]
fn the_map_leads_from_a_mark_in_the_tensor_to_the_mark_in_the_source() {
    // A white block at 60..80 x 20..30 of a black frame.
    let mut frame = Frame::rgb(200, 100, vec![0; 60_000]);
    for y in 20..30 {
        frame.data[(y * 200 + 60) * 3..(y * 200 + 80) * 3].fill(255);
    }
    for (crop, fit) in
        [("", "stretch"), ("", "letterbox"), ("", "pad_right_bottom"), ("box = [0.25, 0.1, 0.5, 0.4]", "letterbox")]
    {
        let crop = if crop.is_empty() { String::new() } else { format!("{{ op = \"crop\", {crop} }},") };
        let plan = compile(&format!(
            r#"{{ op = "decode" }}, {crop} {{ op = "resize", fit = {fit:?}, width = 160, height = 120 }},
            {{ op = "layout", order = "nchw" }}, {{ op = "cast", dtype = "f32" }}"#
        ));
        let (out, map) = run(&mut preprocessor(&plan.unwrap()), frame.view());
        let bright: Vec<_> = (0..160 * 120).filter(|at| out[*at] > 127.0).map(|at| (at % 160, at / 160)).collect();
        let x0 = bright.iter().map(|at| at.0).min().unwrap() as f32;
        let x1 = bright.iter().map(|at| at.0).max().unwrap() as f32 + 1.0;
        let y0 = bright.iter().map(|at| at.1).min().unwrap() as f32;
        let y1 = bright.iter().map(|at| at.1).max().unwrap() as f32 + 1.0;
        let (found, found_end) = (map.to_source(x0, y0), map.to_source(x1, y1));
        for (found, expected) in [(found.0, 60.0), (found.1, 20.0), (found_end.0, 80.0), (found_end.1, 30.0)] {
            assert!((found - expected).abs() < 0.7, "{crop} {fit}: {found} instead of {expected}");
        }
    }
}

/// A slope over the whole image: its level at a point says which point of the source a tensor's number shows.
#[test]
fn a_scaled_frame_lies_where_the_whole_one_does() {
    let (width, height) = (1003u32, 601u32);
    let plan = compile(
        r#"{ op = "decode" }, { op = "crop", box = [0.2, 0, 0.9, 0.8] },
        { op = "resize", fit = "letterbox", width = 100, height = 100, filter = "linear" },
        { op = "layout", order = "nchw" }, { op = "cast", dtype = "f32" }"#,
    );
    let mut preprocessor = preprocessor(&plan.unwrap());
    let slope = |count: f64, x: f64| (255.0 * x / count).clamp(0.0, 255.0);
    let image = |side: u32| {
        let (columns, rows) = (width.div_ceil(side), height.div_ceil(side));
        let centre = |at: u32| (f64::from(at) + 0.5) * f64::from(side);
        let pixel = |x: u32, y: u32| {
            [slope(width.into(), centre(x)), slope(height.into(), centre(y)), 0.0].map(|level| level.round() as u8)
        };
        (0..rows).flat_map(|y| (0..columns).flat_map(move |x| pixel(x, y))).collect::<Vec<u8>>()
    };
    let full = image(1);
    let (whole, whole_map) = run(&mut preprocessor, FrameView::rgb(&full, width, height).unwrap());
    for (scale, side) in [(DecodeScale::Half, 2), (DecodeScale::Quarter, 4), (DecodeScale::Eighth, 8)] {
        let pixels = image(side);
        let view = FrameView::scaled_rgb(&pixels, (width, height), scale).unwrap();
        let (scaled, map) = run(&mut preprocessor, view);
        assert_eq!(map, whole_map, "boxes come back to the source's own pixels");
        let off = whole.iter().zip(&scaled).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // A step of the slope is a quarter of a level; half a tensor's pixel would be more than one.
        assert!(off <= 1.01, "{scale:?}: {off} levels off");
    }
    // The same sizes again after another: nothing of the former frame is kept.
    assert_eq!(run(&mut preprocessor, FrameView::rgb(&full, width, height).unwrap()).0, whole);
}

#[test]
fn padding_is_normalised_in_the_order_of_the_channels() {
    let plan = compile(
        r#"{ op = "decode" }, { op = "resize", fit = "letterbox", width = 4, height = 8, pad = [30, 20, 10] },
        { op = "convert", color = "bgr" }, { op = "normalize", mean = [0, 10, 20], std = [1, 2, 5] },
        { op = "layout", order = "nchw" }"#,
    );
    let frame = Frame::rgb(2, 2, vec![100; 12]);
    let (out, map) = run(&mut preprocessor(&plan.unwrap()), frame.view());
    assert_eq!((out[0], out[32], out[64]), (10.0, 5.0, 2.0), "the first row is padding");
    assert_eq!((out[8], out[40], out[72]), (100.0, 45.0, 16.0), "the third row is the image");
    assert_eq!((map.pad_x, map.pad_y, map.scale_x, map.scale_y), (0.0, 2.0, 0.5, 0.5));
}

#[test]
fn a_large_frame_is_exact_too() {
    let frame = Frame::rgb(1920, 1080, noise(3, 1920 * 1080 * 3));
    for filter in ["linear", "area"] {
        let plan = plain(416, 234, &format!("filter = {filter:?}"));
        let (found, _) = run(&mut preprocessor(&plan), frame.view());
        let steps = crate::graph::steps::steps(&plan, &frame.view(), DecodeScale::Full, 1, None);
        let expected = &steps.last().unwrap().picture.numbers;
        let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 0.01, "{filter}: {off}");
    }
}

#[test]
#[should_panic(expected = "numbers in the tensor")]
fn the_tensor_must_have_its_length() {
    let mut words = [0f32; 11];
    let Ok(_) = preprocessor(&plain(2, 2, ""))
        .run(&mut Frame::rgb(2, 2, vec![0; 12]).view(), bytemuck::cast_slice_mut(&mut words));
}
