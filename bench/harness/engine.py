"""The bare engine: processes that do nothing but run a detector on the same tensor. Speaks as `load` does.

engine.py PLAN, PLAN being JSON: {"graph", "processes", "measures"}; each measure is {"name", "warmup", "seconds"}.
"""

import json
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from cascade.engine import open_session, output_shapes

from harness.load import AFTER_S, say


def run(graph: Path, pipe: Connection) -> None:
    """Infer for as many seconds as the parent asks, again and again; answer with inferences a second, and how many."""
    session = open_session(graph)
    binding = session.io_binding()
    (given,) = session.get_inputs()
    tensor = np.random.default_rng(1).standard_normal((1, *given.shape[1:]), np.float32)
    binding.bind_input(given.name, "cpu", 0, np.float32, tensor.shape, tensor.ctypes.data)
    outputs = [np.empty(shape, np.float32) for shape in output_shapes(session)]
    for output, room in zip(session.get_outputs(), outputs, strict=True):
        binding.bind_output(output.name, "cpu", 0, np.float32, room.shape, room.ctypes.data)
    session.run_with_iobinding(binding)
    pipe.send("ready")
    while seconds := pipe.recv():
        count, begun = 0, time.monotonic()
        while (now := time.monotonic()) < begun + seconds:
            session.run_with_iobinding(binding)
            count += 1
        pipe.send((count / (now - begun), count))


def together(pipes: list[Connection], seconds: float) -> tuple[float, int]:
    """Let all processes infer at once; return inferences a second, and how many."""
    for pipe in pipes:
        pipe.send(seconds)
    rates, counts = zip(*(pipe.recv() for pipe in pipes), strict=True)
    return sum(rates), sum(counts)


def main() -> None:
    """Run the plan."""
    plan = json.loads(sys.argv[1])
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(plan["processes"])]
    processes = [context.Process(target=run, args=(Path(plan["graph"]), theirs), daemon=True) for _, theirs in pairs]
    for process in processes:
        process.start()
    pipes = [ours for ours, _ in pairs]
    for pipe in pipes:
        pipe.recv()
    for measure in plan["measures"]:
        together(pipes, measure["warmup"])
        say(begin=measure["name"])
        fps, frames = together(pipes, measure["seconds"])
        say(end=measure["name"], loaded=True)
        together(pipes, AFTER_S)
        say(measured=measure["name"], fps=fps, seconds=measure["seconds"], frames=frames)
    for pipe in pipes:
        pipe.send(None)


if __name__ == "__main__":
    main()
