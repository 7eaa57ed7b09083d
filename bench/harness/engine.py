"""The bare engine: processes that do nothing but run a detector on the same tensor. Speaks as `load` does.

engine.py PLAN, PLAN being JSON: {"graph", "processes", "images", "measures"}; each measure is {"name", "warmup",
"seconds"}. With images, it also decodes these to an eighth of their sides, which is little else than reading JPEG's
entropy-coded bytes: nobody can leave that out.
"""

import json
import multiprocessing
import sys
import time
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import mean

import numpy as np
from cascade.engine import open_session, output_shapes

from harness.load import AFTER_S, say

DECODE = "decode"
DECODE_S = 1.0


def decoding_ms(images: list[str]) -> float:
    """Decode images to an eighth for DECODE_S; return CPU milliseconds of each, those of this thread."""
    import cv2  # noqa: PLC0415 (pipelines of raw frames need none)

    cv2.setNumThreads(1)
    count, encoded = 0, cycle([np.fromfile(path, np.uint8) for path in images])
    end, begun = time.monotonic() + DECODE_S, time.thread_time()
    while time.monotonic() < end:
        cv2.imdecode(next(encoded), cv2.IMREAD_REDUCED_COLOR_8)
        count += 1
    return 1000 * (time.thread_time() - begun) / count


def run(graph: Path, images: list[str], pipe: Connection) -> None:
    """Infer for as many seconds as the parent asks, again and again; answer with inferences a second, and how many.

    Asked to DECODE, do that; answer with milliseconds.
    """
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
        if seconds == DECODE:
            pipe.send(decoding_ms(images))
            continue
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


def decoded(pipes: list[Connection]) -> float:
    """Let all processes decode at once; return CPU milliseconds of an image."""
    for pipe in pipes:
        pipe.send(DECODE)
    return mean(pipe.recv() for pipe in pipes)


def main() -> None:
    """Run the plan."""
    plan = json.loads(sys.argv[1])
    context = multiprocessing.get_context("spawn")
    graph = Path(plan["graph"])
    pairs = [context.Pipe() for _ in range(plan["processes"])]
    processes = [context.Process(target=run, args=(graph, plan["images"], theirs), daemon=True) for _, theirs in pairs]
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
        floor = {"jpeg_floor_ms": decoded(pipes)} if plan["images"] else {}
        say(measured=measure["name"], fps=fps, seconds=measure["seconds"], frames=frames, **floor)
    for pipe in pipes:
        pipe.send(None)


if __name__ == "__main__":
    main()
