use super::*;
use crate::RawView;
use framepipe_frame::{RawFormat, RawFrame};
use proptest::prelude::*;

/// A frame with its bytes, in any order and stride.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) data: Vec<u8>,
    pub(crate) raw: RawFrame,
}

impl Frame {
    pub(crate) fn view(&self) -> FrameView<'_> {
        RawView::of(&self.data, &self.raw).and_then(RawView::packed).expect("the strategy makes frames")
    }

    /// The level of a colour (0 red, 1 green, 2 blue) of a pixel.
    fn level(&self, x: usize, y: usize, color: usize) -> f64 {
        let at = y * self.raw.stride as usize;
        let byte = match RawFormat::from_number(self.raw.format).expect("known") {
            RawFormat::Rgb24 => at + 3 * x + color,
            RawFormat::Bgr24 => at + 3 * x + 2 - color,
            RawFormat::Gray8 => at + x,
            RawFormat::Nv12 | RawFormat::I420 => panic!("the strategy makes packed frames"),
        };
        f64::from(self.data[byte])
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

pub(crate) fn specs(side_max: u32) -> impl Strategy<Value = InputSpec> {
    use crate::ResizePolicy::{Letterbox, PadRightBottom, Stretch};
    let policy = prop_oneof![Just(Stretch), Just(Letterbox), Just(PadRightBottom)];
    let color = prop_oneof![Just(Color::Rgb), Just(Color::Bgr)];
    let three = |range: Range<f32>| prop::array::uniform3(range);
    (1..=side_max, 1..=side_max, policy, color, three(0.0..255.0), three(-10.0..200.0), three(1.0..255.0)).prop_map(
        |(width, height, resize, color, pad, mean, std)| InputSpec {
            resize,
            color,
            pad,
            mean,
            std,
            ..crate::input::tests::plain(width, height)
        },
    )
}

/// The naive twin, one step after another in f64: interpolate, pad, order the colours, normalise, split.
pub(crate) fn reference(frame: &Frame, spec: &InputSpec, window: &Window, place: &Placement) -> Vec<f64> {
    let (width, height) = (spec.width as usize, spec.height as usize);
    let mut image = vec![[f64::NAN; 3]; width * height];
    for y in 0..height {
        for x in 0..width {
            let inside = (place.left..place.left + place.width).contains(&x)
                && (place.top..place.top + place.height).contains(&y);
            image[y * width + x] = std::array::from_fn(|color| {
                if inside {
                    let at_x = (x - place.left) as f64 + 0.5;
                    let at_y = (y - place.top) as f64 + 0.5;
                    let source_x = window.left + at_x * window.width / place.width as f64 - 0.5;
                    let source_y = window.top + at_y * window.height / place.height as f64 - 0.5;
                    bilinear(frame, source_x, source_y, color)
                } else {
                    f64::from(spec.pad[if spec.color == Color::Rgb { color } else { 2 - color }])
                }
            });
        }
    }
    let mut tensor = Vec::new();
    for channel in 0..3 {
        let color = if spec.color == Color::Rgb { channel } else { 2 - channel };
        let (mean, std) = (f64::from(spec.mean[channel]), f64::from(spec.std[channel]));
        tensor.extend(image.iter().map(|pixel| (pixel[color] - mean) / std));
    }
    tensor
}

/// The four pixels around a point, each coordinate clamped by itself.
fn bilinear(frame: &Frame, x: f64, y: f64, color: usize) -> f64 {
    let pixel = |x: f64, y: f64| {
        let x = x.clamp(0.0, f64::from(frame.raw.width - 1)) as usize;
        let y = y.clamp(0.0, f64::from(frame.raw.height - 1)) as usize;
        frame.level(x, y, color)
    };
    let (left, top) = (x.floor(), y.floor());
    let (right_weight, bottom_weight) = (x - left, y - top);
    let upper = pixel(left, top) * (1.0 - right_weight) + pixel(left + 1.0, top) * right_weight;
    let lower = pixel(left, top + 1.0) * (1.0 - right_weight) + pixel(left + 1.0, top + 1.0) * right_weight;
    upper * (1.0 - bottom_weight) + lower * bottom_weight
}

/// Fails unless each number is the twin's, within a thousandth of a grey level.
pub(crate) fn assert_close(found: &[f32], expected: &[f64], spec: &InputSpec) {
    assert_eq!(found.len(), expected.len());
    let plane = found.len() / 3;
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let levels = (f64::from(*found) - expected).abs() * f64::from(spec.std[index / plane]);
        assert!(levels < 1e-3, "number {index}: {found} instead of {expected}, {levels} grey levels off");
    }
}

proptest! {
    #[test]
    fn all_instructions_give_the_same_numbers(frame in frames(90), spec in specs(60)) {
        let window = Window { left: 0.0, top: 0.0, width: frame.raw.width.into(), height: frame.raw.height.into() };
        let size = (frame.raw.width, frame.raw.height);
        let place = Placement::new(spec.resize, window.width, window.height, spec.width as usize, spec.height as usize);
        let sampled = |instructions| {
            let mut sampler = Sampler { instructions, ..Sampler::default() };
            sampler.aim(&window, size, &place);
            let mut levels = vec![f32::NAN; spec.tensor_len()];
            sampler.run(&frame.view(), &Target::new(&spec), &place, &mut levels);
            let bytes = InputSpec { dtype: DataType::U8, mean: [0.0; 3], std: [1.0; 3], ..spec.clone() };
            let mut rounded = vec![0u8; spec.tensor_len()];
            sampler.run(&frame.view(), &Target::new(&bytes), &place, &mut rounded);
            (levels.into_iter().map(f32::to_bits).collect::<Vec<_>>(), rounded)
        };
        prop_assert!(sampled(Instructions::default()) == sampled(Instructions::portable()));
    }
}

#[test]
fn taps_lie_at_pixel_centres_and_stop_at_the_edges() {
    let mut taps = Vec::new();
    set_taps(&mut taps, 0.0, 4.0, 2, 4);
    assert_eq!(taps, [Tap { first: 0, weight: 0.5 }, Tap { first: 2, weight: 0.5 }]);
    set_taps(&mut taps, 0.0, 2.0, 4, 2);
    let weights: Vec<_> = taps.iter().map(|tap| (tap.first, tap.weight)).collect();
    assert_eq!(weights, [(0, 0.0), (0, 0.25), (0, 0.75), (0, 1.0)]);
    set_taps(&mut taps, 0.0, 1.0, 3, 1);
    assert_eq!(taps, [Tap { first: 0, weight: 0.0 }; 3]);
    set_taps(&mut taps, -100.0, 300.0, 3, 10);
    assert_eq!(taps, [Tap { first: 0, weight: 0.0 }, Tap { first: 8, weight: 1.0 }, Tap { first: 8, weight: 1.0 }]);
}
