use super::*;
use crate::graph::tests::{any_plan, plain};
use crate::{FrameView, RawView};
use framepipe_frame::{RawFormat, RawFrame};
use proptest::prelude::*;

/// A frame with its bytes, in any order and stride.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) data: Vec<u8>,
    pub(crate) raw: RawFrame,
}

impl Frame {
    pub(crate) fn rgb(width: u32, height: u32, data: Vec<u8>) -> Self {
        Self { data, raw: RawFrame { format: RawFormat::Rgb24 as u32, width, height, stride: 3 * width } }
    }

    pub(crate) fn view(&self) -> FrameView<'_> {
        RawView::of(&self.data, &self.raw).and_then(RawView::packed).expect("the strategy makes frames")
    }
}

/// Frames of noise of every packed format, up to `side_max` a side, most with a stride.
pub(crate) fn frames(side_max: u32) -> impl Strategy<Value = Frame> {
    (1..=side_max, 1..=side_max, 1u32..=3, 0u32..5, any::<u64>()).prop_map(|(width, height, format, gap, seed)| {
        let row = width * if format == 3 { 1 } else { 3 };
        let raw = RawFrame { format, width, height, stride: row + gap };
        Frame { data: noise(seed, (raw.stride * height) as usize), raw }
    })
}

/// Bytes that look random (splitmix64).
pub(crate) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as u8
    })
    .take(count)
    .collect()
}

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

        fn scale(&self) -> crate::DecodeScale {
            crate::DecodeScale::Full
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
