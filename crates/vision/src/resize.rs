//! A frame's pixels to the detector's tensor.

use framepipe_frame::TensorMap;

use crate::placement::Placement;
use crate::sample::{self, Number, Sampler, Target, Window};
use crate::{FrameView, InputSpec, InputSpecError, ResizePolicy};

/// Fits frames into one model's input tensor: resize, colour order, normalisation, planes and padding in one pass.
///
/// A frame that needs no scaling is not interpolated. Nothing is allocated unless a frame's size differs from the
/// one before.
#[derive(Debug)]
pub struct Preprocessor {
    target: Target,
    policy: ResizePolicy,
    aimed: Option<Aim>,
    sampler: Sampler,
}

/// What holds as long as frames have one size.
#[derive(Clone, Copy, Debug)]
struct Aim {
    source: (u32, u32),
    place: Placement,
    map: TensorMap,
    scaled: bool,
}

impl Preprocessor {
    /// A preprocessor for this tensor.
    ///
    /// # Errors
    /// Those of [`InputSpec::check`].
    pub fn new(spec: &InputSpec) -> Result<Self, InputSpecError> {
        spec.check()?;
        Ok(Self { target: Target::new(spec), policy: spec.resize, aimed: None, sampler: Sampler::default() })
    }

    /// Writes the tensor of `view`, every number of it.
    ///
    /// # Panics
    /// Where the spec's dtype is not f32, or `out` is not [`InputSpec::tensor_len`] long.
    pub fn run_f32(&mut self, view: &FrameView<'_>, out: &mut [f32]) -> TensorMap {
        self.run(view, out)
    }

    /// As [`Self::run_f32`], for a spec of dtype u8: grey levels, rounded.
    ///
    /// # Panics
    /// Where the spec's dtype is not u8, or `out` is not [`InputSpec::tensor_len`] long.
    pub fn run_u8(&mut self, view: &FrameView<'_>, out: &mut [u8]) -> TensorMap {
        self.run(view, out)
    }

    fn run<T: Number>(&mut self, view: &FrameView<'_>, out: &mut [T]) -> TensorMap {
        let aim = self.aim_at(view.width(), view.height());
        if aim.scaled {
            self.sampler.run(view, &self.target, &aim.place, out);
        } else {
            sample::copy(view, &self.target, &aim.place, out);
        }
        aim.map
    }

    fn aim_at(&mut self, width: u32, height: u32) -> Aim {
        if let Some(aim) = self.aimed.filter(|aim| aim.source == (width, height)) {
            return aim;
        }
        let (source_width, source_height) = (f64::from(width), f64::from(height));
        let place = Placement::new(self.policy, source_width, source_height, self.target.width, self.target.height);
        let scaled = (place.width, place.height) != (width as usize, height as usize);
        if scaled {
            let window = Window { left: 0.0, top: 0.0, width: source_width, height: source_height };
            self.sampler.aim(&window, (width, height), &place);
        }
        let aim = Aim { source: (width, height), place, map: place.tensor_map(width, height), scaled };
        self.aimed = Some(aim);
        aim
    }
}

#[cfg(test)]
mod tests;
