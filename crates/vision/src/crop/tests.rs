use super::*;
use crate::generate::{Frame, frames, noise};
use crate::graph::tests::{compile, numbers};
use proptest::prelude::*;

/// The crop of a detection stretched to planes of f32.
fn cropper(shape: &str, width: u32, height: u32, filter: &str) -> Cropper {
    let plan = compile(&format!(
        r#"{{ op = "crop", detection = {shape:?} }},
        {{ op = "resize", fit = "stretch", width = {width}, height = {height}, filter = {filter:?} }},
        {{ op = "layout", order = "nchw" }}, {{ op = "cast", dtype = "f32" }}"#
    ));
    Cropper::new(plan.unwrap()).unwrap()
}

fn run(cropper: &mut Cropper, view: &FrameView<'_>, rect: &Rect) -> Vec<f32> {
    let plan = cropper.plan.clone();
    numbers(&plan, |tensor| cropper.run(view, rect, tensor))
}

fn detection(x0: f32, y0: f32, x1: f32, y1: f32) -> Detection {
    Detection { class: 0, score: 1.0, x0, y0, x1, y1, row: 0 }
}

const SQUARE: CropSpec = CropSpec { shape: CropShape::Square, margin: 0.1 };
const BOX: CropSpec = CropSpec { shape: CropShape::Box, margin: 0.1 };

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
    fn no_numbers_of_a_box_make_a_crop_panic_or_leave_a_gap(
        frame in frames(8),
        corners in prop::array::uniform4(any::<f32>()),
        margin in any::<f32>(),
    ) {
        let [x0, y0, x1, y1] = corners;
        for filter in ["linear", "area"] {
            let mut cropper = cropper("square", 5, 4, filter);
            for shape in [CropShape::Square, CropShape::Box] {
                let found = detection(x0, y0, x1, y1);
                let rect = crop_rect(&found, &CropSpec { shape, margin }, frame.raw.width, frame.raw.height);
                for rect in [rect, Rect { x0, y0, x1, y1 }] {
                    let out = run(&mut cropper, &frame.view(), &rect);
                    prop_assert!(out.iter().all(|level| (-0.01..=255.01).contains(level)), "{:?} {:?}", rect, out);
                }
            }
        }
    }

    #[test]
    fn the_part_of_a_frame_that_a_crop_reads_gives_what_the_frame_gives(
        width in 1u32..40,
        height in 1u32..40,
        corner in (-20.0f32..50.0, -20.0f32..50.0),
        size in (0.1f32..50.0, 0.1f32..50.0),
        filter in prop_oneof![Just("linear"), Just("area")],
    ) {
        let frame = Frame::rgb(width, height, noise(9, (3 * width * height) as usize));
        let rect = Rect { x0: corner.0, y0: corner.1, x1: corner.0 + size.0, y1: corner.1 + size.1 };
        let region = Cropper::reads(&rect, (width, height));
        let rows = (region.top..region.bottom).flat_map(|y| {
            frame.view().row(y)[3 * region.left as usize..3 * region.right as usize].iter().copied()
        });
        let pixels: Vec<u8> = rows.collect();
        let part = FrameView::part(&pixels, (width, height), &region).unwrap();
        let mut cropper = cropper("box", 7, 6, filter);
        prop_assert_eq!(run(&mut cropper, &part, &rect), run(&mut cropper, &frame.view(), &rect));
    }
}

proptest! {
    /// At a scale of one, so that no pixel is a mean of others; the picture is not as wide as the tensor.
    #[test]
    fn a_turned_crop_is_the_crop_of_a_turned_frame(
        frame in (1u32..20, 1u32..7).prop_map(|(width, height)| {
            Frame::rgb(width, height, noise(7, (3 * width * height) as usize))
        }),
        layout in prop_oneof![Just("nchw"), Just("nhwc")],
        dtype in prop_oneof![Just("u8"), Just("f32")],
    ) {
        let (width, height) = (frame.raw.width, frame.raw.height);
        let plan = compile(&format!(
            r#"{{ op = "crop", detection = "box" }},
            {{ op = "resize", fit = "pad_right_bottom", width = {}, height = {height}, pad = 9 }},
            {{ op = "layout", order = {layout:?} }}, {{ op = "cast", dtype = {dtype:?} }}"#,
            width + 3
        )).unwrap();
        let mut cropper = Cropper::new(plan.clone()).unwrap();
        let rect = Rect { x0: 0.0, y0: 0.0, x1: width as f32, y1: height as f32 };
        let turned: Vec<u8> = frame.data.chunks(3).rev().flatten().copied().collect();
        let turned = Frame::rgb(width, height, turned);
        let of_turned = numbers(&plan, |tensor| cropper.run(&turned.view(), &rect, tensor));
        let turned = numbers(&plan, |tensor| {
            cropper.run(&frame.view(), &rect, tensor);
            cropper.turn(&rect, (width, height), tensor);
        });
        prop_assert_eq!(turned, of_turned);
    }
}

#[test]
fn a_crop_has_its_models_shape_and_margin() {
    let plan = compile(
        r#"{ op = "crop", detection = "square", margin = 0.1 }, { op = "resize", fit = "stretch", width = 4, height = 4 }"#,
    );
    let cropper = Cropper::new(plan.unwrap()).unwrap();
    let found = detection(100.0, 100.0, 120.0, 200.0);
    assert_eq!(cropper.rect(&found, (640, 480)), crop_rect(&found, &SQUARE, 640, 480));
}

#[test]
fn u8_crops_hold_grey_levels() {
    let data: Vec<u8> = (0..48).collect();
    let view = FrameView::rgb(&data, 4, 4).unwrap();
    let plan =
        compile(r#"{ op = "crop", detection = "box" }, { op = "resize", fit = "stretch", width = 1, height = 1 }"#);
    let mut out = [0; 3];
    let pixel = Rect { x0: 2.0, y0: 1.0, x1: 3.0, y1: 2.0 };
    Cropper::new(plan.unwrap()).unwrap().run(&view, &pixel, &mut out);
    assert_eq!(out, [18, 19, 20]);
}
