//! Which rectangle of the source is sampled, and where in the tensor it comes to lie.

use framepipe_frame::TensorMap;

use crate::DecodeScale;
use crate::graph::plan::Resize;
use crate::graph::{Filter, Fit};

/// A rectangle of the source in continuous coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// A rectangle of whole pixels in the tensor; around it is padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) left: usize,
    pub(crate) top: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// What is sampled, and to where.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Aim {
    pub(crate) window: Window,
    /// Whole pixels, beyond which the nearest of them is repeated.
    pub(crate) bounds: Window,
    pub(crate) place: Placement,
    pub(crate) filter: Filter,
}

impl Aim {
    /// Fits `window` (its sides above 0) into what `resize` makes, and of that takes the `center`, if there is one.
    pub(crate) fn new(window: Window, bounds: Window, resize: &Resize, center: Option<[u32; 2]>) -> Self {
        let [width, height] = resize.size.map(|side| side as usize);
        let (across, down) = (width as f64 / window.width, height as f64 / window.height);
        let kept = |side: f64, scale: f64, most: usize| ((side * scale).round() as usize).clamp(1, most);
        let place = match resize.fit {
            Fit::Stretch => Placement { left: 0, top: 0, width, height },
            Fit::Letterbox | Fit::PadRightBottom => {
                let scale = across.min(down);
                let (inner_width, inner_height) =
                    (kept(window.width, scale, width), kept(window.height, scale, height));
                // The odd row or column of padding lies at the right or bottom, as in Ultralytics' letterbox.
                let half = if resize.fit == Fit::Letterbox { 2 } else { usize::MAX };
                let (left, top) = ((width - inner_width) / half, (height - inner_height) / half);
                Placement { left, top, width: inner_width, height: inner_height }
            }
            Fit::ShorterSide => {
                let scale = across.max(down);
                let side = |length| kept(length, scale, usize::MAX);
                Placement { left: 0, top: 0, width: side(window.width), height: side(window.height) }
            }
        };
        let aim = Self { window, bounds, place, filter: resize.filter };
        center.map_or(aim, |center| aim.narrowed(center.map(|side| side as usize)))
    }

    /// The middle of a picture without padding. An odd pixel is left out at the right or bottom.
    fn narrowed(self, [width, height]: [usize; 2]) -> Self {
        let Placement { width: all_columns, height: all_rows, .. } = self.place;
        let (column, row) = (self.window.width / all_columns as f64, self.window.height / all_rows as f64);
        let window = Window {
            left: self.window.left + ((all_columns - width) / 2) as f64 * column,
            top: self.window.top + ((all_rows - height) / 2) as f64 * row,
            width: width as f64 * column,
            height: height as f64 * row,
        };
        Self { window, place: Placement { left: 0, top: 0, width, height }, ..self }
    }

    /// The same in pixels of an image that was decoded at a fraction of its size.
    pub(crate) fn at_scale(self, scale: DecodeScale) -> Self {
        let side = f64::from(scale.divisor());
        let Window { left, top, width, height } = self.window;
        let window = Window { left: left / side, top: top / side, width: width / side, height: height / side };
        let span = |from: f64, length: f64| {
            let from_pixel = (from / side).floor();
            (from_pixel, ((from + length) / side).ceil() - from_pixel)
        };
        let (left, width) = span(self.bounds.left, self.bounds.width);
        let (top, height) = span(self.bounds.top, self.bounds.height);
        Self { window, bounds: Window { left, top, width, height }, ..self }
    }

    /// True where each of the tensor's pixels is one of the source's, and nothing is to be interpolated.
    pub(crate) fn is_copy(&self) -> bool {
        let Window { left, top, width, height } = self.window;
        let size = (self.place.width as f64, self.place.height as f64);
        let Window { left: first_column, top: first_row, width: columns, height: rows } = self.bounds;
        (width, height) == size
            && left.fract() == 0.0
            && top.fract() == 0.0
            && left >= first_column
            && top >= first_row
            && left + width <= first_column + columns
            && top + height <= first_row + rows
    }

