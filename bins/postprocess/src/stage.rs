//! A detector's raw outputs become the boxes worth keeping, in source pixels, highest score first, and their masks.

use anyhow::Result;
use framepipe_frame::{
    ErrorCode, FrameError,
    detections::{self, Detection},
    masks::Masks,
    raw,
};
use framepipe_model::{Detector, ModelRef};
use framepipe_pipeline::{Frame, Item, Needs, Plan, Pool, Process, Stage};

/// The stage: the detector's head, and its candidate boxes.
pub struct Postprocess {
    model: ModelRef,
    head: Detector,
    detections_max: usize,
    found: Vec<Detection>,
    masks: Masks,
}

impl Postprocess {
    /// Prepares for the detector's outputs.
    pub fn open(process: &Process) -> Result<Self> {
        let manifest = Plan::of(&process.order.config)?.detector;
        let spec = manifest.detector()?;
        let head = Detector::new(&manifest)?;
        Ok(Self {
            model: manifest.reference(),
            masks: Masks::new(head.mask_bytes_max()),
            head,
            detections_max: spec.detections_max,
            found: Vec::with_capacity(spec.candidates_max),
        })
    }

    fn postprocess(&mut self, frame: &mut Frame<'_>) -> Result<(), FrameError> {
        let outputs = raw::read(frame.input(Pool::Raw)?)?;
        self.check_numbers(&outputs)?;
        let Self { head, found, masks, .. } = self;
        let size = (frame.descriptor.source_width, frame.descriptor.source_height);
        let map = &frame.descriptor.tensor_map;
        let dropped = head.find(&outputs, map, size, found)?;
        head.draw(&outputs, map, found, masks)?;
        frame.descriptor.detections_dropped = dropped as u32;
        frame.write_output(Pool::Detections, |slot| Ok((detections::write(slot, found, masks.bytes())?, ())))
    }
}

impl Postprocess {
    /// A head takes what is no number for no box. But a model that puts any out finds nothing, and nobody would know why.
    fn check_numbers(&self, outputs: &[raw::Output<'_>]) -> Result<(), FrameError> {
        for (output, name) in outputs.iter().zip(self.head.outputs()) {
            let count: usize = output.numbers.iter().map(|number| usize::from(number.is_nan())).sum();
            if count > 0 {
                let (all, model) = (output.numbers.len(), &self.model);
                let words = format!(
                    "{count} of {all} numbers of the output {name:?} of {model} are none (NaN): its input is out of its range \
                     (normalize in the manifest), or the file is damaged or of too low a precision: export it again"
                );
                return Err(FrameError::new(ErrorCode::Inference, words));
            }
        }
        Ok(())
    }
}

impl Stage for Postprocess {
    type Plan = ();

    fn plan(&mut self, _: &mut Frame<'_>) -> Result<(Needs, ()), FrameError> {
        let bytes = detections::slot_bytes(self.detections_max, self.head.mask_bytes_max());
        Ok((Needs::NONE.and(Pool::Detections, bytes), ()))
    }

    fn process(&mut self, batch: &mut [Item<'_, ()>]) {
        for item in batch {
            item.frame.error = self.postprocess(&mut item.frame).err();
        }
    }
}
