//! Frames and graphs as they may be, for tests of this crate and of others that do what it does.

use framepipe_frame::{RawFormat, RawFrame};
use proptest::prelude::*;

use crate::graph::{Color, DecodedColor, Filter, Fit, Graph, Layout, Levels, Operator, Plan};
use crate::{CropShape, FrameView, RawView};

/// A frame with its bytes, in any order and stride.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its bytes.
    pub data: Vec<u8>,
    /// How they lie.
    pub raw: RawFrame,
}

impl Frame {
    /// RGB8, rows close together.
    pub fn rgb(width: u32, height: u32, data: Vec<u8>) -> Self {
        Self { data, raw: RawFrame { format: RawFormat::Rgb24 as u32, width, height, stride: 3 * width } }
    }

    /// Its pixels.
    pub fn view(&self) -> FrameView<'_> {
        RawView::of(&self.data, &self.raw).and_then(RawView::packed).expect("the strategy makes frames")
    }
}

/// Frames of noise of every packed format, up to `side_max` a side, most with a stride.
pub fn frames(side_max: u32) -> impl Strategy<Value = Frame> {
    (1..=side_max, 1..=side_max, 1u32..=3, 0u32..5, any::<u64>()).prop_map(|(width, height, format, gap, seed)| {
        let row = width * if format == 3 { 1 } else { 3 };
        let raw = RawFrame { format, width, height, stride: row + gap };
        Frame { data: noise(seed, (raw.stride * height) as usize), raw }
    })
}

/// Bytes that look random (splitmix64).
pub fn noise(seed: u64, count: usize) -> Vec<u8> {
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

/// All that a graph may have behind its first operators.
pub(crate) fn rest(side_max: u32, may_cut: bool) -> impl Strategy<Value = Vec<Operator>> {
    let side = 1..=side_max;
    let parts = (0.0f32..0.9, 0.0f32..0.9, 0.05f32..1.0, 0.05f32..1.0);
    let parts = parts.prop_map(|(left, top, width, height)| {
        crop(Some([left, top, (left + width).min(1.0), (top + height).min(1.0)]), None)
    });
    let center = (side.clone(), side.clone()).prop_map(|(width, height)| crop(None, Some([width, height])));
    let cut = prop_oneof![Just(None), parts.prop_map(Some), center.prop_map(Some)];
    let fit = prop_oneof![Just(Fit::Stretch), Just(Fit::Letterbox), Just(Fit::PadRightBottom), Just(Fit::ShorterSide)];
    let filter = prop_oneof![Just(Filter::Auto), Just(Filter::Linear), Just(Filter::Area)];
    let color = prop::option::of(prop_oneof![Just(Color::Rgb), Just(Color::Bgr), Just(Color::Grey)]);
    let normal = prop::option::of((0.1f32..2.0, -10.0f32..200.0, 1.0f32..255.0));
    let layout = prop_oneof![Just(None), Just(Some(Layout::Nchw)), Just(Some(Layout::Nhwc))];
    let center = prop::option::of((1..=side_max, 1..=side_max));
    let pad = prop_oneof![
        (0.0f32..255.0).prop_map(|level| [level; 3]),
        (0.0f32..255.0, 0.0f32..255.0, 0.0f32..255.0).prop_map(|levels| levels.into()),
    ];
    let before = (color.clone(), color.clone());
    ((cut, fit, side.clone(), side), (filter, pad, before, color), (normal, layout, center)).prop_map(
        move |((cut, fit, width, height), (filter, pad, (first, second), after), (normal, layout, center))| {
            let is_one_channel = second.or(first) == Some(Color::Grey) || second.or(first).is_none();
            let convert = |color: Option<Color>| color.map(|color| Operator::Convert { color });
            let is_shorter = fit == Fit::ShorterSide;
            // Without a conversion nothing is known here of the channels.
            let pad = if is_one_channel { Levels::All(pad[0]) } else { Levels::Each(pad.into()) };
            let resize = if is_shorter {
                Operator::Resize { fit, width: None, height: None, side: Some(width.max(height)), pad, filter }
            } else {
                Operator::Resize { fit, width: Some(width), height: Some(height), side: None, pad, filter }
            };
            let size = if is_shorter { [width.max(height); 2] } else { [width, height] };
            let center = center.map(|(width, height)| [width.min(size[0]), height.min(size[1])]);
            let center = if is_shorter { Some(center.unwrap_or(size)) } else { center };
            let center = center.filter(|_| is_shorter || fit == Fit::Stretch).map(|center| crop(None, Some(center)));
            let has_colors = matches!(after.or(second).or(first), Some(Color::Rgb | Color::Bgr));
            let means =
                |mean| if has_colors { Levels::Each(vec![mean, mean + 9.0, mean - 5.0]) } else { Levels::All(mean) };
            let normalize =
                normal.map(|(scale, mean, by)| Operator::Normalize { scale, mean: means(mean), std: Levels::All(by) });
            let operators = [
                cut.filter(|_| may_cut),
                convert(first),
                convert(second),
                Some(resize),
                center,
                convert(after),
                normalize,
                layout.map(|order| Operator::Layout { order }),
            ];
            operators.into_iter().flatten().collect()
        },
    )
}

fn crop(parts: Option<[f32; 4]>, center: Option<[u32; 2]>) -> Operator {
    Operator::Crop { detection: None, margin: None, r#box: parts, center }
}

/// Plans of whole frames.
pub fn any_plan(side_max: u32) -> impl Strategy<Value = Plan> {
    (rest(side_max, true), any::<bool>()).prop_map(|(rest, is_grey)| {
        let color = if is_grey { DecodedColor::Grey } else { DecodedColor::Rgb };
        let decode = Operator::Decode { scale: Default::default(), color };
        let operators = [decode, Operator::Orient {}].into_iter().chain(rest).collect();
        Graph { operators }.compile().expect("the strategy makes graphs that can be")
    })
}

/// Plans of crops.
pub fn any_crop_plan(side_max: u32) -> impl Strategy<Value = Plan> {
    rest(side_max, false).prop_map(|rest| {
        let square = Operator::Crop { detection: Some(CropShape::Square), margin: None, r#box: None, center: None };
        let operators = std::iter::once(square).chain(rest).collect();
        Graph { operators }.compile().expect("the strategy makes graphs that can be")
    })
}
