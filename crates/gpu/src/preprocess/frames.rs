//! Whole frames to a detector's tensors.

use framepipe_frame::TensorMap;
use framepipe_vision::{DecodeScale, Plan, SampleTables};

use super::{DeviceView, sampler::Sampler};
use crate::{Device, GpuError};

/// Sizes of frames whose tables are kept.
const KEPT_MAX: usize = 4;

/// A frame, and where its tensor is wanted.
#[derive(Clone, Copy, Debug)]
pub struct FrameTensor {
    /// Its pixels.
    pub view: DeviceView,
    /// The tensor's address in the device's memory.
    pub tensor: u64,
}

/// Makes one model's tensors of frames in a device's memory, in one pass.
pub struct Preprocessor {
    plan: Plan,
    sampler: Sampler,
    /// The latest first.
    kept: Vec<Kept>,
}

/// What holds for all frames of one size.
struct Kept {
    size: (u32, u32),
    scale: DecodeScale,
    map: TensorMap,
    tables: SampleTables,
}

impl Preprocessor {
    /// For launches of at most `frames_max` frames whose longest side is `side_max`.
    ///
    /// # Errors
    /// Where the plan is no frame's but a crop's; what the device says.
    pub fn new(device: &Device, plan: Plan, frames_max: usize, side_max: u32) -> Result<Self, GpuError> {
        plan.check_frame().map_err(|error| GpuError::Argument(error.to_string()))?;
        let sampler = Sampler::new(device, &plan, frames_max, side_max)?;
        Ok(Self { plan, sampler, kept: Vec::with_capacity(KEPT_MAX) })
    }

    /// What it does.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Asks the device for the tensors of `frames`, every number of them, in one launch. Fills `maps` with each frame's way back from its
    /// tensor to its upright pixels, in order.
    ///
    /// # Errors
    /// [`GpuError::Argument`] where there are too many frames, or one is too large; what the device says.
    ///
    /// # Safety
    /// The views' pixels, and [`Plan::tensor_bytes`] at each tensor's address, are in the device's memory, and stay there until it
    /// is done; nothing else writes them.
    pub unsafe fn run(&mut self, frames: &[FrameTensor], maps: &mut Vec<TensorMap>) -> Result<(), GpuError> {
        maps.clear();
        let Self { plan, sampler, kept } = self;
        // SAFETY: the caller's.
        unsafe {
            sampler.launch(plan, |batch| {
                for frame in frames {
                    let Kept { map, tables, .. } = Kept::of(kept, plan, &frame.view);
                    batch.add(plan, &frame.view, tables, frame.tensor, false)?;
                    maps.push(*map);
                }
                Ok(())
            })
        }
    }
}

impl Kept {
    /// What holds for frames like this one, of what is kept or instead of what was not used longest.
    fn of<'k>(kept: &'k mut Vec<Self>, plan: &Plan, view: &DeviceView) -> &'k Self {
        let (size, scale) = (view.upright_size(), view.scale());
        let at = kept.iter().position(|kept| (kept.size, kept.scale) == (size, scale));
        let entry = match at {
            Some(at) => kept.remove(at),
            None => {
                let mut tables = if kept.len() == KEPT_MAX { kept.pop() } else { None }
                    .map_or_else(SampleTables::default, |oldest| oldest.tables);
                let map = plan.sample_frame(size, scale, &mut tables);
                Self { size, scale, map, tables }
            }
        };
        kept.insert(0, entry);
        &kept[0]
    }
}
