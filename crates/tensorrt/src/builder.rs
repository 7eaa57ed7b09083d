//! An engine built from an ONNX model: minutes of trying out kernels on the GPU that is to run it.

use std::{ffi::CString, ptr, slice};

use crate::{
    driver::Driver,
    error::TrtError,
    library::{Calls, Library},
    shape::Profile,
    shim::{RawMemory, RawPlan, RawRequest},
};

/// Where the numbers' precision comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Precision {
    /// From the model: its types hold, layer by layer. INT8 is what lies between its QuantizeLinear and DequantizeLinear
    /// (symmetric, signed); what the model says is 32-bit float runs in 32-bit float (on GPUs that have it, in TF32).
    Model,
    /// A model of 32-bit floats, in which TensorRT 10 may take 16-bit ones where that is faster. Inputs and outputs stay as they
    /// are. TensorRT 11 knows no such thing: there the model itself must be converted.
    Fp16,
}

/// What is to be built.
#[derive(Clone, Debug)]
pub struct BuildRequest<'a> {
    /// The ONNX model, whole: weights in files of their own are not read.
    pub onnx: &'a [u8],
    /// The shapes that its input has. Other inputs' shapes must be fixed in the model.
    pub profile: &'a Profile,
    /// Where the precision comes from.
    pub precision: Precision,
    /// Device memory that a layer may use besides its tensors; 0 for all that the GPU has.
    pub workspace_bytes: usize,
    /// The timings of an earlier build, which make this one faster; empty where there are none. Those of another TensorRT or
    /// GPU are not used.
    pub timings: &'a [u8],
}

/// What was built.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The engine, for [`crate::Runtime::engine`] with the same library on the same kind of GPU.
    pub plan: Vec<u8>,
    /// Timings for the next build.
    pub timings: Vec<u8>,
}

/// What the shim's steps are, as an error names them: `enum Step` of `shim.cpp`, without the first.
const STEPS: [&str; 7] = [
    "start its builder",
    "begin a network",
    "start its ONNX parser",
    "read this model: export it with operators and an opset that TensorRT knows",
    "choose FP16 in a model with QuantizeLinear or DequantizeLinear: ask for the precision of the model",
    "take this profile: its input's name, rank and fixed sizes must be the model's",
    "build an engine of this model",
];

impl Library {
    /// Builds an engine, on the GPU of the calling thread's CUDA context; none else should use that GPU meanwhile, or the timings
    /// mislead.
    ///
    /// # Errors
    /// [`TrtError::CannotBuild`] by a library that only runs engines; [`TrtError::Fp16Flag`] of [`Precision::Fp16`] from 11 on;
    /// [`TrtError::Refused`], with the builder's last lines, when a step of it fails.
    pub fn build(&self, _driver: Driver, request: &BuildRequest<'_>) -> Result<Plan, TrtError> {
        let builders = self.builders()?;
        if request.precision == Precision::Fp16 && self.version().major >= 11 {
            return Err(TrtError::Fp16Flag { version: self.version() });
        }
        let calls = self.calls();
        let input = CString::new(request.profile.input.as_str()).expect("Profile::new refuses zero bytes");
        let raw = RawRequest {
            onnx: request.onnx.as_ptr().cast(),
            onnx_bytes: request.onnx.len(),
            input: input.as_ptr(),
            shapes: request.profile.shapes,
            workspace_bytes: request.workspace_bytes,
            timings: request.timings.as_ptr().cast(),
            timings_bytes: request.timings.len(),
            fp16: i32::from(request.precision == Precision::Fp16),
        };
        let mut built = RawPlan { plan: ptr::null_mut(), timings: ptr::null_mut() };
        calls.log.forget();
        // SAFETY: the functions are the library's own, of the version that the table is for; there is a driver; what `raw` points
        // to lives for the call, which writes `built`.
        let step = unsafe {
            (calls.api.build)(builders.builder, builders.parser, calls.log.raw(), &raw const raw, &raw mut built)
        };
        if let Some(what) = usize::try_from(step - 1).ok().map(|step| STEPS.get(step).unwrap_or(&"build")) {
            return Err(calls.log.refused(what));
        }
        // SAFETY: both are the build's, or null, and no one else's.
        Ok(unsafe { Plan { plan: take(calls, built.plan), timings: take(calls, built.timings) } })
    }
}

/// Copies what TensorRT holds, and frees it.
///
/// # Safety
/// `memory` is null or one that TensorRT returned, and nobody uses it hereafter.
unsafe fn take(calls: Calls, memory: *mut RawMemory) -> Vec<u8> {
    if memory.is_null() {
        return Vec::new();
    }
    let mut bytes = 0;
    // SAFETY: it lives until it is freed below.
    let data = unsafe { (calls.api.memory_data)(memory, &raw mut bytes) };
    let copy = if data.is_null() || bytes == 0 {
        Vec::new()
    } else {
        // SAFETY: TensorRT holds that many bytes there.
        unsafe { slice::from_raw_parts(data.cast::<u8>(), bytes) }.to_vec()
    };
    // SAFETY: nobody uses it any more.
    unsafe { (calls.api.memory_free)(memory) };
    copy
}
