"""The client's process: puts one peer under load, measure by measure. `load.py PLAN`; `session` makes the plan.

Prints a JSON object a line: {"found": […]}, how many detections each image has by this peer, before anything is
measured; {"begin": NAME} when a measure's window opens; {"end": NAME} when it closes, with "loaded" where the load goes
on for AFTER_S, so that somebody may look at the server's memory; and {"measured": NAME, …} with what was measured, once
what was in flight has come back or is given up.
"""

import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.drivers import Driver, Material, connect

LOST_S = 20.0
"""A frame without a result for so long is lost: the next one takes its place."""
RECOVERY_LOST_S = 5.0
REFUSED_PAUSE_S = 0.02
BIN_S = 0.1
PACED_IN_FLIGHT = 256
AFTER_S = 1.0


@dataclass
class Window:
    """What came within a window; of a paced measure, `by_due`, what was due within it, whenever it came.

    `lost` and `refused` are those since the measure began. One thread at a time may call its methods.
    """

    by_due: bool = False
    begin: float = float("inf")
    end: float = float("inf")
    good: int = 0
    failed: int = 0
    refused: int = 0
    lost: int = 0
    detections: int = 0
    latencies: list[float] = field(default_factory=list)
    bins: dict[int, int] = field(default_factory=dict)

    def came(self, due: float, found: list[int | None]) -> None:
        """Count results of a push that was due then: their detections, nothing for one that failed."""
        now = time.monotonic()
        if not self.begin <= (due if self.by_due else now) <= self.end:
            return
        good = [count for count in found if count is not None]
        self.good += len(good)
        self.failed += len(found) - len(good)
        self.detections += sum(good)
        place = int((now - self.begin) / BIN_S)
        self.bins[place] = self.bins.get(place, 0) + len(good)
        self.latencies += [1000 * (now - due)] * len(good)

    def gave_up(self, due: float, frames: int) -> None:
        """Count frames that were given up; where pushes are due, they have the latency that they have reached."""
        self.lost += frames
        if self.by_due and self.begin <= due <= self.end:
            self.latencies += [1000 * (time.monotonic() - due)] * frames

    def told(self) -> dict:
        """Return what was counted."""
        if not self.good:
            raise RuntimeError(f"no frame came: {self.failed} failed, {self.refused} refused, {self.lost} lost")
        seconds = self.end - self.begin
        latencies = sorted(self.latencies)
        return {
            "seconds": seconds,
            "frames": self.good,
            "fps": self.good / seconds,
            "failed": self.failed,
            "refused": self.refused,
            "lost": self.lost,
            "detections_a_frame": self.detections / self.good,
            **{f"p{part:g}_ms": quantile(latencies, part / 100) for part in (50, 90, 99, 99.9)},
        }


def quantile(values: list[float], part: float) -> float | None:
    """Return the value below which a part of sorted values lies."""
    return values[min(len(values) - 1, int(part * len(values)))] if values else None


