//! Tiny ONNX files, encoded by hand: protobuf fields of onnx.proto3 (IR 8, opset 13), no library needed.

/// Type numbers of onnx.proto3.
pub const F32: u64 = 1;
pub const U8: u64 = 2;
pub const I32: u64 = 6;
pub const I64: u64 = 7;

/// A size of a tensor: fixed, or left open under a name.
#[derive(Clone, Copy)]
pub enum Size {
    Fixed(u64),
    Open(&'static str),
}

/// A graph that grows field by field.
#[derive(Default)]
pub struct Graph(Vec<u8>);

impl Graph {
    pub fn input(mut self, name: &str, element: u64, sizes: &[Size]) -> Self {
        field(&mut self.0, 11, &value_info(name, element, sizes));
        self
    }

    pub fn output(mut self, name: &str, element: u64, sizes: &[Size]) -> Self {
        field(&mut self.0, 12, &value_info(name, element, sizes));
        self
    }

    /// A constant of raw little-endian numbers.
    pub fn constant(mut self, name: &str, element: u64, sizes: &[u64], raw: &[u8]) -> Self {
        let mut tensor = Vec::new();
        for size in sizes {
            number(&mut tensor, 1, *size);
        }
        number(&mut tensor, 2, element);
        field(&mut tensor, 8, name.as_bytes());
        field(&mut tensor, 9, raw);
        field(&mut self.0, 5, &tensor);
        self
    }

    /// An operator; `attributes` are integers.
    pub fn node(mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, u64)]) -> Self {
        const INT: u64 = 2;
        let mut node = Vec::new();
        for input in inputs {
            field(&mut node, 1, input.as_bytes());
        }
        field(&mut node, 2, output.as_bytes());
        field(&mut node, 4, operator.as_bytes());
        for (name, value) in attributes {
            let mut attribute = Vec::new();
            field(&mut attribute, 1, name.as_bytes());
            number(&mut attribute, 3, *value);
            number(&mut attribute, 20, INT);
            field(&mut node, 5, &attribute);
        }
        field(&mut self.0, 1, &node);
        self
    }

    /// The bytes of the file.
    pub fn file(mut self) -> Vec<u8> {
        field(&mut self.0, 2, b"test");
        let mut opset = Vec::new();
        number(&mut opset, 2, 13);
        let mut model = Vec::new();
        number(&mut model, 1, 8);
        field(&mut model, 7, &self.0);
        field(&mut model, 8, &opset);
        model
    }
}

fn value_info(name: &str, element: u64, sizes: &[Size]) -> Vec<u8> {
    let mut shape = Vec::new();
    for size in sizes {
        let mut dimension = Vec::new();
        match size {
            Size::Fixed(value) => number(&mut dimension, 1, *value),
            Size::Open(name) => field(&mut dimension, 2, name.as_bytes()),
        }
        field(&mut shape, 1, &dimension);
    }
    let mut tensor = Vec::new();
    number(&mut tensor, 1, element);
    field(&mut tensor, 2, &shape);
    let mut kind = Vec::new();
    field(&mut kind, 1, &tensor);
    let mut info = Vec::new();
    field(&mut info, 1, name.as_bytes());
    field(&mut info, 2, &kind);
    info
}

fn field(message: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(message, number << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn number(message: &mut Vec<u8>, number: u64, value: u64) {
    varint(message, number << 3);
    varint(message, value);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}
