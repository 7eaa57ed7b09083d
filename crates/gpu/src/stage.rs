//! What a stage needs of its GPU: the device that the configuration names, the slabs that the launcher handed to it, and what
//! becomes of a frame, or of the process, when the device fails.

use anyhow::Context as _;
use framepipe_frame::{ErrorCode, FrameError};
use framepipe_pipeline::{Device as Named, Exit, Place, Pool, Process};

use crate::{Choice, Device, GpuError, Slab};

/// A stage's device, with the slabs that it reads and writes.
pub struct StageDevice {
    /// The device.
    pub device: Device,
    slabs: Vec<(Pool, Slab)>,
}

impl StageDevice {
    /// The device of a pipeline that has one; none: the stage works on the CPU.
    ///
    /// # Errors
    /// Why the device, or a slab, cannot be had.
    pub fn of(process: &Process) -> anyhow::Result<Option<Self>> {
        let choice = match &process.order.config.device {
            Named::Cpu | Named::Memfd => return Ok(None),
            Named::Gpu(None) => Choice::First,
            Named::Gpu(Some(uuid)) => Choice::Uuid(uuid.clone()),
        };
        let device = Device::open(&choice)?;
        let mut slabs = Vec::new();
        for pool in Pool::ALL {
            if let Some(slab) = process.slab(pool).filter(|slab| slab.is_on_device) {
                let imported = Slab::import(&device, slab.memory.try_clone()?, slab.bytes as usize);
                slabs.push((pool, imported.with_context(|| format!("the slab of the {} pool", pool.name()))?));
            }
        }
        Ok(Some(Self { device, slabs }))
    }

    /// Address of a slot of a handed pool, of which `bytes` bytes are to be read or written.
    ///
    /// # Errors
    /// Where the slot is not of this size, or lies beyond its slab, as another process may have scribbled.
    pub fn address(&self, pool: Pool, place: Place, bytes: usize) -> Result<u64, FrameError> {
        let internal = |message: String| FrameError::new(ErrorCode::Internal, message);
        if bytes > place.slot_bytes {
            return Err(internal(format!("{bytes} bytes in a {} slot of {}", pool.name(), place.slot_bytes)));
        }
        let slab = self.slabs.iter().find(|(of, _)| *of == pool).map(|(_, slab)| slab);
        let slab = slab.ok_or_else(|| internal(format!("the {} pool lies in no slab of this process", pool.name())))?;
        slab.part(place.offset, bytes).map_err(|error| internal(error.to_string()))
    }
}

/// What a fault of the device means for a frame: its error. Where the device is lost, the process ends: its frames are another
/// process's then, which may have the device again.
pub fn frame_error(error: GpuError) -> FrameError {
    if let GpuError::Lost { .. } = error {
        tracing::error!("{error}");
        // At once: what the driver would do at an ordinary end may wait for the device.
        // SAFETY: ends the process, whatever state it is in.
        unsafe { libc::_exit(Exit::Device as i32) };
    }
    FrameError::new(ErrorCode::Inference, error.to_string())
}
