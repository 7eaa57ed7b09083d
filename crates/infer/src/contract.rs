//! What a caller expects of a model, compared with the model itself when it is opened.

use std::path::Path;

use framepipe_vision::{DataType, Input};
use ort::session::Session;
use ort::value::{Outlet, TensorElementType, ValueType};

use crate::InferError;
use crate::outputs::TYPES;

/// What a model and its caller agreed on.
#[derive(Debug)]
pub(crate) struct Contract {
    /// Sizes of one sample, its batch left out.
    pub(crate) sample: [usize; 3],
    /// Type of the input's numbers.
    pub(crate) dtype: DataType,
    /// The batch that the model is fixed to; `None`: any.
    pub(crate) batch: Option<usize>,
    /// False: the input is one sample and has no dimension for a batch.
    pub(crate) has_batch: bool,
}

impl Contract {
    pub(crate) fn check(file: &Path, session: &Session, input: &Input, outputs: &[&str]) -> Result<Self, InferError> {
        let sample = input.plan.shape();
        let (batch, has_batch) = check_input(file, session.inputs(), input, sample)?;
        for name in outputs {
            let outlet = find(file, "output", session.outputs(), name)?;
            if !outlet.dtype().tensor_type().is_some_and(|element| TYPES.contains(&element)) {
                return Err(mismatch(file, "output", outlet, "a tensor of f32, i64 or i32".into()));
            }
        }
        Ok(Self { sample, dtype: input.plan.dtype(), batch, has_batch })
    }

    /// Numbers in one sample.
    pub(crate) fn sample_length(&self) -> usize {
        self.sample.iter().product()
    }
}

/// Checks the one input and returns the batch that it is fixed to, and whether it has a dimension for it.
fn check_input(
    file: &Path,
    inputs: &[Outlet],
    spec: &Input,
    sample: [usize; 3],
) -> Result<(Option<usize>, bool), InferError> {
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
    let (batch, sizes) = match &shape[..] {
        sizes @ [_, _, _] => (None, sizes),
        [batch, sizes @ ..] => (Some(*batch), sizes),
        [] => return Err(mismatch(file, "input", outlet, expected())),
    };
    if *ty != wanted || sizes.len() != sample.len() || !sizes.iter().zip(&sample).all(fits) {
        return Err(mismatch(file, "input", outlet, expected()));
    }
    match batch {
        None => Ok((Some(1), false)),
        Some(..=-1) => Ok((None, true)),
        Some(1) => Ok((Some(1), true)),
        Some(_) => Err(mismatch(file, "input", outlet, format!("{} with a batch that is open, or 1", expected()))),
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
