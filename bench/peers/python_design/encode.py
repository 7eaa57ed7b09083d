"""Results as the service's messages."""

from itertools import zip_longest

from cascade.results import Attribute
from framepipe._generated import framepipe_pb2 as pb
from peers.python_design.frame import Result


def frame_result(result: Result, name: str, batch_index: int, labels: list[str]) -> pb.FrameResult:
    """Return the message of one frame's result; its stream gives it a sequence."""
    if result.error:
        error = pb.FrameError(code=pb.ERROR_CODE_INTERNAL, message=result.error)
        return pb.FrameResult(name=name, frame=result.number, batch_index=batch_index, error=error)
    detections = [
        pb.Detection(
            class_index=index,
            label=labels[index],
            score=score,
            box=pb.Box(x0=x0, y0=y0, x1=x1, y1=y1),
            attributes=[_attribute(one) for one in described],
        )
        for (x0, y0, x1, y1, index, score), described in zip_longest(result.detections, result.attributes, fillvalue=())
    ]
    width, height = result.size
    found = pb.Detections(detections=detections, image_width=width, image_height=height)
    return pb.FrameResult(name=name, frame=result.number, batch_index=batch_index, detections=found)


def _attribute(attribute: Attribute) -> pb.Attribute:
    model, name, kind, value = attribute
    match kind:
        case "class":
            label, score, index = value
            return pb.Attribute(
                name=name,
                model=model,
                classification=pb.Classification(label=label, score=score, class_index=index),
            )
        case "number":
            return pb.Attribute(name=name, model=model, number=value)
        case "vector":
            return pb.Attribute(name=name, model=model, embedding=pb.Embedding(values=value))
        case _:
            raise ValueError(f"there is no message for attributes of kind {kind}")
