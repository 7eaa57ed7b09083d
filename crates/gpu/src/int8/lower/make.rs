//! Operators on steps, made of what was drafted. Sums and LeakyReLUs become part of the convolution before them.

use super::{Change, ConvDraft, ConvInput, Lowering, Reason, Value};
use crate::int8::graph::{Conv, Operator, Steps, Tensor, TensorId, Then, Window};

/// How far a bias's scale may be from that of the products that it is added to, as part of it: rounding of f32.
const BIAS_SCALE_DIFFERENCE_MAX: f32 = 1e-4;

impl Lowering<'_> {
    /// How often a window moves over a tensor, down and across.
    pub(super) fn moved(&self, input: TensorId, window: Window, end: [usize; 2]) -> Result<[usize; 2], Reason> {
        let Tensor { height, width, .. } = self.tensors[input];
        moved([height, width], window, end)
    }

    pub(super) fn make_conv(&mut self, conv: ConvDraft, steps: Steps) -> Result<TensorId, Reason> {
        let ConvDraft { input, weights, bias, window, end, is_relu } = conv;
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
                self.operators.push(Operator::Gather { window, output });
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
    pub(super) fn make_add(
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
    pub(super) fn last_conv(&self, input: TensorId, other: TensorId) -> Option<(usize, TensorId)> {
        let made_by = |tensor: TensorId| self.operators.iter().position(|operator| operator.output() == tensor);
        let (first, second) = (made_by(input)?, made_by(other)?);
        let (index, residual) = if first > second { (first, other) } else { (second, input) };
        let Operator::Conv(conv) = &self.operators[index] else { return None };
        let is_plain = first != second && conv.then == Then::Nothing;
        (is_plain && self.is_read_once(conv.output)).then_some((index, residual))
    }

    /// True where one operator alone reads a tensor's steps, and one alone their numbers.
    pub(super) fn is_read_once(&self, tensor: TensorId) -> bool {
        let names = self.values.iter().filter(|(_, value)| match value {
            Value::Steps(named) | Value::Tensor(named) | Value::Channels(named, ..) => *named == tensor,
            _ => false,
        });
        names.map(|(name, _)| self.uses.get(name).copied().unwrap_or(0)).all(|uses| uses == 1)
    }

    /// A LeakyReLU becomes part of the convolution before it where nothing else reads what that puts out.
    pub(super) fn look_up(
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

    pub(super) fn make_concat(&mut self, inputs: &[TensorId], steps: Steps) -> Result<TensorId, Reason> {
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

fn moved([height, width]: [usize; 2], window: Window, end: [usize; 2]) -> Result<[usize; 2], Reason> {
    let count = |side: usize, kernel: usize, stride: usize, padding: usize| {
        (side + padding).checked_sub(kernel).map(|room| room / stride + 1)
    };
    let down = count(height, window.height, window.stride[0], window.pad[0] + end[0]);
    let across = count(width, window.width, window.stride[1], window.pad[1] + end[1]);
    down.zip(across).map(|(down, across)| [down, across]).ok_or_else(|| "its window is larger than its input".into())
}
