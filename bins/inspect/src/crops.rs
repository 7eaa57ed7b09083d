//! What attribute models see of detections.

use framepipe_frame::detections::Detection;
use framepipe_model::Manifest;
use framepipe_vision::{Cropper, DecodeScale, FrameView, Rect, graph::steps::steps};

use crate::{
    folder::Folder,
    frame::Frame,
    inspection::{Inspection, OneByOne, OnePass},
    report::{AttributeRow, CropRow, DetectionRow, InputRow, Shape},
};

/// Writes the tensors of the first `crops_max` detections that a model describes, by model.
pub fn write(
    frame: &Frame,
    models: &[Manifest],
    rows: &[DetectionRow],
    found: &[Detection],
    crops_max: usize,
    folder: &mut Folder,
) -> anyhow::Result<Vec<AttributeRow>> {
    // A box of the command line has no label: every model sees it.
    let sees = |model: &Manifest, row: &DetectionRow| -> anyhow::Result<bool> {
        let applies_to = &model.attributes()?.applies_to;
        Ok(row.label.as_ref().is_none_or(|label| applies_to.contains(label)))
    };
    let mut cropped = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let is_described = models.iter().map(|model| sees(model, row)).collect::<anyhow::Result<Vec<_>>>()?;
        if cropped.len() < crops_max && is_described.contains(&true) {
            cropped.push((index, is_described));
        }
    }
    let mut attributes = Vec::with_capacity(models.len());
    for (number, model) in models.iter().enumerate() {
        let plan = &model.input.plan;
        let size = Shape { shape: plan.shape(), dtype: plan.dtype() };
        let (name, tensor) = (model.name.clone(), model.input.tensor.clone());
        let mut row =
            AttributeRow { input: InputRow { model: name, tensor, size, operators: Vec::new() }, crops: Vec::new() };
        for (index, _) in cropped.iter().filter(|(_, is_described)| is_described[number]) {
            let (inspection, rect) = see(frame, model, &found[*index])?;
            if row.crops.is_empty() {
                row.input.operators = inspection.operators(Some(Shape::of_frame(frame.size())));
            }
            let picture = format!("crop-{index}-{}.png", model.name);
            folder.write_picture(&picture, &inspection.picture(plan))?;
            let Rect { x0, y0, x1, y1 } = rect;
            let pass = inspection.row(plan, picture);
            row.crops.push(CropRow { detection: *index, corners: [x0, y0, x1, y1], pass });
        }
        attributes.push(row);
    }
    Ok(attributes)
}

/// Makes the tensor of what lies around one detection, and says which rectangle that is.
fn see(frame: &Frame, model: &Manifest, detection: &Detection) -> anyhow::Result<(Inspection, Rect)> {
    let plan = &model.input.plan;
    let mut cropper = Cropper::new(plan.clone())?;
    let (size, view) = (frame.size(), frame.view());
    let rect = cropper.rect(detection, size);
    // The operators one by one are given the pixels that the crop reads alone: of large frames all would take long.
    let region = Cropper::reads(&rect, size);
    let columns = 3 * region.left as usize..3 * region.right as usize;
    let part: Vec<u8> = (region.top..region.bottom).flat_map(|y| &view.row(y)[columns.clone()]).copied().collect();
    let part = FrameView::rgb(&part, region.width(), region.height())?;
    let (left, top) = (region.left as f32, region.top as f32);
    let within = Rect { x0: rect.x0 - left, y0: rect.y0 - top, x1: rect.x1 - left, y1: rect.y1 - top };
    let one_pass = OnePass::run(plan, |tensor| {
        cropper.run(&view, &rect, tensor);
        Ok(cropper.kernel())
    })?;
    let one_by_one = OneByOne::run(|| Ok(steps(plan, &part, DecodeScale::Full, 1, Some(&within))))?;
    Ok((Inspection { one_pass, one_by_one }, rect))
}
