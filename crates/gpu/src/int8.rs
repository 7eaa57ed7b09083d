//! Quantised ONNX graphs on the GPU, by kernels of our own: nothing is needed beside the driver. Steps, scales and zero points
//! are those of the graph, sums are exact, and so the numbers are those that the graph says, on any device.
//!
//! | file | what it does |
//! |---|---|
//! | `onnx` | reads an ONNX file |
//! | `lower` | makes a program of it, or says which operator is not known |
//! | `graph` | the program: tensors of u8 and operators on them |
//! | `plan` | where its tensors lie, and what is launched for a batch |
//! | `tiles` | which kernel does a convolution fastest on this device, measured at the start |
//! | `twin` | the same program on the host, step by step: for tests |

mod graph;
mod lower;
mod onnx;
mod plan;
#[cfg(test)]
mod tests;
mod tiles;
#[cfg(test)]
mod twin;

use std::path::Path;

use cudarc::driver::{
    result,
    sys::{self, CUgraph, CUgraphExec},
};
use framepipe_vision::{DataType, Input, Layout};

use crate::error::check;
use crate::{Buffer, Device, GpuError, Pinned};
use graph::Program;
use plan::Plan;

/// Most rows or columns of a window, and of its step: they are bits of a word in the kernels.
const WINDOW_MAX: usize = 7;
/// Largest batch.
const BATCH_MAX: usize = 256;

fn refused(file: &Path, reason: impl Into<String>) -> GpuError {
    GpuError::Model { file: file.to_owned(), reason: reason.into() }
}

/// A model, ready to run: its memory taken, its kernels chosen, and all launches of a batch of each size recorded as one.
#[derive(Debug)]
pub struct Int8Model {
    device: Device,
    program: Program,
    plan: Plan,
    batch_max: usize,
    /// Addresses of the samples of a batch.
    addresses: Pinned,
    numbers: Pinned,
    /// By batch, from 1 on.
    recorded: Vec<Recorded>,
}

/// The launches of one batch.
#[derive(Debug)]
struct Recorded {
    graph: CUgraph,
    runnable: CUgraphExec,
}

// SAFETY: the driver's handles may be used by any thread that has the context current.
unsafe impl Send for Recorded {}

impl Drop for Recorded {
    fn drop(&mut self) {
        // SAFETY: made in `Int8Model::record`, destroyed once.
        unsafe {
            let _ = result::graph::exec_destroy(self.runnable);
            let _ = result::graph::destroy(self.graph);
        }
    }
}

impl Int8Model {
    /// Reads a model in QDQ form, for batches up to `batch_max` and for the tensors `outputs` in this order.
    ///
    /// # Errors
    /// When the graph has an operator that is not known here, or no such outputs; when the device has no room.
    pub fn open(device: &Device, file: &Path, outputs: &[&str], batch_max: usize) -> Result<Self, GpuError> {
        if !(1..=BATCH_MAX).contains(&batch_max) {
            return Err(GpuError::Argument(format!("batch_max is {batch_max}: give 1 to {BATCH_MAX}")));
        }
        let mut program = lower::program(file)?;
        let find = |name: &&str| {
            let found = program.outputs.iter().find(|output| output.name == *name).cloned();
            found.ok_or_else(|| refused(file, format!("has no output {name:?}")))
        };
        program.outputs = outputs.iter().map(find).collect::<Result<_, _>>()?;
        let plan = Plan::make(device, &program, batch_max).map_err(|error| match error {
            GpuError::Argument(reason) => refused(file, format!("cannot be run on the GPU: {reason}")),
            other => other,
        })?;
        let mut model = Self {
            addresses: Pinned::new(device, batch_max * size_of::<u64>())?,
            numbers: Pinned::new(device, plan.numbers_bytes())?,
            device: device.clone(),
            program,
            plan,
            batch_max,
            recorded: Vec::new(),
        };
        model.plan.choose_tiles(&model.device, &model.program, batch_max)?;
        for batch in 1..=batch_max {
            let recorded = model.record(batch)?;
            model.recorded.push(recorded);
        }
        Ok(model)
    }

    /// Channels, rows and columns of a sample, f32, plane by plane.
    pub fn input(&self) -> [usize; 3] {
        self.program.input
    }

    /// Fails unless this is what makes the model's samples.
    ///
    /// # Errors
    /// Both, and what to do.
    pub fn check_input(&self, input: &Input) -> Result<(), GpuError> {
        let plan = &input.plan;
        let made = [plan.channels(), plan.height() as usize, plan.width() as usize];
        let is_it = (&input.tensor, made) == (&self.program.input_name, self.program.input)
            && (plan.dtype(), plan.layout()) == (DataType::F32, Layout::Nchw);
        if is_it {
            return Ok(());
        }
        let (name, [channels, height, width]) = (&self.program.input_name, self.program.input);
        Err(GpuError::Argument(format!(
            "the model takes {name:?}, {channels}x{height}x{width} of f32 (nchw), and its manifest makes {:?}, {}x{}x{} of \
             {:?} ({:?}): correct its [input]",
            input.tensor,
            made[0],
            made[1],
            made[2],
            plan.dtype(),
            plan.layout()
        )))
    }

    /// Bytes of a sample.
    pub fn sample_bytes(&self) -> usize {
        self.program.input.iter().product::<usize>() * size_of::<f32>()
    }

