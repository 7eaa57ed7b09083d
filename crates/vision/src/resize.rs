//! A whole frame's pixels to the tensor of a graph that begins with decode.

use framepipe_frame::TensorMap;

use crate::graph::{GraphError, Plan};
use crate::rows::Rows;
use crate::sample::{Kernel, Sampler};

/// Makes one model's tensors of frames, in one pass.
///
/// Nothing is allocated unless a frame's size differs from the one before.
#[derive(Debug)]
pub struct Preprocessor {
    plan: Plan,
    aimed: Option<Aimed>,
    sampler: Sampler,
}

/// What holds as long as frames have one size.
#[derive(Clone, Copy, Debug)]
struct Aimed {
    source: (u32, u32),
    size: (u32, u32),
    map: TensorMap,
}

impl Preprocessor {
    /// A preprocessor for this plan.
    ///
    /// # Errors
    /// Where the plan is no frame's but a crop's.
    pub fn new(plan: Plan) -> Result<Self, GraphError> {
        plan.check_frame()?;
        Ok(Self { plan, aimed: None, sampler: Sampler::default() })
    }

    /// What it does.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How the latest tensor's pixels were made.
    pub fn kernel(&self) -> Kernel {
        self.sampler.kernel()
    }

    /// Writes the tensor of a frame, every number of it, and returns the way back from it to the frame's pixels.
    ///
    /// # Errors
    /// Where a row cannot be had; `tensor` then holds anything.
    ///
    /// # Panics
    /// Where `tensor` is not [`Plan::tensor_bytes`] long, or not aligned for its numbers.
    pub fn run<R: Rows>(&mut self, rows: &mut R, tensor: &mut [u8]) -> Result<TensorMap, R::Error> {
        let map = self.aim_at(rows);
        self.sampler.write(rows, &self.plan.tensor, tensor)?;
        Ok(map)
    }

    fn aim_at(&mut self, rows: &impl Rows) -> TensorMap {
        let (source, size) = (rows.source_size(), rows.size());
        if let Some(aimed) = self.aimed.filter(|aimed| (aimed.source, aimed.size) == (source, size)) {
            return aimed.map;
        }
        let aim = self.plan.aim(source);
        self.sampler.aim(&aim.at_scale(rows.scale()), rows);
        let map = aim.tensor_map();
        self.aimed = Some(Aimed { source, size, map });
        map
    }
}

#[cfg(test)]
mod tests;
