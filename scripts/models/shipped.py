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
    manifests. `inputs_max` bounds the inputs of the calibration, and those of the measurement: random
    weights have no rare inputs to be found, and the set-up's time is theirs.
    """

    cosine_min: float
    keep_head_float: bool = False
    inputs_max: int | None = None


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


RANDOM = Int8(0.95, inputs_max=8)

SHIPPED = {
    "nanodet416-4c-fp32": Shipped("nanodet416-4c"),
    "nanodet416-4c-int8": Shipped("nanodet416-4c", Int8(0.95, keep_head_float=True)),
    "tiny-face-416": Shipped("tiny-face-416"),
    "face-resnet34-descriptor": Shipped("face-resnet34-descriptor", Int8(0.99)),
    "face-age-gender": Shipped("face-age-gender"),
    "face-expression": Shipped("face-expression"),
    "faceres": Shipped("faceres"),
    "resnet18-4class-416-random-fp32": Shipped("resnet18-4class-416-random"),
    "resnet18-4class-416-random-int8": Shipped("resnet18-4class-416-random", RANDOM),
    "resnet34-a-224-random-int8": Shipped("resnet34-a-224-random", RANDOM),
    "resnet34-b-224-random-int8": Shipped("resnet34-b-224-random", RANDOM),
    "resnet18-a-224-random-int8": Shipped("resnet18-a-224-random", RANDOM),
    "resnet18-b-224-random-int8": Shipped("resnet18-b-224-random", RANDOM),
}
