"""The models of the repository: which float graph each is made from, and whether it becomes INT8.

Each row has a manifest of the same name in config/models.
"""

from dataclasses import dataclass
from pathlib import Path

from paths import FLOAT_GRAPHS, INT8_GRAPHS


@dataclass(frozen=True)
class Int8:
    """How a graph is quantised, and how near it must come to its float twin.

    `cosine_min` is a floor under the mean cosine of each output; the measured figures stand in the
    manifests.
    """

    cosine_min: float
    keep_head_float: bool = False


@dataclass(frozen=True)
class Shipped:
    """One model of the repository; `source` names a graph of convert.py."""

    source: str
    int8: Int8 | None = None

    def float_graph(self) -> Path:
        """Return the path of the float graph."""
        return FLOAT_GRAPHS / f"{self.source}.onnx"

    def graph(self) -> Path:
        """Return the path of the graph that ships."""
        return INT8_GRAPHS / f"{self.source}.onnx" if self.int8 else self.float_graph()


SHIPPED = {
    "nanodet416-4c-fp32": Shipped("nanodet416-4c"),
    "nanodet416-4c-int8": Shipped("nanodet416-4c", Int8(0.95, keep_head_float=True)),
    "tiny-face-416": Shipped("tiny-face-416"),
    "face-resnet34-descriptor": Shipped("face-resnet34-descriptor", Int8(0.99)),
    "face-age-gender": Shipped("face-age-gender"),
    "face-expression": Shipped("face-expression"),
    "faceres": Shipped("faceres"),
    "resnet18-4class-416-random-fp32": Shipped("resnet18-4class-416-random"),
    "resnet18-4class-416-random-int8": Shipped("resnet18-4class-416-random", Int8(0.95)),
}
