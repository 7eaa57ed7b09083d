"""The client's process: puts one peer under load, measure by measure. `load.py PLAN`; `session` makes the plan.

Prints a JSON object a line: {"begin": NAME} when a measure's window opens, {"end": NAME} when it closes, and
{"measured": NAME, …} with what was measured, once what was in flight has come back or is given up.
"""

import json
import random
import sys
import threading
import time
from dataclasses import dataclass, field

from harness.drivers import Driver, Material, connect

LOST_S = 20.0
"""A frame without a result for so long is lost: the next one takes its place."""
RECOVERY_LOST_S = 5.0
REFUSED_PAUSE_S = 0.02
BIN_S = 0.1
PACED_IN_FLIGHT = 256


@dataclass
class Window:
    """What came within a window. All methods may be called from any thread."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    begin: float = float("inf")
    end: float = float("inf")
    good: int = 0
    failed: int = 0
    refused: int = 0
    lost: int = 0
    latencies: list[float] = field(default_factory=list)
    bins: dict[int, int] = field(default_factory=dict)

    def came(self, since: float, good: int, failed: int) -> None:
        """Count results of a push that was due at `since`."""
        now = time.monotonic()
        with self.lock:
            if self.begin <= now <= self.end:
                self.good += good
                self.failed += failed
                place = int((now - self.begin) / BIN_S)
                self.bins[place] = self.bins.get(place, 0) + good
                self.latencies += [1000 * (now - since)] * good

    def told(self) -> dict:
        """Return what was counted."""
        seconds = self.end - self.begin
        latencies = sorted(self.latencies)
        return {
            "seconds": seconds,
            "frames": self.good,
            "fps": self.good / seconds,
            "failed": self.failed,
            "refused": self.refused,
            "lost": self.lost,
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
        self._out: dict[int, list] = {}
        self._frames = 0
        self._next = 0

    def push(self, driver: Driver, batch: int, since: float | None = None) -> None:
        """Push a batch when there is room; `since` is when it was due."""
        with self._changed:
            while self._frames + batch > self._limit:
                if not self._changed.wait_for(lambda: self._frames + batch <= self._limit, self._lost_s / 4):
                    self._give_up()
            number, begun = self._next, time.monotonic()
            self._next += 1
            self._out[number] = [batch, begun]
            self._frames += batch

        def done(good: int, failed: int) -> None:
            self._window.came(since or begun, good, failed)
            with self._changed:
                if number in self._out:
                    self._out[number][0] -= good + failed
                    self._frames -= good + failed
                    if not self._out[number][0]:
                        del self._out[number]
                    self._changed.notify_all()

        try:
            driver.submit(batch, done)
        except Exception as error:  # a peer's client raises what it likes: the peer refused, or is away
            with self._changed:
                self._frames -= self._out.pop(number)[0]
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
        for number, (frames, begun) in list(self._out.items()):
            if begun < limit:
                del self._out[number]
                self._frames -= frames
                self._window.lost += frames


def say(**what: object) -> None:
    """Tell the harness."""
    print(json.dumps(what), flush=True)


def latency(driver: Driver, measure: dict, _: dict) -> dict:
    """Make round trips, one after another."""
    window, until = Window(), time.monotonic() + measure["warmup"]
    while time.monotonic() < until:
        driver.round_trip(measure["batch"])
    say(begin=measure["name"])
    window.begin = time.monotonic()
    until = window.begin + measure["seconds"]
    while (begun := time.monotonic()) < until:
        driver.round_trip(measure["batch"])
        window.came(begun, measure["batch"], 0)
    window.end = time.monotonic()
    say(end=measure["name"])
    return window.told()


def throughput(driver: Driver, measure: dict, _: dict) -> dict:
    """Keep so many frames in flight."""
    lost_s = RECOVERY_LOST_S if measure.get("recovery") else LOST_S
    window = Window()
    out, opens = InFlight(measure["in_flight"], lost_s, window), time.monotonic() + measure["warmup"]
    while time.monotonic() < opens:
        out.push(driver, measure["batch"])
    say(begin=measure["name"])
    window.begin = time.monotonic()
    while time.monotonic() < window.begin + measure["seconds"]:
        out.push(driver, measure["batch"])
    window.end = time.monotonic()
    say(end=measure["name"])
    out.drain()
    told = window.told()
    if measure.get("recovery"):
        bins = range(int(told["seconds"] / BIN_S))
        told["timeline_fps"] = [window.bins.get(place, 0) / BIN_S for place in bins]
    return told


def paced(driver: Driver, measure: dict, so_far: dict) -> dict:
    """Push at a rate, a part of the throughput that was measured before; latency is from when a push was due.

    Arrivals are Poisson's, from a fixed seed.
    """
    capacity = so_far[measure["of"]]["fps"]
    rate = capacity * measure["share"] / measure["batch"]
    if not rate:
        return {"rate_fps": 0.0}
    window, chance = Window(), random.Random(1)
    out, never = InFlight(PACED_IN_FLIGHT, LOST_S, window), threading.Event()
    due = time.monotonic()
    opens = due + measure["warmup"]
    while due < opens + measure["seconds"] or window.begin > due:
        due += chance.expovariate(rate)
        never.wait(max(0.0, due - time.monotonic()))
        if window.begin > due >= opens:
            say(begin=measure["name"])
            window.begin = time.monotonic()
        out.push(driver, measure["batch"], due)
    window.end = time.monotonic()
    say(end=measure["name"])
    out.drain()
    return window.told() | {"rate_fps": rate * measure["batch"], "share": measure["share"]}


KINDS = {"latency": latency, "throughput": throughput, "paced": paced}


def main() -> None:
    """Run the plan."""
    plan = json.loads(sys.argv[1])
    material = Material(**plan["material"])
    driver = connect(plan["driver"], plan["address"], material, plan["options"])
    say(ready=True)
    measured = {}
    for measure in plan["measures"]:
        try:
            measured[measure["name"]] = KINDS[measure["kind"]](driver, measure, measured)
        except Exception as error:  # whatever a peer's client raises: the other measures may still go
            measured[measure["name"]] = {"error": f"{type(error).__name__}: {error}", "fps": 0.0}
        say(measured=measure["name"], **measured[measure["name"]])
    driver.close()


if __name__ == "__main__":
    main()
