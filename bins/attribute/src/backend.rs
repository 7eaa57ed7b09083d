//! What makes one model's crops and runs it: on the CPU, or on a GPU.

use std::ops::Range;

use anyhow::{Context as _, Result};
use framepipe_frame::FrameError;
use framepipe_gpu::{Buffer, Crop, Cropper as GpuCropper, Device, DeviceView, Int8Model, frame_error, within_memory};
use framepipe_infer::{CpuModel, ModelFile, Options, Outputs, Runtime, Samples};
use framepipe_model::{AttributeHead, Manifest};
use framepipe_vision::{Cropper, DataType, FrameView, Plan, Rect};

use crate::waiting::Tensors;

/// Where a frame's pixels lie.
#[derive(Clone, Copy)]
pub enum View<'a> {
    Host(FrameView<'a>),
    Device(DeviceView),
}

impl View<'_> {
    /// Width and height of the upright frame.
    pub fn size(&self) -> (u32, u32) {
        match self {
            Self::Host(view) => (view.width(), view.height()),
            Self::Device(view) => view.upright_size(),
        }
    }
}

/// A model, with the tensors of crops that wait for its next run, in memory that was taken at start.
pub enum Backend {
    Cpu(Box<OnCpu>),
    Gpu(Box<OnGpu>),
}

pub struct OnCpu {
    session: CpuModel,
    dtype: DataType,
    cropper: Cropper,
    tensors: Tensors,
}

pub struct OnGpu {
    device: Device,
    model: Int8Model,
    cropper: GpuCropper,
    /// Where the addresses lie.
    _tensors: Buffer,
    crops: Vec<Crop>,
    addresses: Vec<u64>,
    shapes: Vec<Vec<usize>>,
}

/// What a run put out.
pub enum Made<'m> {
    Cpu(Outputs<'m>),
    Gpu(&'m Int8Model),
}

impl Made<'_> {
    /// The numbers of a sample's output.
    pub fn numbers(&self, output: usize, sample: usize) -> &[f32] {
        match self {
            Self::Cpu(outputs) => outputs.sample(output, sample).1,
            Self::Gpu(model) => model.output(output, sample),
        }
    }
}

impl Backend {
    /// Opens a model on the CPU.
    pub fn on_cpu(runtime: &Runtime, manifest: &Manifest, head: &AttributeHead, options: Options) -> Result<Self> {
        let input = &manifest.input;
        let file = manifest.model_path();
        let file = ModelFile { path: &file, sha256: &manifest.sha256 };
        let mut session = CpuModel::open(runtime, file, input, &head.outputs(), options)?;
        session.warm_up(&[])?;
        let tensors = Tensors::new(input.plan.tensor_bytes(), session.batch_max());
        let cropper = Cropper::new(input.plan.clone())?;
        Ok(Self::Cpu(Box::new(OnCpu { session, dtype: input.plan.dtype(), cropper, tensors })))
    }

    /// Opens a model on a GPU, for crops of frames whose longest side is `side_max`.
    pub fn on_gpu(
        device: &Device,
        manifest: &Manifest,
        head: &AttributeHead,
        batch_max: usize,
        side_max: u32,
    ) -> Result<Self> {
        let file = manifest.model_path();
        let plan: &Plan = &manifest.input.plan;
        let open = |batch| {
            let model = Int8Model::open(device, &file, &head.outputs(), batch)?;
            let samples = model.samples(batch)?;
            Ok((model, samples, GpuCropper::new(device, plan.clone(), batch, side_max)?))
        };
        let (model, (tensors, addresses), cropper) = within_memory(batch_max, open)?;
        model.check_input(&manifest.input).with_context(|| manifest.path().display().to_string())?;
        Ok(Self::Gpu(Box::new(OnGpu {
            device: device.clone(),
            cropper,
            shapes: model.output_shapes().map(<[usize]>::to_vec).collect(),
            crops: Vec::with_capacity(model.batch_max()),
            _tensors: tensors,
            addresses,
            model,
        })))
    }

    /// Shapes of the outputs, the batch left out.
    pub fn output_shapes(&self) -> &[Vec<usize>] {
        match self {
            Self::Cpu(on) => on.session.output_shapes(),
            Self::Gpu(on) => &on.shapes,
        }
    }

    pub fn batch_max(&self) -> usize {
        match self {
            Self::Cpu(on) => on.session.batch_max(),
            Self::Gpu(on) => on.model.batch_max(),
        }
    }

    /// Takes the crop number `crop` of the next run, which is what `rect` shows of a frame, turned by 180 degrees or not. A
    /// frame that lies on the device has to stay there until that run.
    pub fn add(&mut self, crop: usize, view: &View<'_>, rect: &Rect, is_turned: bool) {
        match (self, view) {
            (Self::Cpu(on), View::Host(view)) => {
                let tensor = on.tensors.at(crop);
                on.cropper.run(view, rect, tensor);
                if is_turned {
                    on.cropper.turn(rect, (view.width(), view.height()), tensor);
                }
            }
            (Self::Gpu(on), View::Device(view)) => {
                on.crops.truncate(crop);
                on.crops.push(Crop { view: *view, rect: *rect, is_turned, tensor: on.addresses[crop] });
            }
            _ => unreachable!("a frame's pixels are looked for where the models run"),
        }
    }

    /// Runs these crops.
    pub fn run(&mut self, crops: Range<usize>) -> Result<Made<'_>, FrameError> {
        match self {
            Self::Cpu(on) => {
                let count = crops.len();
                Ok(Made::Cpu(on.session.run(count, Samples::of(on.dtype, on.tensors.of(crops)))?))
            }
            Self::Gpu(on) => {
                // SAFETY: the frames lie in slots of claimed frames or in memory of this process, as `add` asks for, and the
                // tensors in a buffer of ours; all is waited for.
                #[allow(unsafe_code, reason = "the device reads slots by their addresses")]
                unsafe {
                    let ran =
                        on.cropper.run(&on.crops[crops.clone()]).and_then(|()| on.model.run(&on.addresses[crops]));
                    // After a fault too: the crops are read from slots that are about to be other frames'.
                    let waited = on.device.synchronize();
                    ran.and(waited).map_err(frame_error)?;
                }
                Ok(Made::Gpu(&on.model))
            }
        }
    }
}
