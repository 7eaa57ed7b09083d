"""One process of a stage: takes groups of frames from its queue, works on them, puts them into the next one's."""

import signal
from dataclasses import dataclass, field
from multiprocessing.queues import SimpleQueue
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

from cascade import manifest
from cascade.allocator import keep_large_blocks
from peers.python_design.frame import Frame, Ready, Result
from peers.python_design.memory import Arrays, Layout, Slots


@dataclass(frozen=True)
class Options:
    """What all processes are told."""

    models: Path
    detector: str
    attributes: list[str]
    is_noop: bool
    half: bool
    threads: int
    crops_max: int
    layout: Layout
    output_names: list[str] = field(default_factory=list)


def work(
    stage_name: str, options: Options, shared_name: str, inbox: SimpleQueue, outbox: SimpleQueue, results: SimpleQueue
) -> None:
    """Be a process of a stage until it is ended. `shared_name` is empty in the variant `queues`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    keep_large_blocks()
    shared = SharedMemory(shared_name) if shared_name else None
    memory = Slots(options.layout, shared) if shared else Arrays(options.layout)
    stage = _stage(stage_name, options, memory)
    results.put(Ready(stage_name))
    while True:
        frames = inbox.get()
        done, failed = _attempt(stage, frames)
        if done:
            outbox.put(done)
        if failed:
            results.put(failed)


def _attempt(stage: Any, frames: list) -> tuple[list, list[Result]]:
    """Work on a group; where that fails, on each frame alone, so that only the bad ones fail."""
    try:
        return stage.work(frames), []
    except Exception:  # whatever a library raises of an image is that frame's error
        done, failed = [], []
        for item in frames:
            try:
                done += stage.work([item])
            except Exception as error:
                frame: Frame = item[0] if isinstance(item[0], Frame) else item
                failed.append(Result(frame.number, frame.slot, (0, 0), [], [], f"{type(error).__name__}: {error}"))
        return done, failed


def _stage(name: str, options: Options, memory: Arrays | Slots) -> Any:
    # Imported here: a stage of no-op models needs neither OpenCV nor ONNX Runtime, and each process would hold them.
    if options.is_noop and name != "ingest":
        from peers.python_design.passing import Pass, PassDetect, PassLast  # noqa: PLC0415

        return {"detect": PassDetect, "attribute": PassLast}.get(name, Pass)()
    if name == "ingest":
        from peers.python_design.ingest import Ingest  # noqa: PLC0415

        return Ingest(memory)
    from peers.python_design import stages  # noqa: PLC0415

    detector = manifest.load(options.models, options.detector)
    has_attributes = bool(options.attributes)
    match name:
        case "preprocess":
            return stages.Preprocess(memory, detector, options.half, has_attributes)
        case "detect":
            return stages.Detect(memory, detector, options.threads)
        case "postprocess":
            return stages.Postprocess(memory, detector, options.output_names, has_attributes, options.half)
        case "attribute":
            models = [manifest.load(options.models, attribute) for attribute in options.attributes]
            labels = detector.detector["labels"]
            opened = [stages.AttributeModel(model, labels, options.crops_max, options.threads) for model in models]
            return stages.Attribute(memory, opened, options.crops_max)
        case _:
            raise ValueError(f"there is no stage {name}")
