//! What lies around detections to an attribute model's batch.

use framepipe_vision::{Plan, Rect, SampleTables};

use super::{DeviceView, sampler::Sampler};
use crate::{Device, GpuError};

/// A rectangle of a frame, and where its tensor is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Crop {
    /// The frame's pixels.
    pub view: DeviceView,
    /// The rectangle, in upright pixels, as `framepipe_vision::Cropper::rect` gives it; it may reach over the frame's edges.
    pub rect: Rect,
    /// True: the picture, without its padding, is turned by 180 degrees.
    pub is_turned: bool,
    /// The tensor's address in the device's memory.
    pub tensor: u64,
}

/// Makes one attribute model's tensors of crops of frames in a device's memory, in one pass.
pub struct Cropper {
    plan: Plan,
    sampler: Sampler,
    tables: SampleTables,
}

impl Cropper {
    /// For launches of at most `crops_max` crops, of frames whose longest side is `side_max`.
    ///
    /// # Errors
    /// Where the plan is no crop's but a whole frame's; what the device says.
    pub fn new(device: &Device, plan: Plan, crops_max: usize, side_max: u32) -> Result<Self, GpuError> {
        plan.crop_spec().map_err(|error| GpuError::Argument(error.to_string()))?;
        let sampler = Sampler::new(device, &plan, crops_max, side_max)?;
        Ok(Self { plan, sampler, tables: SampleTables::default() })
    }

    /// What it does.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Asks the device for the tensors of `crops`, of any frames, every number of them, in one launch.
    ///
    /// # Errors
    /// [`GpuError::Argument`] where there are too many, a frame is too large or was decoded at less than its size; what the
    /// device says.
    ///
    /// # Safety
    /// As [`super::Preprocessor::run`].
    pub unsafe fn run(&mut self, crops: &[Crop]) -> Result<(), GpuError> {
        let Self { plan, sampler, tables } = self;
        // SAFETY: the caller's.
        unsafe {
            sampler.launch(plan, |batch| {
                for crop in crops {
                    if crop.view.scale() != Default::default() {
                        return Err(GpuError::Argument("crops are taken of frames at full size".into()));
                    }
                    plan.sample_crop(&crop.rect, crop.view.upright_size(), tables);
                    batch.add(plan, &crop.view, tables, crop.tensor, crop.is_turned)?;
                }
                Ok(())
            })
        }
    }
}
