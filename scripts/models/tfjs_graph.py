"""TensorFlow.js graph models as stored: `model.json` with nodes, and weights in shards beside it."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from weights import read_weights


class TfNode:
    """One node of the TensorFlow graph."""

    def __init__(self, stored: dict):
        """Wrap a node as it stands in `model.json`."""
        self.name = stored["name"]
        self.operator = stored["op"]
        # A control input (`^name`) carries no data.
        self.inputs = [name for name in stored.get("input", []) if not name.startswith("^")]
        self._attributes = stored.get("attr", {})

    def attribute(self, name: str, default=None):
        """Return an attribute as a plain Python value."""
        stored = self._attributes.get(name)
        if stored is None:
            return default
        if "list" in stored:
            kind, values = next(iter(stored["list"].items()), ("i", []))
            return [_plain_value(kind, value) for value in values]
        if "shape" in stored:
            return [int(size["size"]) for size in stored["shape"]["dim"]]
        kind, value = next(iter(stored.items()))
        return _plain_value(kind, value)


def _plain_value(kind: str, value):
    match kind:
        case "i":
            return int(value)
        case "f":
            return float(value)
        case "b":
            return bool(value)
        case "s":
            return base64.b64decode(value).decode()
        case _:
            return value


@dataclass
class TfGraph:
    """A whole graph model: nodes by name, and the values of its constants."""

    nodes: dict[str, TfNode]
    constants: dict[str, np.ndarray]

    @classmethod
    def read(cls, path: Path) -> "TfGraph":
        """Read `model.json` and the shards that it names."""
        model = json.loads(path.read_text())
        nodes = [TfNode(stored) for stored in model["modelTopology"]["node"]]
        return cls(
            nodes={node.name: node for node in nodes},
            constants=read_weights(model["weightsManifest"], path.parent),
        )

    def placeholder(self) -> TfNode:
        """Return the graph's only input."""
        (placeholder,) = (n for n in self.nodes.values() if n.operator == "Placeholder")
        return placeholder

    def in_order(self, outputs: list[str]) -> list[TfNode]:
        """Return the nodes that the outputs depend on, each behind its inputs."""
        order, visited = [], set()
        pending = [(name, False) for name in reversed(outputs)]
        while pending:
            name, inputs_done = pending.pop()
            if inputs_done:
                order.append(self.nodes[name])
            elif name not in visited:
                visited.add(name)
                pending.append((name, True))
                inputs = [split_reference(i)[0] for i in self.nodes[name].inputs]
                pending.extend((i, False) for i in inputs if i not in visited)
        return order


def split_reference(reference: str) -> tuple[str, int]:
    """Split `node:2` into the node's name and the number of its output."""
    name, _, output = reference.partition(":")
    return name, int(output or 0)
