"""Runs the paper's design until SIGTERM: starts its processes, and starts a stage's process again when it dies."""

import argparse
import multiprocessing
import signal
import sys
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from cascade import manifest
from cascade.engine import open_session, output_shapes
from peers.python_design import gateway
from peers.python_design.memory import Layout
from peers.python_design.worker import Options, work

ENCODED_BYTES = 1 << 20
IMAGE_BYTES = 3 * 1920 * 1600
NOOP_SIDE = 416


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python_design", description=__doc__)
    parser.add_argument("--variant", choices=("queues", "shm"), required=True, help="what the queues carry")
    parser.add_argument("--address", default="127.0.0.1:50061", help="of the gRPC server (%(default)s)")
    parser.add_argument("--inbox", type=Path, required=True, help="folder in tmpfs that images may lie in")
    parser.add_argument("--models", type=Path, default=Path("models"), help="the model repository (%(default)s)")
    parser.add_argument("--detector", help="a detector of the repository; without one, all models are no-ops")
    parser.add_argument("--attributes", default="", help="attribute models, by commas")
    parser.add_argument("--detect", type=int, default=2, help="processes of detect, one thread each (%(default)s)")
    parser.add_argument("--attribute", type=int, default=1, help="processes of attribute (%(default)s)")
    parser.add_argument("--half", action="store_true", help="decode JPEGs to half their sides")
    parser.add_argument("--crops-max", type=int, default=32, help="described detections of a frame (%(default)s)")
    parser.add_argument("--slots", type=int, default=64, help="frames in flight (%(default)s)")
    parser.add_argument("--group", type=int, default=1, help="frames of a push that travel together (%(default)s)")
    parser.add_argument("--shm-name", help="of the slots in /dev/shm (one that Python makes up)")
    parser.add_argument(
        "--lost-s", type=float, default=gateway.LOST_S, help="a frame that takes so long is lost (%(default)s)"
    )
    options = parser.parse_args()
    if options.half and options.attributes:
        parser.error("--half: crops want the whole image, so it goes without --attributes alone")
    return options


def told(arguments: argparse.Namespace) -> tuple[Options, list[str]]:
    """Return what all processes are told, and the detector's labels."""
    attributes = [name for name in arguments.attributes.split(",") if name]
    tensor, dtype, shapes, names, labels = (1, NOOP_SIDE, NOOP_SIDE, 3), "uint8", (), [], []
    if arguments.detector:
        detector = manifest.load(arguments.models, arguments.detector)
        session = open_session(detector.graph)
        shapes = tuple(output_shapes(session))
        names = [output.name for output in session.get_outputs()]
        tensor, dtype = (1, 3, detector.input.height, detector.input.width), "float32"
        labels = detector.detector["labels"]
    layout = Layout(ENCODED_BYTES, IMAGE_BYTES if attributes else 0, tensor, dtype, shapes)
    options = Options(
        arguments.models,
        arguments.detector or "",
        attributes,
        not arguments.detector,
        arguments.half,
        1,
        arguments.crops_max,
        layout,
        names,
    )
    return options, labels


class Pipeline:
    """The processes."""

    def __init__(self, arguments: argparse.Namespace, shared: SharedMemory | None, told: tuple[Options, list[str]]):
        """Start all of them."""
        self._context: SpawnContext = multiprocessing.get_context("spawn")
        self._options, labels = told
        self._shared_name = shared.name if shared else ""
        counts = {"ingest": 1, "preprocess": 1, "detect": arguments.detect, "postprocess": 1}
        if self._options.attributes or self._options.is_noop:
            counts["attribute"] = arguments.attribute
        self._results = self._context.SimpleQueue()
        queues = [self._context.SimpleQueue() for _ in counts]
        self._ends = dict(zip(counts, zip(queues, [*queues[1:], self._results], strict=True), strict=True))
        served = gateway.Served(
            arguments.address,
            arguments.inbox,
            labels,
            arguments.slots,
            arguments.group,
            sum(counts.values()),
            arguments.lost_s,
        )
        self._gateway = self._context.Process(
            target=gateway.serve, name="gateway", args=(served, queues[0], self._results)
        )
        self._gateway.start()
        self._stages = [self._start(name) for name, count in counts.items() for _ in range(count)]

    def _start(self, stage: str) -> BaseProcess:
        arguments = (stage, self._options, self._shared_name, *self._ends[stage], self._results)
        process = self._context.Process(target=work, name=stage, args=arguments)
        process.start()
        print(f"python_design: {stage} is {process.pid}", flush=True)
        return process

    def supervise(self) -> None:
        """Start dead stages again; return when the gateway is dead."""
        while self._gateway.is_alive():
            wait([self._gateway.sentinel, *(process.sentinel for process in self._stages)])
            for place, process in enumerate(self._stages):
                if not process.is_alive():
                    print(f"python_design: {process.name} died with {process.exitcode}: starting it again", flush=True)
                    self._stages[place] = self._start(process.name)

    def end(self) -> None:
        """End all processes."""
        for process in (self._gateway, *self._stages):
            process.terminate()
        for process in (self._gateway, *self._stages):
            process.join()


def main() -> None:
    """Run the command line."""
    arguments = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    arguments.inbox.mkdir(parents=True, exist_ok=True)
    options, labels = told(arguments)
    shared = None
    if arguments.variant == "shm":
        shared = SharedMemory(arguments.shm_name, create=True, size=arguments.slots * options.layout.slot_bytes())
    pipeline = None
    try:
        pipeline = Pipeline(arguments, shared, (options, labels))
        pipeline.supervise()
        sys.exit("python_design: the gateway died")
    finally:
        if pipeline:
            pipeline.end()
        if shared:
            shared.close()
            shared.unlink()


if __name__ == "__main__":
    main()
