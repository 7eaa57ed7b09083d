//! Each object that an attribute model describes is cropped from the frame, straight into that model's input; the
//! models run on the crops of all frames of the batch.

use std::cell::OnceCell;

use anyhow::{Result, bail};
use framepipe_frame::{ErrorCode, FrameError, detections};
use framepipe_gpu::StageDevice;
use framepipe_infer::{Options, Runtime};
use framepipe_model::AttributeHead;
use framepipe_pipeline::{Frame, Item, Needs, Plan, Pool, Process, Stage};
use framepipe_vision::Region;

use crate::{backend::Backend, crops::Crops, model::AttributeModel, pixels::Pixels};

/// The stage: the attribute models, warmed up, and the rule for crops. A pipeline may have none.
pub struct Attribute {
    models: Vec<AttributeModel>,
    /// By model: the one before it that says which of its crops are turned.
    turners: Vec<Option<usize>>,
    crops: Crops,
    pixels: Pixels,
    slot_bytes_max: usize,
}

impl Attribute {
    /// Opens the pipeline's attribute models.
    pub fn open(process: &Process) -> Result<Self> {
        let config = &process.order.config;
        let plan = Plan::of(config)?;
        let device = StageDevice::of(process)?;
        let threads = config.stages[process.order.stage].threads as usize;
        let options = Options { threads, batch_max: config.crop_batch_max as usize };
        let load = || Runtime::load(&config.onnxruntime).map(|runtime| runtime.caching_graphs_in(config.graphs()));
        let on_cpu = !plan.attributes.is_empty() && device.is_none();
        let runtime = if on_cpu { Some(load()?) } else { None };
        let spec = plan.detector.detector()?;
        let mut models = Vec::with_capacity(plan.attributes.len());
        let mut applies_to = Vec::with_capacity(plan.attributes.len());
        for (model, manifest) in plan.attributes.iter().enumerate() {
            let open = |head: &AttributeHead| match (&runtime, &device) {
                (Some(runtime), _) => Backend::on_cpu(runtime, manifest, head, options),
                (None, Some(on)) => {
                    Backend::on_gpu(&on.device, manifest, head, options.batch_max, config.limits.side_max)
                }
                (None, None) => bail!("there is neither a runtime nor a device"),
            };
            models.push(AttributeModel::open(manifest, model, spec.detections_max, process.entry(), open)?);
            applies_to.push(&manifest.attributes()?.applies_to[..]);
        }
        let entries_bytes = models.iter().map(AttributeModel::entries_bytes).collect();
        Ok(Self {
            crops: Crops::new(&spec.labels, &applies_to, entries_bytes, config.crops_max as usize),
            models,
            turners: plan.turners.clone(),
            pixels: Pixels::new(config.limits, device)?,
            slot_bytes_max: process.segment().geometry().pools[Pool::Attributes as usize].slot_bytes_max() as usize,
        })
    }

    /// Gives the crops of one frame to their models. A model that turns others' crops runs at once on those of this frame, so
    /// that it is known which.
    fn crop(&mut self, item: usize, batch: &mut [Item<'_, usize>]) -> Result<(), FrameError> {
        let frame = &batch[item].frame;
        let found = detections::read(frame.input(Pool::Detections)?)?;
        let Self { models, turners, crops, pixels, .. } = self;
        let needed = |size| {
            let reads = crops.of(found).map(|crop| models[crop.model].reads(&crop, size));
            reads.reduce(Region::union).expect("a frame without crops is left out")
        };
        let encoded = OnceCell::new();
        let (view, is_lasting) = pixels.view(frame, &encoded, needed)?;
        for model in 0..models.len() {
            for crop in crops.of(found).filter(|crop| crop.model == model) {
                let is_turned = turners[model].is_some_and(|turner| models[turner].is_upside_down(crop.index));
                models[model].add(&crop, &view, is_turned, item, batch);
            }
            if turners.contains(&Some(model)) {
                models[model].run(batch);
            }
        }
        if !is_lasting {
            models.iter_mut().for_each(|model| model.run(batch));
        }
        Ok(())
    }
}

impl Stage for Attribute {
    /// Bytes of the frame's entries; 0: it has no crops.
    type Plan = usize;

    fn plan(&mut self, frame: &mut Frame<'_>) -> Result<(Needs, usize), FrameError> {
        if self.models.is_empty() {
            return Ok((Needs::NONE, 0));
        }
        let found = detections::read(frame.input(Pool::Detections)?)?;
        let bytes = self.crops.bytes(found);
        if bytes > self.slot_bytes_max {
            let message = format!(
                "the frame's attributes have {bytes} bytes, and the largest attributes slot {}: raise pools.attributes, \
                 or lower pipeline.crops_max",
                self.slot_bytes_max
            );
            return Err(FrameError::new(ErrorCode::ResultTooLarge, message));
        }
        frame.descriptor.crops_dropped = self.crops.dropped(found) as u32;
        Ok((Needs::NONE.and(Pool::Attributes, bytes), bytes))
    }

    fn may_take_long(&self, batch: &[Item<'_, usize>]) -> bool {
        batch.iter().any(|item| item.plan > 0) // many a frame has no crops, and the next one has
    }

    fn process(&mut self, batch: &mut [Item<'_, usize>]) {
        for item in 0..batch.len() {
            if batch[item].plan == 0 {
                continue;
            }
            if let Err(error) = self.crop(item, batch) {
                batch[item].frame.error = Some(error);
            }
        }
        for model in &mut self.models {
            model.run(batch);
        }
    }
}
