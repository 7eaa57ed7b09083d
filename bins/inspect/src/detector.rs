//! The detector: its tensor, and what it finds in it.

use anyhow::Context as _;
use framepipe_frame::{TensorMap, detections::Detection, raw};
use framepipe_infer::{CpuModel, Options, Runtime, Samples};
use framepipe_model::{Detector, Manifest};
use framepipe_pipeline::{Config, stage_index};
use framepipe_vision::{Preprocessor, graph::Operator, graph::steps::steps};

use crate::{
    folder::Folder,
    frame::Frame,
    inspection::{Inspection, to_image},
    report::{DetectorRow, InputRow, MapRow, Shape},
};

/// What the detector sees.
pub struct Seen {
    inspection: Inspection,
    map: TensorMap,
}

/// Makes the detector's tensor.
pub fn see(frame: &mut Frame, manifest: &Manifest) -> anyhow::Result<Seen> {
    let plan = &manifest.input.plan;
    let mut preprocessor = Preprocessor::new(plan.clone())?;
    let (mut pixels, mut scratch, mut map) = (Vec::new(), Vec::new(), None);
    let frame = std::cell::RefCell::new(frame);
    let inspection = Inspection::of(
        plan,
        || {
            let mut frame = frame.borrow_mut();
            let decoding = frame.stored(&mut pixels)?;
            let view = frame.view_stored(&pixels);
            let mut steps = steps(plan, &view, frame.decoding().0, frame.orientation(), None);
            steps[0].took = decoding;
            Ok(steps)
        },
        |tensor| {
            map = Some(frame.borrow_mut().preprocess(&mut preprocessor, &mut scratch, tensor)?);
            Ok(preprocessor.kernel())
        },
    )?;
    Ok(Seen { inspection, map: map.context("the tensor was not made")? })
}

/// Runs the detector once. Detections are in pixels of a source of `size`, highest score first.
pub fn find(config: &Config, manifest: &Manifest, seen: &Seen, size: (u32, u32)) -> anyhow::Result<Vec<Detection>> {
    manifest.verify()?;
    let head = Detector::new(manifest)?;
    let runtime = Runtime::load(&config.onnxruntime)?;
    let stage = &config.stages[stage_index("detect").expect("the stage table has this stage")];
    let options = Options { threads: stage.threads as usize, batch_max: 1 };
    let input = &manifest.input;
    let mut model = CpuModel::open(&runtime, &manifest.model_path(), input, &head.outputs(), options)?;
    let outputs = model.run(1, Samples::of(input.plan.dtype(), seen.inspection.tensor.bytes()))?;
    let tensor = |output| {
        let (shape, numbers) = outputs.sample(output, 0);
        raw::Output { shape: shape.to_vec(), numbers }
    };
    let tensors: Vec<raw::Output<'_>> = (0..outputs.len()).map(tensor).collect();
    let mut found = Vec::new();
    head.find(&tensors, &seen.map, size, &mut found)?;
    Ok(found)
}

/// Writes the pictures of the operators and of the tensor, and says what there is to say.
pub fn write(seen: &Seen, frame: &Frame, manifest: &Manifest, folder: &mut Folder) -> anyhow::Result<DetectorRow> {
    let Seen { inspection, map } = seen;
    let plan = &manifest.input.plan;
    let mut operators = inspection.operators(None);
    let (mut shown, mut name) = (frame.picture(), "source.png".to_owned());
    for (at, (row, step)) in operators.iter_mut().zip(&inspection.steps).enumerate() {
        if matches!(step.operator, Operator::Normalize { .. } | Operator::Layout { .. } | Operator::Cast { .. }) {
            break; // from here on they are numbers of a tensor
        }
        let picture = to_image(&step.picture);
        if picture != shown {
            (shown, name) = (picture, format!("{}-{}.png", at + 1, row.name));
            folder.write_picture(&name, &shown)?;
        }
        row.picture = Some(name.clone());
    }
    folder.write_picture("tensor.png", &inspection.picture(plan))?;
    let (scale, is_kept) = frame.decoding();
    Ok(DetectorRow {
        input: InputRow {
            model: manifest.name.clone(),
            tensor: manifest.input.tensor.clone(),
            size: Shape { shape: plan.shape(), dtype: plan.dtype() },
            operators,
        },
        scale_divisor: scale.divisor(),
        is_kept,
        pass: inspection.row(plan, "tensor.png".into()),
        map: MapRow { scale_x: map.scale_x, scale_y: map.scale_y, pad_x: map.pad_x, pad_y: map.pad_y },
    })
}
