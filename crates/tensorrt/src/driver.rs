//! The proof that there is a CUDA driver and a GPU: without a driver TensorRT does not fail, but returns pointers to nothing.

use std::{ffi::c_int, path::Path};

use crate::{
    dynamic::{Loaded, function},
    error::TrtError,
};

/// The driver's library, as the loader finds it.
const LIBRARY: &str = "libcuda.so.1";

/// There is a CUDA driver, and it sees a GPU. TensorRT is called by those alone who have one.
#[derive(Clone, Copy, Debug)]
pub struct Driver {
    devices: u32,
}

impl Driver {
    /// Asks the system's driver.
    ///
    /// # Errors
    /// [`TrtError::NoDriver`] when there is none, or no GPU that this process may use.
    pub fn find() -> Result<Self, TrtError> {
        Self::open(Path::new(LIBRARY))
    }

    /// Asks the driver of this library.
    ///
    /// # Errors
    /// [`TrtError::NoDriver`] when it is none, or sees no GPU that this process may use.
    pub fn open(library: &Path) -> Result<Self, TrtError> {
        let none = |reason: String| TrtError::NoDriver { reason };
        let loaded = Loaded::open(library).map_err(none)?;
        let missing = || none(format!("{} is no CUDA driver: it lacks cuInit or cuDeviceGetCount", library.display()));
        let init = loaded.symbol(c"cuInit").ok_or_else(missing)?;
        let count = loaded.symbol(c"cuDeviceGetCount").ok_or_else(missing)?;
        // SAFETY: cuInit has this type in every CUDA driver.
        let init = unsafe { function!(init => unsafe extern "C" fn(u32) -> c_int) };
        // SAFETY: cuDeviceGetCount has this type in every CUDA driver.
        let count = unsafe { function!(count => unsafe extern "C" fn(*mut c_int) -> c_int) };
        // SAFETY: 0 is the one value of its argument.
        let status = unsafe { init(0) };
        if status != 0 {
            return Err(none(format!("cuInit returned {status} (100: no GPU)")));
        }
        let mut devices: c_int = 0;
        // SAFETY: writes one int.
        let status = unsafe { count(&raw mut devices) };
        match u32::try_from(devices) {
            Ok(devices) if status == 0 && devices > 0 => Ok(Self { devices }),
            _ => Err(none(format!("cuDeviceGetCount returned {status} and {devices} GPUs"))),
        }
    }

    /// How many GPUs this process may use; one at least.
    pub fn devices(self) -> u32 {
        self.devices
    }
}
