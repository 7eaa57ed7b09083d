//! A mark in the device's work.

use cudarc::driver::{result, sys};

use crate::error::check;
use crate::{Device, GpuError};

/// A mark behind all that was asked of a device until it was set.
#[derive(Debug)]
pub struct Event {
    event: sys::CUevent,
    device: Device,
}

// SAFETY: the driver's handles may be used by any thread.
unsafe impl Send for Event {}

impl Event {
    /// An event that was never set, which counts as passed.
    ///
    /// # Errors
    /// What the driver says.
    pub fn new(device: &Device) -> Result<Self, GpuError> {
        // Who waits sleeps, as for the device as a whole.
        let flags = sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC;
        Ok(Self { event: check("cuEventCreate", result::event::create(flags))?, device: device.clone() })
    }

    /// Sets it here in the device's work.
    ///
    /// # Errors
    /// What the driver says.
    pub fn set(&self) -> Result<(), GpuError> {
        // SAFETY: both handles live as long as `self`.
        check("cuEventRecord", unsafe { result::event::record(self.event, self.device.stream()) })
    }

    /// Waits until the device has passed it.
    ///
    /// # Errors
    /// What went wrong before it.
    pub fn wait(&self) -> Result<(), GpuError> {
        // SAFETY: the handle lives as long as `self`.
        check("cuEventSynchronize", unsafe { sys::cuEventSynchronize(self.event) }.result())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed once; the driver keeps what is still waited for.
        let _ = unsafe { result::event::destroy(self.event) };
    }
}
