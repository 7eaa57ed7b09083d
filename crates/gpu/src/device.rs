//! One GPU of this process.

use std::sync::Arc;

use cudarc::driver::{
    result,
    sys::{self, CUcontext, CUdevice, CUstream},
};

use crate::error::check;
use crate::{Choice, Gpu, GpuError};

/// A GPU, and one stream on which all work of its holder is ordered. Belongs to the thread that opened it.
#[derive(Clone)]
pub struct Device(Arc<Open>);

struct Open {
    gpu: Gpu,
    device: CUdevice,
    context: CUcontext,
    stream: CUstream,
}

// SAFETY: the driver's handles may be used by any thread; calls that need the context current are made through `bind`.
unsafe impl Send for Open {}
// SAFETY: as above.
unsafe impl Sync for Open {}

impl Device {
    /// Opens a GPU and makes it this thread's. Who waits for it sleeps, so that its core is another stage's meanwhile.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(choice: &Choice) -> Result<Self, GpuError> {
        let gpu = choice.find()?;
        let device = check("cuDeviceGet", result::device::get(gpu.ordinal as i32))?;
        let flags = sys::CUctx_flags::CU_CTX_SCHED_BLOCKING_SYNC as u32;
        // SAFETY: `device` is one that the driver gave; an active context keeps its flags, which is as well.
        check("cuDevicePrimaryCtxSetFlags", unsafe { sys::cuDevicePrimaryCtxSetFlags_v2(device, flags) }.result())?;
        // SAFETY: as above; `Open` releases it.
        let context = check("cuDevicePrimaryCtxRetain", unsafe { result::primary_ctx::retain(device) })?;
        let mut open = Open { gpu, device, context, stream: std::ptr::null_mut() };
        open.bind()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
        open.stream = check("cuStreamCreate", stream)?;
        Ok(Self(Arc::new(open)))
    }

    /// As [`Device::open`], saying of the device that it is of this compute capability: a newer one runs the kernels of older ones.
    #[cfg(test)]
    pub(crate) fn open_as(choice: &Choice, compute_capability: (i32, i32)) -> Result<Self, GpuError> {
        let Self(mut open) = Self::open(choice)?;
        Arc::get_mut(&mut open).expect("nobody else has it").gpu.compute_capability = compute_capability;
        Ok(Self(open))
    }

    /// What it is.
    pub fn gpu(&self) -> &Gpu {
        &self.0.gpu
    }

    /// Makes the device the calling thread's.
    ///
    /// # Errors
    /// What the driver says.
    pub fn bind(&self) -> Result<(), GpuError> {
        self.0.bind()
    }

    /// Waits until all that was asked of the device is done.
    ///
    /// # Errors
    /// What went wrong since it was last asked.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        // SAFETY: the stream lives as long as `self`.
        check("cuStreamSynchronize", unsafe { result::stream::synchronize(self.0.stream) })
    }

    pub(crate) fn stream(&self) -> CUstream {
        self.0.stream
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Device").field(&self.0.gpu).finish()
    }
}

impl Open {
    fn bind(&self) -> Result<(), GpuError> {
        // SAFETY: the context is retained as long as `self` lives.
        check("cuCtxSetCurrent", unsafe { result::ctx::set_current(self.context) })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Errors: the device is lost, and with it what would be released.
        if !self.stream.is_null() {
            // SAFETY: nothing else has the stream, as `self` is the last that refers to it.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
        // SAFETY: retained once, in `open`.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}
