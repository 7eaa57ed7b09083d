//! A detector's raw outputs become the boxes worth keeping, in source pixels, highest score first.

use anyhow::Result;
use framepipe_frame::{
    FrameError,
    detections::{self, Detection},
    raw,
};
use framepipe_model::Detector;
use framepipe_pipeline::{Frame, Item, Needs, Plan, Pool, Process, Stage};

/// The stage: the detector's head, and its candidate boxes.
pub struct Postprocess {
    head: Detector,
    detections_max: usize,
    found: Vec<Detection>,
}

impl Postprocess {
    /// Prepares for the detector's outputs.
    pub fn open(process: &Process) -> Result<Self> {
        let manifest = Plan::of(&process.order.config)?.detector;
        let spec = manifest.detector()?;
        Ok(Self {
            head: Detector::new(&manifest)?,
            detections_max: spec.detections_max,
            found: Vec::with_capacity(spec.candidates_max),
        })
    }

    fn postprocess(&mut self, frame: &mut Frame<'_>) -> Result<(), FrameError> {
        let outputs = raw::read(frame.input(Pool::Raw)?)?;
        let Self { head, found, .. } = self;
        let size = (frame.descriptor.source_width, frame.descriptor.source_height);
        let dropped = head.find(&outputs, &frame.descriptor.tensor_map, size, found)?;
        frame.descriptor.detections_dropped = dropped as u32;
        frame.write_output(Pool::Detections, |slot| Ok((detections::write(slot, found)?, ())))
    }
}

impl Stage for Postprocess {
    type Plan = ();

    fn plan(&mut self, _: &mut Frame<'_>) -> Result<(Needs, ()), FrameError> {
        Ok((Needs::NONE.and(Pool::Detections, detections::slot_bytes(self.detections_max)), ()))
    }

    fn process(&mut self, batch: &mut [Item<'_, ()>]) {
        for item in batch {
            item.frame.error = self.postprocess(&mut item.frame).err();
        }
    }
}
