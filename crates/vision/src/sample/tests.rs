use super::*;
use crate::generate::{Frame, any_crop_plan, any_plan, frames, noise};
use crate::graph::tests::{numbers, plain};
use crate::{Cropper, DecodeScale, FrameView, Plan, Preprocessor, Rect};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn all_instructions_give_the_same_numbers(frame in frames(90), plan in any_plan(60)) {
        let sampled = |instructions| {
            let mut sampler = Sampler { instructions, ..Sampler::default() };
            let mut view = frame.view();
            sampler.aim(&plan.aim((frame.raw.width, frame.raw.height)), &view);
            let mut words = vec![f32::NAN; plan.tensor_bytes().div_ceil(4)];
            let tensor = &mut bytemuck::cast_slice_mut(&mut words)[..plan.tensor_bytes()];
            let Ok(()) = sampler.write(&mut view, &plan.tensor, tensor);
            tensor.to_vec()
        };
        prop_assert!(sampled(Instructions::default()) == sampled(Instructions::portable()));
    }
}

/// The tensor's numbers by the tables: all that another device has to do.
fn by_tables(plan: &Plan, view: &FrameView<'_>, tables: &SampleTables) -> Vec<f32> {
    let ([left, top, ..], mix) = (tables.place().map(|number| number as usize), plan.mix(view.order()));
    let ((columns, column_weights), (rows, row_weights)) = (tables.columns(), tables.rows());
    let (width, height, channels) = (plan.width() as usize, plan.height() as usize, plan.channels());
    let weighted = |span: &Span, weights: &[f32]| -> Vec<(usize, f32)> {
        let weights = &weights[span.start as usize..][..span.count as usize];
        (span.first as usize..).zip(weights.iter().copied()).collect()
    };
    let mut numbers = vec![0.0; plan.tensor_len()];
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let runs = rows.get(y.wrapping_sub(top)).zip(columns.get(x.wrapping_sub(left)));
        let mut levels = [0.0; 3];
        for (row, part) in runs.map(|(run, _)| weighted(run, row_weights)).unwrap_or_default() {
            for (column, of_row) in runs.map(|(_, run)| weighted(run, column_weights)).unwrap_or_default() {
                let pixel = view.row(row as u32).chunks_exact(view.order().pixel_bytes()).nth(column).unwrap();
                levels.iter_mut().zip(pixel).for_each(|(level, byte)| *level += part * of_row * f32::from(*byte));
            }
        }
        for channel in 0..channels {
            let mixed: f32 = levels.iter().zip(mix.levels[channel]).map(|(level, part)| level * part).sum();
            let number = if runs.is_some() { mixed + mix.offsets[channel] } else { mix.padding[channel] };
            let at = match plan.layout() {
                Layout::Nchw => (channel * height + y) * width + x,
                Layout::Nhwc => (y * width + x) * channels + channel,
            };
            numbers[at] = if plan.dtype() == DataType::U8 { number.round_ties_even() } else { number };
        }
    }
    numbers
}

/// Fails where a number is further than rounding from another.
fn assert_close(plan: &Plan, found: &[f32], expected: &[f32]) -> Result<(), TestCaseError> {
    let scale = plan.tensor.normals.map(|normal| normal.scale.abs()).into_iter().fold(1e-3, f32::max);
    let most = if plan.dtype() == DataType::U8 { 1.0 } else { 0.01 * scale };
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        prop_assert!((found - expected).abs() <= most, "number {}: {} instead of {}", at, found, expected);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_frames_tables_say_what_its_pass_does(frame in frames(60), plan in any_plan(40)) {
        let mut tables = SampleTables::default();
        let size = (frame.raw.width, frame.raw.height);
        let map = plan.sample_frame(size, DecodeScale::Full, &mut tables);
        let found = by_tables(&plan, &frame.view(), &tables);
        let mut preprocessor = Preprocessor::new(plan.clone()).unwrap();
        let mut expected_map = None;
        let expected = numbers(&plan, |tensor| {
            let Ok(map) = preprocessor.run(&mut frame.view(), tensor);
            expected_map = Some(map);
        });
        prop_assert_eq!(Some(map), expected_map);
        assert_close(&plan, &found, &expected)?;
        let ((columns, of_columns), (rows, of_rows)) = (tables.columns(), tables.rows());
        let bytes = size_of_val(columns) + size_of_val(of_columns) + size_of_val(rows) + size_of_val(of_rows);
        prop_assert!(bytes <= SampleTables::bytes_max(&plan, size.0.max(size.1)));
    }

    #[test]
    fn a_crops_tables_say_what_its_pass_does(
        frame in frames(40),
        plan in any_crop_plan(30),
        corner in (-20.0f32..40.0, -20.0f32..40.0),
        size in (0.1f32..50.0, 0.1f32..50.0),
    ) {
        let rect = Rect { x0: corner.0, y0: corner.1, x1: corner.0 + size.0, y1: corner.1 + size.1 };
        let mut tables = SampleTables::default();
        plan.sample_crop(&rect, (frame.raw.width, frame.raw.height), &mut tables);
        let found = by_tables(&plan, &frame.view(), &tables);
        let mut cropper = Cropper::new(plan.clone()).unwrap();
        assert_close(&plan, &found, &numbers(&plan, |tensor| cropper.run(&frame.view(), &rect, tensor)))?;
    }
}

#[test]
fn only_the_rows_that_are_needed_are_asked_for_and_in_order() {
    /// Counts what is asked for.
    struct Asked<'a>(FrameView<'a>, Vec<u32>);

    impl Rows for Asked<'_> {
        type Error = std::convert::Infallible;

        fn size(&self) -> (u32, u32) {
            self.0.size()
        }

        fn source_size(&self) -> (u32, u32) {
            self.0.size()
        }

        fn scale(&self) -> DecodeScale {
            DecodeScale::Full
        }

        fn order(&self) -> PixelOrder {
            self.0.order()
        }

        fn row(&mut self, y: u32) -> Result<&[u8], Self::Error> {
            self.1.push(y);
            Rows::row(&mut self.0, y)
        }
    }

    let frame = Frame::rgb(30, 100, noise(1, 9000));
    for (filter, most) in [("linear", 20), ("area", 110)] {
        let plan = plain(10, 10, &format!("filter = {filter:?}"));
        let mut rows = Asked(frame.view(), Vec::new());
        let mut sampler = Sampler::default();
        sampler.aim(&plan.aim((30, 100)), &rows);
        let mut words = vec![0f32; 300];
        let Ok(()) = sampler.write(&mut rows, &plan.tensor, bytemuck::cast_slice_mut(&mut words));
        assert!(rows.1.is_sorted(), "{:?}", rows.1);
        assert!(rows.1.len() <= most && rows.1.len() >= 20, "{filter}: {:?}", rows.1);
    }
}

#[test]
fn a_rounded_level_is_the_nearest() {
    for level in [0.0, 0.49, 0.51, 127.3, 254.6, 255.0] {
        let normal = Normal { scale: 1.0, offset: 0.0 };
        assert_eq!(<u8 as Number>::of_level(level, normal), level.round() as u8, "{level}");
    }
}
