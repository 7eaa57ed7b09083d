"""Convert a TensorFlow.js graph model to ONNX.

TensorFlow computes on NHWC tensors, ONNX on NCHW. Each value here knows its TensorFlow shape and
whether it is stored channels first, so that transposes appear only where a consumer needs them:
TensorFlow's own transposes between the two layouts vanish.

The batch size is free. Only the operators that the fetched models use are known; an unknown one is
an error that names it.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from onnx_graph import GraphBuilder, same_padding
from tfjs_graph import TfGraph, TfNode, split_reference

NHWC_TO_NCHW = (0, 3, 1, 2)
NCHW_TO_NHWC = (0, 2, 3, 1)
TAKES_POOL_PADS = {"MaxPool", "Transpose"}
ELEMENTWISE = {
    "Add": ("Add", np.add),
    "AddV2": ("Add", np.add),
    "Mul": ("Mul", np.multiply),
    "Minimum": ("Min", np.minimum),
    "Maximum": ("Max", np.maximum),
}


@dataclass
class Value:
    """A TensorFlow tensor: a constant, or a tensor of the ONNX graph.

    `shape` is TensorFlow's. `channels_first` says that a tensor of TensorFlow shape NHWC is stored
    as NCHW. `lower_bound` is a number that no element falls below, where one is known.
    `pool_pads` are rows and columns of minus infinity around the tensor that are left to the pooling
    behind it: as a `Pad` of its own they would ruin the range of an 8-bit activation.
    """

    shape: list[int]
    tensor: str = ""
    channels_first: bool = False
    constant: np.ndarray | None = None
    lower_bound: float | None = None
    pool_pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    @classmethod
    def of_constant(cls, values: np.ndarray) -> "Value":
        """Wrap a constant."""
        return cls(shape=list(values.shape), constant=values)


class TfjsConverter:
    """Converts one graph; `handlers` holds a method for each operator."""

    def __init__(self, graph: TfGraph):
        """Prepare to convert `graph`."""
        self.graph = graph
        self.onnx = GraphBuilder()
        self.values: dict[str, list[Value]] = {}
        self.handlers = {
            "Const": self._constant,
            "Identity": lambda node, x: x,
            "SparseToDense": self._sparse_to_dense,
            "Conv2D": self._convolution,
            "DepthwiseConv2dNative": self._convolution,
            "_FusedConv2D": self._fused_convolution,
            "FusedDepthwiseConv2dNative": self._fused_convolution,
            "MaxPool": self._max_pool,
            "_FusedMatMul": self._dense,
            "Relu": self._relu,
            "LeakyRelu": self._leaky_relu,
            "Sigmoid": self._sigmoid,
            "Softmax": self._softmax,
            "Mean": self._global_mean,
            "Transpose": self._transpose,
            "Pad": self._pad,
            "PadV2": self._pad,
            "ConcatV2": self._concatenate,
            "ResizeBilinear": self._resize,
            "SplitV": self._split,
            "Reshape": self._reshape,
        }
        self.handlers.update({operator: self._elementwise for operator in ELEMENTWISE})

    def convert(self, path: Path, outputs: dict[str, str], nhwc_input: bool) -> None:
        """Write the ONNX model.

        `outputs` maps names of TensorFlow nodes to names of ONNX outputs. A model whose TensorFlow
        input is NHWC gets an NCHW input.
        """
        placeholder = self.graph.placeholder()
        shape = placeholder.attribute("shape")[1:]
        self.values[placeholder.name] = [Value([1, *shape], placeholder.name, channels_first=nhwc_input)]
        for node in self.graph.in_order(list(outputs)):
            if node.name not in self.values:
                self._emit(node)
        output_shapes = {}
        for node_name, output in outputs.items():
            value = self._value(node_name)
            self.onnx.rename(self._logical(value), output)
            output_shapes[output] = ["N", *value.shape[1:]]
        if nhwc_input:
            rows, columns, channels = shape
            shape = [channels, rows, columns]
        self.onnx.save(path, {placeholder.name: ["N", *shape]}, output_shapes)

    def _emit(self, node: TfNode) -> None:
        handler = self.handlers.get(node.operator)
        if handler is None:
            raise NotImplementedError(f"node {node.name}: operator {node.operator} is not known")
        inputs = [self._value(reference) for reference in node.inputs]
        if node.operator not in TAKES_POOL_PADS and any(any(value.pool_pads) for value in inputs):
            raise NotImplementedError(f"node {node.name}: {node.operator} of minus infinity")
        result = handler(node, *inputs)
        self.values[node.name] = result if isinstance(result, list) else [result]

    def _value(self, reference: str) -> Value:
        name, output = split_reference(reference)
        return self.values[name][output]

    def _logical(self, value: Value) -> str:
        """Return the ONNX tensor that holds the value in TensorFlow's layout."""
        if value.constant is not None:
            return self.onnx.constant(value.constant)
        if value.channels_first:
            return self.onnx.node("Transpose", [value.tensor], perm=NCHW_TO_NHWC)
        return value.tensor

    def _channels_first(self, value: Value) -> str:
        """Return the ONNX tensor that holds a 4-D value, or one that broadcasts to it, as NCHW."""
        if value.constant is not None:
            if value.constant.size == 1:
                return self.onnx.constant(value.constant.reshape(1))
            padded = value.constant.reshape((1,) * (4 - value.constant.ndim) + value.constant.shape)
            return self.onnx.constant(padded.transpose(NHWC_TO_NCHW))
        if not value.channels_first:
            return self.onnx.node("Transpose", [value.tensor], perm=NHWC_TO_NCHW)
        return value.tensor

    def _constant(self, node: TfNode) -> Value:
        return Value.of_constant(self.graph.constants[node.name])

    def _sparse_to_dense(self, node, indices, shape, values, default) -> Value:
        dense = np.full(shape.constant, default.constant, values.constant.dtype)
        positions = indices.constant
        dense[tuple(positions.T) if positions.ndim == 2 else positions] = values.constant
        return Value.of_constant(dense)

    def _fused_convolution(self, node: TfNode, image: Value, kernel: Value, bias: Value) -> Value:
        """Convolve with a bias and, where it is fused, a ReLU6."""
        fused = node.attribute("fused_ops")
        if fused not in (["BiasAdd"], ["BiasAdd", "Relu6"]):
            raise NotImplementedError(f"node {node.name}: fused operators {fused}")
        result = self._convolution(node, image, kernel, bias)
        if "Relu6" not in fused:
            return result
        limits = [self.onnx.constant(np.float32(limit)) for limit in (0, 6)]
        return replace(result, tensor=self.onnx.node("Clip", [result.tensor, *limits]), lower_bound=0.0)

    def _convolution(self, node: TfNode, image: Value, kernel: Value, bias: Value | None = None) -> Value:
        rows, columns, channels_in, channels_out = kernel.constant.shape
        if node.operator in ("DepthwiseConv2dNative", "FusedDepthwiseConv2dNative"):
            groups, channels_out = channels_in, channels_in * channels_out
            weights = kernel.constant.reshape(rows, columns, 1, channels_out)
        else:
            groups, weights = 1, kernel.constant
        window, size = self._window(node, image, (rows, columns))
        if node.attribute("dilations", [1, 1, 1, 1]) != [1, 1, 1, 1]:
            raise NotImplementedError(f"node {node.name}: dilated convolution")
        tensor = self.onnx.node(
            "Conv",
            [
                self._channels_first(image),
                self.onnx.constant(weights.transpose(3, 2, 0, 1)),
                *([self.onnx.constant(bias.constant)] if bias else []),
            ],
            group=groups,
            **window,
        )
        return Value([image.shape[0], *size, channels_out], tensor, channels_first=True)

    def _max_pool(self, node: TfNode, image: Value) -> Value:
        window, size = self._window(node, image, tuple(node.attribute("ksize")[1:3]))
        window["pads"] = [a + b for a, b in zip(window["pads"], image.pool_pads, strict=True)]
        tensor = self.onnx.node("MaxPool", [self._channels_first(image)], **window)
        return Value([image.shape[0], *size, image.shape[3]], tensor, channels_first=True)

    def _window(self, node: TfNode, image: Value, kernel: tuple[int, int]):
        """Return ONNX's attributes of a sliding window and the size of its output."""
        strides = node.attribute("strides")[1:3]
        spatial = image.shape[1:3]
        axes = list(zip(spatial, kernel, strides, strict=True))
        match node.attribute("padding"):
            case "SAME":
                pads = [same_padding(*axis) for axis in axes]
            case "VALID":
                pads = [(0, 0), (0, 0)]
            case padding:
                raise NotImplementedError(f"node {node.name}: padding {padding}")
        size = [
            (length + sum(pad) - window) // stride + 1 for (length, window, stride), pad in zip(axes, pads, strict=True)
        ]
        before, after = zip(*pads, strict=True)
        return dict(kernel_shape=kernel, strides=strides, pads=[*before, *after]), size

    def _dense(self, node: TfNode, rows: Value, weights: Value, bias: Value) -> Value:
        fused = node.attribute("fused_ops")
        if fused not in (["BiasAdd"], ["BiasAdd", "Relu"]):
            raise NotImplementedError(f"node {node.name}: fused operators {fused}")
        tensor = self.onnx.node("Gemm", [self._logical(v) for v in (rows, weights, bias)])
        if "Relu" in fused:
            tensor = self.onnx.node("Relu", [tensor])
        return Value([rows.shape[0], weights.shape[1]], tensor)

    def _relu(self, node: TfNode, x: Value) -> Value:
        tensor = self.onnx.node("Relu", [x.tensor])
        return Value(x.shape, tensor, x.channels_first, lower_bound=0.0)

    def _leaky_relu(self, node: TfNode, x: Value) -> Value:
        tensor = self.onnx.node("LeakyRelu", [x.tensor], alpha=node.attribute("alpha", 0.2))
        return Value(x.shape, tensor, x.channels_first)

    def _sigmoid(self, node: TfNode, x: Value) -> Value:
        return Value(x.shape, self.onnx.node("Sigmoid", [x.tensor]), x.channels_first)

    def _softmax(self, node: TfNode, x: Value) -> Value:
        axis = len(x.shape) - 1
        return Value(x.shape, self.onnx.node("Softmax", [self._logical(x)], axis=axis))

    def _elementwise(self, node: TfNode, a: Value, b: Value) -> Value:
        operator, function = ELEMENTWISE[node.operator]
        if a.constant is not None and b.constant is not None:
            return Value.of_constant(function(a.constant, b.constant))
        if operator in ("Min", "Max") and b.constant is not None and b.constant.size == 1:
            return self._clip(operator, a, float(b.constant.reshape(())))
        shape = list(np.broadcast_shapes(tuple(a.shape), tuple(b.shape)))
        channels_first = len(shape) == 4 and (a.channels_first or b.channels_first)
        stored = self._channels_first if channels_first else self._logical
        return Value(shape, self.onnx.node(operator, [stored(a), stored(b)]), channels_first)

    def _clip(self, operator: str, x: Value, limit: float) -> Value:
        """Clip at one end; nothing is emitted for a lower limit that holds anyway."""
        if operator == "Max" and x.lower_bound is not None and x.lower_bound >= limit:
            return x
        bound = self.onnx.constant(np.float32(limit))
        inputs = [x.tensor, "", bound] if operator == "Min" else [x.tensor, bound]
        lower = limit if operator == "Max" else x.lower_bound
        return Value(x.shape, self.onnx.node("Clip", inputs), x.channels_first, lower_bound=lower)

    def _global_mean(self, node: TfNode, image: Value, axes: Value) -> Value:
        if sorted(axes.constant.tolist()) != [1, 2] or node.attribute("keep_dims"):
            raise NotImplementedError(f"node {node.name}: mean over other axes than 1 and 2")
        pooled = self.onnx.node("GlobalAveragePool", [self._channels_first(image)])
        tensor = self.onnx.node("Flatten", [pooled], axis=1)
        return Value([image.shape[0], image.shape[3]], tensor)

    def _transpose(self, node: TfNode, x: Value, order: Value) -> Value:
        axes = tuple(order.constant.tolist())
        shape = [x.shape[axis] for axis in axes]
        if x.constant is not None:
            return Value.of_constant(x.constant.transpose(axes))
        if x.channels_first and axes == NHWC_TO_NCHW:
            return replace(x, shape=shape, channels_first=False)
        if not x.channels_first and axes == NCHW_TO_NHWC:
            return replace(x, shape=shape, channels_first=True)
        return Value(shape, self.onnx.node("Transpose", [self._logical(x)], perm=axes))

    def _pad(self, node: TfNode, x: Value, amounts: Value, fill: Value | None = None) -> Value:
        pads = amounts.constant
        shape = [length + before + after for length, (before, after) in zip(x.shape, pads.tolist(), strict=True)]
        if x.channels_first:
            pads = pads[list(NHWC_TO_NCHW)]
        if fill is not None:
            if fill.constant != -np.inf or pads[:2].any():
                raise NotImplementedError(f"node {node.name}: padding with {fill.constant}")
            return replace(x, shape=shape, pool_pads=(*pads[2:, 0], *pads[2:, 1]))
        inputs = [x.tensor, self.onnx.integers([*pads[:, 0], *pads[:, 1]])]
        return Value(shape, self.onnx.node("Pad", inputs), x.channels_first)

    def _concatenate(self, node: TfNode, *inputs: Value) -> Value:
        *parts, axis_value = inputs
        axis = int(axis_value.constant) % len(parts[0].shape)
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        channels_first = len(shape) == 4 and any(part.channels_first for part in parts)
        stored = self._channels_first if channels_first else self._logical
        stored_axis = NHWC_TO_NCHW.index(axis) if channels_first else axis
        tensor = self.onnx.node("Concat", [stored(part) for part in parts], axis=stored_axis)
        return Value(shape, tensor, channels_first)

    def _resize(self, node: TfNode, image: Value, size: Value) -> Value:
        if node.attribute("align_corners") or not node.attribute("half_pixel_centers"):
            raise NotImplementedError(f"node {node.name}: resize without half-pixel centres")
        batch, rows, columns, channels = image.shape
        rows_out, columns_out = size.constant.tolist()
        scales = np.array([1, 1, rows_out / rows, columns_out / columns], np.float32)
        tensor = self.onnx.node(
            "Resize",
            [self._channels_first(image), "", self.onnx.constant(scales)],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
        return Value([batch, rows_out, columns_out, channels], tensor, channels_first=True)

    def _split(self, node: TfNode, x: Value, sizes: Value, axis_value: Value) -> list[Value]:
        axis = int(axis_value.constant) % len(x.shape)
        stored_axis = NHWC_TO_NCHW.index(axis) if x.channels_first else axis
        lengths = sizes.constant.tolist()
        tensors = self.onnx.node_with_outputs(
            "Split", [x.tensor, self.onnx.integers(lengths)], len(lengths), axis=stored_axis
        )
        shapes = [[*x.shape[:axis], length, *x.shape[axis + 1 :]] for length in lengths]
        return [Value(shape, tensor, x.channels_first) for shape, tensor in zip(shapes, tensors, strict=True)]

    def _reshape(self, node: TfNode, x: Value, target: Value) -> Value:
        shape = target.constant.tolist()
        if -1 in shape:
            shape[shape.index(-1)] = int(np.prod(x.shape)) // -int(np.prod(shape))
        if x.shape[0] != 1 or shape[0] != 1:
            raise NotImplementedError(f"node {node.name}: reshape that mixes the batch")
        # 0 means "as in the input": it keeps the batch size free.
        wanted = self.onnx.integers([0, *shape[1:]])
        return Value(shape, self.onnx.node("Reshape", [self._logical(x), wanted]))
