//! A detection's pixels to an attribute model's tensor, straight from the frame.

use framepipe_frame::detections::Detection;
use serde::{Deserialize, Serialize};

use crate::placement::Placement;
use crate::sample::{Number, Sampler, Target, Window};
use crate::{FrameView, InputSpec, InputSpecError, ResizePolicy};

/// Largest margin of a [`CropSpec`].
const MARGIN_MAX: f32 = 10.0;

/// Which rectangle around a box is cropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CropShape {
    /// A square about the box's centre, so that the aspect ratio is kept.
    Square,
    /// The box.
    Box,
}

/// What an attribute model sees of a detection: the `[crop]` table of its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropSpec {
    /// Square or box.
    pub shape: CropShape,
    /// How far each side moves outwards: of the box's own length (box), or of the longer one (square).
    pub margin: f32,
}

/// What is wrong with a [`CropSpec`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CropSpecError {
    /// The margin is negative, too large or no number.
    #[error("crop margin {0}: must be 0 to {MARGIN_MAX}")]
    Margin(f32),
}

impl CropSpec {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// Where the margin is out of its range.
    pub fn check(&self) -> Result<(), CropSpecError> {
        if (0.0..=MARGIN_MAX).contains(&self.margin) { Ok(()) } else { Err(CropSpecError::Margin(self.margin)) }
    }
}

/// A rectangle of the source in continuous pixels; it may reach over the image's edges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x0: f32,
    /// Top edge.
    pub y0: f32,
    /// Right edge, right of `x0`.
    pub x1: f32,
    /// Bottom edge, below `y0`.
    pub y1: f32,
}

/// The rectangle that `spec` crops around `detection`, in a frame of `width` x `height`.
///
/// A box that has no area, or that lies outside of the frame, gives the pixel of the frame that is nearest to its
/// centre; what is no number counts as 0. A detector's output is never a reason to fail a frame.
pub fn crop_rect(detection: &Detection, spec: &CropSpec, width: u32, height: u32) -> Rect {
    // f64: no sum or product of f32 overflows.
    let [x0, y0, x1, y1] = [detection.x0, detection.y0, detection.x1, detection.y1].map(f64::from);
    let (frame_width, frame_height) = (f64::from(width), f64::from(height));
    let overlaps = x0 < x1 && y0 < y1 && x1 > 0.0 && y1 > 0.0 && x0 < frame_width && y0 < frame_height;
    let margin = f64::from(spec.margin);
    let (center_x, center_y) = ((x0 + x1) / 2.0, (y0 + y1) / 2.0);
    let (side_x, side_y) = match spec.shape {
        CropShape::Square => ((x1 - x0).max(y1 - y0), (x1 - x0).max(y1 - y0)),
        CropShape::Box => (x1 - x0, y1 - y0),
    };
    let half_x = side_x * (0.5 + margin);
    let half_y = side_y * (0.5 + margin);
    let rect = Rect {
        x0: (center_x - half_x) as f32,
        y0: (center_y - half_y) as f32,
        x1: (center_x + half_x) as f32,
        y1: (center_y + half_y) as f32,
    };
    if overlaps && rect.has_area() { rect } else { pixel_at(center_x, center_y, width, height) }
}

impl Rect {
    fn has_area(&self) -> bool {
        let numbers = [self.x0, self.y0, self.x1, self.y1, self.x1 - self.x0, self.y1 - self.y0];
        numbers.iter().all(|number| number.is_finite()) && self.x0 < self.x1 && self.y0 < self.y1
    }
}

/// The frame's pixel nearest to a point.
fn pixel_at(x: f64, y: f64, width: u32, height: u32) -> Rect {
    // A cast of what is no number gives 0.
    let nearest = |at: f64, size: u32| (at.floor() as i64).clamp(0, i64::from(size.max(1)) - 1) as f32;
    let (x0, y0) = (nearest(x, width), nearest(y, height));
    Rect { x0, y0, x1: x0 + 1.0, y1: y0 + 1.0 }
}

/// Fits rectangles of frames into one model's input tensor, in one pass. Beyond the frame its edge is repeated.
///
/// The spec's resize policy holds for the rectangle as it does for a whole frame. Nothing is allocated after the
/// first crop.
#[derive(Debug)]
pub struct Cropper {
    target: Target,
    policy: ResizePolicy,
    sampler: Sampler,
}

impl Cropper {
    /// A cropper for this tensor.
    ///
    /// # Errors
    /// Those of [`InputSpec::check`].
    pub fn new(spec: &InputSpec) -> Result<Self, InputSpecError> {
        spec.check()?;
        Ok(Self { target: Target::new(spec), policy: spec.resize, sampler: Sampler::default() })
    }

    /// Writes the tensor of `rect`, every number of it. A rectangle without area gives a pixel, as [`crop_rect`].
    ///
    /// # Panics
    /// Where the spec's dtype is not f32, or `out` is not [`InputSpec::tensor_len`] long.
    pub fn run_f32(&mut self, view: &FrameView<'_>, rect: &Rect, out: &mut [f32]) {
        self.run(view, rect, out);
    }

    /// As [`Self::run_f32`], for a spec of dtype u8: grey levels, rounded.
    ///
    /// # Panics
    /// Where the spec's dtype is not u8, or `out` is not [`InputSpec::tensor_len`] long.
    pub fn run_u8(&mut self, view: &FrameView<'_>, rect: &Rect, out: &mut [u8]) {
        self.run(view, rect, out);
    }

    fn run<T: Number>(&mut self, view: &FrameView<'_>, rect: &Rect, out: &mut [T]) {
        let pixel = || pixel_at(f64::from(rect.x0), f64::from(rect.y0), view.width(), view.height());
        let rect = if rect.has_area() { *rect } else { pixel() };
        let [x0, y0, x1, y1] = [rect.x0, rect.y0, rect.x1, rect.y1].map(f64::from);
        let window = Window { left: x0, top: y0, width: x1 - x0, height: y1 - y0 };
        let place = Placement::new(self.policy, window.width, window.height, self.target.width, self.target.height);
        self.sampler.aim(&window, (view.width(), view.height()), &place);
        self.sampler.run(view, &self.target, &place, out);
    }
}

#[cfg(test)]
mod tests;
