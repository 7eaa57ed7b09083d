//! From an ONNX graph in QDQ form to a [`Program`]. Each operator between a DequantizeLinear and a QuantizeLinear becomes one on
//! steps; what is computed in f32 at the end of a detector becomes a [`Operator::Head`] and views of its numbers.

use std::{collections::HashMap, path::Path};

use super::graph::{Conv, Operator, Output, Program, Source, Steps, Tensor, TensorId, Then, Window};
use super::onnx::{Constant, Graph, Node, Numbers};
use super::refused;
use crate::GpuError;

/// Most rows or columns of an image, and of a window, whose pixels are bits of a word in the kernels.
const SIDE_MAX: usize = 8192;
const WINDOW_MAX: usize = 7;
const CHANNELS_MAX: usize = 16384;
/// How far a bias's scale may be from that of the products that it is added to, as part of it: rounding of f32.
const BIAS_SCALE_DIFFERENCE_MAX: f32 = 1e-4;

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
    Conv { input: ConvInput, weights: Weights, bias: Option<Weights>, window: Window, end: [usize; 2], is_relu: bool },
    Add { input: TensorId, other: TensorId },
    Pool { input: TensorId, window: Window, end: [usize; 2] },
    Mean { input: TensorId },
    Change { input: TensorId, change: Change },
    Concat { inputs: Vec<TensorId> },
    Resize { input: TensorId, height: usize, width: usize },
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
                Value::Draft(Draft::Conv { input, weights, bias, window, end, .. }) => {
                    Value::Draft(Draft::Conv { input, weights, bias, window, end, is_relu: true })
                }
                _ => self.change(node, Change::LeakyRelu(0.0))?,
            },
            "LeakyRelu" => self.change(node, Change::LeakyRelu(node.float("alpha", 0.01)))?,
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

    fn same(&self, node: &Node) -> Result<Value, Reason> {
        let value = self.value(node, 0)?;
        match (&value, node.op_type.as_str()) {
            (Value::Tensor(tensor), "Flatten") if self.tensors[*tensor].pixels() != 1 => {
                Err("it flattens planes, which lie pixel by pixel here".into())
            }
            (Value::Tensor(_) | Value::View(_) | Value::Draft(_), _) => Ok(value),
            _ => Err("its input is not quantised".into()),
        }
    }

    fn change(&self, node: &Node, change: Change) -> Result<Value, Reason> {
        Ok(Value::Draft(Draft::Change { input: self.tensor(node, 0)?, change }))
    }

    fn conv(&mut self, node: &Node) -> Result<Value, Reason> {
        if node.int("group", 1) != 1 || node.ints("dilations").is_some_and(|sizes| sizes.iter().any(|size| *size != 1))
        {
            return Err("it has groups or dilations".into());
        }
        if let Value::Channels(tensor, scales, zeros) = self.value(node, 0)? {
            return self.head(node, tensor, &scales, &zeros);
        }
        let input = match self.value(node, 0)? {
            Value::InputSteps(steps) => ConvInput::Network(steps),
            Value::Tensor(tensor) => ConvInput::Tensor(tensor),
            _ => return Err("its input is not quantised".into()),
        };
        let Value::Weights(weights) = self.value(node, 1)? else { return Err("its weights are not quantised".into()) };
        let &[_, _, height, width] = &weights.shape[..] else {
            return Err(format!("its weights have sizes {:?}", weights.shape));
        };
        let (window, end) = window(node, Some([height, width]))?;
        let bias = self.bias(node)?;
        Ok(Value::Draft(Draft::Conv { input, weights, bias, window, end, is_relu: false }))
    }

    fn bias(&self, node: &Node) -> Result<Option<Weights>, Reason> {
        if node.input(2).is_none() {
            return Ok(None);
        }
        match self.value(node, 2)? {
            Value::Weights(bias) => Ok(Some(bias)),
            _ => Err("its bias is not quantised".into()),
        }
    }

    /// A matrix product of one pixel's channels: a convolution of one pixel.
    fn product(&mut self, node: &Node) -> Result<Value, Reason> {
        let input = self.tensor(node, 0)?;
        if self.tensors[input].pixels() != 1 {
            return Err("its input has more than one pixel".into());
        }
        let Value::Weights(weights) = self.value(node, 1)? else { return Err("its weights are not quantised".into()) };
        let &[rows, columns] = &weights.shape[..] else {
            return Err(format!("its weights have sizes {:?}", weights.shape));
        };
        let is_transposed = node.op_type == "Gemm" && node.int("transB", 0) == 1;
        if node.op_type == "Gemm"
            && (node.int("transA", 0) != 0 || node.float("alpha", 1.0) != 1.0 || node.float("beta", 1.0) != 1.0)
        {
            return Err("it has transA, alpha or beta".into());
        }
        let weights = if is_transposed {
            Weights { shape: vec![rows, columns, 1, 1], ..weights }
        } else {
            if weights.scales.len() != 1 && weights.axis != 1 {
                return Err("its weights have scales by input".into());
            }
            let steps = (0..columns).flat_map(|column| (0..rows).map(move |row| (row, column)));
            let steps = steps.map(|(row, column)| weights.steps[row * columns + column]).collect();
            Weights { shape: vec![columns, rows, 1, 1], steps, axis: 0, ..weights }
        };
        let bias = self.bias(node)?;
        let (window, end) = (Window::PIXEL, [0, 0]);
        Ok(Value::Draft(Draft::Conv { input: ConvInput::Tensor(input), weights, bias, window, end, is_relu: false }))
    }

    /// A convolution of one pixel in f32.
    fn head(&mut self, node: &Node, input: TensorId, scales: &[f32], zeros: &[f32]) -> Result<Value, Reason> {
        let constant = self.constant(node, 1)?;
        let &[count, channels, 1, 1] = &constant.shape[..] else {
            return Err(format!("its weights have sizes {:?}; in f32 only those of one pixel are run", constant.shape));
        };
        let (window, end) = window(node, Some([1, 1]))?;
        if window != Window::PIXEL || end != [0, 0] || channels != scales.len() {
            return Err("in f32 only a convolution of one pixel, pixel by pixel, is run".into());
        }
        let numbers = constant.f32()?;
        let mut bias = match node.input(2) {
            Some(_) => self.constant(node, 2)?.f32()?.to_vec(),
            None => vec![0.0; count],
        };
        if bias.len() != count {
            return Err(format!("it has {} biases for {count} channels", bias.len()));
        }
        let weights: Vec<f32> =
            numbers.iter().zip(scales.iter().cycle()).map(|(weight, scale)| weight * scale).collect();
        for (bias, row) in bias.iter_mut().zip(weights.chunks_exact(channels)) {
            *bias -= row.iter().zip(zeros).map(|(weight, zero)| weight * zero).sum::<f32>();
        }
        let Tensor { height, width, .. } = self.tensors[input];
        let output = self.new_tensor([count, height, width], Steps { scale: 1.0, zero: 0 })?;
        self.operators.push(Operator::Head { input, weights, bias, output });
        Ok(Value::View(View {
            source: Source::Numbers(output),
            first: 0,
            count,
            is_sigmoid: false,
            is_planar: true,
            shape: vec![count, height, width],
        }))
    }

    fn resize(&self, node: &Node) -> Result<Value, Reason> {
        let input = self.tensor(node, 0)?;
        let is_known = node.text("mode") == Some("linear")
            && node.text("coordinate_transformation_mode").is_none_or(|mode| mode == "half_pixel")
            && node.int("antialias", 0) == 0
            && node.ints("axes").is_none()
            && node.text("keep_aspect_ratio_policy").is_none_or(|policy| policy == "stretch");
        if !is_known {
            return Err("only mode linear with half_pixel, without antialias, is run".into());
        }
        let Tensor { height, width, .. } = self.tensors[input];
        let sizes = match node.input(3) {
            Some(_) => self.constant(node, 3)?.i64()?.iter().map(|size| *size as f32).collect::<Vec<_>>(),
            None => {
                let scales = self.constant(node, 2)?.f32()?;
                let sides = [1.0, 1.0, height as f32, width as f32];
                let sizes: Vec<f32> = scales.iter().zip(sides).map(|(scale, side)| scale * side).collect();
                // Else the scales say where a pixel lies, and not the sizes.
                if sizes.iter().any(|size| size.fract() != 0.0) {
                    return Err(format!("its scales {scales:?} make no whole sizes of {width}x{height}"));
                }
                sizes
            }
        };
        match sizes[..] {
            [batch, channels, height, width]
                if batch <= 1.0 && (channels == 1.0 || channels == self.tensors[input].channels as f32) =>
            {
                Ok(Value::Draft(Draft::Resize { input, height: height as usize, width: width as usize }))
            }
            _ => Err(format!("it has the sizes {sizes:?}")),
        }
    }

    fn split(&mut self, node: &Node) -> Result<(), Reason> {
        let Value::View(view) = self.value(node, 0)? else { return Err("only a head's numbers are split".into()) };
        if !view.is_planar {
            return Err("it splits what was transposed before".into());
        }
        let parts = match node.input(1) {
            Some(_) => self.constant(node, 1)?.i64()?.to_vec(),
            None => return Err("it does not say how".into()),
        };
        let are_sane = parts.iter().all(|part| (1..=view.count as i64).contains(part)) && parts.len() <= view.count;
        if node.int("axis", 0) != 1 || !are_sane || parts.iter().sum::<i64>() != view.count as i64 {
            return Err(format!("it splits {} channels into {parts:?}", view.count));
        }
        let mut first = view.first;
        for (index, part) in parts.into_iter().enumerate() {
            let count = part as usize;
            let shape = [&[count], &view.shape[1..]].concat();
            self.set(node, index, Value::View(View { first, count, shape, ..view.clone() }))?;
            first += count;
        }
        Ok(())
    }

    /// Planes of pixels become rows of them, and then pixels of channels.
    fn rearrange(&self, node: &Node) -> Result<Value, Reason> {
        let view = match self.value(node, 0)? {
            Value::View(view) => view,
            Value::Tensor(tensor) => self.view_of(tensor),
            _ => return Err("only what is put out is rearranged".into()),
        };
        let pixels: usize = view.shape[1..].iter().product();
        if node.op_type == "Reshape" {
            let shape = self.constant(node, 1)?.i64()?;
            let is_rows = matches!(*shape, [_, count, length] if (count == view.count as i64 || count == -1) && (length == pixels as i64 || length == -1));
            return match is_rows && view.is_planar {
                true => Ok(Value::View(View { shape: vec![view.count, pixels], ..view })),
                false => Err(format!("it makes {shape:?} of {:?}", view.shape)),
            };
        }
        match (node.ints("perm"), &view.shape[..]) {
            (Some([0, 2, 1]), &[count, pixels]) if view.is_planar => {
                Ok(Value::View(View { is_planar: false, shape: vec![pixels, count], ..view }))
            }
            (Some([0, 2, 3, 1]), &[count, height, width]) if view.is_planar => {
                Ok(Value::View(View { is_planar: false, shape: vec![height, width, count], ..view }))
            }
            (perm, shape) => Err(format!("it permutes {shape:?} by {perm:?}")),
        }
    }

    fn view_of(&self, tensor: TensorId) -> View {
        let Tensor { height, width, channels, .. } = self.tensors[tensor];
        View {
            source: Source::Tensor(tensor),
            first: 0,
            count: channels,
            is_sigmoid: false,
            is_planar: true,
            shape: if height * width == 1 { vec![channels] } else { vec![channels, height, width] },
        }
    }

    fn output(&self, name: &str) -> Result<Output, Reason> {
        let view = match self.values.get(name) {
            Some(Value::View(view)) => view.clone(),
            Some(Value::Tensor(tensor)) => self.view_of(*tensor),
            _ => return Err(format!("the output {name:?} is neither quantised nor a head's")),
        };
        let View { source, first, count, is_sigmoid, is_planar, shape } = view;
        Ok(Output { name: name.to_owned(), source, first, count, is_sigmoid, is_planar, shape })
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
            Draft::Conv { input, weights, bias, window, end, is_relu } => {
                self.make_conv(input, &weights, bias, window, end, is_relu, steps)
            }
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

    /// How often a window moves over a tensor, down and across.
    fn moved(&self, input: TensorId, window: Window, end: [usize; 2]) -> Result<[usize; 2], Reason> {
        let Tensor { height, width, .. } = self.tensors[input];
        moved([height, width], window, end)
    }

    #[allow(clippy::too_many_arguments, reason = "a convolution has them")]
    fn make_conv(
        &mut self,
        input: ConvInput,
        weights: &Weights,
        bias: Option<Weights>,
        window: Window,
        end: [usize; 2],
        is_relu: bool,
        steps: Steps,
    ) -> Result<TensorId, Reason> {
        let &[count, channels, kernel_height, kernel_width] = &weights.shape[..] else {
            return Err("its weights are no filters".into());
        };
        let (input, window, [height, width], reached) = match input {
            ConvInput::Tensor(input) => {
                let size = self.moved(input, window, end)?;
                (input, window, size, self.tensors[input].channels)
            }
            ConvInput::Network(steps) => {
                let [channels, height, width] = self.input;
                let [height, width] = moved([height, width], window, end)?;
                let gathered = channels * window.height * window.width;
                let output = self.new_tensor([gathered, height, width], steps)?;
                self.operators.push(Operator::Gather { window, steps, output });
                (output, Window::PIXEL, [height, width], channels)
            }
        };
        if reached != channels {
            return Err(format!("its filters are of {channels} channels, and its input has {reached}"));
        }
        if weights.scales.len() != 1 && weights.axis != 0 {
            return Err("its weights have scales by input channel".into());
        }
        let Tensor { channels: in_channels, steps: in_steps, .. } = self.tensors[input];
        let pixel = self.tensors[input].pixel();
        let window_pixels = window.height * window.width;
        let mut packed = vec![0i8; count * window_pixels * pixel];
        let mut sums = vec![0i32; count];
        let per_filter = channels * kernel_height * kernel_width;
        for (filter, from) in weights.steps.chunks_exact(per_filter).enumerate() {
            for (index, step) in from.iter().enumerate() {
                let (channel, at) = (index / (kernel_height * kernel_width), index % (kernel_height * kernel_width));
                // Gathered, the window's pixels are one pixel's channels.
                let to = if window_pixels == kernel_height * kernel_width && in_channels == channels {
                    at * pixel + channel
                } else {
                    at * channels + channel
                };
                packed[filter * window_pixels * pixel + to] =
                    i8::try_from(*step).map_err(|_| "its weights are not of i8")?;
                sums[filter] += step;
            }
        }
        let scale = |filter: usize| weights.scales[if weights.scales.len() == 1 { 0 } else { filter }];
        let bias = match bias {
            None => vec![0; count],
            Some(bias) => {
                let of = |filter: usize| bias.scales[if bias.scales.len() == 1 { 0 } else { filter }];
                let is_sum = |filter: usize| {
                    let product = in_steps.scale * scale(filter);
                    (of(filter) - product).abs() <= BIAS_SCALE_DIFFERENCE_MAX * product.abs()
                };
                let are_sane = bias.steps.len() == count && [1, count].contains(&bias.scales.len());
                if !are_sane || !(0..count).all(is_sum) {
                    return Err("its biases are not in steps of input times weights".into());
                }
                bias.steps
            }
        };
        let bias =
            bias.iter().zip(&sums).map(|(bias, sum)| bias.wrapping_sub(i32::from(in_steps.zero).wrapping_mul(*sum)));
        let bias = bias.collect();
        let scales = (0..count).map(|filter| in_steps.scale * scale(filter) / steps.scale).collect();
        let output = self.new_tensor([count, height, width], steps)?;
        self.operators.push(Operator::Conv(Conv {
            input,
            window,
            weights: packed,
            bias,
            scales,
            low: if is_relu { steps.zero } else { 0 },
            steps,
            then: Then::Nothing,
            output,
        }));
        Ok(output)
    }

    /// A sum becomes part of the later one of two convolutions, where nothing else reads what that puts out.
    fn make_add(
        &mut self,
        input: TensorId,
        other: TensorId,
        steps: Steps,
        is_read_once: bool,
    ) -> Result<TensorId, Reason> {
        let shape = |tensor: TensorId| {
            let Tensor { height, width, channels, .. } = self.tensors[tensor];
            [channels, height, width]
        };
        if shape(input) != shape(other) {
            return Err(format!("it adds {:?} and {:?}", shape(input), shape(other)));
        }
        let output = self.new_tensor(shape(input), steps)?;
        if let Some((index, residual)) = self.last_conv(input, other).filter(|_| is_read_once) {
            if let Operator::Conv(conv) = &mut self.operators[index] {
                (conv.then, conv.output) = (Then::Add(residual), output);
            }
        } else {
            self.operators.push(Operator::Add { input, other, output });
        }
        Ok(output)
    }

    /// The later of the two operators that made what is summed, where it is a convolution whose output only this sum reads, and
    /// the tensor that is added to it.
    fn last_conv(&self, input: TensorId, other: TensorId) -> Option<(usize, TensorId)> {
        let made_by = |tensor: TensorId| self.operators.iter().position(|operator| operator.output() == tensor);
        let (first, second) = (made_by(input)?, made_by(other)?);
        let (index, residual) = if first > second { (first, other) } else { (second, input) };
        let Operator::Conv(conv) = &self.operators[index] else { return None };
        let is_plain = first != second && conv.then == Then::Nothing;
        (is_plain && self.is_read_once(conv.output)).then_some((index, residual))
    }

    /// True where one operator alone reads a tensor's steps, and one alone their numbers.
    fn is_read_once(&self, tensor: TensorId) -> bool {
        let names = self.values.iter().filter(|(_, value)| match value {
            Value::Steps(named) | Value::Tensor(named) | Value::Channels(named, ..) => *named == tensor,
            _ => false,
        });
        names.map(|(name, _)| self.uses.get(name).copied().unwrap_or(0)).all(|uses| uses == 1)
    }

    /// A LeakyReLU becomes part of the convolution before it where nothing else reads what that puts out.
    fn look_up(
        &mut self,
        input: TensorId,
        steps: Steps,
        change: Change,
        is_read_once: bool,
    ) -> Result<TensorId, Reason> {
        let table = steps.table(self.tensors[input].steps, |number| change.of(number));
        let Tensor { height, width, channels, .. } = self.tensors[input];
        let output = self.new_tensor([channels, height, width], steps)?;
        let is_read_once = is_read_once && self.is_read_once(input);
        let plain = |operator: &&mut Operator| matches!(operator, Operator::Conv(conv) if conv.output == input && conv.then == Then::Nothing);
        match (change, self.operators.iter_mut().rev().find(plain)) {
            (Change::LeakyRelu(slope), Some(Operator::Conv(conv))) if is_read_once => {
                (conv.then, conv.output) = (Then::LeakyRelu(slope), output);
            }
            _ => self.operators.push(Operator::LookUp { input, table, output, at: 0 }),
        }
        Ok(output)
    }

    fn make_concat(&mut self, inputs: &[TensorId], steps: Steps) -> Result<TensorId, Reason> {
        let first = *inputs.first().ok_or("it has no inputs")?;
        let Tensor { height, width, .. } = self.tensors[first];
        for input in inputs {
            let tensor = &self.tensors[*input];
            if (tensor.height, tensor.width) != (height, width) || !tensor.channels.is_multiple_of(16) {
                return Err("it joins tensors of different sizes, or whose channels are no multiple of 16".into());
            }
        }
        let channels = inputs.iter().map(|input| self.tensors[*input].channels).sum();
        let output = self.new_tensor([channels, height, width], steps)?;
        let mut at = 0;
        for input in inputs {
            let table = steps.table(self.tensors[*input].steps, |number| number);
            self.operators.push(Operator::LookUp { input: *input, table, output, at });
            at += self.tensors[*input].channels;
        }
        Ok(output)
    }
}

