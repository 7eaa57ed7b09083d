use super::*;
use crate::input::tests::plain;
use crate::sample::tests::{Frame, assert_close, frames, noise, reference, specs};
use crate::{Color, DataType, DecodeScale};
use framepipe_frame::{RawFormat, RawFrame};
use proptest::prelude::*;

fn whole(frame: &Frame) -> Window {
    Window { left: 0.0, top: 0.0, width: f64::from(frame.raw.width), height: f64::from(frame.raw.height) }
}

fn placed(frame: &Frame, spec: &InputSpec) -> Placement {
    let (width, height) = (f64::from(frame.raw.width), f64::from(frame.raw.height));
    Placement::new(spec.resize, width, height, spec.width as usize, spec.height as usize)
}

fn expected(frame: &Frame, spec: &InputSpec) -> Vec<f64> {
    reference(frame, spec, &whole(frame), &placed(frame, spec))
}

/// A tensor that shows every number that was not written.
fn unwritten(spec: &InputSpec) -> Vec<f32> {
    vec![f32::NAN; spec.tensor_len()]
}

fn rgb(width: u32, height: u32, data: Vec<u8>) -> Frame {
    Frame { data, raw: RawFrame { format: RawFormat::Rgb24 as u32, width, height, stride: 3 * width } }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_fused_pass_equals_its_naive_twin(frame in frames(40), spec in specs(40)) {
        let mut out = unwritten(&spec);
        Preprocessor::new(&spec).unwrap().run_f32(&frame.view(), &mut out);
        assert_close(&out, &expected(&frame, &spec), &spec);
    }

    #[test]
    fn a_frame_of_the_tensors_size_equals_the_naive_twin(
        frame in frames(40),
        spec in specs(1),
        more in (0u32..3, 0u32..3),
    ) {
        // At most one side has padding, so that nothing is scaled.
        let (width, height) = (frame.raw.width + more.0, frame.raw.height + if more.0 == 0 { more.1 } else { 0 });
        let spec = InputSpec { width, height, ..spec };
        let place = placed(&frame, &spec);
        let mut out = unwritten(&spec);
        let mut preprocessor = Preprocessor::new(&spec).unwrap();
        preprocessor.run_f32(&frame.view(), &mut out);
        let same = (place.width, place.height) == (frame.raw.width as usize, frame.raw.height as usize);
        prop_assert_eq!(preprocessor.aimed.unwrap().scaled, !same);
        assert_close(&out, &expected(&frame, &spec), &spec);
    }

    #[test]
    fn u8_is_the_rounded_grey_level(frame in frames(30), spec in specs(30)) {
        let spec = InputSpec { dtype: DataType::U8, mean: [0.0; 3], std: [1.0; 3], ..spec };
        let mut out = vec![0; spec.tensor_len()];
        Preprocessor::new(&spec).unwrap().run_u8(&frame.view(), &mut out);
        for (found, expected) in out.iter().zip(expected(&frame, &spec)) {
            prop_assert!((f64::from(*found) - expected).abs() < 0.501, "{} {}", found, expected);
        }
    }

    #[test]
    fn a_used_preprocessor_gives_what_a_new_one_gives(
        frames in prop::collection::vec(frames(20), 4),
        spec in specs(20),
    ) {
        let mut used = Preprocessor::new(&spec).unwrap();
        for frame in frames.iter().chain(&frames) {
            let (mut out, mut fresh) = (unwritten(&spec), unwritten(&spec));
            let map = used.run_f32(&frame.view(), &mut out);
            let fresh_map = Preprocessor::new(&spec).unwrap().run_f32(&frame.view(), &mut fresh);
            prop_assert_eq!(&out, &fresh);
            prop_assert_eq!(map, fresh_map);
        }
    }
}

