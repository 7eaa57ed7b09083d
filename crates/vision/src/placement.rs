//! Where in the tensor an image of some size comes to lie.

use framepipe_frame::TensorMap;

use crate::ResizePolicy;

/// A rectangle of whole pixels in the tensor; around it is padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) left: usize,
    pub(crate) top: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Placement {
    /// Places a source of `source_width` x `source_height` (above 0; a crop's are fractions) in a tensor.
    pub(crate) fn new(
        policy: ResizePolicy,
        source_width: f64,
        source_height: f64,
        tensor_width: usize,
        tensor_height: usize,
    ) -> Self {
        let scale = (tensor_width as f64 / source_width).min(tensor_height as f64 / source_height);
        let fit = |side: f64, tensor: usize| ((side * scale).round() as usize).clamp(1, tensor);
        let (width, height) = match policy {
            ResizePolicy::Stretch => (tensor_width, tensor_height),
            ResizePolicy::Letterbox | ResizePolicy::PadRightBottom => {
                (fit(source_width, tensor_width), fit(source_height, tensor_height))
            }
        };
        let (left, top) = match policy {
            // The odd row or column of padding lies at the right or bottom, as in Ultralytics' letterbox.
            ResizePolicy::Letterbox => ((tensor_width - width) / 2, (tensor_height - height) / 2),
            ResizePolicy::Stretch | ResizePolicy::PadRightBottom => (0, 0),
        };
        Self { left, top, width, height }
    }

    /// From the tensor's pixels to those of the whole source that was placed here. The sides were rounded to
    /// whole pixels, so the two scales may differ a little even where the aspect ratio is kept.
    pub(crate) fn tensor_map(&self, source_width: u32, source_height: u32) -> TensorMap {
        TensorMap {
            scale_x: source_width as f32 / self.width as f32,
            scale_y: source_height as f32 / self.height as f32,
            pad_x: self.left as f32,
            pad_y: self.top as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn placed(policy: ResizePolicy, source: (u32, u32), tensor: (usize, usize)) -> Placement {
        Placement::new(policy, f64::from(source.0), f64::from(source.1), tensor.0, tensor.1)
    }

    #[test]
    fn known_sizes_lie_where_the_models_authors_put_them() {
        let letterbox = placed(ResizePolicy::Letterbox, (1920, 1080), (416, 416));
        assert_eq!(letterbox, Placement { left: 0, top: 91, width: 416, height: 234 });
        let odd = placed(ResizePolicy::Letterbox, (810, 1080), (417, 640));
        assert_eq!(odd, Placement { left: 0, top: 42, width: 417, height: 556 });
        let yolox = placed(ResizePolicy::PadRightBottom, (640, 480), (416, 416));
        assert_eq!(yolox, Placement { left: 0, top: 0, width: 416, height: 312 });
        let stretched = placed(ResizePolicy::Stretch, (640, 480), (300, 200));
        assert_eq!(stretched, Placement { left: 0, top: 0, width: 300, height: 200 });
        let thread = placed(ResizePolicy::Letterbox, (30_000, 1), (416, 416));
        assert_eq!(thread, Placement { left: 0, top: 207, width: 416, height: 1 }, "a row is left of the thinnest");
    }

    fn policies() -> impl Strategy<Value = ResizePolicy> {
        prop_oneof![Just(ResizePolicy::Stretch), Just(ResizePolicy::Letterbox), Just(ResizePolicy::PadRightBottom)]
    }

    proptest! {
        #[test]
        fn the_map_takes_the_placements_corners_to_the_sources(
            policy in policies(),
            source in (1u32..4000, 1u32..4000),
            tensor in (1usize..1000, 1usize..1000),
        ) {
            let place = placed(policy, source, tensor);
            prop_assert!(place.left + place.width <= tensor.0 && place.top + place.height <= tensor.1);
            let map = place.tensor_map(source.0, source.1);
            let (left, top) = (place.left as f32, place.top as f32);
            prop_assert_eq!(map.to_source(left, top), (0.0, 0.0));
            let (x, y) = map.to_source(left + place.width as f32, top + place.height as f32);
            prop_assert!((x - source.0 as f32).abs() < 1e-2 && (y - source.1 as f32).abs() < 1e-2, "{} {}", x, y);
        }

        #[test]
        fn a_point_comes_back_within_half_a_source_pixel(
            policy in policies(),
            source in (1u32..4000, 1u32..4000),
            tensor in (1usize..1000, 1usize..1000),
            at in (0.0f64..1.0, 0.0f64..1.0),
        ) {
            let place = placed(policy, source, tensor);
            let (x, y) = (at.0 * f64::from(source.0), at.1 * f64::from(source.1));
            let tensor_x = place.left as f64 + x * place.width as f64 / f64::from(source.0);
            let tensor_y = place.top as f64 + y * place.height as f64 / f64::from(source.1);
            let (back_x, back_y) = place.tensor_map(source.0, source.1).to_source(tensor_x as f32, tensor_y as f32);
            prop_assert!((f64::from(back_x) - x).abs() < 0.5, "{} {}", back_x, x);
            prop_assert!((f64::from(back_y) - y).abs() < 0.5, "{} {}", back_y, y);
        }

        #[test]
        fn letterbox_keeps_the_aspect_ratio_fills_one_side_and_is_centred(
            source in (1u32..4000, 1u32..4000),
            tensor in (1usize..1000, 1usize..1000),
        ) {
            let place = placed(ResizePolicy::Letterbox, source, tensor);
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
