"""The gate's measures: a graph agrees with itself, and not with one that says something else."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "models"))

from agreement import GATE, compare  # noqa: E402
from calibration import read_manifest  # noqa: E402
from onnx import numpy_helper  # noqa: E402
from shipped import SHIPPED  # noqa: E402


def _disturbed(graph: Path, folder: Path, share: float) -> Path:
    """Write a copy of a graph whose weights are disturbed by a share of their size."""
    model = onnx.load(graph)
    random = np.random.default_rng(1)
    for weights in model.graph.initializer:
        values = numpy_helper.to_array(weights)
        if values.ndim == 4:
            noise = random.normal(0, share * values.std(), values.shape).astype(values.dtype)
            weights.CopyFrom(numpy_helper.from_array(values + noise, weights.name))
    path = folder / "disturbed.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", ["face-expression", "tiny-face-416"])
def test_a_graph_agrees_with_itself_and_not_with_a_disturbed_one(name: str, tmp_path: Path) -> None:
    """Of classes and of boxes."""
    graph = SHIPPED[name].float_graph()
    same = compare(read_manifest(name), graph, graph, None)
    assert [agreement.value for agreement in same.agreements] == [1.0]
    assert same.inputs >= 200
    other = compare(read_manifest(name), graph, _disturbed(graph, tmp_path, 0.3), None)
    assert other.worst() < GATE
