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

/// What `open` makes for batches up to `batch_max`; where the device's memory does not suffice, up to half as many, and so on.
///
/// # Errors
/// What `open` says, of batches of one at last.
pub fn within_memory<T>(batch_max: usize, mut open: impl FnMut(usize) -> Result<T, GpuError>) -> Result<T, GpuError> {
    let mut batch = batch_max;
    loop {
        match open(batch) {
            Err(error @ GpuError::OutOfMemory { .. }) if batch > 1 => {
                batch /= 2;
                tracing::warn!("{error}; batches of {batch_max} are too large for it, of {batch} are tried");
            }
            opened => return opened,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn no_memory() -> GpuError {
        GpuError::OutOfMemory { what: "it".into(), free: None }
    }

    #[test]
    fn batches_are_halved_until_they_fit() {
        for (most, room, fits) in [(64, 64, 64), (64, 20, 16), (7, 2, 1), (1, 1, 1)] {
            let mut tried = Vec::new();
            let opened = within_memory(most, |batch| {
                tried.push(batch);
                if batch > room { Err(no_memory()) } else { Ok(batch) }
            });
            assert_eq!(opened, Ok(fits), "{tried:?}");
        }
    }

    #[test]
    fn no_room_for_one_and_other_faults_are_errors_at_once() {
        let mut tried = Vec::new();
        let opened = within_memory(4, |batch| {
            tried.push(batch);
            Err::<(), _>(no_memory())
        });
        assert_eq!((opened, &tried[..]), (Err(no_memory()), &[4, 2, 1][..]));
        let other = || GpuError::Argument("of another kind".into());
        let mut tried = 0;
        let opened = within_memory(4, |_| {
            tried += 1;
            Err::<(), _>(other())
        });
        assert_eq!((opened, tried), (Err(other()), 1));
    }
}
