//! What operators put out before it is quantised, and which of them are known.

use super::{Change, ConvDraft, ConvInput, Draft, Lowering, Reason, Value, Weights};
use crate::int8::WINDOW_MAX;
use crate::int8::graph::{Tensor, Window};
use crate::int8::onnx::Node;

impl Lowering<'_> {
    pub(super) fn same(&self, node: &Node) -> Result<Value, Reason> {
        let value = self.value(node, 0)?;
        match (&value, node.op_type.as_str()) {
            (Value::Tensor(tensor), "Flatten") if self.tensors[*tensor].pixels() != 1 => {
                Err("it flattens planes, which lie pixel by pixel here".into())
            }
            (Value::Tensor(_) | Value::View(_) | Value::Draft(_), _) => Ok(value),
            _ => Err("its input is not quantised".into()),
        }
    }

    pub(super) fn change(&self, node: &Node, change: Change) -> Result<Value, Reason> {
        Ok(Value::Draft(Draft::Change { input: self.tensor(node, 0)?, change }))
    }

    pub(super) fn conv(&mut self, node: &Node) -> Result<Value, Reason> {
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
        Ok(Value::Draft(Draft::Conv(ConvDraft { input, weights, bias, window, end, is_relu: false })))
    }

    pub(super) fn bias(&self, node: &Node) -> Result<Option<Weights>, Reason> {
        if node.input(2).is_none() {
            return Ok(None);
        }
        match self.value(node, 2)? {
            Value::Weights(bias) => Ok(Some(bias)),
            _ => Err("its bias is not quantised".into()),
        }
    }

    /// A matrix product of one pixel's channels: a convolution of one pixel.
    pub(super) fn product(&mut self, node: &Node) -> Result<Value, Reason> {
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
        let input = ConvInput::Tensor(input);
        Ok(Value::Draft(Draft::Conv(ConvDraft { input, weights, bias, window, end, is_relu: false })))
    }

    pub(super) fn resize(&self, node: &Node) -> Result<Value, Reason> {
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
}

/// A node's window, and the padding below and right.
pub(super) fn window(node: &Node, kernel: Option<[usize; 2]>) -> Result<(Window, [usize; 2]), Reason> {
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
