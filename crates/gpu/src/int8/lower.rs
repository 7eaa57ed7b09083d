//! From an ONNX graph in QDQ form to a [`Program`]. Each operator between a DequantizeLinear and a QuantizeLinear becomes one on
//! steps; what is computed in f32 at the end of a detector becomes a [`Operator::Head`] and views of its numbers.
//!
//! | file | what it does |
//! |---|---|
//! | `drafts.rs` | what operators put out before it is quantised |
//! | `make.rs` | operators on steps, made of that |
//! | `numbers.rs` | what is put out as numbers |

mod drafts;
mod make;
mod numbers;

use std::{collections::HashMap, path::Path};

use drafts::window;

use super::graph::{Operator, Program, Source, Steps, Tensor, TensorId, Window};
use super::onnx::{Constant, Graph, Node, Numbers};
use super::refused;
use crate::GpuError;

/// Most rows or columns of an image.
const SIDE_MAX: usize = 8192;
const CHANNELS_MAX: usize = 16384;
/// What a name in the graph stands for, while it is read.
#[derive(Clone)]
enum Value {
    /// The network's input.
    Input,
    /// Its steps: the tensor comes with the first convolution.
    InputSteps(Steps),
    /// Steps of a tensor.
    Steps(TensorId),
    /// A tensor's numbers.
    Tensor(TensorId),
    /// A tensor's numbers, whose channels have scales of their own.
    Channels(TensorId, Vec<f32>, Vec<f32>),
    /// Weights, quantised.
    Weights(Weights),
    /// What an operator puts out, before it is quantised.
    Draft(Draft),
    /// Numbers that are put out as they are.
    View(View),
}

#[derive(Clone)]
struct Weights {
    shape: Vec<usize>,
    steps: Vec<i32>,
    scales: Vec<f32>,
    axis: usize,
}

#[derive(Clone)]
enum Draft {
    Conv(ConvDraft),
    Add { input: TensorId, other: TensorId },
    Pool { input: TensorId, window: Window, end: [usize; 2] },
    Mean { input: TensorId },
    Change { input: TensorId, change: Change },
    Concat { inputs: Vec<TensorId> },
    Resize { input: TensorId, height: usize, width: usize },
}

/// A convolution before it is known in which steps it puts out.
#[derive(Clone)]
struct ConvDraft {
    input: ConvInput,
    weights: Weights,
    bias: Option<Weights>,
    window: Window,
    /// Padding below and right.
    end: [usize; 2],
    is_relu: bool,
}

#[derive(Clone, Copy)]
enum ConvInput {
    Network(Steps),
    Tensor(TensorId),
}

/// A function of one number.
#[derive(Clone, Copy)]
enum Change {
    Nothing,
    LeakyRelu(f32),
    Sigmoid,
    HardSwish,
}

impl Change {
    fn of(self, number: f32) -> f32 {
        match self {
            Self::Nothing => number,
            Self::LeakyRelu(slope) => {
                if number < 0.0 {
                    number * slope
                } else {
                    number
                }
            }
            Self::Sigmoid => 1.0 / (1.0 + (-number).exp()),
            Self::HardSwish => number * (number / 6.0 + 0.5).clamp(0.0, 1.0),
        }
    }
}

/// Numbers of some channels, on their way out.
#[derive(Clone)]
struct View {
    source: Source,
    first: usize,
    count: usize,
    is_sigmoid: bool,
    /// False once rows of channels were asked for (a Transpose).
    is_planar: bool,
    shape: Vec<usize>,
}

