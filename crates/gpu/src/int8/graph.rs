//! A quantised graph as it is run: tensors of u8 and the operators between them, in the order in which they run.
//!
//! A number is `(step - zero) * scale`. Graphs of i8 are taken too: 128 is added to their steps and zero points.

/// A tensor of a sample: rows of pixels, of which each has its channels one after another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) steps: Steps,
}

/// What a step of a tensor is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Steps {
    pub(super) scale: f32,
    pub(super) zero: u8,
}

impl Steps {
    pub(super) fn number(self, step: u8) -> f32 {
        (f32::from(step) - f32::from(self.zero)) * self.scale
    }

    pub(super) fn step(self, number: f32) -> u8 {
        (number * (1.0 / self.scale)).round_ties_even().add_zero(self.zero)
    }

    /// The bytes that `change` makes of steps of `from`.
    pub(super) fn table(self, from: Steps, change: impl Fn(f32) -> f32) -> [u8; 256] {
        std::array::from_fn(|step| self.step(change(from.number(step as u8))))
    }
}

trait AddZero {
    fn add_zero(self, zero: u8) -> u8;
}

impl AddZero for f32 {
    fn add_zero(self, zero: u8) -> u8 {
        (self + f32::from(zero)).clamp(0.0, 255.0) as u8
    }
}

impl Tensor {
    /// Bytes of a pixel: its channels, filled up to whole 16.
    pub(super) fn pixel(&self) -> usize {
        self.channels.next_multiple_of(16)
    }

    pub(super) fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Bytes of a sample.
    pub(super) fn bytes(&self) -> usize {
        self.pixels() * self.pixel()
    }
}

/// A window that moves over a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) stride: [usize; 2],
    /// Above and left of the tensor.
    pub(super) pad: [usize; 2],
}

impl Window {
    pub(super) const PIXEL: Window = Window { height: 1, width: 1, stride: [1, 1], pad: [0, 0] };
}

/// Index of a tensor.
pub(super) type TensorId = usize;

#[derive(Clone, Debug)]
pub(super) enum Operator {
    /// The network's input becomes steps, each output pixel with the whole window of the first convolution.
    Gather {
        window: Window,
        output: TensorId,
    },
    Conv(Conv),
    Pool {
        input: TensorId,
        window: Window,
        output: TensorId,
    },
    Add {
        input: TensorId,
        other: TensorId,
        output: TensorId,
    },
    /// Each step through a table, to the channels from `at` on.
    LookUp {
        input: TensorId,
        table: [u8; 256],
        output: TensorId,
        at: usize,
    },
    Resize {
        input: TensorId,
        output: TensorId,
    },
    Mean {
        input: TensorId,
        output: TensorId,
    },
    /// A convolution of one pixel with weights of f32, into numbers.
    Head {
        input: TensorId,
        weights: Vec<f32>,
        bias: Vec<f32>,
        output: TensorId,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Conv {
    pub(super) input: TensorId,
    pub(super) window: Window,
    /// By output channel, each window pixel's channels.
    pub(super) weights: Vec<i8>,
    /// By output channel, the input's zero point taken out.
    pub(super) bias: Vec<i32>,
    /// By output channel, from the accumulator to steps.
    pub(super) scales: Vec<f32>,
    /// Least step (ReLU).
    pub(super) low: u8,
    /// Of what the convolution itself puts out.
    pub(super) steps: Steps,
    pub(super) then: Then,
    pub(super) output: TensorId,
}

/// What a convolution's output goes through before it is stored, in the steps of the tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Then {
    Nothing,
    /// Negative numbers times this.
    LeakyRelu(f32),
    /// Another tensor is added.
    Add(TensorId),
}

/// Where an output's numbers come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Source {
    Tensor(TensorId),
    /// What a [`Operator::Head`] put out.
    Numbers(TensorId),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) source: Source,
    /// The first of its channels, and how many.
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) is_sigmoid: bool,
    /// True: plane by plane; else pixel by pixel.
    pub(super) is_planar: bool,
    /// Sizes, the batch left out.
    pub(super) shape: Vec<usize>,
}

/// A graph that can be run.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// Channels, rows, columns of the input.
    pub(super) input: [usize; 3],
    pub(super) input_name: String,
    pub(super) tensors: Vec<Tensor>,
    pub(super) operators: Vec<Operator>,
    pub(super) outputs: Vec<Output>,
}

impl Operator {
    pub(super) fn output(&self) -> TensorId {
        match self {
            Self::Conv(conv) => conv.output,
            Self::Gather { output, .. }
            | Self::Pool { output, .. }
            | Self::Add { output, .. }
            | Self::LookUp { output, .. }
            | Self::Resize { output, .. }
            | Self::Mean { output, .. }
            | Self::Head { output, .. } => *output,
        }
    }

    /// The tensors that it reads.
    pub(super) fn inputs(&self) -> impl Iterator<Item = TensorId> {
        let (first, second) = match self {
            Self::Gather { .. } => (None, None),
            Self::Conv(conv) => {
                (Some(conv.input), if let Then::Add(residual) = conv.then { Some(residual) } else { None })
            }
            Self::Add { input, other, .. } => (Some(*input), Some(*other)),
            Self::Pool { input, .. }
            | Self::LookUp { input, .. }
            | Self::Resize { input, .. }
            | Self::Mean { input, .. }
            | Self::Head { input, .. } => (Some(*input), None),
        };
        first.into_iter().chain(second)
    }
}

impl Program {
    /// Multiply-accumulates of a sample in the convolutions of i8, filling left out.
    pub(super) fn macs(&self) -> u64 {
        let of = |operator: &Operator| match operator {
            Operator::Conv(conv) => {
                let (from, to) = (&self.tensors[conv.input], &self.tensors[conv.output]);
                (to.pixels() * to.channels * conv.window.height * conv.window.width * from.channels) as u64
            }
            _ => 0,
        };
        self.operators.iter().map(of).sum()
    }

    /// What an operator does, in few words.
    pub(super) fn describe(&self, operator: &Operator) -> String {
        let to = &self.tensors[operator.output()];
        let size = format!("to {}x{}x{}", to.channels, to.height, to.width);
        match operator {
            Operator::Gather { window, .. } => format!("gather {}x{} {size}", window.height, window.width),
            Operator::Conv(conv) => {
                let from = &self.tensors[conv.input];
                format!("conv {}x{} of {} {size}", conv.window.height, conv.window.width, from.channels)
            }
            Operator::Pool { .. } => format!("max pool {size}"),
            Operator::Add { .. } => format!("add {size}"),
            Operator::LookUp { .. } => format!("look up {size}"),
            Operator::Resize { .. } => format!("resize {size}"),
            Operator::Mean { .. } => format!("mean {size}"),
            Operator::Head { .. } => format!("head {size}"),
        }
    }
}
