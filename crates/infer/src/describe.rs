//! What a model file says of itself, for whoever has no manifest of it yet.

use std::path::Path;

use ort::session::Session;
use ort::value::{Outlet, TensorElementType, ValueType};

use crate::{InferError, Runtime};

/// One input or output of a model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Type of its numbers, as framepipe's documents write it ("f32", "u8", "i64", "i32"), or as the engine does.
    pub dtype: String,
    /// Its sizes; `None`: left open.
    pub shape: Vec<Option<usize>>,
}

/// A model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What goes in.
    pub inputs: Vec<Tensor>,
    /// What comes out.
    pub outputs: Vec<Tensor>,
    /// What exporters note of the labels: the metadata `names`, as ultralytics writes it.
    pub names: Option<String>,
}

impl Description {
    /// Opens a model file and asks it.
    ///
    /// # Errors
    /// When the engine refuses the file.
    pub fn of(runtime: &Runtime, file: &Path) -> Result<Self, InferError> {
        let refused = |error: ort::Error| InferError::Open { file: file.to_owned(), reason: error.to_string() };
        let session = Session::builder(&runtime.environment)
            .and_then(|mut builder| builder.commit_from_file(file))
            .map_err(refused)?;
        let names = session.metadata().ok().and_then(|metadata| metadata.custom("names"));
        Ok(Self { inputs: tensors(session.inputs()), outputs: tensors(session.outputs()), names })
    }
}

fn tensors(outlets: &[Outlet]) -> Vec<Tensor> {
    let tensor = |outlet: &Outlet| {
        let (dtype, shape) = match outlet.dtype() {
            ValueType::Tensor { ty, shape, .. } => (type_name(*ty), shape.to_vec()),
            other => (other.to_string(), Vec::new()),
        };
        let shape = shape.into_iter().map(|size| usize::try_from(size).ok()).collect();
        Tensor { name: outlet.name().to_owned(), dtype, shape }
    };
    outlets.iter().map(tensor).collect()
}

fn type_name(ty: TensorElementType) -> String {
    match ty {
        TensorElementType::Float32 => "f32".into(),
        TensorElementType::Uint8 => "u8".into(),
        TensorElementType::Int64 => "i64".into(),
        TensorElementType::Int32 => "i32".into(),
        other => other.to_string(),
    }
}
