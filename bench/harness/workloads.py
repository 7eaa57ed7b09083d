"""What is measured: the table of workloads. One row is a pipeline, its images, and what is done with them."""

from dataclasses import dataclass

RAW_SIDE = 416


@dataclass(frozen=True)
class Workload:
    """A row. `detector` is empty for no-op models; `images` names a set of `material`."""

    name: str
    about: str
    images: str
    detector: str = ""
    attributes: tuple[str, ...] = ()
    crops_max: int = 32
    batches: tuple[int, ...] = (1,)
    in_flight: int = 16
    has_latency: bool = False
    has_tail: bool = False
    has_recovery: bool = False
    attribute_processes: int = 1
    windows: int = 1
    """Its windows are so many times as long: few frames come, and several at once."""
    is_limited: bool = False
    """Whether the cores' INT8 limit is measured beside it: each frame has as many crops as it may have."""

    @property
    def raw(self) -> tuple[int, int] | None:
        """Width and height of frames that are no encoded images."""
        return (RAW_SIDE, RAW_SIDE) if self.images == "raw416" else None

    @property
    def crops_a_frame(self) -> int:
        """How many crops a frame of a limited workload has."""
        return self.crops_max if self.attributes else 0

    @property
    def is_noop(self) -> bool:
        """Whether the models do nothing."""
        return not self.detector


_FACES = ("face-resnet34-descriptor", "face-age-gender", "face-expression", "faceres")
_PAPER = (
    "resnet34-a-224-random-int8",
    "resnet34-b-224-random-int8",
    "resnet18-a-224-random-int8",
    "resnet18-b-224-random-int8",
)
_FACES_ROWS = [
    Workload(
        f"faces{count}",
        f"four attribute models on {count} crops a frame, 1080p JPEG",
        f"faces{count}",
        detector="tiny-face-416",
        attributes=_FACES,
        attribute_processes=2,
    )
    for count in (0, 1, 3, 4)
]
_PAPER_ROWS = [
    Workload(
        f"paper{count}",
        f"the paper's cascade, random weights, {count} crops a frame, raw 416x416",
        "raw416",
        detector="resnet18-4class-416-random-int8",
        attributes=_PAPER,
        crops_max=count,
        attribute_processes=2,
        windows=3,
        is_limited=True,
    )
    for count in (1, 2, 4)
]

WORKLOADS = {
    row.name: row
    for row in [
        Workload("noop1", "one no-op model, raw 416x416", "raw416", batches=(8, 32), has_latency=True),
        Workload("noop", "a chain of no-op models, raw 416x416", "raw416", batches=(8, 32), has_latency=True),
        Workload(
            "street",
            "NanoDet INT8, 1080p JPEG",
            "street",
            detector="nanodet416-4c-int8",
            has_latency=True,
            has_tail=True,
            has_recovery=True,
        ),
        *_FACES_ROWS,
        Workload(
            "paper",
            "the paper's detector alone, random weights, raw 416x416",
            "raw416",
            detector="resnet18-4class-416-random-int8",
            windows=3,
            is_limited=True,
        ),
        *_PAPER_ROWS,
    ]
}

TAIL_SHARES = (0.5, 0.8, 0.95)
NOOP_PUSHES_IN_FLIGHT = 4
RECOVERY_WINDOWS = 4
"""The recovery's window is so many times as long as the others."""


def measures(workload: Workload, seconds: float, warmup: float) -> list[dict]:
    """Return the plan of `load` for a workload."""
    common = {"seconds": workload.windows * seconds, "warmup": warmup}
    plan = []
    if workload.has_latency:
        plan.append({"name": "latency", "kind": "latency", "batch": 1, **common})
    for batch in workload.batches:
        in_flight = NOOP_PUSHES_IN_FLIGHT * batch if workload.is_noop else workload.in_flight
        name = f"throughput_batch{batch}"
        plan.append({"name": name, "kind": "throughput", "batch": batch, "in_flight": in_flight, **common})
    if workload.has_tail:
        for share in TAIL_SHARES:
            tail = {"name": f"tail_{share:.0%}".replace("%", ""), "kind": "paced", "batch": 1, "share": share}
            plan.append({**tail, "of": "throughput_batch1", **common})
    if workload.has_recovery:
        recovery = {"name": "recovery", "kind": "throughput", "batch": 1, "in_flight": workload.in_flight}
        plan.append({**recovery, "recovery": True, **common, "seconds": RECOVERY_WINDOWS * seconds})
    return plan
