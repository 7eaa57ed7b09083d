"""PP-OCR's ONNX graphs for text, as rapidocr ships them: their inputs get a size, their tensors names."""

from pathlib import Path

import onnx
from onnx import helper, version_converter
from onnx_graph import OPSET, fold_constants

# The recogniser's metadata has the characters, one a line; PaddleOCR adds the space behind them.
CHARSET_KEY = "character"


def with_size(source: Path, path: Path, width: int, height: int, output: str, shape: list) -> None:
    """Write a graph whose input `image` is any count of images of this size; its output gets this name and shape."""
    # Quantisation per channel needs this opset; theirs are older.
    model = version_converter.convert_version(onnx.load(source), OPSET)
    graph = model.graph
    names = {graph.input[0].name: "image", graph.output[0].name: output}
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]
    graph.input[0].CopyFrom(_tensor("image", ["count", 3, height, width]))
    graph.output[0].CopyFrom(_tensor(output, ["count", *shape]))
    del graph.value_info[:]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    fold_constants(path)


def _tensor(name: str, shape: list) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def detection(source: Path, path: Path, side: int) -> None:
    """DBNet: how probable text is, by pixel."""
    with_size(source, path, side, side, "probability", [1, side, side])


def orientation(source: Path, path: Path) -> None:
    """Whether a line is upright or upside down."""
    with_size(source, path, 192, 48, "orientation", [2])


def recognition(source: Path, path: Path, width: int) -> None:
    """Shares of characters by step of 8 columns, for CTC; the charset goes beside the graph."""
    metadata = {entry.key: entry.value for entry in onnx.load(source).metadata_props}
    characters = [*metadata[CHARSET_KEY].splitlines(), " "]
    with_size(source, path, width, 48, "characters", [width // 8, 1 + len(characters)])
    charset = "".join(f"{character}\n" for character in characters)
    path.with_name("ppocr-v4-charset.txt").write_text(charset, newline="\n")
