//! Tensors become the detector's raw outputs. A frame alone is run from its slot without a copy; several are gathered
//! into one batch.

use anyhow::{Result, ensure};
use framepipe_frame::{FrameError, raw};
use framepipe_infer::{CpuModel, ModelFile, Options, Outputs, Runtime, Samples, run_or_each_alone};
use framepipe_model::Detector;
use framepipe_pipeline::{Frame, Item, Needs, Plan, Pool, Process, Stage};
use framepipe_vision::DataType;

use crate::gather::{Gather, check_size};

/// The stage: the detector, warmed up.
pub struct Detect {
    model: CpuModel,
    gather: Gather,
    dtype: DataType,
    tensor_bytes: usize,
    raw_bytes: usize,
}

impl Detect {
    /// Opens the detector's model, and compares what comes out of it with what its manifest says.
    pub fn open(process: &Process) -> Result<Self> {
        let config = &process.order.config;
        let stage = &config.stages[process.order.stage];
        let manifest = Plan::of(config)?.detector;
        let head = Detector::new(&manifest)?;
        let runtime = Runtime::load(&config.onnxruntime)?.caching_graphs_in(config.graphs());
        let options = Options { threads: stage.threads as usize, batch_max: stage.batch_max as usize };
        let file = manifest.model_path();
        let model = CpuModel::open(
            &runtime,
            ModelFile { path: &file, sha256: &manifest.sha256 },
            &manifest.input,
            &head.outputs(),
            options,
        )?;
        let mut model = model.filled_up(head.rows_max());
        model.warm_up(&[])?;
        ensure!(
            model.output_shapes() == head.raw_shapes(),
            "{} puts out tensors of {:?}, and {} makes them {:?}: correct its [detector.head], labels or [input]",
            file.display(),
            model.output_shapes(),
            manifest.path().display(),
            head.raw_shapes()
        );
        let tensor_bytes = manifest.input.plan.tensor_bytes();
        Ok(Self {
            gather: Gather::new(tensor_bytes, model.batch_max()),
            model,
            dtype: manifest.input.plan.dtype(),
            tensor_bytes,
            raw_bytes: raw::slot_bytes(head.raw_shapes()),
        })
    }

    fn detect(&mut self, batch: &mut [Item<'_, ()>]) -> Result<(), FrameError> {
        let tensors = match batch {
            [item] => check_size(item.frame.input(Pool::Tensor)?, self.tensor_bytes)?,
            _ => self.gather.copy(batch.iter().map(|item| item.frame.input(Pool::Tensor)))?,
        };
        let outputs = self.model.run(batch.len(), Samples::of(self.dtype, tensors))?;
        let mut items = batch.iter_mut().enumerate();
        items.try_for_each(|(sample, item)| write(&mut item.frame, &outputs, sample))
    }
}

impl Stage for Detect {
    type Plan = ();

    fn plan(&mut self, _: &mut Frame<'_>) -> Result<(Needs, ()), FrameError> {
        Ok((Needs::NONE.and(Pool::Raw, self.raw_bytes), ()))
    }

    fn process(&mut self, batch: &mut [Item<'_, ()>]) {
        for (index, error) in run_or_each_alone(batch.len(), |range| self.detect(&mut batch[range])) {
            batch[index].frame.error = Some(error);
        }
    }

    fn batch_max(&self) -> usize {
        self.model.batch_max()
    }
}

/// Writes one sample's part of the outputs, in the order of [`Detector::outputs`].
fn write(frame: &mut Frame<'_>, outputs: &Outputs<'_>, sample: usize) -> Result<(), FrameError> {
    let tensor = |output| {
        let (shape, numbers) = outputs.sample(output, sample);
        raw::Output { shape: shape.to_vec(), numbers }
    };
    let tensors: Vec<raw::Output<'_>> = (0..outputs.len()).map(tensor).collect();
    frame.write_output(Pool::Raw, |slot| Ok((raw::write(slot, &tensors)?, ())))
}