/// Reads a file, and makes a program of it.
pub(super) fn program(file: &Path) -> Result<Program, GpuError> {
    let graph = Graph::read(file)?;
    let sizes = |size: &i64| usize::try_from(*size).ok().filter(|size| (1..=SIDE_MAX).contains(size));
    let input = match &graph.input.1[..] {
        [_, channels, height, width] => [sizes(channels), sizes(height), sizes(width)],
        _ => [None; 3],
    };
    let [Some(channels), Some(height), Some(width)] = input else {
        return Err(refused(
            file,
            format!("has an input of sizes {:?}: [batch, channels, rows, columns] is taken", graph.input.1),
        ));
    };
    let mut lowering = Lowering {
        input: [channels, height, width],
        values: HashMap::from([(graph.input.0.clone(), Value::Input)]),
        tensors: Vec::new(),
        operators: Vec::new(),
        constants: &graph.constants,
        uses: uses(&graph),
    };
    for node in &graph.nodes {
        lowering.add(node).map_err(|reason| {
            let name = node.output.first().map_or("", String::as_str);
            refused(
                file,
                format!("the operator {} that makes {name:?} cannot be run on the GPU: {reason}", node.op_type),
            )
        })?;
    }
    let outputs = graph.outputs.iter().map(|name| lowering.output(name));
    let outputs = outputs.collect::<Result<_, _>>().map_err(|reason| refused(file, reason))?;
    Ok(Program {
        input: lowering.input,
        input_name: graph.input.0.clone(),
        tensors: lowering.tensors,
        operators: lowering.operators,
        outputs,
    })
}

/// How often each name is read.
fn uses(graph: &Graph) -> HashMap<String, usize> {
    let mut uses = HashMap::new();
    let names = graph.nodes.iter().flat_map(|node| &node.input).chain(&graph.outputs);
    names.for_each(|name| *uses.entry(name.clone()).or_default() += 1);
    uses
}

struct Lowering<'g> {
    input: [usize; 3],
    values: HashMap<String, Value>,
    tensors: Vec<Tensor>,
    operators: Vec<Operator>,
    constants: &'g HashMap<String, Constant>,
    uses: HashMap<String, usize>,
}

type Reason = String;

