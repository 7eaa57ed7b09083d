//! What is put out as numbers: heads in f32, and which of a tensor's or a head's numbers, in which order.

use super::{Lowering, Reason, Value, View, drafts::window};
use crate::int8::graph::{Operator, Output, Source, Steps, Tensor, TensorId, Window};
use crate::int8::onnx::Node;

impl Lowering<'_> {
    /// A convolution of one pixel in f32.
    pub(super) fn head(
        &mut self,
        node: &Node,
        input: TensorId,
        scales: &[f32],
        zeros: &[f32],
    ) -> Result<Value, Reason> {
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

    pub(super) fn split(&mut self, node: &Node) -> Result<(), Reason> {
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
    pub(super) fn rearrange(&self, node: &Node) -> Result<Value, Reason> {
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

    pub(super) fn view_of(&self, tensor: TensorId) -> View {
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

    pub(super) fn output(&self, name: &str) -> Result<Output, Reason> {
        let view = match self.values.get(name) {
            Some(Value::View(view)) => view.clone(),
            Some(Value::Tensor(tensor)) => self.view_of(*tensor),
            _ => return Err(format!("the output {name:?} is neither quantised nor a head's")),
        };
        let View { source, first, count, is_sigmoid, is_planar, shape } = view;
        Ok(Output { name: name.to_owned(), source, first, count, is_sigmoid, is_planar, shape })
    }
}