#[test]
fn the_map_leads_from_a_mark_in_the_tensor_to_the_mark_in_the_source() {
    // A white block at 60..80 x 20..30 of a black frame.
    let (width, height) = (200, 100);
    let mut frame = rgb(width, height, vec![0; 60_000]);
    for y in 20..30 {
        frame.data[(y * 200 + 60) * 3..(y * 200 + 80) * 3].fill(255);
    }
    for resize in [ResizePolicy::Stretch, ResizePolicy::Letterbox, ResizePolicy::PadRightBottom] {
        let spec = InputSpec { resize, ..plain(160, 120) };
        let mut out = unwritten(&spec);
        let map = Preprocessor::new(&spec).unwrap().run_f32(&frame.view(), &mut out);
        let bright: Vec<_> = (0..160 * 120).filter(|at| out[*at] > 127.0).map(|at| (at % 160, at / 160)).collect();
        let x0 = bright.iter().map(|at| at.0).min().unwrap() as f32;
        let x1 = bright.iter().map(|at| at.0).max().unwrap() as f32 + 1.0;
        let y0 = bright.iter().map(|at| at.1).min().unwrap() as f32;
        let y1 = bright.iter().map(|at| at.1).max().unwrap() as f32 + 1.0;
        let (found, found_end) = (map.to_source(x0, y0), map.to_source(x1, y1));
        for (found, expected) in [(found.0, 60.0), (found.1, 20.0), (found_end.0, 80.0), (found_end.1, 30.0)] {
            assert!((found - expected).abs() < 0.7, "{resize:?}: {found} instead of {expected}");
        }
    }
}

/// A slope over the whole image: its level at a point says which point of the source a tensor's number shows.
#[test]
fn a_scaled_frame_lies_where_the_whole_one_does() {
    let (width, height) = (1003u32, 601u32);
    let spec = InputSpec { resize: ResizePolicy::Letterbox, ..plain(100, 100) };
    let mut preprocessor = Preprocessor::new(&spec).unwrap();
    let mut whole = unwritten(&spec);
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
    let whole_map = preprocessor.run_f32(&FrameView::rgb(&full, width, height).unwrap(), &mut whole);
    for (scale, side) in [(DecodeScale::Half, 2), (DecodeScale::Quarter, 4), (DecodeScale::Eighth, 8)] {
        let pixels = image(side);
        let mut scaled = unwritten(&spec);
        let view = FrameView::scaled_rgb(&pixels, (width, height), scale).unwrap();
        assert_eq!(preprocessor.run_f32(&view, &mut scaled), whole_map, "boxes come back to the source's own pixels");
        let off = whole.iter().zip(&scaled).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // A step of the slope is a quarter of a level; half a tensor's pixel would be more than one.
        assert!(off <= 1.01, "{scale:?}: {off} levels off");
    }
    // The same sizes again after another: nothing of the former frame is kept.
    let mut again = unwritten(&spec);
    preprocessor.run_f32(&FrameView::rgb(&full, width, height).unwrap(), &mut again);
    assert_eq!(again, whole);
}

#[test]
fn padding_is_normalised_in_the_order_of_color() {
    let spec = InputSpec {
        resize: ResizePolicy::Letterbox,
        color: Color::Bgr,
        pad: [10.0, 20.0, 30.0],
        mean: [0.0, 10.0, 20.0],
        std: [1.0, 2.0, 5.0],
        ..plain(4, 8)
    };
    let mut out = unwritten(&spec);
    let map = Preprocessor::new(&spec).unwrap().run_f32(&rgb(2, 2, vec![100; 12]).view(), &mut out);
    assert_eq!((out[0], out[32], out[64]), (10.0, 5.0, 2.0), "the first row is padding");
    assert_eq!((out[8], out[40], out[72]), (100.0, 45.0, 16.0), "the third row is the image");
    assert_eq!((map.pad_x, map.pad_y, map.scale_x, map.scale_y), (0.0, 2.0, 0.5, 0.5));
}

#[test]
fn a_large_frame_is_exact_too() {
    let frame = rgb(1920, 1080, noise(3, 1920 * 1080 * 3));
    let spec = InputSpec { resize: ResizePolicy::Letterbox, std: [255.0; 3], ..plain(416, 416) };
    let mut out = unwritten(&spec);
    Preprocessor::new(&spec).unwrap().run_f32(&frame.view(), &mut out);
    assert_close(&out, &expected(&frame, &spec), &spec);
}

#[test]
#[should_panic(expected = "dtype")]
fn the_function_must_fit_the_dtype() {
    let spec = plain(2, 2);
    Preprocessor::new(&spec).unwrap().run_u8(&rgb(2, 2, vec![0; 12]).view(), &mut [0; 12]);
}
