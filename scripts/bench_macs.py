"""Counts the multiply-accumulates of one inference: those of convolutions and matrix products, from the graph's shapes.

Usage: bench_macs.py MODEL.onnx

Prints them in 10^9. An open batch counts as 1. A quantised graph (QDQ) counts as its float twin.
"""

import math
import sys

import onnx
from onnx import shape_inference


def fixed_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give every open size of the inputs the value 1, and infer all shapes."""
    for value in model.graph.input:
        for size in value.type.tensor_type.shape.dim:
            if size.WhichOneof("value") != "dim_value":
                size.dim_value = 1
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    return shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def shapes_of(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Return the shape of every tensor, by name."""
    graph = model.graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        shapes[value.name] = [size.dim_value for size in value.type.tensor_type.shape.dim]
    return shapes


def macs(model: onnx.ModelProto) -> int:
    """Return the multiply-accumulates of one inference."""
    model = fixed_batch(model)
    shapes = shapes_of(model)
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            # Each output is a sum over the kernel's own channels, rows and columns.
            total += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            total += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-2 if transposed else -1]
    return total


def main() -> None:
    """Print the multiply-accumulates of the model that is named."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"{macs(onnx.load(sys.argv[1])) / 1e9:.4f}")


if __name__ == "__main__":
    main()
