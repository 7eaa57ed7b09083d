//! One attribute model, with the crops that wait for its next run.

use anyhow::{Result, anyhow};
use framepipe_frame::{
    ErrorCode, FrameError,
    attributes::{self, Entry, entry_bytes},
};
use framepipe_infer::{CpuModel, InferError, ModelFile, Options, Outputs, Runtime, Samples, run_or_each_alone};
use framepipe_model::{AttributeHead, Manifest, Turner};
use framepipe_pipeline::{Frame, Item, Pool};
use framepipe_shm::{Counter, ProcessEntry};
use framepipe_vision::{Cropper, DataType, FrameView, Region};

use crate::{
    crops::Crop,
    waiting::{Origin, Waiting},
};

/// An attribute model, warmed up.
pub struct AttributeModel {
    session: CpuModel,
    dtype: DataType,
    cropper: Cropper,
    waiting: Waiting,
    /// Where runs and crops are counted.
    entry: &'static ProcessEntry,
    decoder: EntryDecoder,
}

/// What makes entries of the model's outputs.
struct EntryDecoder {
    /// The model's place in the pipeline.
    model: usize,
    head: AttributeHead,
    /// By output: how many numbers its entry has.
    value_counts: Vec<usize>,
    values: Vec<f32>,
    turner: Option<Turner>,
    /// By detection of the latest frame: true where the model found its crop upside down.
    upside_down: Vec<bool>,
}

impl AttributeModel {
    /// Opens the pipeline's attribute model number `model`, for frames of at most `detections_max` detections.
    pub fn open(
        runtime: &Runtime,
        manifest: &Manifest,
        model: usize,
        detections_max: usize,
        options: Options,
        entry: &'static ProcessEntry,
    ) -> Result<Self> {
        let head = AttributeHead::new(manifest)?;
        let input = &manifest.input;
        let mut session = CpuModel::open(
            runtime,
            ModelFile { path: &manifest.model_path(), sha256: &manifest.sha256 },
            input,
            &head.outputs(),
            options,
        )?;
        session.warm_up(&[])?;
        let lengths = session.output_shapes().iter().map(|shape| shape.iter().product());
        let value_counts = lengths.enumerate().map(|(output, length)| head.value_count(output, length));
        let value_counts = value_counts
            .collect::<Result<Vec<usize>, FrameError>>()
            .map_err(|error| anyhow!("{}: {}", manifest.path().display(), error.message))?;
        Ok(Self {
            dtype: input.plan.dtype(),
            cropper: Cropper::new(input.plan.clone())?,
            waiting: Waiting::new(input.plan.tensor_bytes(), session.batch_max()),
            session,
            entry,
            decoder: EntryDecoder {
                model,
                turner: head.turner(),
                head,
                value_counts,
                values: Vec::new(),
                upside_down: vec![false; detections_max],
            },
        })
    }

    /// Bytes of the entries of one detection.
    pub fn entries_bytes(&self) -> usize {
        self.decoder.value_counts.iter().map(|count| entry_bytes(*count)).sum()
    }

    /// The pixels of a frame of `size` that a crop needs.
    pub fn reads(&self, crop: &Crop, size: (u32, u32)) -> Region {
        Cropper::reads(&self.cropper.rect(&crop.detection, size), size)
    }

    /// True where the model found the crop of the detection number `detection` upside down, in the frame whose crops it ran
    /// on last.
    pub fn is_upside_down(&self, detection: usize) -> bool {
        self.decoder.upside_down.get(detection).is_some_and(|is_upside_down| *is_upside_down)
    }

    /// Takes a crop of the batch's frame `item`, turned by 180 degrees or not, after running those that wait where there is no
    /// room for more.
    pub fn add(
        &mut self,
        crop: &Crop,
        view: &FrameView<'_>,
        is_turned: bool,
        item: usize,
        batch: &mut [Item<'_, usize>],
    ) {
        if self.waiting.is_full() {
            self.run(batch);
        }
        let size = (view.width(), view.height());
        let rect = self.cropper.rect(&crop.detection, size);
        let of_points = if is_turned { rect.turned() } else { rect };
        let tensor = self.waiting.add(Origin { item, detection: crop.index, at: crop.at, rect: of_points });
        self.cropper.run(view, &rect, tensor);
        if is_turned {
            self.cropper.turn(&rect, size, tensor);
        }
    }

    /// Runs the crops that wait, and writes their entries or their frames' errors.
    pub fn run(&mut self, batch: &mut [Item<'_, usize>]) {
        let Self { session, dtype, waiting, entry, decoder, .. } = self;
        let count = waiting.origins().len();
        if count == 0 {
            return;
        }
        let failed = run_or_each_alone(count, |range| {
            let outputs = session.run(range.len(), Samples::of(*dtype, waiting.tensors(range.clone())))?;
            entry.count(Counter::CropRuns, 1);
            entry.count(Counter::Crops, range.len() as u64);
            for (sample, origin) in waiting.origins()[range].iter().enumerate() {
                let item = &mut batch[origin.item];
                if item.frame.error.is_none() {
                    item.frame.error = decoder.write(&mut item.frame, item.plan, origin, &outputs, sample).err();
                }
            }
            Ok::<(), InferError>(())
        });
        for (crop, error) in failed {
            batch[waiting.origins()[crop].item].frame.error.get_or_insert(error.into());
        }
        waiting.clear();
    }
}

impl EntryDecoder {
    /// Writes one crop's entries to their place in the frame's slot, of which `used` bytes are in use in the end.
    fn write(
        &mut self,
        frame: &mut Frame<'_>,
        used: usize,
        origin: &Origin,
        outputs: &Outputs<'_>,
        sample: usize,
    ) -> Result<(), FrameError> {
        frame.write_output(Pool::Attributes, |slot| {
            let mut at = origin.at;
            for output in 0..outputs.len() {
                let (_, numbers) = outputs.sample(output, sample);
                let entry = self.entry(origin, output, numbers)?;
                at = attributes::append(slot, at, entry, &self.values)?;
            }
            Ok((used, ()))
        })
    }

    /// Puts what `numbers` say into `values`, as many as were found at start.
    fn entry(&mut self, origin: &Origin, output: usize, numbers: &[f32]) -> Result<Entry, FrameError> {
        let kind = self.head.decode(output, numbers, &origin.rect, &mut self.values)?;
        let (found, expected) = (self.values.len(), self.value_counts[output]);
        if found != expected {
            let message = format!("an attribute of {found} numbers, where the model's first run had {expected}");
            return Err(FrameError::new(ErrorCode::Inference, message));
        }
        if let Some(turner) = self.turner.filter(|turner| turner.output == output)
            && let Some(is_upside_down) = self.upside_down.get_mut(origin.detection)
        {
            *is_upside_down = turner.is_upside_down(&self.values);
        }
        let (detection, model, output) = (origin.detection as u32, self.model as u32, output as u32);
        Ok(Entry { detection, model, output, kind: kind as u32, count: found as u32 })
    }
}
