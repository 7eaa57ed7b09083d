//! What is read of an ONNX file: its messages, as <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto> numbers them, as
//! far as they are needed.

use std::{collections::HashMap, path::Path};

use prost::Message as _;

use super::refused;
use crate::GpuError;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ModelProto {
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<GraphProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<ValueInfo>,
}

/// An operator of the graph.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    #[prost(string, tag = "4")]
    pub(super) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(float, tag = "2")]
    pub(super) f: f32,
    #[prost(int64, tag = "3")]
    pub(super) i: i64,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) s: Vec<u8>,
    #[prost(int64, repeated, tag = "8")]
    pub(super) ints: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub(super) float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub(super) int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    pub(super) int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub(super) name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub(super) raw_data: Vec<u8>,
    #[prost(int32, tag = "14")]
    pub(super) data_location: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ValueInfo {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub(super) tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TensorType {
    #[prost(int32, tag = "1")]
    pub(super) elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<Shape>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub(super) dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Dimension {
    #[prost(int64, tag = "1")]
    pub(super) dim_value: i64,
}

/// Numbers of a constant.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Numbers {
    F32(Vec<f32>),
    U8(Vec<u8>),
    I8(Vec<i8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

/// A constant of the graph.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    pub(super) shape: Vec<usize>,
    pub(super) numbers: Numbers,
}

/// A graph whose constants were looked at.
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) constants: HashMap<String, Constant>,
    /// Name and sizes of the one input, 0 where they vary.
    pub(super) input: (String, Vec<i64>),
    /// Names of the outputs.
    pub(super) outputs: Vec<String>,
}

const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const INT8: i32 = 3;
const INT32: i32 = 6;
const INT64: i32 = 7;

impl Graph {
    /// Reads a file.
    pub(super) fn read(file: &Path) -> Result<Self, GpuError> {
        let bytes = std::fs::read(file).map_err(|error| refused(file, error.to_string()))?;
        let model =
            ModelProto::decode(&bytes[..]).map_err(|error| refused(file, format!("is no ONNX file: {error}")))?;
        let graph = model.graph.ok_or_else(|| refused(file, "is no ONNX file: it has no graph"))?;
        let mut constants = HashMap::new();
        for tensor in graph.initializer {
            let name = tensor.name.clone();
            let constant = tensor.read().map_err(|reason| refused(file, format!("the constant {name:?} {reason}")))?;
            constants.insert(name, constant);
        }
        let mut inputs = graph.input.into_iter().filter(|input| !constants.contains_key(&input.name));
        let (Some(input), None) = (inputs.next(), inputs.next()) else {
            return Err(refused(file, "has not one input: models of several cannot be run on the GPU"));
        };
        let tensor = input.r#type.and_then(|kind| kind.tensor_type).unwrap_or_default();
        if tensor.elem_type != FLOAT {
            return Err(refused(file, "has an input that is not f32: on the GPU only f32 is taken"));
        }
        let sizes = tensor.shape.unwrap_or_default().dim.iter().map(|size| size.dim_value).collect();
        let outputs = graph.output.into_iter().map(|output| output.name).collect();
        Ok(Self { nodes: graph.node, constants, input: (input.name, sizes), outputs })
    }
}

impl TensorProto {
    fn read(self) -> Result<Constant, String> {
        if self.data_location != 0 {
            return Err("lies in a file of its own, which is not taken".into());
        }
        let shape: Vec<usize> = self
            .dims
            .iter()
            .map(|size| usize::try_from(*size).map_err(|_| format!("has a size of {size}")))
            .collect::<Result<_, _>>()?;
        let raw = &self.raw_data[..];
        let whole = |numbers: &[i32]| numbers.to_vec();
        let numbers = match self.data_type {
            FLOAT if raw.is_empty() => Numbers::F32(self.float_data),
            FLOAT => Numbers::F32(in_fours(raw)?.map(f32::from_le_bytes).collect()),
            UINT8 if raw.is_empty() => {
                Numbers::U8(whole(&self.int32_data).iter().map(|number| *number as u8).collect())
            }
            UINT8 => Numbers::U8(raw.to_vec()),
            INT8 if raw.is_empty() => Numbers::I8(whole(&self.int32_data).iter().map(|number| *number as i8).collect()),
            INT8 => Numbers::I8(raw.iter().map(|byte| *byte as i8).collect()),
            INT32 if raw.is_empty() => Numbers::I32(self.int32_data),
            INT32 => Numbers::I32(in_fours(raw)?.map(i32::from_le_bytes).collect()),
            INT64 if raw.is_empty() => Numbers::I64(self.int64_data),
            INT64 => {
                let (eights, rest) = raw.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err("ends within a number".into());
                }
                Numbers::I64(eights.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
            }
            other => return Err(format!("is of type {other}, which is not taken")),
        };
        let constant = Constant { shape, numbers };
        let expected = constant.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        if expected != Some(constant.len()) {
            return Err(format!("has {} numbers and the sizes {:?}", constant.len(), constant.shape));
        }
        Ok(constant)
    }
}

fn in_fours(raw: &[u8]) -> Result<impl Iterator<Item = [u8; 4]>, String> {
    let (fours, rest) = raw.as_chunks::<4>();
    if rest.is_empty() { Ok(fours.iter().copied()) } else { Err("ends within a number".into()) }
}

impl Constant {
    /// How many numbers it has.
    pub(super) fn len(&self) -> usize {
        match &self.numbers {
            Numbers::F32(numbers) => numbers.len(),
            Numbers::U8(numbers) => numbers.len(),
            Numbers::I8(numbers) => numbers.len(),
            Numbers::I32(numbers) => numbers.len(),
            Numbers::I64(numbers) => numbers.len(),
        }
    }

    pub(super) fn f32(&self) -> Result<&[f32], String> {
        if let Numbers::F32(numbers) = &self.numbers { Ok(numbers) } else { Err("a constant is not of f32".into()) }
    }

    pub(super) fn i64(&self) -> Result<&[i64], String> {
        if let Numbers::I64(numbers) = &self.numbers { Ok(numbers) } else { Err("a constant is not of i64".into()) }
    }
}

impl Node {
    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.i)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |attribute| attribute.f)
    }

    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| &attribute.ints[..])
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.attribute(name).and_then(|attribute| std::str::from_utf8(&attribute.s).ok())
    }

    /// The input's name; none where there is none, or it is left out.
    pub(super) fn input(&self, index: usize) -> Option<&str> {
        self.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }
}