    /// Memory of the device for `count` samples, one after another, and where each lies.
    ///
    /// # Errors
    /// As [`Buffer::new`].
    pub fn samples(&self, count: usize) -> Result<(Buffer, Vec<u64>), GpuError> {
        let buffer = Buffer::new(&self.device, count * self.sample_bytes())?;
        let addresses = (0..count).map(|sample| buffer.address() + (sample * self.sample_bytes()) as u64).collect();
        Ok((buffer, addresses))
    }

    /// Largest batch.
    pub fn batch_max(&self) -> usize {
        self.batch_max
    }

    /// Bytes of the device's memory that the model has.
    pub fn device_bytes(&self) -> usize {
        self.plan.device_bytes()
    }

    /// Multiply-accumulates of one sample in the INT8 convolutions.
    pub fn macs(&self) -> u64 {
        self.program.macs()
    }

    /// Milliseconds that each launch of a batch takes by itself, and what it does: for whoever looks for the slow ones.
    ///
    /// # Errors
    /// What the device says.
    ///
    /// # Panics
    /// When the batch is none, or too large.
    pub fn profile(&self, batch: usize) -> Result<Vec<(String, f32)>, GpuError> {
        assert!((1..=self.batch_max).contains(&batch));
        self.plan.profile(&self.device, &self.program, batch)
    }

    /// Shapes of the outputs, the batch left out, in order.
    pub fn output_shapes(&self) -> impl Iterator<Item = &[usize]> {
        self.program.outputs.iter().map(|output| &output.shape[..])
    }

    /// Runs the samples that lie at these addresses of the device's memory, and waits for their outputs.
    ///
    /// # Errors
    /// When there are none or too many, or the device fails.
    ///
    /// # Safety
    /// At each address lie [`Self::sample_bytes`] bytes that this process may read, and that nothing writes meanwhile.
    pub unsafe fn run(&mut self, samples: &[u64]) -> Result<(), GpuError> {
        // SAFETY: the caller's.
        unsafe { self.start(samples) }?;
        self.device.synchronize()
    }

    /// As [`Self::run`], without waiting.
    ///
    /// # Errors
    /// As [`Self::run`].
    ///
    /// # Safety
    /// As [`Self::run`]; before the device was waited for, outputs are not looked at, and it is started again with the same samples
    /// alone.
    pub unsafe fn start(&mut self, samples: &[u64]) -> Result<(), GpuError> {
        let batch = samples.len();
        if !(1..=self.batch_max).contains(&batch) {
            return Err(GpuError::Argument(format!("a batch of {batch}, where 1 to {} can be", self.batch_max)));
        }
        self.addresses.bytes_mut()[..size_of_val(samples)].copy_from_slice(bytemuck::cast_slice(samples));
        // SAFETY: recorded for this stream, of memory that `self` has; the samples are the caller's.
        let launched = unsafe { result::graph::launch(self.recorded[batch - 1].runnable, self.device.stream()) };
        check("cuGraphLaunch", launched)
    }

    /// The numbers of an output of one sample of the last run.
    ///
    /// # Panics
    /// When there is no such output or sample.
    pub fn output(&self, output: usize, sample: usize) -> &[f32] {
        assert!(sample < self.batch_max);
        let (start, length) = self.plan.numbers_of(output);
        let all: &[f32] = bytemuck::cast_slice(self.numbers.bytes());
        &all[start + sample * length..][..length]
    }

    /// Records all launches of a batch.
    fn record(&mut self, batch: usize) -> Result<Recorded, GpuError> {
        let stream = self.device.stream();
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is ours and captures nothing yet.
        check("cuStreamBeginCapture", unsafe { result::stream::begin_capture(stream, mode) })?;
        let launched = self.launch(batch);
        // SAFETY: the capture was begun.
        let graph = check("cuStreamEndCapture", unsafe { result::stream::end_capture(stream) });
        let graph = match (launched, graph) {
            (Ok(()), graph) => graph?,
            (Err(error), graph) => {
                // SAFETY: captured just now; nothing else has it.
                let _ = graph.map(|graph| unsafe { result::graph::destroy(graph) });
                return Err(error);
            }
        };
        let mut runnable = std::ptr::null_mut();
        // SAFETY: the graph was captured just now.
        let answer = unsafe { sys::cuGraphInstantiateWithFlags(&mut runnable, graph, 0) };
        if let Err(error) = check("cuGraphInstantiate", answer.result()) {
            // SAFETY: as above; nothing else has it.
            let _ = unsafe { result::graph::destroy(graph) };
            return Err(error);
        }
        Ok(Recorded { graph, runnable })
    }

    fn launch(&mut self, batch: usize) -> Result<(), GpuError> {
        // SAFETY: both lie in buffers of the plan, which `self` has as long as what is recorded here.
        unsafe { self.addresses.send(self.plan.addresses(), batch * size_of::<u64>())? };
        self.plan.launch(&self.program, batch)?;
        for output in 0..self.program.outputs.len() {
            let (start, length) = self.plan.numbers_of(output);
            let (at, bytes) = (start * size_of::<f32>(), batch * length * size_of::<f32>());
            // SAFETY: as above.
            unsafe { self.numbers.receive_at(at, self.plan.numbers(at), bytes)? };
        }
        Ok(())
    }
}
