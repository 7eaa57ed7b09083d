"""The models of the repository: which float graph each is made from, and whether it becomes INT8.

Each row has a manifest of the same name in config/models.
"""

from dataclasses import dataclass
from pathlib import Path

from paths import FLOAT_GRAPHS, INT8_GRAPHS


@dataclass(frozen=True)
class Int8:
    """How a graph is quantised: what a search found (search_shipped.py), or more of the end left float.

    `method` names a calibration of quantise.py, `float_layers` what stays float; `keep_end_float` what comes after
    the last layers, `keep_head_float` these layers too. `inputs_max` bounds the inputs of the calibration and of
    the gate, and `random` has cosines measured: random weights have no rare inputs to be found, their classes mean
    nothing, and the set-up's time is theirs.
    """

    method: str = "minmax"
    float_layers: tuple[str, ...] = ()
    keep_head_float: bool = False
    keep_end_float: bool = False
    inputs_max: int | None = None
    random: bool = False


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


RANDOM = Int8(inputs_max=8, random=True)

SHIPPED = {
    "nanodet416-4c-fp32": Shipped("nanodet416-4c"),
    # Nearer than where the search stops, after the last layers, and little slower (docs/int8.md).
    "nanodet416-4c-int8": Shipped("nanodet416-4c", Int8(keep_head_float=True)),
    "nanodet416-80c-fp32": Shipped("nanodet416-80c"),
    "posenet385": Shipped("posenet385"),
    "tiny-face-416": Shipped("tiny-face-416"),
    "face-resnet34-descriptor": Shipped("face-resnet34-descriptor", Int8()),
    "face-age-gender": Shipped("face-age-gender"),
    "face-expression": Shipped("face-expression"),
    "faceres": Shipped("faceres", Int8(keep_end_float=True)),
    "text-dbnet-736": Shipped("text-dbnet-736"),
    "text-orientation": Shipped("text-orientation"),
    "text-recognition": Shipped("text-recognition"),
    "resnet18-4class-416-random-fp32": Shipped("resnet18-4class-416-random"),
    "resnet18-4class-416-random-int8": Shipped("resnet18-4class-416-random", RANDOM),
    "resnet34-a-224-random-int8": Shipped("resnet34-a-224-random", RANDOM),
    "resnet34-b-224-random-int8": Shipped("resnet34-b-224-random", RANDOM),
    "resnet18-a-224-random-int8": Shipped("resnet18-a-224-random", RANDOM),
    "resnet18-b-224-random-int8": Shipped("resnet18-b-224-random", RANDOM),
    "no-operation-416": Shipped("no-operation-416"),
}
