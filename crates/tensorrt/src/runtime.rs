//! A plan made ready, and run.

use std::{
    ffi::{CStr, CString, c_void},
    ptr::{self, NonNull},
    sync::Arc,
};

use crate::{
    error::TrtError,
    library::Calls,
    shape::Shape,
    shim::{CreateInfer, RawContext, RawEngine, RawRuntime, RawTensor},
};

/// Inputs and outputs that an engine may have.
const TENSORS_MAX: usize = 1024;

/// What runs engines. Threads may share it.
#[derive(Clone)]
pub struct Runtime(Arc<RuntimeOwner>);

struct RuntimeOwner {
    calls: Calls,
    raw: NonNull<RawRuntime>,
}

// SAFETY: TensorRT lets threads share a runtime.
unsafe impl Send for RuntimeOwner {}
// SAFETY: as above.
unsafe impl Sync for RuntimeOwner {}

impl Drop for RuntimeOwner {
    fn drop(&mut self) {
        // SAFETY: made by `runtime_new`, freed here alone; engines hold an `Arc` of it.
        unsafe { (self.calls.api.runtime_free)(self.raw.as_ptr()) }
    }
}

impl Runtime {
    /// To be called by those alone who have a [`crate::Driver`].
    pub(crate) fn new(calls: Calls, create: CreateInfer) -> Result<Self, TrtError> {
        calls.log.forget();
        // SAFETY: `create` is the library's own, of the version that the table is for; there is a driver.
        let raw = unsafe { (calls.api.runtime_new)(create, calls.log.raw()) };
        let raw = NonNull::new(raw).ok_or_else(|| calls.log.refused("start its runtime"))?;
        Ok(Self(Arc::new(RuntimeOwner { calls, raw })))
    }

    /// Makes a plan ready, on the GPU of the calling thread's CUDA context. The plan must come from whom one trusts: it holds code.
    ///
    /// # Errors
    /// [`TrtError::Refused`] when it is of another version of TensorRT or another kind of GPU, broken, or has no room.
    pub fn engine(&self, plan: &[u8]) -> Result<Engine, TrtError> {
        let calls = self.0.calls;
        calls.log.forget();
        // SAFETY: the runtime lives; the plan's bytes are there for the call.
        let raw = unsafe { (calls.api.engine_new)(self.0.raw.as_ptr(), plan.as_ptr().cast(), plan.len()) };
        let what = "use this plan: build it again, with this TensorRT, on this GPU";
        let raw = NonNull::new(raw).ok_or_else(|| calls.log.refused(what))?;
        let owner = EngineOwner { runtime: self.clone(), raw };
        let tensors = owner.list()?;
        Ok(Engine(Arc::new(owner), tensors.into()))
    }
}

/// Whether a tensor goes in or comes out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// It goes in.
    Input,
    /// It comes out.
    Output,
}

/// What numbers a tensor is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataType {
    /// 32-bit floats.
    Float,
    /// 16-bit floats.
    Half,
    /// 8-bit integers with a sign.
    Int8,
    /// 32-bit integers.
    Int32,
    /// Bytes that are 0 or 1.
    Bool,
    /// Bytes.
    Uint8,
    /// 16-bit floats with the range of 32-bit ones.
    Bfloat16,
    /// 64-bit integers.
    Int64,
    /// Another of TensorRT's types, by its number there.
    Other(i32),
}

impl DataType {
    fn from_raw(raw: i32) -> Self {
        match raw {
            0 => Self::Float,
            1 => Self::Half,
            2 => Self::Int8,
            3 => Self::Int32,
            4 => Self::Bool,
            5 => Self::Uint8,
            7 => Self::Bfloat16,
            8 => Self::Int64,
            other => Self::Other(other),
        }
    }

    /// Bytes of a number; `None` of other types.
    pub fn bytes(self) -> Option<usize> {
        match self {
            Self::Float | Self::Int32 => Some(4),
            Self::Half | Self::Bfloat16 => Some(2),
            Self::Int8 | Self::Bool | Self::Uint8 => Some(1),
            Self::Int64 => Some(8),
            Self::Other(_) => None,
        }
    }
}

/// An input or output of an engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tensor {
    name: CString,
    /// Whether it goes in or comes out.
    pub mode: Mode,
    /// What numbers it is of.
    pub data_type: DataType,
    /// Its shape, with -1 for what is chosen for each run.
    pub shape: Shape,
    /// Whether it lies in the host's memory: sizes that the engine computes with.
    pub is_on_host: bool,
}

impl Tensor {
    /// Its name, as the model has it.
    pub fn name(&self) -> std::borrow::Cow<'_, str> {
        self.name.to_string_lossy()
    }
}

/// A plan made ready. Threads may share it; each that runs it has a [`Context`] of its own.
#[derive(Clone)]
pub struct Engine(Arc<EngineOwner>, Arc<[Tensor]>);

struct EngineOwner {
    runtime: Runtime,
    raw: NonNull<RawEngine>,
}

// SAFETY: TensorRT lets threads share an engine.
unsafe impl Send for EngineOwner {}
// SAFETY: as above.
unsafe impl Sync for EngineOwner {}

impl Drop for EngineOwner {
    fn drop(&mut self) {
        // SAFETY: made by `engine_new`, freed here alone, before its runtime; contexts hold an `Arc` of it.
        unsafe { (self.runtime.0.calls.api.engine_free)(self.raw.as_ptr()) }
    }
}

