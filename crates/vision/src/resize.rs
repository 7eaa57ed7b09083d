//! A frame's pixels to the detector's tensor.

use framepipe_frame::TensorMap;

use crate::placement::Placement;
use crate::sample::{self, Number, Sampler, Target, Window};
use crate::{DecodeScale, FrameView, Header, InputSpec, InputSpecError, ResizePolicy};

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
    view: (u32, u32),
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
        let aim = self.aim_at(view);
        if aim.scaled {
            self.sampler.run(view, &self.target, &aim.place, out);
        } else {
            sample::copy(view, &self.target, &aim.place, out);
        }
        aim.map
    }

    /// The scale at which a JPEG may be decoded for this tensor: its picture is not enlarged.
    pub fn decode_scale(&self, header: &Header) -> DecodeScale {
        let place = self.place(header.oriented_size());
        DecodeScale::at_least(header, place.width as u32, place.height as u32)
    }

    fn place(&self, (width, height): (u32, u32)) -> Placement {
        let Target { width: tensor_width, height: tensor_height, .. } = self.target;
        Placement::new(self.policy, f64::from(width), f64::from(height), tensor_width, tensor_height)
    }

    fn aim_at(&mut self, view: &FrameView<'_>) -> Aim {
        let (source, pixels) = (view.source_size(), (view.width(), view.height()));
        if let Some(aim) = self.aimed.filter(|aim| (aim.source, aim.view) == (source, pixels)) {
            return aim;
        }
        let place = self.place(source);
        let (width, height) = view.extent();
        let scaled = (place.width as f64, place.height as f64) != (width, height);
        if scaled {
            self.sampler.aim(&Window { left: 0.0, top: 0.0, width, height }, pixels, &place);
        }
        let aim = Aim { source, view: pixels, place, map: place.tensor_map(source.0, source.1), scaled };
        self.aimed = Some(aim);
        aim
    }
}

#[cfg(test)]
mod tests;