    /// From the tensor's pixels to those of the frame. Sides were rounded to whole pixels, so the two scales may differ a
    /// little even where the aspect ratio is kept.
    pub(crate) fn tensor_map(&self) -> TensorMap {
        let (scale_x, scale_y) =
            (self.window.width / self.place.width as f64, self.window.height / self.place.height as f64);
        TensorMap {
            scale_x: scale_x as f32,
            scale_y: scale_y as f32,
            pad_x: (self.place.left as f64 - self.window.left / scale_x) as f32,
            pad_y: (self.place.top as f64 - self.window.top / scale_y) as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn placed(fit: Fit, source: (u32, u32), tensor: (u32, u32)) -> Aim {
        let window = Window { left: 0.0, top: 0.0, width: source.0.into(), height: source.1.into() };
        Aim::new(window, window, &Resize { fit, size: [tensor.0, tensor.1], filter: Filter::Linear }, None)
    }

    #[test]
    fn known_sizes_lie_where_the_models_authors_put_them() {
        let place = |left, top, width, height| Placement { left, top, width, height };
        assert_eq!(placed(Fit::Letterbox, (1920, 1080), (416, 416)).place, place(0, 91, 416, 234));
        assert_eq!(placed(Fit::Letterbox, (810, 1080), (417, 640)).place, place(0, 42, 417, 556));
        assert_eq!(placed(Fit::PadRightBottom, (640, 480), (416, 416)).place, place(0, 0, 416, 312));
        assert_eq!(placed(Fit::Stretch, (640, 480), (300, 200)).place, place(0, 0, 300, 200));
        let thread = placed(Fit::Letterbox, (30_000, 1), (416, 416));
        assert_eq!(thread.place, place(0, 207, 416, 1), "a row is left of the thinnest");
        assert_eq!(placed(Fit::ShorterSide, (640, 480), (240, 240)).place, place(0, 0, 320, 240));
    }

    #[test]
    fn the_middle_of_a_resized_picture_maps_to_the_sources_middle() {
        let window = Window { left: 0.0, top: 0.0, width: 640.0, height: 480.0 };
        let resize = Resize { fit: Fit::ShorterSide, size: [240, 240], filter: Filter::Linear };
        let aim = Aim::new(window, window, &resize, Some([200, 100]));
        assert_eq!(aim.place, Placement { left: 0, top: 0, width: 200, height: 100 });
        assert_eq!(aim.window, Window { left: 120.0, top: 140.0, width: 400.0, height: 200.0 });
        let map = aim.tensor_map();
        assert_eq!((map.to_source(0.0, 0.0), map.to_source(200.0, 100.0)), ((120.0, 140.0), (520.0, 340.0)));
    }

    #[test]
    fn a_scaled_window_keeps_to_pixels_that_show_its_bounds() {
        let window = Window { left: 3.0, top: 8.0, width: 18.0, height: 9.0 };
        let resize = Resize { fit: Fit::Stretch, size: [4, 4], filter: Filter::Linear };
        let aim = Aim::new(window, window, &resize, None).at_scale(DecodeScale::Quarter);
        assert_eq!(aim.window, Window { left: 0.75, top: 2.0, width: 4.5, height: 2.25 });
        assert_eq!(aim.bounds, Window { left: 0.0, top: 2.0, width: 6.0, height: 3.0 });
    }

    fn fits() -> impl Strategy<Value = Fit> {
        prop_oneof![Just(Fit::Stretch), Just(Fit::Letterbox), Just(Fit::PadRightBottom), Just(Fit::ShorterSide)]
    }

    proptest! {
        #[test]
        fn the_map_takes_the_placements_corners_to_the_windows(
            fit in fits(),
            corner in (0u32..50, 0u32..50),
            source in (1u32..4000, 1u32..4000),
            tensor in (1u32..1000, 1u32..1000),
        ) {
            let window = Window { left: corner.0.into(), top: corner.1.into(), width: source.0.into(), height: source.1.into() };
            let size = if fit == Fit::ShorterSide { [tensor.0; 2] } else { [tensor.0, tensor.1] };
            let aim = Aim::new(window, window, &Resize { fit, size, filter: Filter::Linear }, None);
            let place = aim.place;
            if fit != Fit::ShorterSide {
                prop_assert!(place.left + place.width <= tensor.0 as usize && place.top + place.height <= tensor.1 as usize);
            }
            let map = aim.tensor_map();
            // A tensor of one column shows a source of thousands of rows in a few: what floats of that size cannot tell.
            let slack = |scale: f32, pad: f32, side: u32| 2e-2 + 4.0 * f32::EPSILON * scale * (pad.abs() + side as f32);
            let most = (slack(map.scale_x, map.pad_x, tensor.0), slack(map.scale_y, map.pad_y, tensor.1));
            let (x, y) = map.to_source(place.left as f32, place.top as f32);
            let (left, top) = (corner.0 as f32, corner.1 as f32);
            prop_assert!((x - left).abs() < most.0 && (y - top).abs() < most.1, "{} {}", x, y);
            let (x, y) = map.to_source((place.left + place.width) as f32, (place.top + place.height) as f32);
            let (right, bottom) = ((corner.0 + source.0) as f32, (corner.1 + source.1) as f32);
            prop_assert!((x - right).abs() < most.0 && (y - bottom).abs() < most.1, "{} {}", x, y);
        }

        #[test]
        fn a_point_comes_back_within_half_a_source_pixel(
            fit in fits(),
            source in (1u32..4000, 1u32..4000),
            tensor in (1u32..1000, 1u32..1000),
            at in (0.0f64..1.0, 0.0f64..1.0),
        ) {
            let tensor = if fit == Fit::ShorterSide { (tensor.0, tensor.0) } else { tensor };
            let aim = placed(fit, source, tensor);
            let place = aim.place;
            let (x, y) = (at.0 * f64::from(source.0), at.1 * f64::from(source.1));
            let tensor_x = place.left as f64 + x * place.width as f64 / f64::from(source.0);
            let tensor_y = place.top as f64 + y * place.height as f64 / f64::from(source.1);
            let (back_x, back_y) = aim.tensor_map().to_source(tensor_x as f32, tensor_y as f32);
            prop_assert!((f64::from(back_x) - x).abs() < 0.5, "{} {}", back_x, x);
            prop_assert!((f64::from(back_y) - y).abs() < 0.5, "{} {}", back_y, y);
        }

        #[test]
        fn letterbox_keeps_the_aspect_ratio_fills_one_side_and_is_centred(
            source in (1u32..4000, 1u32..4000),
            tensor in (1u32..1000, 1u32..1000),
        ) {
            let place = placed(Fit::Letterbox, source, tensor).place;
            let tensor = (tensor.0 as usize, tensor.1 as usize);
            prop_assert!(place.width == tensor.0 || place.height == tensor.1);
            let scale = (tensor.0 as f64 / f64::from(source.0)).min(tensor.1 as f64 / f64::from(source.1));
            prop_assert!((place.width as f64 - f64::from(source.0) * scale).abs() <= 0.5 || place.width == 1);
            prop_assert!((place.height as f64 - f64::from(source.1) * scale).abs() <= 0.5 || place.height == 1);
            let right = tensor.0 - place.width - place.left;
            let bottom = tensor.1 - place.height - place.top;
            prop_assert!(right - place.left <= 1 && bottom - place.top <= 1);
        }
    }
}
