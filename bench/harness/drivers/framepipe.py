"""framepipe's own Python client, for framepipe and for the paper's design."""

import itertools
import threading
import uuid

import framepipe
from framepipe.images import raw_format

from harness.drivers import Done, Material, check_described

READY_S = 180
WAIT_S = 5
RESULT_S = 60


class Connection:
    """One client with a stream of its own. A thread takes the results, once the first batch is submitted."""

    def __init__(self, address: str, material: Material, options: dict) -> None:
        """Wait for the server. `options`: the inbox; which attribute models describe how many crops of a frame."""
        self._client = framepipe.Client(address, f"bench-{uuid.uuid4().hex[:8]}", inbox=options["inbox"])
        self._client.wait_ready(READY_S)
        self._material = material
        self._attributes = set(options["attributes"])
        self._crops_max = options["crops_max"]
        self._raw = raw_format("rgb24", *material.raw) if material.raw else None
        self._files = itertools.cycle(material.files)
        self._results = None
        self._lock = threading.Lock()
        self._waiting: dict[int, Done] = {}
        self._early: dict[int, int | None] = {}

    def round_trip(self, batch: int) -> list[int]:
        """Push, then read as many results; see that what is found is described, too."""
        self._push(batch)
        if self._results is None:
            self._results = self._client.results(timeout=RESULT_S)
        found = []
        for _ in range(batch):
            result = next(self._results)
            if result.error:
                raise RuntimeError(f"{result.name}: {result.error}")
            self._check_described(result)
            found.append(len(result.detections))
        return found

    def submit(self, batch: int, done: Done) -> None:
        """Push; a result may be here before the answer to its push."""
        pushed = self._push(batch)
        if not isinstance(self._results, threading.Thread):
            if self._results is not None:
                self._results.close()
            self._results = threading.Thread(target=self._receive, daemon=True)
            self._results.start()
        early = []
        with self._lock:
            for frame in range(pushed.first_frame, pushed.first_frame + batch):
                if frame in self._early:
                    early.append(self._early.pop(frame))
                else:
                    self._waiting[frame] = done
        if early:
            done(early)

    def close(self) -> None:
        """Close the client, which ends the thread."""
        self._client.close()

    def _check_described(self, result: framepipe.FrameResult) -> None:
        if self._attributes:
            models = [{value.model for value in one.attributes.values()} for one in result.detections]
            check_described(models, self._attributes, self._crops_max, result.name)

    def _push(self, batch: int) -> framepipe.Batch:
        if self._raw:
            location, sizes = self._material.files[0], self._material.sizes[:batch]
            return self._client.push_files(location=location, sizes=sizes, raw=self._raw, wait=WAIT_S)
        return self._client.push_files(list(itertools.islice(self._files, batch)), wait=WAIT_S)

    def _found(self, result: framepipe.FrameResult) -> int | None:
        """Return how many detections it has; nothing where it failed, or lacks what describes them."""
        if result.error:
            return None
        try:
            self._check_described(result)
        except RuntimeError:
            return None
        return len(result.detections)

    def _receive(self) -> None:
        for result in self._client.results():
            found = self._found(result)
            with self._lock:
                done = self._waiting.pop(result.frame, None)
                if done is None:
                    self._early[result.frame] = found
            if done:
                done([found])
