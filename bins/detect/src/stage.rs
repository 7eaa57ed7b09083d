//! Tensors become the detector's raw outputs. On the CPU a frame alone is run from its slot without a copy, and several are
//! gathered into one batch; on a GPU all are run where they lie.

use anyhow::{Result, ensure};
use framepipe_frame::{FrameError, raw};
use framepipe_infer::run_or_each_alone;
use framepipe_model::Detector;
use framepipe_pipeline::{Frame, Item, Needs, Plan, Pool, Process, Stage};

use crate::engine::Engine;

/// The stage: the detector, warmed up.
pub struct Detect {
    engine: Engine,
    tensor_bytes: usize,
    raw_bytes: usize,
}

impl Detect {
    /// Opens the detector's model, and compares what comes out of it with what its manifest says.
    pub fn open(process: &Process) -> Result<Self> {
        let manifest = Plan::of(&process.order.config)?.detector;
        let head = Detector::new(&manifest)?;
        let engine = Engine::open(process, &manifest, &head)?;
        ensure!(
            engine.output_shapes() == head.raw_shapes(),
            "{} puts out tensors of {:?}, and {} makes them {:?}: correct its [detector.head], labels or [input]",
            manifest.model_path().display(),
            engine.output_shapes(),
            manifest.path().display(),
            head.raw_shapes()
        );
        Ok(Self {
            engine,
            tensor_bytes: manifest.input.plan.tensor_bytes(),
            raw_bytes: raw::slot_bytes(head.raw_shapes()),
        })
    }
}

impl Stage for Detect {
    type Plan = ();

    fn plan(&mut self, _: &mut Frame<'_>) -> Result<(Needs, ()), FrameError> {
        Ok((Needs::NONE.and(Pool::Raw, self.raw_bytes), ()))
    }

    fn process(&mut self, batch: &mut [Item<'_, ()>]) {
        let Self { engine, tensor_bytes, .. } = self;
        for (index, error) in run_or_each_alone(batch.len(), |range| engine.run(&mut batch[range], *tensor_bytes)) {
            batch[index].frame.error = Some(error);
        }
    }

    fn batch_max(&self) -> usize {
        self.engine.batch_max()
    }
}