/// A node's window, and the padding below and right.
fn window(node: &Node, kernel: Option<[usize; 2]>) -> Result<(Window, [usize; 2]), Reason> {
    let pair = |name: &str, default: [usize; 2]| match node.ints(name) {
        None => Ok(default),
        Some([down, across]) => Ok([*down as usize, *across as usize]),
        Some(sizes) => Err(format!("its {name} is {sizes:?}")),
    };
    let [height, width] = pair("kernel_shape", kernel.unwrap_or_default())?;
    let stride = pair("strides", [1, 1])?;
    let (pad, end) = match node.ints("pads") {
        None => ([0, 0], [0, 0]),
        Some([top, left, bottom, right]) => ([*top as usize, *left as usize], [*bottom as usize, *right as usize]),
        Some(sizes) => return Err(format!("its pads are {sizes:?}")),
    };
    if node.text("auto_pad").is_some_and(|way| way != "NOTSET") || node.int("ceil_mode", 0) != 0 {
        return Err("it has auto_pad or ceil_mode".into());
    }
    if kernel.is_some_and(|kernel| kernel != [height, width]) {
        return Err("its kernel_shape is not that of its weights".into());
    }
    let is_sane = [height, width].iter().chain(&stride).all(|side| (1..=WINDOW_MAX).contains(side))
        && pad.iter().chain(&end).all(|side| *side < WINDOW_MAX);
    if !is_sane {
        return Err(format!("its window of {width}x{height} moves by {stride:?} and pads by {pad:?}, {end:?}"));
    }
    Ok((Window { height, width, stride, pad }, end))
}

fn moved([height, width]: [usize; 2], window: Window, end: [usize; 2]) -> Result<[usize; 2], Reason> {
    let count = |side: usize, kernel: usize, stride: usize, padding: usize| {
        (side + padding).checked_sub(kernel).map(|room| room / stride + 1)
    };
    let down = count(height, window.height, window.stride[0], window.pad[0] + end[0]);
    let across = count(width, window.width, window.stride[1], window.pad[1] + end[1]);
    down.zip(across).map(|(down, across)| [down, across]).ok_or_else(|| "its window is larger than its input".into())
}
