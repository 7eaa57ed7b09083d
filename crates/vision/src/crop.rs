//! A detection's pixels to an attribute model's tensor, straight from the frame.

use framepipe_frame::detections::Detection;
use serde::{Deserialize, Serialize};

use crate::aim::{Aim, Window};
use crate::graph::{GraphError, Plan};
use crate::sample::{Kernel, Sampler};
use crate::{FrameView, Region};

/// Which rectangle around a box is cropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CropShape {
    /// A square about the box's centre, so that the aspect ratio is kept.
    Square,
    /// The box.
    Box,
}

/// What an attribute model sees of a detection: how its graph begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CropSpec {
    /// Square or box.
    pub shape: CropShape,
    /// How far each side moves outwards: of the box's own length (box), or of the longer one (square).
    pub margin: f32,
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
    /// The same rectangle from its lower right corner on: where a turned crop's points lie.
    pub fn turned(&self) -> Self {
        Self { x0: self.x1, y0: self.y1, x1: self.x0, y1: self.y0 }
    }

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

/// Makes one attribute model's tensors of what lies around detections, in one pass. Beyond the frame its edge is repeated.
///
/// Nothing is allocated once the largest crop has been seen, and one that is enlarged.
#[derive(Debug)]
pub struct Cropper {
    plan: Plan,
    spec: CropSpec,
    sampler: Sampler,
}

impl Cropper {
    /// A cropper for this plan.
    ///
    /// # Errors
    /// Where the plan is no crop's but a whole frame's.
    pub fn new(plan: Plan) -> Result<Self, GraphError> {
        Ok(Self { spec: plan.crop_spec()?, plan, sampler: Sampler::default() })
    }

    /// The rectangle that is cropped around `detection`, in a frame of `size`: see [`crop_rect`].
    pub fn rect(&self, detection: &Detection, (width, height): (u32, u32)) -> Rect {
        crop_rect(detection, &self.spec, width, height)
    }

    /// The pixels of a frame of `size` that a crop of `rect` reads.
    pub fn reads(rect: &Rect, (width, height): (u32, u32)) -> Region {
        let window = window(rect, (width, height));
        // Half a pixel more for what is interpolated, and two pixels at least, where there are two.
        let span = |from: f64, length: f64, all: u32| {
            let most = f64::from(all.saturating_sub(2));
            let first = (from - 1.0).floor().clamp(0.0, most);
            (first as u32, (from + length + 1.0).ceil().clamp((first + 2.0).min(all.into()), all.into()) as u32)
        };
        let (left, right) = span(window.left, window.width, width);
        let (top, bottom) = span(window.top, window.height, height);
        Region { left, top, right, bottom }
    }

    /// How the latest tensor's pixels were made.
    pub fn kernel(&self) -> Kernel {
        self.sampler.kernel()
    }

    /// Writes the tensor of `rect`, every number of it. A rectangle without area gives a pixel, as [`crop_rect`].
    ///
    /// # Panics
    /// Where `tensor` is not [`Plan::tensor_bytes`] long or not aligned for its numbers; where the view is a part of its frame
    /// that lacks some of what [`Self::reads`] says.
    pub fn run(&mut self, view: &FrameView<'_>, rect: &Rect, tensor: &mut [u8]) {
        let size = (view.width(), view.height());
        let aim = self.plan.aim_at(window(rect, size), size);
        let mut rows = *view;
        self.sampler.aim(&aim, &rows);
        let Ok(()) = self.sampler.write(&mut rows, &self.plan.tensor, tensor);
    }

    /// Turns the tensor that [`Self::run`] made of `rect`, in a frame of `size`, by 180 degrees: the picture, not its padding.
    ///
    /// # Panics
    /// As there.
    pub fn turn(&self, rect: &Rect, size: (u32, u32), tensor: &mut [u8]) {
        let aim = self.plan.aim_at(window(rect, size), size);
        self.plan.tensor.turn(&aim.place, tensor);
    }
}

impl Plan {
    /// The source's point that a point of a crop's tensor shows: `rect` is what was cropped, turned or not, `x` and `y` are in
    /// the tensor's pixels. Points beside the picture, in a letterbox's padding, lie beside `rect`.
    pub fn crop_to_source(&self, rect: &Rect, x: f32, y: f32) -> (f32, f32) {
        let [x0, y0, x1, y1] = [rect.x0, rect.y0, rect.x1, rect.y1].map(f64::from);
        let whole = Window { left: 0.0, top: 0.0, width: (x1 - x0).abs(), height: (y1 - y0).abs() };
        let Aim { window, place, .. } = Aim::new(whole, whole, &self.resize, self.center);
        let across = window.left + (f64::from(x) - place.left as f64) / place.width as f64 * window.width;
        let down = window.top + (f64::from(y) - place.top as f64) / place.height as f64 * window.height;
        ((x0 + across * (x1 - x0).signum()) as f32, (y0 + down * (y1 - y0).signum()) as f32)
    }
}

/// What is cropped: of a rectangle without area, the frame's pixel that is nearest.
pub(crate) fn window(rect: &Rect, (width, height): (u32, u32)) -> Window {
    let pixel = || pixel_at(f64::from(rect.x0), f64::from(rect.y0), width, height);
    let rect = if rect.has_area() { *rect } else { pixel() };
    let [x0, y0, x1, y1] = [rect.x0, rect.y0, rect.x1, rect.y1].map(f64::from);
    Window { left: x0, top: y0, width: x1 - x0, height: y1 - y0 }
}

#[cfg(test)]
mod tests;
