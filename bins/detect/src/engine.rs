//! What runs the detector: ONNX Runtime on tensors of the host, or INT8 kernels on those in a GPU's memory.

use anyhow::{Context as _, Result};
use framepipe_frame::{FrameError, raw};
use framepipe_gpu::{Int8Model, StageDevice, frame_error, within_memory};
use framepipe_infer::{CpuModel, ModelFile, Options, Runtime, Samples};
use framepipe_model::{Detector, Manifest};
use framepipe_pipeline::{Item, Pool, Process};
use framepipe_vision::DataType;

use crate::gather::{Gather, check_bytes, check_size};

/// The detector's model, warmed up.
pub enum Engine {
    Cpu { model: Box<CpuModel>, gather: Gather, dtype: DataType },
    Gpu { model: Box<Int8Model>, device: StageDevice, addresses: Vec<u64>, shapes: Vec<Vec<usize>> },
}

impl Engine {
    /// Opens the model where the pipeline's tensors lie.
    pub fn open(process: &Process, manifest: &Manifest, head: &Detector) -> Result<Self> {
        match StageDevice::of(process)? {
            Some(device) => Self::on_gpu(process, device, manifest, head),
            None => Self::on_cpu(process, manifest, head),
        }
    }

    fn on_cpu(process: &Process, manifest: &Manifest, head: &Detector) -> Result<Self> {
        let config = &process.order.config;
        let stage = &config.stages[process.order.stage];
        let runtime = Runtime::load(&config.onnxruntime)?.caching_graphs_in(config.graphs());
        let options = Options { threads: stage.threads as usize, batch_max: stage.batch_max as usize };
        let file = manifest.model_path();
        let file = ModelFile { path: &file, sha256: &manifest.sha256 };
        let model = CpuModel::open(&runtime, file, &manifest.input, &head.outputs(), options)?;
        let mut model = Box::new(model.filled_up(head.rows_max()));
        model.warm_up(&[])?;
        let gather = Gather::new(manifest.input.plan.tensor_bytes(), model.batch_max());
        Ok(Self::Cpu { model, gather, dtype: manifest.input.plan.dtype() })
    }

    fn on_gpu(process: &Process, device: StageDevice, manifest: &Manifest, head: &Detector) -> Result<Self> {
        let stage = &process.order.config.stages[process.order.stage];
        let (file, batch_max) = (manifest.model_path(), stage.batch_max as usize);
        let open = |batch| Int8Model::open(&device.device, &file, &head.outputs(), batch);
        let model = Box::new(within_memory(batch_max, open)?);
        model.check_input(&manifest.input).with_context(|| manifest.path().display().to_string())?;
        let shapes = model.output_shapes().map(<[usize]>::to_vec).collect();
        let addresses = Vec::with_capacity(model.batch_max());
        Ok(Self::Gpu { model, device, addresses, shapes })
    }

    /// Shapes of the outputs, the batch left out.
    pub fn output_shapes(&self) -> &[Vec<usize>] {
        match self {
            Self::Cpu { model, .. } => model.output_shapes(),
            Self::Gpu { shapes, .. } => shapes,
        }
    }

    pub fn batch_max(&self) -> usize {
        match self {
            Self::Cpu { model, .. } => model.batch_max(),
            Self::Gpu { model, .. } => model.batch_max(),
        }
    }

    /// Runs the tensors of a batch, and writes each frame's outputs to its slot, in the order of [`Detector::outputs`].
    pub fn run(&mut self, batch: &mut [Item<'_, ()>], tensor_bytes: usize) -> Result<(), FrameError> {
        match self {
            Self::Cpu { model, gather, dtype } => {
                let tensors = match batch {
                    [item] => check_size(item.frame.tensor()?, tensor_bytes)?,
                    _ => {
                        batch.iter_mut().for_each(|item| item.frame.bytes_copied += tensor_bytes as u64);
                        gather.copy(batch.iter().map(|item| item.frame.tensor()))?
                    }
                };
                let outputs = model.run(batch.len(), Samples::of(*dtype, tensors))?;
                let of = |output, sample| {
                    let (shape, numbers) = outputs.sample(output, sample);
                    raw::Output { shape: shape.to_vec(), numbers }
                };
                write(batch, outputs.len(), of)
            }
            Self::Gpu { model, device, addresses, shapes } => {
                addresses.clear();
                for item in batch.iter() {
                    let place = item.frame.input_place(Pool::Tensor)?;
                    check_bytes(place.used, tensor_bytes)?;
                    addresses.push(device.address(Pool::Tensor, place, tensor_bytes)?);
                }
                // SAFETY: the slots are those of claimed frames, which nobody writes or frees meanwhile.
                #[allow(unsafe_code, reason = "the device reads slots by their addresses")]
                unsafe { model.run(addresses) }.map_err(frame_error)?;
                let of = |output: usize, sample| raw::Output {
                    shape: shapes[output].clone(),
                    numbers: model.output(output, sample),
                };
                write(batch, shapes.len(), of)
            }
        }
    }
}

/// Writes each sample's part of the outputs.
fn write<'o>(
    batch: &mut [Item<'_, ()>],
    outputs: usize,
    of: impl Fn(usize, usize) -> raw::Output<'o>,
) -> Result<(), FrameError> {
    for (sample, item) in batch.iter_mut().enumerate() {
        let tensors: Vec<raw::Output<'_>> = (0..outputs).map(|output| of(output, sample)).collect();
        item.frame.write_output(Pool::Raw, |slot| Ok((raw::write(slot, &tensors)?, ())))?;
    }
    Ok(())
}
