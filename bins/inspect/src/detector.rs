//! The detector: its tensor, and what it finds in it.

use framepipe_frame::{TensorMap, detections::Detection, raw};
use framepipe_infer::{CpuModel, ModelFile, Options, Runtime, Samples};
use framepipe_model::{Detector, Manifest};
use framepipe_pipeline::{Config, stage_index};
use framepipe_vision::{Preprocessor, graph::Operator, graph::steps::steps};

use crate::{
    folder::Folder,
    frame::Frame,
    inspection::{Inspection, OneByOne, OnePass, to_image},
    report::{DetectorRow, InputRow, MapRow, Shape},
};

/// The file that shows the source the right way up.
pub const SOURCE: &str = "source.png";

/// What the detector sees.
pub struct Seen {
    inspection: Inspection,
    map: TensorMap,
}

/// Makes the detector's tensor.
pub fn see(frame: &mut Frame, manifest: &Manifest) -> anyhow::Result<Seen> {
    let plan = &manifest.input.plan;
    let mut preprocessor = Preprocessor::new(plan.clone())?;
    let (mut pixels, mut map) = (Vec::new(), None);
    let one_pass = OnePass::run(plan, |tensor| {
        map = Some(frame.preprocess(&mut preprocessor, &mut pixels, tensor)?);
        Ok(preprocessor.kernel())
    })?;
    let one_by_one = OneByOne::run(|| {
        let decoding = frame.stored(&mut pixels)?;
        let view = frame.view_stored(&pixels);
        let mut steps = steps(plan, &view, frame.decoding().0, frame.orientation(), None);
        steps[0].took = decoding;
        Ok(steps)
    })?;
    Ok(Seen { inspection: Inspection { one_pass, one_by_one }, map: map.expect("the tensor was made") })
}

/// Runs the detector once. Detections are in pixels of a source of `size`, highest score first.
pub fn find(config: &Config, manifest: &Manifest, seen: &Seen, size: (u32, u32)) -> anyhow::Result<Vec<Detection>> {
    manifest.verify()?;
    let head = Detector::new(manifest)?;
    let runtime = Runtime::load(&config.onnxruntime)?;
    let stage = &config.stages[stage_index("detect").expect("the stage table has this stage")];
    let options = Options { threads: stage.threads as usize, batch_max: 1 };
    let input = &manifest.input;
    let model = CpuModel::open(
        &runtime,
        ModelFile { path: &manifest.model_path(), sha256: &manifest.sha256 },
        input,
        &head.outputs(),
        options,
    )?;
    let mut model = model.filled_up(head.rows_max());
    let outputs = model.run(1, Samples::of(input.plan.dtype(), seen.inspection.one_pass.tensor.bytes()))?;
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
    let source = frame.picture();
    let (mut shown, mut name) = (source.clone(), SOURCE.to_owned());
    for (at, (row, step)) in operators.iter_mut().zip(inspection.steps()).enumerate() {
        if matches!(step.operator, Operator::Normalize { .. } | Operator::Layout { .. } | Operator::Cast { .. }) {
            break; // from here on they are numbers of a tensor
        }
        let picture = to_image(&step.picture);
        if picture == source {
            (shown, name) = (picture, SOURCE.to_owned());
        } else if picture != shown {
            (shown, name) = (picture, format!("{at}-{}.png", row.name));
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