impl EngineOwner {
    fn list(&self) -> Result<Vec<Tensor>, TrtError> {
        let calls = self.runtime.0.calls;
        let refused = || calls.log.refused("tell what this plan's tensors are");
        // SAFETY: the engine lives.
        let count = unsafe { (calls.api.tensor_count)(self.raw.as_ptr()) };
        let count = usize::try_from(count).ok().filter(|&count| count <= TENSORS_MAX).ok_or_else(refused)?;
        let tensor = |index| {
            let mut raw = RawTensor { name: ptr::null(), output: 0, data_type: 0, on_host: 0, shape: Shape::SCALAR };
            // SAFETY: the engine lives, and writes one record.
            if !unsafe { (calls.api.tensor)(self.raw.as_ptr(), index as i32, &raw mut raw) } {
                return Err(refused());
            }
            Ok(Tensor {
                // SAFETY: a record that was written has a C string that lasts as long as the engine.
                name: unsafe { CStr::from_ptr(raw.name) }.to_owned(),
                mode: if raw.output == 0 { Mode::Input } else { Mode::Output },
                data_type: DataType::from_raw(raw.data_type),
                shape: raw.shape,
                is_on_host: raw.on_host != 0,
            })
        };
        (0..count).map(tensor).collect()
    }
}

impl Engine {
    /// Its inputs and outputs. A context names one by its place here.
    pub fn tensors(&self) -> &[Tensor] {
        &self.1
    }

    /// Makes a place to run it in: device memory for what lies between inputs and outputs.
    ///
    /// # Errors
    /// [`TrtError::Refused`] when the GPU has no room for it.
    pub fn context(&self) -> Result<Context, TrtError> {
        let calls = self.0.runtime.0.calls;
        calls.log.forget();
        // SAFETY: the engine lives.
        let raw = unsafe { (calls.api.context_new)(self.0.raw.as_ptr()) };
        let what = "make a context: give this GPU fewer models or smaller batches";
        let raw = NonNull::new(raw).ok_or_else(|| calls.log.refused(what))?;
        Ok(Context { engine: self.clone(), raw })
    }
}

/// A place to run an engine in, one run at a time. Nothing here takes memory while frames flow, but errors.
pub struct Context {
    engine: Engine,
    raw: NonNull<RawContext>,
}

// SAFETY: any thread may use a context, one at a time: what uses it takes `&mut`, or only reads.
unsafe impl Send for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by `context_new`, freed here alone, before its engine.
        unsafe { (self.calls().api.context_free)(self.raw.as_ptr()) }
    }
}

impl Context {
    /// The engine that it runs.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Says how large an input is in the runs that follow.
    ///
    /// # Errors
    /// [`TrtError::NoTensor`]; [`TrtError::Refused`] of a shape that is not in the engine's profile.
    pub fn set_shape(&mut self, tensor: usize, shape: &Shape) -> Result<(), TrtError> {
        let name = self.name(tensor)?;
        self.calls().log.forget();
        // SAFETY: context, name and shape live for the call.
        let is_done = unsafe { (self.calls().api.set_shape)(self.raw.as_ptr(), name, shape) };
        self.check(is_done, "take this shape of an input: give one within the engine's profile")
    }

    /// How large a tensor is, once the inputs' shapes are set; -1 where only the run will tell.
    ///
    /// # Errors
    /// [`TrtError::NoTensor`]; [`TrtError::Refused`] while shapes of inputs are not set.
    pub fn shape(&self, tensor: usize) -> Result<Shape, TrtError> {
        let name = self.name(tensor)?;
        let mut shape = Shape::SCALAR;
        self.calls().log.forget();
        // SAFETY: context and name live for the call, which writes one shape.
        let is_done = unsafe { (self.calls().api.shape_of)(self.raw.as_ptr(), name, &raw mut shape) };
        self.check(is_done, "tell a tensor's shape: set the shapes of the inputs first").map(|()| shape)
    }

    /// Says where a tensor lies on the device (of one that is on the host: where there). It is remembered, not touched.
    ///
    /// # Errors
    /// [`TrtError::NoTensor`]; [`TrtError::Refused`] of an address that is not aligned to 256 bytes.
    pub fn bind(&mut self, tensor: usize, address: u64) -> Result<(), TrtError> {
        let name = self.name(tensor)?;
        self.calls().log.forget();
        // SAFETY: context and name live for the call; the address is stored.
        let is_done = unsafe { (self.calls().api.bind)(self.raw.as_ptr(), name, address) };
        self.check(is_done, "take this address of a tensor: give one that is aligned to 256 bytes")
    }

    /// Puts a run into a stream, and returns. What goes wrong on the GPU is told by whoever waits for the stream.
    ///
    /// # Errors
    /// [`TrtError::Refused`] while a shape or address is missing.
    ///
    /// # Safety
    /// `stream` is a living `CUstream` of the calling thread's CUDA context, which is the device's primary context. Each address
    /// that was bound is memory of that device, large enough for its tensor's shape, which is left alone, and lives, until the
    /// stream has done the run; so does the context.
    pub unsafe fn enqueue(&mut self, stream: *mut c_void) -> Result<(), TrtError> {
        self.calls().log.forget();
        // SAFETY: the context lives; the rest is the caller's promise.
        let is_done = unsafe { (self.calls().api.enqueue)(self.raw.as_ptr(), stream) };
        self.check(is_done, "run this engine: every input needs a shape, and every tensor an address")
    }

    fn calls(&self) -> Calls {
        self.engine.0.runtime.0.calls
    }

    fn name(&self, tensor: usize) -> Result<*const std::ffi::c_char, TrtError> {
        let none = TrtError::NoTensor { index: tensor, count: self.engine.1.len() };
        self.engine.1.get(tensor).map(|tensor| tensor.name.as_ptr()).ok_or(none)
    }

    fn check(&self, is_done: bool, what: &'static str) -> Result<(), TrtError> {
        if is_done { Ok(()) } else { Err(self.calls().log.refused(what)) }
    }
}