class InFlight:
    """Bounds the frames that are out, and gives up those that do not come back."""

    def __init__(self, limit: int, lost_s: float, window: Window) -> None:
        """Begin with none."""
        self._changed = threading.Condition()
        self._limit = limit
        self._lost_s = lost_s
        self._window = window
        self._out: dict[int, Push] = {}
        self._frames = 0
        self._next = 0

    def push(self, driver: Driver, batch: int, due: float | None = None) -> None:
        """Push a batch when there is room; it was due then, or is now."""
        with self._changed:
            while self._frames + batch > self._limit:
                if not self._changed.wait_for(lambda: self._frames + batch <= self._limit, self._lost_s / 4):
                    self._give_up()
            number, begun = self._next, time.monotonic()
            self._next += 1
            self._out[number] = Push(batch, begun, due or begun)
            self._frames += batch

        def done(found: list[int | None]) -> None:
            with self._changed:
                push = self._out.get(number)
                if push is None:
                    return  # it was given up, and is counted as lost
                self._window.came(push.due, found)
                push.frames -= len(found)
                self._frames -= len(found)
                if not push.frames:
                    del self._out[number]
                self._changed.notify_all()

        try:
            driver.submit(batch, done)
        except Exception as error:  # a peer's client raises what it likes: the peer refused, or is away
            with self._changed:
                if push := self._out.pop(number, None):
                    self._frames -= push.frames
            if not self._window.refused:
                print(f"refused: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            self._window.refused += batch
            threading.Event().wait(REFUSED_PAUSE_S)

    def drain(self) -> None:
        """Wait until nothing is out, or given up."""
        with self._changed:
            while not self._changed.wait_for(lambda: not self._out, self._lost_s / 4):
                self._give_up()

    def _give_up(self) -> None:
        limit = time.monotonic() - self._lost_s
        for number, push in list(self._out.items()):
            if push.begun < limit:
                del self._out[number]
                self._frames -= push.frames
                self._window.gave_up(push.due, push.frames)


@dataclass
class Push:
    """So many frames of a push that are out."""

    frames: int
    begun: float
    due: float


def say(**what: object) -> None:
    """Tell the harness."""
    print(json.dumps(what), flush=True)


def until(when: float) -> Iterator[float]:
    """Yield the time, until that time has come."""
    while (now := time.monotonic()) < when:
        yield now


def latency(driver: Driver, measure: dict, _: dict) -> dict:
    """Make round trips, one after another."""
    window = Window()
    for _ in until(time.monotonic() + measure["warmup"]):
        driver.round_trip(measure["batch"])
    say(begin=measure["name"])
    window.begin = time.monotonic()
    for begun in until(window.begin + measure["seconds"]):
        window.came(begun, driver.round_trip(measure["batch"]))
    window.end = time.monotonic()
    say(end=measure["name"], loaded=True)
    for _ in until(window.end + AFTER_S):
        driver.round_trip(measure["batch"])
    return window.told()


def throughput(driver: Driver, measure: dict, _: dict) -> dict:
    """Keep so many frames in flight."""
    is_recovery = measure.get("recovery", False)
    window = Window()
    out = InFlight(measure["in_flight"], RECOVERY_LOST_S if is_recovery else LOST_S, window)
    for _ in until(time.monotonic() + measure["warmup"]):
        out.push(driver, measure["batch"])
    say(begin=measure["name"])
    window.begin = time.monotonic()
    for _ in until(window.begin + measure["seconds"]):
        out.push(driver, measure["batch"])
    window.end = time.monotonic()
    say(end=measure["name"], loaded=not is_recovery)
    if not is_recovery:
        for _ in until(window.end + AFTER_S):
            out.push(driver, measure["batch"])
    out.drain()
    told = window.told()
    if is_recovery:
        bins = range(int(told["seconds"] / BIN_S))
        told["timeline_fps"] = [window.bins.get(place, 0) / BIN_S for place in bins]
    return told


def paced(driver: Driver, measure: dict, so_far: dict) -> dict:
    """Push at a rate, a part of the throughput that was measured before; latency is from when a push was due.

    Arrivals are Poisson's, from a fixed seed. What was due within the window counts, also what comes after its end.
    """
    if "fps" not in so_far[measure["of"]]:
        raise RuntimeError(f"{measure['of']} gave no rate")
    rate = so_far[measure["of"]]["fps"] * measure["share"] / measure["batch"]
    opens = time.monotonic() + measure["warmup"]
    window = Window(by_due=True, begin=opens, end=opens + measure["seconds"])
    out, chance, due = InFlight(PACED_IN_FLIGHT, LOST_S, window), random.Random(1), time.monotonic()
    is_open = False
    while (due := due + chance.expovariate(rate)) <= window.end:
        if due >= opens and not is_open:
            wait_until(opens)
            say(begin=measure["name"])
            is_open = True
        wait_until(due)
        out.push(driver, measure["batch"], due)
    wait_until(window.end)
    say(end=measure["name"])
    out.drain()
    return window.told() | {"rate_fps": rate * measure["batch"], "share": measure["share"]}


def wait_until(when: float) -> None:
    """Wait until that time has come."""
    threading.Event().wait(max(0.0, when - time.monotonic()))


KINDS = {"latency": latency, "throughput": throughput, "paced": paced}


def main() -> None:
    """Run the plan."""
    plan = json.loads(sys.argv[1])
    material = Material(**plan["material"])
    driver = connect(plan["driver"], plan["address"], material, plan["options"])
    measured = {}
    try:
        say(found=[count for _ in material.files for count in driver.round_trip(1)])
        for measure in plan["measures"]:
            try:
                measured[measure["name"]] = KINDS[measure["kind"]](driver, measure, measured)
            except Exception as error:  # whatever a peer's client raises: the other measures may still go
                measured[measure["name"]] = {"error": f"{type(error).__name__}: {error}"}
            say(measured=measure["name"], **measured[measure["name"]])
    finally:
        driver.close()


if __name__ == "__main__":
    main()