impl Lowering<'_> {
    fn add(&mut self, node: &Node) -> Result<(), Reason> {
        match node.op_type.as_str() {
            "QuantizeLinear" => return self.quantize(node),
            "DequantizeLinear" => {
                let value = self.dequantize(node)?;
                return self.set(node, 0, value);
            }
            "Split" => return self.split(node),
            _ => {}
        }
        let value = match node.op_type.as_str() {
            "Identity" | "Flatten" => self.same(node)?,
            "Conv" => self.conv(node)?,
            "Gemm" | "MatMul" => self.product(node)?,
            "Relu" => match self.value(node, 0)? {
                Value::Draft(Draft::Conv(conv)) => Value::Draft(Draft::Conv(ConvDraft { is_relu: true, ..conv })),
                _ => self.change(node, Change::LeakyRelu(0.0))?,
            },
            "LeakyRelu" => match node.float("alpha", 0.01) {
                alpha if (-1.0..=1.0).contains(&alpha) => self.change(node, Change::LeakyRelu(alpha))?,
                alpha => return Err(format!("its alpha is {alpha}, where -1 to 1 can be")),
            },
            "Sigmoid" => match self.value(node, 0)? {
                Value::View(view) if !view.is_sigmoid => Value::View(View { is_sigmoid: true, ..view }),
                _ => self.change(node, Change::Sigmoid)?,
            },
            "HardSwish" => self.change(node, Change::HardSwish)?,
            "MaxPool" => {
                let input = self.tensor(node, 0)?;
                if node.ints("dilations").is_some_and(|sizes| sizes.iter().any(|size| *size != 1)) {
                    return Err("it has dilations".into());
                }
                let (window, end) = window(node, None)?;
                Value::Draft(Draft::Pool { input, window, end })
            }
            "GlobalAveragePool" => Value::Draft(Draft::Mean { input: self.tensor(node, 0)? }),
            "Add" => Value::Draft(Draft::Add { input: self.tensor(node, 0)?, other: self.tensor(node, 1)? }),
            "Concat" if node.int("axis", 0) == 1 => {
                let inputs = (0..node.input.len()).map(|index| self.tensor(node, index)).collect::<Result<_, _>>()?;
                Value::Draft(Draft::Concat { inputs })
            }
            "Resize" => self.resize(node)?,
            "Reshape" | "Transpose" => self.rearrange(node)?,
            _ => return Err("it is none of those that are known; quantise the model whole (framepipe model quantize), or use --device cpu".into()),
        };
        self.set(node, 0, value)
    }

    fn set(&mut self, node: &Node, index: usize, value: Value) -> Result<(), Reason> {
        let name = node.output.get(index).ok_or("it has no output")?;
        self.values.insert(name.clone(), value);
        Ok(())
    }

    fn value(&self, node: &Node, index: usize) -> Result<Value, Reason> {
        let name = node.input(index).ok_or_else(|| format!("it has no input {index}"))?;
        self.values.get(name).cloned().ok_or_else(|| format!("its input {name:?} is none that is known here"))
    }

    /// The tensor whose numbers an input is.
    fn tensor(&self, node: &Node, index: usize) -> Result<TensorId, Reason> {
        match self.value(node, index)? {
            Value::Tensor(tensor) => Ok(tensor),
            _ => Err(format!("its input {index} is not quantised")),
        }
    }

    fn constant(&self, node: &Node, index: usize) -> Result<&Constant, Reason> {
        let name = node.input(index).ok_or_else(|| format!("it has no input {index}"))?;
        self.constants.get(name).ok_or_else(|| format!("its input {name:?} is no constant"))
    }

    fn new_tensor(&mut self, [channels, height, width]: [usize; 3], steps: Steps) -> Result<TensorId, Reason> {
        let is_sane =
            (1..=CHANNELS_MAX).contains(&channels) && [height, width].iter().all(|side| (1..=SIDE_MAX).contains(side));
        if !is_sane {
            return Err(format!("it puts out {channels} channels of {width}x{height}"));
        }
        self.tensors.push(Tensor { height, width, channels, steps });
        Ok(self.tensors.len() - 1)
    }

    /// Scale and zero point of a QuantizeLinear or a DequantizeLinear of a tensor.
    fn steps(&self, node: &Node) -> Result<Steps, Reason> {
        let scale = self.constant(node, 1)?.f32()?;
        let [scale] = *scale else { return Err(format!("it has {} scales", scale.len())) };
        let zero = match node.input(2) {
            None if node.int("output_dtype", 0) != 0 => return Err("it has an output_dtype and no zero point".into()),
            None => 0,
            Some(_) => match &self.constant(node, 2)?.numbers {
                Numbers::U8(zero) => zero.first().copied().ok_or("it has no zero point")?,
                Numbers::I8(zero) => (i16::from(*zero.first().ok_or("it has no zero point")?) + 128) as u8,
                _ => return Err("its steps are neither u8 nor i8".into()),
            },
        };
        if scale.is_finite() && scale > 0.0 { Ok(Steps { scale, zero }) } else { Err(format!("its scale is {scale}")) }
    }

    fn dequantize(&self, node: &Node) -> Result<Value, Reason> {
        let name = node.input(0).ok_or("it has no input")?;
        if let Some(constant) = self.constants.get(name) {
            return self.weights(node, constant).map(Value::Weights);
        }
        match self.value(node, 0)? {
            Value::InputSteps(steps) if self.steps(node)? == steps => Ok(Value::InputSteps(steps)),
            Value::Steps(tensor) => {
                let scales = self.constant(node, 1)?.f32()?.to_vec();
                let own = self.tensors[tensor].steps;
                if scales.len() == 1 && self.steps(node)? == own {
                    return Ok(Value::Tensor(tensor));
                }
                let zeros = match &self.constant(node, 2)?.numbers {
                    Numbers::U8(zeros) => zeros.iter().map(|zero| f32::from(*zero)).collect::<Vec<_>>(),
                    Numbers::I8(zeros) => zeros.iter().map(|zero| f32::from(*zero) + 128.0).collect(),
                    _ => return Err("its steps are neither u8 nor i8".into()),
                };
                let channels = self.tensors[tensor].channels;
                if node.int("axis", 1) != 1 || scales.len() != channels || zeros.len() != channels {
                    return Err(format!("it has {} scales for {channels} channels", scales.len()));
                }
                Ok(Value::Channels(tensor, scales, zeros))
            }
            _ => Err("its input is not quantised".into()),
        }
    }

    fn weights(&self, node: &Node, constant: &Constant) -> Result<Weights, Reason> {
        if constant.len() == 0 {
            return Err("its weights are none".into());
        }
        let steps: Vec<i32> = match &constant.numbers {
            Numbers::I8(steps) => steps.iter().map(|step| i32::from(*step)).collect(),
            Numbers::I32(steps) => steps.clone(),
            _ => return Err("its weights are not of i8: quantise with weights of i8".into()),
        };
        let zeros_are_zero = match node.input(2) {
            None => true,
            Some(_) => match &self.constant(node, 2)?.numbers {
                Numbers::I8(zeros) => zeros.iter().all(|zero| *zero == 0),
                Numbers::I32(zeros) => zeros.iter().all(|zero| *zero == 0),
                _ => false,
            },
        };
        if !zeros_are_zero {
            return Err("its weights have a zero point other than 0: quantise them symmetrically".into());
        }
        let scales = self.constant(node, 1)?.f32()?.to_vec();
        if let Some(scale) = scales.iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
            return Err(format!("its weights have a scale of {scale}"));
        }
        let axis = node.int("axis", 1);
        let rank = constant.shape.len() as i64;
        let axis = if axis < 0 { axis + rank } else { axis } as usize;
        let per_axis = constant.shape.get(axis).copied();
        if scales.len() != 1 && per_axis != Some(scales.len()) {
            return Err(format!(
                "its weights of sizes {:?} have {} scales on axis {axis}",
                constant.shape,
                scales.len()
            ));
        }
        Ok(Weights { shape: constant.shape.clone(), steps, scales, axis })
    }

    /// What was drafted is made, now that it is known in which steps.
    fn quantize(&mut self, node: &Node) -> Result<(), Reason> {
        let steps = self.steps(node)?;
        let value = match self.value(node, 0)? {
            Value::Input => Value::InputSteps(steps),
            Value::Tensor(input) => Value::Steps(self.look_up(input, steps, Change::Nothing, false)?),
            Value::Draft(draft) => {
                // What is quantised twice is made twice, and not as part of what another reads.
                let is_read_once = self.uses.get(node.input(0).unwrap_or_default()) == Some(&1);
                Value::Steps(self.make(draft, steps, is_read_once)?)
            }
            _ => return Err("its input is none that is computed here".into()),
        };
        self.set(node, 0, value)
    }

    fn make(&mut self, draft: Draft, steps: Steps, is_read_once: bool) -> Result<TensorId, Reason> {
        match draft {
            Draft::Conv(conv) => self.make_conv(conv, steps),
            Draft::Add { input, other } => self.make_add(input, other, steps, is_read_once),
            Draft::Pool { input, window, end } => {
                if self.tensors[input].steps != steps {
                    return Err("it changes the steps".into());
                }
                let [height, width] = self.moved(input, window, end)?;
                let channels = self.tensors[input].channels;
                let output = self.new_tensor([channels, height, width], steps)?;
                self.operators.push(Operator::Pool { input, window, output });
                Ok(output)
            }
            Draft::Mean { input } => {
                let output = self.new_tensor([self.tensors[input].channels, 1, 1], steps)?;
                self.operators.push(Operator::Mean { input, output });
                Ok(output)
            }
            Draft::Change { input, change } => self.look_up(input, steps, change, is_read_once),
            Draft::Concat { inputs } => self.make_concat(&inputs, steps),
            Draft::Resize { input, height, width } => {
                if self.tensors[input].steps != steps {
                    return Err("it changes the steps".into());
                }
                let output = self.new_tensor([self.tensors[input].channels, height, width], steps)?;
                self.operators.push(Operator::Resize { input, output });
                Ok(output)
            }
        }
    }
}
