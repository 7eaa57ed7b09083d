//! The shim's functions, for each major version of TensorRT: `shim.cpp` as Rust sees it.

use std::ffi::{c_char, c_void};

use crate::shape::Shape;

#[cfg_attr(tensorrt_headers, path = "enabled.rs")]
#[cfg_attr(not(tensorrt_headers), path = "disabled.rs")]
mod tables;

pub(crate) use tables::table;

/// The major versions that the shim is written for.
pub(crate) const MAJORS: [u32; 2] = [10, 11];

/// Declares TensorRT's objects, which only pointers are held of.
macro_rules! opaque {
    ($($name:ident),*) => {$(
        #[repr(C)]
        pub(crate) struct $name {
            _nothing: [u8; 0],
        }
    )*};
}

opaque!(RawLog, RawRuntime, RawEngine, RawContext, RawMemory);

/// Takes a line of TensorRT's log: `to`, the severity, the text.
pub(crate) type Say = unsafe extern "C" fn(to: *const c_void, severity: i32, text: *const c_char);
/// `createInferRuntime_INTERNAL` and `createInferBuilder_INTERNAL`.
pub(crate) type CreateInfer = unsafe extern "C" fn(log: *mut c_void, version: i32) -> *mut c_void;
/// `createNvOnnxParser_INTERNAL`.
pub(crate) type CreateParser =
    unsafe extern "C" fn(network: *mut c_void, log: *mut c_void, version: i32) -> *mut c_void;

/// An input or output of an engine.
#[repr(C)]
pub(crate) struct RawTensor {
    pub(crate) name: *const c_char,
    pub(crate) output: i32,
    pub(crate) data_type: i32,
    pub(crate) on_host: i32,
    pub(crate) shape: Shape,
}

/// What is to be built.
#[repr(C)]
pub(crate) struct RawRequest {
    pub(crate) onnx: *const c_void,
    pub(crate) onnx_bytes: usize,
    pub(crate) input: *const c_char,
    pub(crate) shapes: [Shape; 3],
    pub(crate) workspace_bytes: usize,
    pub(crate) timings: *const c_void,
    pub(crate) timings_bytes: usize,
    pub(crate) fp16: i32,
}

/// What was built.
#[repr(C)]
pub(crate) struct RawPlan {
    pub(crate) plan: *mut RawMemory,
    pub(crate) timings: *mut RawMemory,
}

/// The table of functions: field for field, `struct Api` of `shim.cpp`.
#[repr(C)]
pub(crate) struct Api {
    pub(crate) log_new: unsafe extern "C" fn(Say, *const c_void) -> *mut RawLog,
    pub(crate) runtime_new: unsafe extern "C" fn(CreateInfer, *mut RawLog) -> *mut RawRuntime,
    pub(crate) runtime_free: unsafe extern "C" fn(*mut RawRuntime),
    pub(crate) engine_new: unsafe extern "C" fn(*mut RawRuntime, *const c_void, usize) -> *mut RawEngine,
    pub(crate) engine_free: unsafe extern "C" fn(*mut RawEngine),
    pub(crate) tensor_count: unsafe extern "C" fn(*const RawEngine) -> i32,
    pub(crate) tensor: unsafe extern "C" fn(*const RawEngine, i32, *mut RawTensor) -> bool,
    pub(crate) context_new: unsafe extern "C" fn(*mut RawEngine) -> *mut RawContext,
    pub(crate) context_free: unsafe extern "C" fn(*mut RawContext),
    pub(crate) set_shape: unsafe extern "C" fn(*mut RawContext, *const c_char, *const Shape) -> bool,
    pub(crate) shape_of: unsafe extern "C" fn(*const RawContext, *const c_char, *mut Shape) -> bool,
    pub(crate) bind: unsafe extern "C" fn(*mut RawContext, *const c_char, u64) -> bool,
    pub(crate) enqueue: unsafe extern "C" fn(*mut RawContext, *mut c_void) -> bool,
    pub(crate) build:
        unsafe extern "C" fn(CreateInfer, CreateParser, *mut RawLog, *const RawRequest, *mut RawPlan) -> i32,
    pub(crate) memory_data: unsafe extern "C" fn(*const RawMemory, *mut usize) -> *const c_void,
    pub(crate) memory_free: unsafe extern "C" fn(*mut RawMemory),
}
