use super::*;
use crate::input::tests::plain;
use crate::sample::tests::{assert_close, frames, reference, specs};
use crate::{DataType, Preprocessor};
use proptest::prelude::*;

fn detection(x0: f32, y0: f32, x1: f32, y1: f32) -> Detection {
    Detection { class: 0, score: 1.0, x0, y0, x1, y1 }
}

const SQUARE: CropSpec = CropSpec { shape: CropShape::Square, margin: 0.1 };
const BOX: CropSpec = CropSpec { shape: CropShape::Box, margin: 0.1 };

#[test]
fn the_table_is_read_and_its_margin_checked() {
    assert_eq!(toml::from_str::<CropSpec>("shape = \"square\"\nmargin = 0.1").unwrap(), SQUARE);
    assert!(toml::from_str::<CropSpec>("shape = \"box\"\nmargin = 0\nfoo = 1").is_err());
    assert_eq!(SQUARE.check(), Ok(()));
    for margin in [-0.1, 11.0, f32::INFINITY] {
        assert_eq!(CropSpec { margin, ..BOX }.check(), Err(CropSpecError::Margin(margin)));
    }
    assert!(CropSpec { margin: f32::NAN, ..BOX }.check().is_err());
}

#[test]
fn a_square_has_the_longer_side_and_a_box_its_own() {
    let found = detection(100.0, 100.0, 120.0, 200.0);
    assert_eq!(crop_rect(&found, &SQUARE, 640, 480), Rect { x0: 50.0, y0: 90.0, x1: 170.0, y1: 210.0 });
    assert_eq!(crop_rect(&found, &BOX, 640, 480), Rect { x0: 98.0, y0: 90.0, x1: 122.0, y1: 210.0 });
    let at_the_edge = crop_rect(&detection(-10.0, 0.0, 10.0, 20.0), &CropSpec { margin: 0.0, ..BOX }, 640, 480);
    assert_eq!(at_the_edge, Rect { x0: -10.0, y0: 0.0, x1: 10.0, y1: 20.0 }, "it may reach over the edge");
}

#[test]
fn a_box_without_area_or_image_gives_the_nearest_pixel() {
    let nan = f32::NAN;
    for (found, x0, y0) in [
        (detection(5.5, 6.5, 5.5, 9.0), 5.0, 7.0),
        (detection(9.0, 9.0, 5.0, 5.0), 7.0, 7.0),
        (detection(700.0, 10.0, 800.0, 20.0), 639.0, 15.0),
        (detection(-20.0, -20.0, -10.0, -10.0), 0.0, 0.0),
        (detection(nan, 10.0, 20.0, 20.0), 0.0, 15.0),
        (detection(nan, nan, nan, nan), 0.0, 0.0),
        (detection(f32::NEG_INFINITY, 0.0, f32::INFINITY, 10.0), 0.0, 5.0),
        (detection(-3e38, -3e38, 3e38, 3e38), 0.0, 0.0),
    ] {
        for spec in [SQUARE, BOX] {
            let rect = crop_rect(&found, &CropSpec { margin: 1.0, ..spec }, 640, 480);
            assert_eq!(rect, Rect { x0, y0, x1: x0 + 1.0, y1: y0 + 1.0 }, "{found:?} {spec:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_crop_equals_its_naive_twin(
        frame in frames(30),
        spec in specs(30),
        corner in (-20.0f32..40.0, -20.0f32..40.0),
        size in (0.1f32..50.0, 0.1f32..50.0),
    ) {
        let rect = Rect { x0: corner.0, y0: corner.1, x1: corner.0 + size.0, y1: corner.1 + size.1 };
        let [x0, y0, x1, y1] = [rect.x0, rect.y0, rect.x1, rect.y1].map(f64::from);
        let window = Window { left: x0, top: y0, width: x1 - x0, height: y1 - y0 };
        let place =
            Placement::new(spec.resize, window.width, window.height, spec.width as usize, spec.height as usize);
        let mut out = vec![f32::NAN; spec.tensor_len()];
        let mut cropper = Cropper::new(&spec).unwrap();
        cropper.run_f32(&frame.view(), &rect, &mut out);
        assert_close(&out, &reference(&frame, &spec, &window, &place), &spec);
    }

    #[test]
    fn a_crop_of_the_whole_frame_is_the_frames_tensor(frame in frames(30), spec in specs(30)) {
        let rect = Rect { x0: 0.0, y0: 0.0, x1: frame.raw.width as f32, y1: frame.raw.height as f32 };
        let mut cropped = vec![f32::NAN; spec.tensor_len()];
        let mut resized = cropped.clone();
        Cropper::new(&spec).unwrap().run_f32(&frame.view(), &rect, &mut cropped);
        Preprocessor::new(&spec).unwrap().run_f32(&frame.view(), &mut resized);
        prop_assert_eq!(cropped, resized);
    }

    #[test]
    fn no_numbers_of_a_box_make_a_crop_panic_or_leave_a_gap(
        frame in frames(8),
        corners in prop::array::uniform4(any::<f32>()),
        margin in any::<f32>(),
    ) {
        let [x0, y0, x1, y1] = corners;
        let spec = plain(5, 4);
        let mut cropper = Cropper::new(&spec).unwrap();
        for shape in [CropShape::Square, CropShape::Box] {
            let found = detection(x0, y0, x1, y1);
            let rect = crop_rect(&found, &CropSpec { shape, margin }, frame.raw.width, frame.raw.height);
            for rect in [rect, Rect { x0, y0, x1, y1 }] {
                let mut out = vec![f32::NAN; spec.tensor_len()];
                cropper.run_f32(&frame.view(), &rect, &mut out);
                prop_assert!(out.iter().all(|level| (0.0..=255.0).contains(level)), "{:?}", rect);
            }
        }
    }
}

#[test]
fn u8_crops_hold_grey_levels() {
    let data: Vec<u8> = (0..48).collect();
    let view = FrameView::rgb(&data, 4, 4).unwrap();
    let spec = InputSpec { dtype: DataType::U8, ..plain(1, 1) };
    let mut out = [0; 3];
    let pixel = Rect { x0: 2.0, y0: 1.0, x1: 3.0, y1: 2.0 };
    Cropper::new(&spec).unwrap().run_u8(&view, &pixel, &mut out);
    assert_eq!(out, [18, 19, 20]);
}
