//! What a caller expects of a model, compared with the model itself when it is opened.

use std::path::Path;

use framepipe_vision::{DataType, Input};
use ort::session::Session;
use ort::value::{Outlet, TensorElementType, ValueType};

use crate::InferError;

/// What a model and its caller agreed on.
#[derive(Debug)]
pub(crate) struct Contract {
    /// Sizes of one sample, its batch left out.
    pub(crate) sample: [usize; 3],
    /// Type of the input's numbers.
    pub(crate) dtype: DataType,
    /// The batch that the model is fixed to; `None`: any.
    pub(crate) batch: Option<usize>,
}

impl Contract {
    pub(crate) fn check(file: &Path, session: &Session, input: &Input, outputs: &[&str]) -> Result<Self, InferError> {
        let sample = input.plan.shape();
        let batch = check_input(file, session.inputs(), input, sample)?;
        for name in outputs {
            let outlet = find(file, "output", session.outputs(), name)?;
            let is_f32 = matches!(outlet.dtype(), ValueType::Tensor { ty: TensorElementType::Float32, .. });
            if !is_f32 {
                return Err(mismatch(file, "output", outlet, "a tensor of f32".into()));
            }
        }
        Ok(Self { sample, dtype: input.plan.dtype(), batch })
    }

    /// Numbers in one sample.
    pub(crate) fn sample_length(&self) -> usize {
        self.sample.iter().product()
    }
}

/// Checks the one input and returns the batch that it is fixed to.
fn check_input(file: &Path, inputs: &[Outlet], spec: &Input, sample: [usize; 3]) -> Result<Option<usize>, InferError> {
    let outlet = find(file, "input", inputs, &spec.tensor)?;
    if inputs.len() > 1 {
        return Err(InferError::SeveralInputs { file: file.to_owned(), found: listed(inputs) });
    }
    let (wanted, type_name) = match spec.plan.dtype() {
        DataType::F32 => (TensorElementType::Float32, "f32"),
        DataType::U8 => (TensorElementType::Uint8, "u8"),
    };
    let expected = || format!("a tensor of {type_name} [batch, {}, {}, {}]", sample[0], sample[1], sample[2]);
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        return Err(mismatch(file, "input", outlet, expected()));
    };
    // A size below 0 is one that the model leaves open.
    let fits = |(size, wanted): (&i64, &usize)| *size < 0 || usize::try_from(*size) == Ok(*wanted);
    let [batch, sizes @ ..] = &shape[..] else {
        return Err(mismatch(file, "input", outlet, expected()));
    };
    if *ty != wanted || sizes.len() != sample.len() || !sizes.iter().zip(&sample).all(fits) {
        return Err(mismatch(file, "input", outlet, expected()));
    }
    match *batch {
        ..=-1 => Ok(None),
        1 => Ok(Some(1)),
        _ => Err(mismatch(file, "input", outlet, format!("{} with a batch that is open, or 1", expected()))),
    }
}

fn find<'s>(file: &Path, side: &'static str, outlets: &'s [Outlet], name: &str) -> Result<&'s Outlet, InferError> {
    outlets.iter().find(|outlet| outlet.name() == name).ok_or_else(|| InferError::NoTensor {
        file: file.to_owned(),
        side,
        tensor: name.to_owned(),
        found: listed(outlets),
    })
}

fn listed(outlets: &[Outlet]) -> String {
    let names: Vec<String> = outlets.iter().map(|outlet| format!("{:?}", outlet.name())).collect();
    names.join(", ")
}

fn mismatch(file: &Path, side: &'static str, outlet: &Outlet, expected: String) -> InferError {
    InferError::Contract {
        file: file.to_owned(),
        side,
        tensor: outlet.name().to_owned(),
        expected,
        actual: outlet.dtype().to_string(),
    }
}
