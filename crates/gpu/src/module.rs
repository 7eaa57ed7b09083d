//! Kernels: PTX that is part of this crate, which the driver compiles for the device, and their launch.

use std::ffi::{CString, c_void};

use cudarc::driver::{
    result,
    sys::{self, CUfunction, CUmodule},
};

use crate::error::check;
use crate::{Device, GpuError};

/// Shared memory that a kernel may have without asking.
const SHARED_BYTES_FREE: u32 = 48 << 10;

/// Kernels of one source, loaded. It stays loaded as long as the process lives.
#[derive(Debug)]
pub struct Module {
    module: CUmodule,
    device: Device,
}

/// A kernel.
#[derive(Clone, Debug)]
pub struct Function {
    function: CUfunction,
    device: Device,
}

// SAFETY: the driver's handles may be used by any thread.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Send for Function {}

impl Module {
    /// Loads one of two PTX texts: the one for devices of compute capability 7.5, or that for 8.0 and newer.
    ///
    /// # Errors
    /// What the driver says of it.
    pub fn load(device: &Device, turing: &str, ampere: &str) -> Result<Self, GpuError> {
        let text = if device.gpu().compute_capability < (8, 0) { turing } else { ampere };
        let text = CString::new(text).map_err(|_| GpuError::Argument("a PTX text holds a zero byte".into()))?;
        // SAFETY: a text that ends with a zero, as the driver expects of PTX.
        let module = check("cuModuleLoadData", unsafe { result::module::load_data(text.as_ptr().cast()) })?;
        Ok(Self { module, device: device.clone() })
    }

    /// The kernel of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn function(&self, name: &str) -> Result<Function, GpuError> {
        let name = CString::new(name).map_err(|_| GpuError::Argument(format!("{name:?} is no kernel's name")))?;
        // SAFETY: the module is loaded.
        let function = check("cuModuleGetFunction", unsafe { result::module::get_function(self.module, name) })?;
        Ok(Function { function, device: self.device.clone() })
    }
}

impl Function {
    /// Lets launches have so much dynamic shared memory, which is beyond 48 KiB a wish.
    ///
    /// # Errors
    /// When the device has not so much.
    pub fn allow_shared(&self, bytes: u32) -> Result<(), GpuError> {
        if bytes <= SHARED_BYTES_FREE {
            return Ok(());
        }
        let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function is the driver's.
        let answer = unsafe { result::function::set_function_attribute(self.function, attribute, bytes as i32) };
        check("cuFuncSetAttribute", answer)
    }

    /// Asks the device to run the kernel on its one parameter, a record.
    ///
    /// # Safety
    /// The record is the kernel's parameter as its source declares it, and names memory that it may reach, until it is done.
    pub unsafe fn launch<P>(
        &self,
        grid: [u32; 3],
        threads: u32,
        shared_bytes: u32,
        parameter: &P,
    ) -> Result<(), GpuError> {
        let mut parameters = [std::ptr::from_ref(parameter).cast_mut().cast::<c_void>()];
        let (grid, block) = ((grid[0], grid[1], grid[2]), (threads, 1, 1));
        // SAFETY: the parameter is copied before the call returns; the rest is the caller's.
        let launched = unsafe {
            result::launch_kernel(self.function, grid, block, shared_bytes, self.device.stream(), &mut parameters)
        };
        check("cuLaunchKernel", launched)
    }
}
